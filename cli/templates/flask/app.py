"""One page that says which Python serves it."""

import platform

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"Hello from Flask on Python {platform.python_version()}\n"
