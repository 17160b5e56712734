"""Web: files at addresses on loopback."""

import dataclasses
import gzip
import hashlib
import json
from urllib.parse import urlsplit

import pytest

from data_engine.download import Web, survey
from data_engine.sources import fetch, hosts
from data_engine.sources.fetch import DownloadSettings, FetchError
from phoenix.config import UserError
from tests.corpus import texts
from tests.servers.hub import Handler, Hub

FILES = {
    "/a.txt": texts()[0].encode(),
    "/rows.jsonl.gz": gzip.compress(
        "\n".join(json.dumps({"text": t, "id": i}) for i, t in enumerate(texts()[:9])).encode(), mtime=0
    ),
    "/page": b"<html><p>" + texts()[1].encode() + b"</p></html>",
    "/raw.html": b"<p>" + texts()[2].encode(),
}
TYPES = {"/page": "text/html; charset=utf-8"}


class Pages(Handler):
    def do_GET(self):
        path = urlsplit(self.path).path
        if path not in FILES:
            return self.answer(404, b"")
        return self.send_file(path, FILES[path], {"Content-Type": TYPES.get(path, "application/octet-stream"), "ETag": '"one"'})


class Site(Hub):
    def __enter__(self):
        return self.serve(Pages)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 0.005)
    with Site({}) as site:
        yield site


def source(tmp_path, site, *paths, **more):
    downloads = DownloadSettings(str(tmp_path / "downloads"))
    return Web("s", tuple(site.url + path for path in paths), downloads=downloads, **more)


def rows(source):
    source.check()
    chunks = [chunk for job in source.jobs(1 << 20) for chunk in source.read(job)]
    return [r for kept, _ in chunks for r in kept.to_pylist()], [r for _, lost in chunks for r in lost.to_pylist()]


def test_each_file_is_read_by_its_kind_and_fetched_once(site, tmp_path):
    mine = source(tmp_path, site, *FILES, licence="MIT")
    kept, lost = rows(mine)
    assert not lost and len(kept) == 12 and {r["licence"] for r in kept} == {"MIT"}
    by_uri = {r["uri"].removeprefix(site.url): r for r in kept}
    assert by_uri["/a.txt"]["content"] == FILES["/a.txt"] and by_uri["/a.txt"]["revision"] == '"one"'
    assert by_uri["/page"]["media_type"] == by_uri["/raw.html"]["media_type"] == "text/html"
    assert json.loads(by_uri["/rows.jsonl.gz#3"]["meta"]) == {"id": 3}
    before = len(site.requests)
    assert rows(mine)[0] == kept and len(site.requests) == before
    assert rows(dataclasses.replace(mine, downloads=dataclasses.replace(mine.downloads, offline=True)))[0] == kept


def test_faults_are_met_and_a_break_goes_on(site, tmp_path):
    mine = source(tmp_path, site, "/rows.jsonl.gz")
    survey([mine])
    before = site.served["/rows.jsonl.gz"]
    site.faults["/rows.jsonl.gz"] = ["503:0.01", "short:2000", "html", "429:0"]
    assert len(rows(mine)[0]) == 9
    assert site.served["/rows.jsonl.gz"] - before == len(FILES["/rows.jsonl.gz"])


def test_a_file_that_changes_before_it_is_fetched_is_asked_for_again(site, tmp_path, monkeypatch):
    mine = source(tmp_path, site, "/a.txt", "/raw.html")
    survey([mine])
    first = mine.jobs(1 << 20)
    kept, _ = rows(dataclasses.replace(mine, urls=mine.urls[1:], downloads=DownloadSettings(str(tmp_path / "other"))))
    list(mine.read(first[1]))
    site.faults["/a.txt"] = ["short:100"]  # a part of the old file is here
    with pytest.raises(FetchError), monkeypatch.context() as patch:
        patch.setattr(fetch, "DOWNLOAD_TRIES", 1)
        list(mine.read(first[0]))
    monkeypatch.setitem(FILES, "/a.txt", b"another text, and longer" * 2000)
    monkeypatch.setitem(FILES, "/raw.html", b"<p>changed, but it has been fetched")
    with pytest.raises(FetchError, match="the server sends a file of 48,000 bytes, its listing says"):
        list(mine.read(first[0]))
    survey([mine])  # the next run
    now, lost = rows(mine)
    assert not lost and sorted(r["content"] for r in now) == sorted([FILES["/a.txt"], kept[0]["content"]])


def test_a_hash_is_checked(site, tmp_path):
    good, bad = hashlib.sha256(FILES["/a.txt"]).hexdigest(), "0" * 64
    assert len(rows(source(tmp_path, site, "/a.txt", sha256=good))[0]) == 1
    with pytest.raises(FetchError, match="its bytes do not have the sha256 of the listing"):
        rows(source(tmp_path / "other", site, "/a.txt", "/page", sha256=(bad, None)))


def test_what_is_not_there_is_a_sentence_each(site, tmp_path):
    FILES["/x.bin"] = b"x"
    with pytest.raises(UserError) as caught:
        survey([source(tmp_path, site, "/gone.txt", "/a.txt", "/x.bin?key=secret")])
    first, second = str(caught.value).splitlines()
    assert "/gone.txt: 127.0.0.1" in first and "answers 404" in first
    assert "which no reader reads" in second and "secret" not in second
    del FILES["/x.bin"]


def test_a_secret_in_an_address_stays_out_of_uris_and_files(site, tmp_path):
    mine = source(tmp_path, site, "/a.txt?token=hunter2", "/a.txt?token=other")
    kept, _ = rows(mine)
    assert len({r["uri"] for r in kept}) == 2 and "hunter2" not in str(kept) + mine.origin
    assert not [p for p in (tmp_path / "downloads").rglob("*") if p.is_file() and b"hunter2" in p.read_bytes() + p.name.encode()]


def test_a_password_in_an_address_is_told_nowhere(site, tmp_path):
    address = site.url.replace("//", "//user:hunter2@")
    with pytest.raises(UserError, match=r"127.0.0.1:\d+ answers 404") as caught:
        survey([Web("s", address + "/gone.txt", downloads=DownloadSettings(str(tmp_path / "downloads")))])
    site.faults["/a.txt"] = ["503:0", "429:0.01"]
    rows(Web("s", address + "/a.txt", downloads=DownloadSettings(str(tmp_path / "downloads"))))
    there = [p for p in (tmp_path / "downloads").rglob("*") if p.is_file()]
    assert there and not [p for p in there if b"hunter2" in p.read_bytes() + p.name.encode()]
    assert "hunter2" not in str(caught.value)
    assert hosts.redact_urls(f"x '{address}/a?b=c' y") == f"x '{site.url}/...' y"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"urls": ()}, "or none"),
        ({"urls": ("ftp://u:pw@x/y",)}, "'ftp://x/...' is no address"),
        ({"urls": "http://[::1/x.txt"}, "is no address"),
        ({"urls": "http://x:99999/x.txt"}, "is no address"),
        ({"urls": (None,)}, "is no address"),
        ({"urls": None}, r"urls must be str \| tuple, not None"),
        ({"urls": "http://x/y", "id": 5}, "id must be"),
        ({"urls": ("http://x/y",) * 2}, "twice"),
        ({"urls": "http://x/y", "sha256": "ab"}, "64 hex digits"),
        ({"urls": ("http://x/y", "http://x/z"), "sha256": "0" * 64}, "1 hashes for 2 addresses"),
    ],
)
def test_a_mistake_is_one_sentence(settings, word):
    with pytest.raises(UserError, match=word):
        Web("s", **settings).check()
