"""
WARC -> documents, as a stream: answers of web servers, resources and plain text (WET) in a crawl's files.

    documents(stream, max_bytes, limits) -> a Document for each record of the file, kept or with the reason why not

kept    response (an HTTP answer with status 200), resource, conversion, each of HTML, plain text or PDF. A body without
        Content-Type is what its first bytes show. Of a body that is damaged the part before is kept, and `damage` is in its meta.
        Text comes in UTF-8, HTML where the header names a charset.
lost    not_document   warcinfo, request, metadata, revisit
        http_error     another status
        unknown_type   a page of another type
        empty, too_large (over max_bytes), broken (no HTTP header, a content-encoding that cannot be decoded, a bad header)

Method: ISO 28500. Content-Length tells the end of a record's block. Behind a header that is damaged the next line "WARC/1.x" is
searched for; OSError without one. Every byte that comes out of a body counts against the Limits of the file.
"""

import codecs
import io
import re
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa

from data_engine.sources.archives import STEP, decompressed
from data_engine.sources.encodings import to_utf8, wide_encoding

SNIFFED = 2048  # bytes of a body that tell its type
MAX_LAYERS = 3  # packings of a body that no header names
CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "br": "brotli", "brotli": "brotli", "zstd": "zstd"}
MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}
UNTOLD = ("", "unknown/unknown", "application/unknown", "*/*")
MAX_HEADER = 1 << 16  # bytes of the header of a record, or of an HTTP answer
MEDIA = {
    **{"text/html": "text/html", "application/xhtml+xml": "text/html", "text/plain": "text/plain"},
    "application/pdf": "application/pdf",
}
VERSION_LINE = re.compile(rb"WARC/\d+\.\d+\r?$")
RECORD = re.compile(rb"(\r?\n\r?\n)WARC/\d\.\d\r?\n")


class Document(NamedTuple):
    uri: str
    media_type: str = ""
    content: bytes = b""
    meta: dict = {}  # noqa: RUF012 (never changed)
    reason: str = ""
    detail: str = ""


class Blocks:
    """Reads a stream header by header, and so many bytes after each."""

    def __init__(self, stream):
        self.stream, self.held = stream, b""

    def _more(self):
        block = self.stream.read(1 << 16)
        self.held += block
        return bool(block)

    def header(self):
        """The next header's lines; [] at the end of the stream."""
        while True:
            self.held = self.held.lstrip(b"\r\n")
            if self.held or not self._more():
                break
        while not (end := re.search(rb"\r?\n\r?\n", self.held)):
            if len(self.held) > MAX_HEADER:
                raise OSError(f"a header of over {MAX_HEADER} bytes")
            if not self._more():
                if self.held:
                    raise OSError("the file ends in a header")
                return []
        head, self.held = self.held[: end.start()], self.held[end.end() :]
        return head.split(b"\n")

    def skip(self):
        """Goes on to the next line that begins a record; False if there is none."""
        while not (found := RECORD.search(self.held)):
            self.held = self.held[-20:]
            if not self._more():
                return False
        self.held = self.held[found.end(1) :]
        return True

    def take(self, n):
        """The next n bytes, in pieces."""
        while n:
            if not self.held and not self._more():
                raise OSError(f"the file ends {n} bytes before the end of a record")
            piece, self.held = self.held[:n], self.held[n:]
            n -= len(piece)
            yield piece


def documents(stream, max_bytes, limits):
    blocks = Blocks(stream)
    while lines := blocks.header():
        fields = _fields(lines[1:])
        length = fields.get("content-length", "")
        problem = None
        if not VERSION_LINE.match(lines[0]):
            problem = f"no WARC record begins with {lines[0][:40]!r}"
        elif not re.fullmatch("[0-9]{1,15}", length):
            problem = f"a record with Content-Length {length[:40]!r}"
        if problem:
            if not blocks.skip():
                raise OSError(problem)
            yield Document(fields.get("warc-target-uri", "").strip("<>"), reason="broken", detail=problem)
            continue
        body, size = [], 0
        for piece in blocks.take(int(length)):
            size += len(piece)
            if size <= max_bytes + MAX_HEADER:
                body.append(piece)
        yield _document(fields, b"".join(body), size, max_bytes, limits)


