"""
A small Hub on loopback: what huggingface_hub and the engine ask of the real one, with faults on demand.

    with Hub({"owner/name": {"data/a.jsonl.gz": b"..."}}) as hub:
        os.environ["HF_ENDPOINT"] = hub.url
        hub.faults["data/a.jsonl.gz"] = ["429", "reset:1000", "wrong"]      one for each request of the file's bytes, in turn
        hub.served["data/a.jsonl.gz"]                                       bytes of it that left the server
        hub.sending                                                         bodies that it is sending now

Files of LFS_BYTES and more lie on a second host at signed addresses, as on the Hub's CDN; smaller ones in git.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_BYTES = 10_000
COMMIT = hashlib.sha1(b"the only commit").hexdigest()
COMMITS = {}  # {repository: another commit}
PAGE = 3  # entries of a tree in one answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        """A client may disconnect."""


class TwoHosts:
    """Answers on loopback while its block runs, by a Handler: the questions at `url`, the files at `cdn_url`."""

    def serve(self, handler):
        self.servers = []
        for cdn in (False, True):
            bound = type(handler.__name__, (handler,), {"server_hub": self, "cdn": cdn})
            self.servers.append(Server(("127.0.0.1", 0), bound))
        self.url, self.cdn_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Hub(TwoHosts):
    def __init__(self, repos, gated=(), rate=0.0):
        self.repos = {name: dict(files) for name, files in repos.items()}
        self.gated = set(gated)
        self.rate = rate  # seconds between two requests to a host; an earlier one is answered 429
        self.faults = defaultdict(list)
        self.requests = []  # (time, host, path, headers, status)
        self.served, self.sending = Counter(), 0
        self.lock, self.last = threading.Lock(), {False: 0.0, True: 0.0}

    def __enter__(self):
        return self.serve(Handler)

    def find(self, sha256):
        return next(
            (path, data)
            for files in self.repos.values()
            for path, data in files.items()
            if hashlib.sha256(data).hexdigest() == sha256
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement of its header
    server_hub, cdn = None, False

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, url = self.server_hub, urlsplit(self.path)
        path = unquote(url.path)
        if hub.rate:
            with hub.lock:
                now = time.time()
                early = now < hub.last[self.cdn] + hub.rate
                if not early:
                    hub.last[self.cdn] = now
            if early:
                return self.answer(429, b"slow down", {"Retry-After": str(hub.rate)})
        if self.cdn:
            name, data = hub.find(path.rpartition("/")[2])
            return self.send_file(name, data, {})
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/(\w+)", path):
            return self.in_repo(*found.groups()) or self.json({"id": found[1], "sha": commit(found[1]), "siblings": []})
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/(\w+)(?:/(.*))?", path):
            return self.in_repo(found[1], found[2]) or self.tree(found[1], found[3] or "", parse_qs(url.query))
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return self.in_repo(found[1], found[2], gate=True) or self.resolve(found[1], found[3])
        if found := re.fullmatch(r"/api/resolve-cache/datasets/([^/]+/[^/]+)/\w+/(.+)", path):
            return self.send_file(found[2], hub.repos[found[1]][found[2]], {})
        return self.answer(404, b"")

    def in_repo(self, repo, revision, gate=False):
        """True after an error answer: the repository or revision is missing, or gated."""
        hub = self.server_hub
        if repo not in hub.repos:
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"}) or True
        if revision != "main" and not commit(repo).startswith(revision):
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"}) or True
        if gate and repo in hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
            code = 403 if self.headers.get("Authorization") else 401
            return self.answer(code, b"", {"X-Error-Code": "GatedRepo"}) or True
        return None

    def tree(self, repo, folder, query):
        if self.fault("tree"):
            return None
        entries = []
        for path, data in sorted(self.server_hub.repos[repo].items()):
            if folder and not path.startswith(folder + "/"):
                continue
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
            if len(data) >= LFS_BYTES:
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        if not entries:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        recursive = query.get("recursive", ["False"])[0]
        prefix = folder + "/" if folder else ""
        inside = [entry["path"][len(prefix) :] for entry in entries]
        folders = {prefix + path[:at] for path in inside for at, letter in enumerate(path) if letter == "/"}
        entries += [{"type": "directory", "path": path, "oid": git_sha1(path.encode())} for path in sorted(folders)]
        if recursive.lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            address = urlsplit(self.path).path
            more = f"{self.server_hub.url}{address}?recursive={recursive}&cursor={start + PAGE}"
            headers["Link"] = f'<{more}>; rel="next"'
        return self.json(entries[start : start + PAGE], headers)

    def resolve(self, repo, path):
        data = self.server_hub.repos[repo].get(path)
        if data is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if len(data) < LFS_BYTES:
            return self.answer(307, b"", headers | {"Location": f"/api/resolve-cache/datasets/{repo}/{COMMIT}/{quote(path)}"})
        sha256 = hashlib.sha256(data).hexdigest()
        headers |= {
            "X-Linked-Etag": f'"{sha256}"',
            "Location": f"{self.server_hub.cdn_url}/xet/{sha256}?Signature=secret-in-address",
        }
        return self.answer(302, b"", headers)

    # ---- bytes

    def fault(self, name):
        """Takes the next fault of a file; True if it was answered by that."""
        with self.server_hub.lock:
            self.now = self.server_hub.faults[name].pop(0) if self.server_hub.faults[name] else ""
        if re.fullmatch(r"[345]\d\d(:.*)?", self.now):
            status, _, after = self.now.partition(":")
            return self.answer(int(status), b"no", {"Retry-After": after} if after else {}) or True
        if self.now == "html":
            return self.answer(200, b"<html><body>We are busy.</body></html>", {"Content-Type": "text/html"}) or True
        return False

    def send_file(self, name, data, headers):
        if self.fault(name):
            return
        kind, _, number = self.now.partition(":")
        if kind == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if kind == "other":
            data = data[: int(number)]
        start, end, status = 0, len(data) - 1, 200
        ranged = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if ranged and kind != "no_range":
            if ranged[1]:
                start, end = int(ranged[1]), min(end, int(ranged[2] or end))
            else:
                start = max(0, len(data) - int(ranged[2]))
            if start > end:
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status, headers = 206, headers | {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        body = data[start : end + 1]
        self.log(status)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with self.server_hub.lock:
            self.server_hub.sending += 1
        try:
            self.send_body(name, body, kind, number)
        finally:
            with self.server_hub.lock:
                self.server_hub.sending -= 1

    def send_body(self, name, body, kind, number):
        if kind in ("reset", "short"):
            body = body[: int(number)]
        step = 2_000 if kind == "drip" else 1 << 16
        for at in range(0, len(body), step):
            try:
                self.wfile.write(body[at : at + step])
            except OSError:
                return
            with self.server_hub.lock:
                self.server_hub.served[name] += len(body[at : at + step])
            if kind == "drip":
                time.sleep(float(number))
        if kind == "hang":
            time.sleep(float(number))
        if kind == "reset":
            self.wfile.flush()
            time.sleep(0.02)  # a reset at once would discard the bytes on their way
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind in ("reset", "short", "hang"):
            self.close_connection = True
            self.connection.close()

    def json(self, value, headers=None):
        return self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def answer(self, status, body, headers=None):
        self.log(status)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log(self, status):
        with self.server_hub.lock:
            host = "cdn" if self.cdn else "api"
            self.server_hub.requests.append((time.time(), host, self.path, dict(self.headers), status))


def commit(repo):
    return COMMITS.get(repo, COMMIT)


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def wait_until(condition, secs=60):
    """Polls; fails after `secs`."""
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, f"not within {secs} s"
        time.sleep(0.01)
