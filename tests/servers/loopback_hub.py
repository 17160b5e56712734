"""A Hub on loopback that serves data sets and takes the upload of a model; it keeps every request and uploaded file."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "c" * 40


class Hub:
    def __init__(self):
        self.datasets = {}  # {(repository, revision): {path: bytes}}
        self.uploaded = {}  # {path: bytes} of the one model
        self.requests = []  # (method, path, Authorization)
        self.refuses = False  # whether it answers 401


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, body=b"", status=200, **headers):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", len(body))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Authorization")))
            for (repo, revision), files in hub.datasets.items():
                if path == f"/api/datasets/{repo}/revision/{revision}":
                    siblings = [{"rfilename": name} for name in files]
                    return self.answer({"id": repo, "sha": revision, "siblings": siblings, "private": False, "tags": []})
                if path.startswith(f"/api/datasets/{repo}/tree/{revision}"):
                    oids = {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}
                    return self.answer([{"type": "file", "path": n, "size": len(files[n]), "oid": oids[n]} for n in files])
                start = f"/datasets/{repo}/resolve/{revision}/"
                if path.startswith(start) and path.removeprefix(start) in files:
                    data = files[path.removeprefix(start)]
                    etag = f'"{hashlib.sha256(data).hexdigest()}"'
                    return self.answer(data, X_Repo_Commit=revision, ETag=etag, Accept_Ranges="bytes")
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlparse(self.path).path
            hub.requests.append(("POST", path, self.headers.get("Authorization")))
            address = f"http://{self.headers['Host']}"
            if hub.refuses:
                return self.answer({"error": "Invalid username or password."}, 401)
            if path == "/api/repos/create":
                described = json.loads(body)
                return self.answer({"url": f"{address}/{described.get('organization', 'someone')}/{described['name']}"})
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in path:
                files = [
                    {"path": f["path"], "shouldIgnore": False, "oid": None, "size": f["size"]} for f in json.loads(body)["files"]
                ]
                return self.answer({"files": [f | {"uploadMode": "lfs" if f["size"] > 10_000 else "regular"} for f in files]})
            if path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                for o in objects:
                    o["actions"] = {"upload": {"href": f"{address}/lfs/{o['oid']}"}}
                return self.answer({"transfer": "basic", "objects": objects})
            if "/commit/" in path:
                for line in body.decode().splitlines():
                    row = json.loads(line)
                    if row["key"] == "file":
                        hub.uploaded[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                    if row["key"] == "lfsFile":
                        hub.uploaded[row["value"]["path"]] = hub.uploaded.pop(row["value"]["oid"])
                commit = {"commitOid": COMMIT, "commitUrl": f"{address}/someone/tiny/commit/{COMMIT}", "pullRequestUrl": None}
                return self.answer({"success": True} | commit)
            return self.answer({"error": "unknown"}, 404)

        def do_PUT(self):
            data = self.rfile.read(int(self.headers["Content-Length"]))
            hub.uploaded[hashlib.sha256(data).hexdigest()] = data
            self.answer(ETag=f'"{hashlib.sha256(data).hexdigest()}"')

    return Handler


@contextmanager
def running(monkeypatch, cache, handler=handler):
    """Within the block huggingface_hub talks to this Hub, with a cache of its own."""
    from huggingface_hub import constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