def _fields(lines):
    """{name in small letters: value}; a line that begins with a blank continues the one before."""
    fields, name = {}, None
    for line in lines:
        text = line.decode("utf-8", "surrogateescape").rstrip("\r")
        if text[:1] in (" ", "\t") and name:
            fields[name] += " " + text.strip()
        elif ":" in text:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _document(fields, body, size, max_bytes, limits):
    kind = fields.get("warc-type", "").lower()
    uri = fields.get("warc-target-uri", "").strip("<>")
    meta = {"date": fields.get("warc-date"), "record": fields.get("warc-record-id")}
    if kind not in ("response", "resource", "conversion"):
        return Document(uri, content=body, reason="not_document", detail=kind or "no WARC-Type")
    if size > max_bytes:
        return Document(uri, reason="too_large", detail=f"{size} bytes")
    media = fields.get("content-type", "text/plain" if kind == "conversion" else "")
    if kind == "response" and _media_type(media) == "application/http":
        found = re.search(rb"\r?\n\r?\n", body)
        status = re.match(rb"HTTP/[\d.]+ +(\d{3})", body)
        if not found or not status:
            return Document(uri, content=body, reason="broken", detail="no HTTP header")
        if status[1] != b"200":
            return Document(uri, content=body, reason="http_error", detail=f"status {status[1].decode()}")
        answer = _fields(body[: found.start()].split(b"\n")[1:])
        media, body = answer.get("content-type", ""), body[found.end() :]
        try:
            body, meta["damage"] = _decode(body, answer, max_bytes, limits)
        except ValueError as error:
            return Document(uri, content=body, reason="broken", detail=str(error))
        if len(body) > max_bytes:
            return Document(uri, reason="too_large", detail=f"over {max_bytes} bytes")
    if not body:
        return Document(uri, reason="empty", detail="0 bytes")
    told = _media_type(media)
    if told in UNTOLD:
        told = _media_type(fields.get("warc-identified-payload-type", "")) or sniff(body)
    media_type = MEDIA.get(told)
    if not media_type:
        return Document(uri, content=body, reason="unknown_type", detail=media[:80] or told or "no Content-Type")
    charset = re.search(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", media, re.I)
    if media_type == "text/plain" or (media_type == "text/html" and charset):
        body = to_utf8(body, charset[1] if charset else "")
    return Document(uri, media_type, body, {key: value for key, value in meta.items() if value})


def _media_type(header):
    """'Text/HTML; charset=x' -> 'text/html'."""
    return re.split("[;,]", header)[0].strip().lower()


MARKUP = "!doctype html|html|head|body|title|meta|link|script|style|iframe|table|div|span|h[1-6]|font|center|article|p|a|b|br|ul"
PAGE = re.compile(rf"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<(?:{MARKUP})[\s>/]".encode(), re.I | re.S)
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # bytes that no text holds (mimesniff.spec.whatwg.org)


def sniff(body):
    """The media type that the beginning of a body shows; "" for one that no reader reads."""
    if body.startswith(b"%PDF-"):
        return "application/pdf"
    wide, skip = wide_encoding(body)
    head = body[skip:SNIFFED].decode(wide, "replace").encode() if wide else body[:SNIFFED]
    if PAGE.match(head):
        return "text/html"
    if head.startswith(b"<?xml"):
        return "text/html" if b"<html" in head.lower() else "text/xml"
    return "" if BINARY.search(head) else "text/plain"


def _is_text(body):
    """True for what a crawler has decoded already, though its header still names an encoding."""
    head = body[:SNIFFED]
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return not BINARY.search(head)
    return bool(PAGE.match(head)) and not BINARY.search(head)


def _decode(body, answer, max_bytes, limits):
    """
    (body, damage or None) without the encodings of an HTTP answer; ValueError if nothing of it can be read.

    The bytes decide, not the header alone: some crawlers decode the body and leave the header, some servers pack twice or name
    encodings that are none.
    """
    damage = None
    transfer = answer.get("transfer-encoding", "").lower()
    if "chunked" in transfer and CHUNK_SIZE.match(body):
        body, damage = _unchunked(body)
    names = [name for name in re.split(r"[\s,;\"]+", f"{answer.get('content-encoding', '').lower()},{transfer}") if name]
    for name in reversed([name for name in names if name in CODINGS]):
        coding = CODINGS[name]
        if coding in MAGIC and not body.startswith(MAGIC[coding]):
            continue
        out, problem = _unpack(body, coding, max_bytes, limits)
        if problem and coding not in MAGIC and _is_text(body):
            continue
        if problem and not out:
            raise ValueError(f"content-encoding {name}: {problem}")
        body, damage = out, damage or problem
    for _ in range(MAX_LAYERS):
        coding = next((coding for coding, magic in MAGIC.items() if body.startswith(magic)), None)
        out, problem = _unpack(body, coding, max_bytes, limits) if coding and len(body) <= max_bytes else (b"", None)
        if not out:
            break
        body, damage = out, damage or problem
    unknown = [name for name in names if name not in CODINGS and name not in ("chunked", "identity")]
    if unknown and BINARY.search(body[:SNIFFED]) and not body.startswith((b"%PDF-", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"content-encoding {', '.join(unknown)[:60]}")
    return body, damage


def _unpack(body, coding, max_bytes, limits):
    """(what comes out of a body, at most max_bytes + 1 bytes; what ended it too early, or None)."""
    stream, parts, size, problem = decompressed(io.BytesIO(body), coding, limits), [], 0, None
    while size <= max_bytes:
        try:
            block = stream.read(min(1 << 20, max_bytes + 1 - size))
        except OSError as error:
            problem = f"its end is missing or damaged: {error}"
            break
        if not block:
            break
        parts.append(block)
        size += len(block)
    if problem and coding == "brotli":  # Arrow loses the bytes of the call that meets damage
        stream = pa.CompressedInputStream(pa.BufferReader(body), coding)
        with suppress(OSError, pa.ArrowException):
            for n in (*[STEP] * (size // STEP), *[1] * STEP):
                parts.append(stream.read(n)) if n == 1 else stream.read(n)
    return b"".join(parts), problem


CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]{0,1000})?\r?\n")


def _unchunked(body):
    """(the chunks joined, what is missing or None)."""
    parts, at = [], 0
    while at < len(body):
        line = CHUNK_SIZE.match(body, at)
        if not line:
            return (b"".join(parts), "a chunk without its length") if parts else (body, None)
        size, at = int(line[1], 16), line.end()
        if size == 0:
            return b"".join(parts), None
        end = at + size
        if not parts and end < len(body) and body[end : end + 1] not in (b"\r", b"\n"):
            return body, None  # a text whose first line looks like a length
        if not parts and end > len(body) and not line[0].endswith(b"\r\n"):
            return body, None
        parts.append(body[at:end])
        at = end + (2 if body[end : end + 2] == b"\r\n" else body[end : end + 1] == b"\n")
    return b"".join(parts), "the last chunk is missing or not whole"
