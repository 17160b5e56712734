import gzip
import io
import random
import zlib

import pyarrow as pa
import pytest

from data_engine.download import Local
from data_engine.sources import archives, warc
from data_engine.sources.archives import Limits
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
    "unknown_type": [answer(b"\x89PNG", "http://x/i.png", Content_Type="image/png"), answer(b"x\0", "http://x/none")],
    "empty": [answer(b"", "http://x/empty", Content_Type="text/html")],
    "broken": [
        record("response", b"no header", "http://x/bad", **{"Content-Type": "application/http"}),
        answer(gzip.compress(PAGE)[:9], "http://x/cut", Content_Type="text/html", Content_Encoding="gzip"),
        answer(b"\x8b\x02\x80\0\xff" * 9, "http://x/br", Content_Type="text/html", Content_Encoding="br"),
        answer(b"\x1f\x9d\x90\0\xff\xfe" * 9, "http://x/lzw", Content_Type="text/html", Content_Encoding="compress"),
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
    assert lost[0]["detail"].startswith("after 1 records, ")


def test_long_records_and_headers_cost_a_row_and_no_memory(monkeypatch):
    long = answer(b"x" * 200_000, "http://x/long", Content_Type="text/plain")
    bomb = answer(gzip.compress(bytes(5_000_000)), "http://x/bomb", Content_Type="text/html", Content_Encoding="gzip")
    found = list(warc.documents(io.BytesIO(long + bomb + PAGES["http://x/plain"]), 100_000, Limits(1)))
    assert [d.reason for d in found] == ["too_large", "too_large", ""] and not found[0].content and not found[1].content
    with pytest.raises(OSError, match="a header of over"):
        list(warc.documents(io.BytesIO(b"WARC/1.0\r\n" + b"x: y\r\n" * 20_000), 1000, Limits(1)))


class Dribble(io.BytesIO):
    def read(self, n=-1):
        return super().read(3)


def test_the_records_are_the_same_wherever_the_stream_is_cut():
    data = b"".join(PAGES.values())
    whole, cut = (list(warc.documents(stream, 1 << 20, Limits(1))) for stream in (io.BytesIO(data), Dribble(data)))
    assert whole == cut


def pack(data, coding):
    if coding in ("br", "zstd"):
        return pa.Codec({"br": "brotli"}.get(coding, coding)).compress(data, asbytes=True)
    return {"gzip": gzip.compress, "deflate": zlib.compress, "none": bytes}[coding](data)


BODIES = {  # Content-Encoding -> how the body is packed
    **{"br": ["br"], "BR": ["br"], "zstd": ["zstd"], "none": [], "UTF-8": [], "identity": [], "gzip, gzip": ["gzip", "gzip"]},
    **{"gzip": ["gzip", "gzip"], "x-gzip": ["gzip"], "deflate, gzip": ["deflate", "gzip"], "gzip,br": ["gzip", "br"]},
    **{
        '"gzip"': ["gzip"],
        "gzip;q=1.0": ["gzip"],
        "text/html": [],
        "br ": [],
        "deflate": [],
        "zstd ": [],
        "sdch": ["gzip"],
        "": ["gzip"],
    },
}


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_read_by_what_it_is(name, chunks):
    page = PAGE * 40
    body = page
    for coding in BODIES[name]:
        body = pack(body, coding)
    headers = {"Transfer_Encoding": "chunked"} if chunks else {}
    data = answer(chunked(body) if chunks else body, Content_Type="text/html", Content_Encoding=name, **headers)
    (found,) = warc.documents(io.BytesIO(data), 1 << 20, Limits(1))
    assert (found.reason, found.content) == ("", page) and "damage" not in found.meta


@pytest.mark.parametrize("harm", ["cut", "a bit"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "chunks"])
def test_of_a_damaged_body_what_comes_before_is_kept(coding, harm):
    chance = random.Random(1)
    page = b"<html><p>" + b" ".join(b"%x" % chance.randrange(1 << 40) for _ in range(20_000))
    body = bytearray(chunked(page) if coding == "chunks" else pack(page, coding))
    if harm == "cut":
        del body[len(body) * 2 // 3 :]
    elif coding in ("gzip", "deflate"):
        body[-3] ^= 1  # in the checksum
    else:
        pytest.skip("holds no checksum")
    headers = {"Transfer_Encoding": "chunked"} if coding == "chunks" else {"Content_Encoding": coding}
    data = answer(bytes(body), Content_Type="text/html", **headers)
    (found,) = warc.documents(io.BytesIO(data), 1 << 20, Limits(len(data)))
    assert not found.reason and page.startswith(found.content) and found.meta["damage"]
    least = (
        len(page) if harm == "a bit" else len(page) * 2 // 3 - (131_072 if coding == "zstd" else 8_000)
    )  # its blocks are whole or not
    assert len(found.content) >= least


SNIFFED = {
    **{b"<!DOCTYPE html><p>x": "text/html", b"\n <!-- c -->\n<HTML lang=en>": "text/html", b"\xef\xbb\xbf<html>": "text/html"},
    **{b'<?xml version="1.0"?><html xmlns="x">': "text/html", b"%PDF-1.4 x": "application/pdf", "Wörter.".encode(): "text/plain"},
    **{
        "<html>é</html>".encode("utf-16"): "text/html",
        b"caf\xe9 and more": "text/plain",
        b"\x89PNG\r\n\x1a\n": "",
        b"<?xml ?><rss>": "",
    },
    **{b"GIF89a\1\0": "", b"PK\3\4": "", b"<p>short": "text/html", b"<ul><li>": "text/html"},
}


@pytest.mark.parametrize("body", SNIFFED)
@pytest.mark.parametrize("kind", ["response", "resource"])
def test_a_body_without_a_type_is_what_it_shows(body, kind):
    data = answer(body) if kind == "response" else record("resource", body)
    (found,) = warc.documents(io.BytesIO(data), 1 << 20, Limits(1))
    assert found.media_type == SNIFFED[body] and found.reason == ("" if SNIFFED[body] else "unknown_type")


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        *(("iso-8859-15", "costs 5 € or £4, naïve"), ("macintosh", "“quoted” naïve café £4"), ("windows-1251", "цена слова")),
        *(
            ("iso-8859-1", "“smart” quotes"),
            ("KOI8-R", "слово"),
            ("Shift_JIS", "日本語"),
            ("iso-2022-jp", "日本語"),
            ("utf-16le", "wide é"),
        ),
        *(("utf-8", "plain é"), ("nosuch", "plain é"), ("gb2312", "中文字")),
    ],
)
@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_the_charset_of_the_header_counts(charset, text, kind):
    codec = {"nosuch": "utf-8", "macintosh": "mac-roman", "iso-8859-1": "windows-1252"}.get(charset, charset)
    body = ("<p>" * (kind == "text/html") + text + " and some words. " * 9).encode(codec)
    data = answer(body, Content_Type=f'{kind.upper()}; Charset="{charset}"')
    (found,) = warc.documents(io.BytesIO(data), 1 << 20, Limits(1))
    from data_engine.text.html_text import decode_html

    assert text in decode_html(found.content) and (kind == "text/html" or text in found.content.decode())


