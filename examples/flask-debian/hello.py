from flask import Flask, render_template_string

app = Flask(__name__)


@app.get("/")
def hello():
    return render_template_string("<h1>Hello from {{ name }}, without pip</h1>", name="Flask")
