"""
A small AIKosh on loopback: what the package `aikosh` asks of the real one, with faults on demand as in hub.py.

    with AIKoshServer({UUID: {"reports/a.pdf": b"..."}}) as server:
        os.environ |= {"AIKOSH_API_BASE_URL": server.url, "AIKOSH_API_KEY": KEY}

Files lie in a store on another host, at signed addresses that are good for one request.
"""

import hashlib
import json
import re
import threading
from collections import Counter, defaultdict
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.servers.hub import Handler, TwoHosts

KEY = "aik-secret-key"
VERSION = "11111111-2222-3333-4444-555555555555"


class AIKoshServer(TwoHosts):
    def __init__(self, sets, licence="Government Open Data License - India", external=(), sizes=True, version=VERSION, tags=False):
        self.sets, self.licence, self.external, self.sizes = sets, licence, dict(external), sizes
        self.version, self.tags = version, tags  # version: of the metadata; tags: answers as S3 does
        self.faults, self.requests, self.served = defaultdict(list), [], Counter()
        self.lock, self.signed, self.rate, self.sending = threading.Lock(), set(), 0.0, 0

    def version_fields(self):
        return self.version if isinstance(self.version, dict) else {"versionId": self.version}

    def __enter__(self):
        return self.serve(Questions)


class Questions(Handler):
    def do_GET(self):
        server, url = self.server_hub, urlsplit(self.path)
        path, query = unquote(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.cdn:
            with server.lock:
                good = query.get("signature") in server.signed
                server.signed.discard(query.get("signature"))
            dataset, _, name = path.lstrip("/").partition("/")
            data = server.sets[dataset][name]
            tag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "x-amz-request-id": "1"} if server.tags else {}
            return self.send_file(name, data, tag) if good else self.answer(403, b"expired")
        if self.headers.get("access-key") != KEY:
            return self.answer(401, b'{"header": {"success": false}}')
        if path == "/sdk-dataset/metadata":
            return self.fault("metadata") or self.known(query["id"]) or self.data(self.metadata(query["id"]))
        if found := re.fullmatch(r"/sdk/([^/]+)/version/file-details", path):
            return self.fault("listing") or self.known(found[1]) or self.data(self.listing(found[1], query))
        if found := re.fullmatch(r"/sdk/([^/]+)/version/file", path):
            return self.fault("address") or self.known(found[1]) or self.address(found[1], query["filePath"])
        return self.answer(404, b"")

    def known(self, dataset):
        server = self.server_hub
        return None if dataset in server.sets or dataset in server.external else self.answer(404, b"{}") or True

    def data(self, value):
        return self.json({"header": {"success": True, "error": False, "code": 200, "msg": "ok"}, "data": value})

    def metadata(self, dataset):
        server = self.server_hub
        about = {"id": dataset, "name": "a set", "license": {"id": 7, "name": server.licence}}
        if dataset in server.external:
            return {"datasetMetadata": about | {"externally_hosted": True, "dataset_source": "A portal"}}
        return {"datasetMetadata": about | {"externally_hosted": False} | server.version_fields()}

    def listing(self, dataset, query):
        """The direct files and folders of one folder, two files a page."""
        server = self.server_hub
        assert query.get("versionId") == (VERSION if VERSION in str(server.version) else None)
        folder = query.get("folderPath", "")
        prefix = folder + "/" if folder else ""
        inside = [path for path in sorted(server.sets[dataset]) if path.startswith(prefix)]
        files = [path for path in inside if "/" not in path[len(prefix) :]]
        folders = sorted({path[len(prefix) :].partition("/")[0] for path in inside} - {path[len(prefix) :] for path in files})
        page = int(query["page"])
        rows = [{"name": path.rpartition("/")[2], "relativeUrl": path} for path in files[2 * page - 2 : 2 * page]]
        if server.sizes:
            rows = [row | {"size": len(server.sets[dataset][row["relativeUrl"]])} for row in rows]
        below = [{"name": name, "relativeUrl": prefix + name + "/"} for name in folders] if page == 1 else []
        return {
            "files": rows,
            "directories": below,
            "currentPage": page,
            "totalPages": -(-len(files) // 2),
            "totalFiles": len(files),
        }

    def address(self, dataset, path):
        server = self.server_hub
        with server.lock:
            signature = f"s{len(server.signed)}-{len(server.requests)}"
            server.signed.add(signature)
        self.data(f"{server.cdn_url}/{dataset}/{quote(path)}?signature={signature}")

    def json(self, value, headers=None):
        return self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})
