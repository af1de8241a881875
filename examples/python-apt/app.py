"""A web server that tells which machine it runs on."""

import json
import platform
from http.server import BaseHTTPRequestHandler, HTTPServer


def describe():
    return {"machine": platform.machine(), "python": platform.python_version()}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(describe()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    HTTPServer(("", 8000), Handler).serve_forever()
