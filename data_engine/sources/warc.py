"""
WARC -> documents, as a stream: answers of web servers, resources and plain text (WET) in a crawl's files.

    documents(stream, max_bytes) -> a Document for each record of the file, kept or with the reason why not

kept    response (an HTTP answer with status 200), resource, conversion, each of HTML, plain text or PDF
lost    not_document   warcinfo, request, metadata, revisit
        http_error     another status
        unknown_type   a page of another type
        empty, too_large (over max_bytes), broken (no HTTP header, a content-encoding that cannot be decoded)

Method: ISO 28500. Content-Length tells the end of a record's block, which is never searched for; a wrong one raises OSError.
"""

import re
import zlib
from typing import NamedTuple

MAX_HEADER = 1 << 16  # bytes of the header of a record, or of an HTTP answer
MEDIA = {
    **{"text/html": "text/html", "application/xhtml+xml": "text/html", "text/plain": "text/plain"},
    "application/pdf": "application/pdf",
}
VERSION_LINE = re.compile(rb"WARC/\d+\.\d+\r?$")


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

    def take(self, n):
        """The next n bytes, in pieces."""
        while n:
            if not self.held and not self._more():
                raise OSError(f"the file ends {n} bytes before the end of a record")
            piece, self.held = self.held[:n], self.held[n:]
            n -= len(piece)
            yield piece


def documents(stream, max_bytes):
    blocks = Blocks(stream)
    while lines := blocks.header():
        if not VERSION_LINE.match(lines[0]):
            raise OSError(f"no WARC record begins with {lines[0][:40]!r}")
        fields = _fields(lines[1:])
        length = fields.get("content-length", "")
        if not re.fullmatch("[0-9]{1,15}", length):
            raise OSError(f"a record with Content-Length {length[:40]!r}")
        body, size = [], 0
        for piece in blocks.take(int(length)):
            size += len(piece)
            if size <= max_bytes + MAX_HEADER:
                body.append(piece)
        yield _document(fields, b"".join(body), size, max_bytes)


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


def _document(fields, body, size, max_bytes):
    kind = fields.get("warc-type", "").lower()
    uri = fields.get("warc-target-uri", "").strip("<>")
    meta = {"date": fields.get("warc-date"), "record": fields.get("warc-record-id")}
    if kind not in ("response", "resource", "conversion"):
        return Document(uri, content=body, reason="not_document", detail=kind or "no WARC-Type")
    if size > max_bytes:
        return Document(uri, reason="too_large", detail=f"{size} bytes")
    media = fields.get("content-type", "text/plain" if kind == "conversion" else "")
    if kind == "response" and media.partition(";")[0].strip() == "application/http":
        found = re.search(rb"\r?\n\r?\n", body)
        status = re.match(rb"HTTP/[\d.]+ +(\d{3})", body)
        if not found or not status:
            return Document(uri, content=body, reason="broken", detail="no HTTP header")
        if status[1] != b"200":
            return Document(uri, content=body, reason="http_error", detail=f"status {status[1].decode()}")
        answer = _fields(body[: found.start()].split(b"\n")[1:])
        media, body = answer.get("content-type", ""), body[found.end() :]
        try:
            body = _decode(body, answer, max_bytes)
        except (ValueError, zlib.error) as error:
            return Document(uri, content=body, reason="broken", detail=str(error))
        if len(body) > max_bytes:
            return Document(uri, reason="too_large", detail=f"over {max_bytes} bytes")
    media_type = MEDIA.get(media.partition(";")[0].strip().lower())
    if not media_type:
        return Document(uri, content=body, reason="unknown_type", detail=media[:80] or "no Content-Type")
    if not body:
        return Document(uri, reason="empty", detail="0 bytes")
    return Document(uri, media_type, body, {key: value for key, value in meta.items() if value})


def _decode(body, answer, max_bytes):
    """Undoes the encodings of an HTTP answer, if its bytes have them: some crawlers decode the body and leave the header."""
    if "chunked" in answer.get("transfer-encoding", "").lower() and re.match(rb"[0-9A-Fa-f]+[ \t]*(?:;[^\n]*)?\r?\n", body):
        body = _unchunked(body)
    encoding = answer.get("content-encoding", "").lower().strip()
    if encoding in ("gzip", "x-gzip", "deflate"):
        wrapped = encoding != "deflate" or body[:1] == b"\x78"
        if encoding == "deflate" or body[:2] == b"\x1f\x8b":
            decoder = zlib.decompressobj(47 if wrapped else -15)
            body = decoder.decompress(body, max_bytes + 1)
            if not decoder.eof and len(body) <= max_bytes:
                raise ValueError(f"the {encoding} encoding ends too early")
    elif encoding not in ("", "identity") and "x-crawl-content-encoding" not in answer:
        raise ValueError(f"content-encoding {encoding[:20]}")
    return body


def _unchunked(body):
    parts, at = [], 0
    while True:
        line = re.compile(rb"([0-9A-Fa-f]{1,8})[^\n]*\n").match(body, at)
        if not line:
            raise ValueError("a chunk without its length")
        size, at = int(line[1], 16), line.end()
        if size == 0:
            return b"".join(parts)
        if at + size > len(body):
            raise ValueError("the last chunk is not whole")
        parts.append(body[at : at + size])
        at += size
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