def test_a_header_that_names_another_charset_than_the_page_has_is_not_believed():
    data = answer("<p>naïve “quotes”".encode(), Content_Type="text/html; charset=iso-8859-1")
    (found,) = warc.documents(io.BytesIO(data), 1 << 20, Limits(1))
    assert found.content.decode() == "<p>naïve “quotes”"


def test_every_byte_that_comes_out_of_a_body_counts(tmp_path, monkeypatch):
    """Each body is small by itself, but together they are more than the file may become, at any depth."""
    monkeypatch.setattr(archives, "FREE_BYTES", 8 << 20)
    for name, pack_twice in (("a", False), ("b", True)):
        body = gzip.compress(PAGE * 60_000)
        body = gzip.compress(body) if pack_twice else body
        one = answer(body, Content_Type="text/html", Content_Encoding="gzip")
        (tmp_path / f"{name}.warc.gz").write_bytes(gzip.compress(one * 40))
    kept, lost = read(Local("s", str(tmp_path)))
    assert {r["uri"]: r["reason"] for r in lost} == {"a.warc.gz": "quarantined", "b.warc.gz": "quarantined"}
    assert 2 <= len(kept) <= 10


def test_a_record_with_a_bad_header_costs_itself(tmp_path):
    good = PAGES["http://x/plain"]
    bad = [good.replace(b"Content-Length", b"Content-Lexgth", 1), good.replace(b"WARC/1.0", b"WBRC/1.0")]
    (tmp_path / "a.warc").write_bytes(good + bad[0] + good + bad[1] + good)
    kept, lost = read(Local("s", str(tmp_path)))
    assert len(kept) == 3 and [r["reason"] for r in lost] == ["broken", "broken"]
