import gzip
import io
import zlib

import pytest

from data_engine.download import Local
from data_engine.sources import warc
from tests.data_engine.sources.test_download import read


def record(kind, body, uri="http://x/", **fields):
    head = {
        "WARC-Type": kind,
        "WARC-Target-URI": uri,
        "WARC-Date": "2024-01-01T00:00:00Z",
        "Content-Length": str(len(body)),
    } | fields
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value is not None)
    return b"WARC/1.0\r\n" + lines.encode() + b"\r\n" + body + b"\r\n\r\n"


def http(body, status="200 OK", **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def answer(body, uri="http://x/", status="200 OK", **headers):
    return record("response", http(body, status, **headers), uri, **{"Content-Type": "application/http; msgtype=response"})


def chunked(body):
    return b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 5]), body[i : i + 5]) for i in range(0, len(body), 5)) + b"0\r\n\r\n"


PAGE = b"<p>A page of some words.</p>"
PAGES = {
    "http://x/plain": answer(PAGE, "http://x/plain", Content_Type="text/html; charset=utf-8"),
    "http://x/xhtml": answer(PAGE, "http://x/xhtml", content_type="application/xhtml+xml"),
    "http://x/gzip": answer(gzip.compress(PAGE), "http://x/gzip", Content_Type="text/html", Content_Encoding="gzip"),
    "http://x/deflate": answer(zlib.compress(PAGE), "http://x/deflate", Content_Type="text/html", Content_Encoding="deflate"),
    "http://x/raw": answer(zlib.compress(PAGE)[2:-4], "http://x/raw", Content_Type="text/html", Content_Encoding="deflate"),
    "http://x/undone": answer(
        PAGE, "http://x/undone", Content_Type="text/html", Content_Encoding="gzip", Transfer_Encoding="chunked"
    ),
    "http://x/chunked": answer(chunked(PAGE), "http://x/chunked", Content_Type="text/html", Transfer_Encoding="chunked"),
    "http://x/both": answer(
        chunked(gzip.compress(PAGE)),
        "http://x/both",
        Content_Type="text/html",
        Transfer_Encoding="chunked",
        Content_Encoding="gzip",
    ),
    "http://x/resource": record("resource", PAGE, "http://x/resource", **{"Content-Type": "text/html"}),
}
OTHERS = {
    "not_document": [
        record("warcinfo", b"software: x", uri=None),
        record("request", b"GET / HTTP/1.1\r\n\r\n", "http://x/asked"),
        record("revisit", http(b""), "http://x/again"),
    ],
    "http_error": [
        answer(PAGE, "http://x/404", "404 Not Found", Content_Type="text/html"),
        answer(b"", "http://x/301", "301 Moved"),
    ],
    "unknown_type": [answer(b"\x89PNG", "http://x/i.png", Content_Type="image/png"), answer(b"x", "http://x/none")],
    "empty": [answer(b"", "http://x/empty", Content_Type="text/html")],
    "broken": [
        record("response", b"no header", "http://x/bad", **{"Content-Type": "application/http"}),
        answer(gzip.compress(PAGE)[:-12], "http://x/cut", Content_Type="text/html", Content_Encoding="gzip"),
        answer(PAGE, "http://x/br", Content_Type="text/html", Content_Encoding="br"),
    ],
}


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_every_record_is_kept_or_in_the_ledger(tmp_path, name):
    records = [*PAGES.values(), *(r for some in OTHERS.values() for r in some)]
    pack = gzip.compress if name.endswith("gz") else bytes
    (tmp_path / name).write_bytes(b"".join(map(pack, records)))
    kept, lost = read(Local("s", str(tmp_path), licence="L"))
    assert {r["uri"]: r["content"] for r in kept} == dict.fromkeys(PAGES, PAGE) and {r["media_type"] for r in kept} == {"text/html"}
    assert sorted(r["reason"] for r in lost) == sorted(reason for reason, some in OTHERS.items() for _ in some)
    assert '"date": "2024-01-01T00:00:00Z"' in kept[0]["meta"]
    assert {r["uri"] for r in read(Local("s", str(tmp_path), id=None))[0]} == {f"{name}#{i}" for i in range(len(PAGES))}


def test_wet_files_hold_plain_text(tmp_path):
    data = record("warcinfo", b"x", uri=None) + record("conversion", "Wörter.".encode(), **{"Content-Type": "text/plain"})
    (tmp_path / "a.warc.wet.gz").write_bytes(gzip.compress(data))
    kept, lost = read(Local("s", str(tmp_path)))
    assert [(r["media_type"], r["content"].decode()) for r in kept] == [("text/plain", "Wörter.")] and len(lost) == 1


@pytest.mark.parametrize(
    "tail",
    [
        b"WARC/1.0\r\nWARC-Type: resp",
        b"WARC/1.0\r\nContent-Length: x\r\n\r\n",
        b"no record here\r\n\r\n",
        PAGES["http://x/gzip"][:-60],
    ],
)
def test_a_file_that_loses_its_step_keeps_what_came_before(tmp_path, tail):
    (tmp_path / "a.warc").write_bytes(PAGES["http://x/plain"] + tail)
    kept, lost = read(Local("s", str(tmp_path)))
    assert len(kept) == 1 and [(r["uri"], r["reason"]) for r in lost] == [("a.warc", "broken")]
    assert lost[0]["detail"].startswith("after 1 records: ")


def test_long_records_and_headers_cost_a_row_and_no_memory(monkeypatch):
    long = answer(b"x" * 200_000, "http://x/long", Content_Type="text/plain")
    bomb = answer(gzip.compress(bytes(5_000_000)), "http://x/bomb", Content_Type="text/html", Content_Encoding="gzip")
    found = list(warc.documents(io.BytesIO(long + bomb + PAGES["http://x/plain"]), 100_000))
    assert [d.reason for d in found] == ["too_large", "too_large", ""] and not found[0].content and not found[1].content
    with pytest.raises(OSError, match="a header of over"):
        list(warc.documents(io.BytesIO(b"WARC/1.0\r\n" + b"x: y\r\n" * 20_000), 1000))


class Dribble(io.BytesIO):
    def read(self, n=-1):
        return super().read(3)


def test_the_records_are_the_same_wherever_the_stream_is_cut():
    data = b"".join(PAGES.values())
    assert list(warc.documents(Dribble(data), 1 << 20)) == list(warc.documents(io.BytesIO(data), 1 << 20))
