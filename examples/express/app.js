// Greets whoever asks: `curl 'localhost:8000/?name=you'`.
const express = require("express");

const app = express();
app.get("/", (request, response) => {
  response.send(`Hello, ${request.query.name ?? "world"}, from Express on Node ${process.version}\n`);
});
const server = app.listen(8000);
process.on("SIGTERM", () => server.close());
