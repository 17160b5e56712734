"""
The page of sample.py: a server on 127.0.0.1 that shows page.html and streams one text at a time to it.

    serve(settings, answer, port)      # answer(dict of the page's settings) yields dicts, a line of JSON each

It answers its own page alone: Host must name the loopback, since another site's name may point to 127.0.0.1 (DNS rebinding),
and Origin this server. A browser that is closed, or reads nothing for half a minute, ends its text.
"""

import json
import re
import threading
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from phoenix.config import UserError

HTML = Path(__file__).with_name("page.html")
LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
MOST_BYTES = 10**7  # of a request
PATIENCE = 5.0  # seconds that a text waits for the end of another: one whose browser is gone ends with its next piece
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)


class PageServer(ThreadingHTTPServer):
    def __init__(self, settings, answer, port):
        """settings: what the page shows at first; port 0: any that is free. UserError where the port is taken."""
        self.settings, self.answer = settings, answer
        self.writing, self.ending = threading.Lock(), threading.Event()
        try:
            super().__init__(("127.0.0.1", port), PageHandler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be opened ({error}): give another --port") from error


class PageHandler(BaseHTTPRequestHandler):
    """GET / -> the page; POST /text with a JSON object of settings -> a line of JSON for each piece of the text."""

    timeout = 30  # seconds that a read or write may take

    def do_GET(self):
        if not self.is_allowed():
            self.send(403, "text/plain", b"this page is for the browser of its own machine\n")
        elif self.path != "/":
            self.send(404, "text/plain", b"there is one page: /\n")
        else:
            settings = json.dumps(self.server.settings).replace("<", "\\u003c")  # it stands within <script>
            html = HTML.read_text(encoding="utf-8").replace("{settings}", settings)
            self.send(200, "text/html; charset=utf-8", html.encode())

    def do_POST(self):
        if not self.is_allowed():
            return self.send_error_line(403, "texts are for the page of this machine alone")
        size = self.headers.get("Content-Length", "")
        if self.path != "/text" or not size.isdecimal() or int(size) > MOST_BYTES:
            return self.send_error_line(400, f"POST /text with a JSON object of at most {MOST_BYTES:,} bytes is expected")
        body = self.rfile.read(int(size))
        if not self.server.writing.acquire(timeout=PATIENCE):
            return self.send_error_line(409, "another text is being written: stop that one first")
        try:
            with suppress(OSError):  # the browser is gone
                self.stream(body)
        finally:
            self.server.writing.release()

    def stream(self, body):
        try:
            settings = json.loads(body)
            if not isinstance(settings, dict):
                raise ValueError("a JSON object is expected")
            with closing(self.server.answer(settings)) as lines:
                first = next(lines)  # a mistake in the settings shows here
                self.send(200, "application/x-ndjson")
                self.send_line(first)
                for line in lines:
                    self.send_line(line)
                    if self.server.ending.is_set():
                        return
        except (UserError, ValueError, OverflowError, RuntimeError) as error:  # the last are torch's, such as a full memory
            self.send_error_line(400, str(error))

    def is_allowed(self):
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        return bool(LOOPBACK.fullmatch(host)) and origin in (None, f"http://{host}")

    def send(self, status, kind, body=b""):
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Security-Policy", POLICY), ("Cache-Control", "no-store")):
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.begun = True
        self.wfile.write(body)

    def send_line(self, fields):
        self.wfile.write(json.dumps(fields).encode() + b"\n")

    def send_error_line(self, status, sentence):
        if not getattr(self, "begun", False):
            self.send(status, "application/x-ndjson")
        self.send_line({"error": sentence})

    def log_message(self, *_):
        """Keeps requests out of the terminal."""


def serve(settings, answer, port):
    """Serves the page until Ctrl-C."""
    with PageServer(settings, answer, port) as server:
        print(f"{settings['about']}\nopen http://127.0.0.1:{server.server_port} in a browser; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        finally:
            server.ending.set()
            server.writing.acquire(timeout=PATIENCE)  # Python must not exit while a thread is within torch
