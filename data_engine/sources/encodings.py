"""
Bytes in any encoding -> UTF-8: of a whole text, or of a stream without holding it.

    to_utf8(content, charset="")        a whole text; charset: as a server names it
    Utf8Stream(stream, encoding=None)   a file of lines or of XML; read() gives valid UTF-8 alone

The order: byte order mark, zeros of UTF-16 and UTF-32, valid UTF-8, the declared encoding, detection as for HTML (html_text.py).
Valid UTF-8 comes before the declaration, because servers often name an encoding that they do not look for.
"""

import codecs
import re

BLOCK = 1 << 20  # bytes of a stream that are decoded at once
HEAD = 4096  # bytes that tell an encoding
FEW = 10  # bytes beyond ASCII that are too few for a detection
SAMPLE = 1 << 16  # bytes that a detection reads
MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    *((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF8, "utf-8")),
)
SEVEN_BIT = re.compile(r"(?i)iso-?2022|utf-?7|hz")  # encodings in ASCII bytes, which pass for UTF-8


def wide_encoding(head: bytes) -> tuple[str | None, int]:
    """(encoding that the mark or the zeros of a beginning tell or None, bytes of the mark)."""
    for mark, encoding in MARKS:
        if head.startswith(mark) and not (encoding == "utf-32-le" and len(head) % 4 and len(head) < 64):
            return encoding, len(mark)
    head = head[: min(len(head), HEAD) // 4 * 4]
    zeros = [head[i::4].count(0) for i in range(4)]
    n = len(head) // 4
    if n < 2:
        return None, 0
    if zeros[0] < n / 20 and min(zeros[2], zeros[3]) > n * 0.9:
        return "utf-32-le", 0
    if zeros[3] < n / 20 and min(zeros[0], zeros[1]) > n * 0.9:
        return "utf-32-be", 0
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]  # UTF-16 of any script has spaces and line ends
    if max(even, odd) > 2 * n / 50 and min(even, odd) <= max(even, odd) / 50:
        encoding = "utf-16-le" if odd > even else "utf-16-be"
        text = head.decode(encoding, "replace")
        controls = sum(letter < " " and letter not in "\t\n\r\f" for letter in text)
        return (encoding, 0) if text.count("\ufffd") + controls <= len(text) / 50 else (None, 0)
    return None, 0


def declared_codec(charset: str) -> str | None:
    """The name of Python's codec for an encoding's name; of those that editors take for a smaller one the larger; else None."""
    from data_engine.text.html_text import READ_AS

    try:
        name = codecs.lookup(charset.strip().strip("\"'")).name
        b"a\xe9".decode(name, "replace")  # raises for hex, idna and the like: codecs that are not encodings of text
    except (LookupError, UnicodeError, ValueError):
        return None
    return READ_AS.get(name, name)


def to_utf8(content: bytes, charset: str = "") -> bytes:
    """
    A text in UTF-8, without a mark where it had to be decoded; the same bytes where they are valid.

    b"caf\\xe9" -> "café".encode()
    """
    encoding, skip = wide_encoding(content)
    if encoding and encoding != "utf-8":
        return content[skip:].decode(encoding, "replace").encode("utf-8", "replace")
    if not SEVEN_BIT.search(charset):
        try:
            content.decode()
            return content
        except UnicodeDecodeError:
            pass
    from data_engine.text.gutenberg import decode_book

    if (book := decode_book(content)) is not None:  # its header names the encoding
        return book.encode("utf-8", "replace")
    from data_engine.text.html_text import DECLARED

    if not charset and (named := DECLARED.search(content[:HEAD])):  # as letters and pages name it
        charset = named[1].decode()
    codec = declared_codec(charset) if charset else None
    if codec and not codec.startswith("utf") and encoding is None:
        text = content.decode(codec, "replace")
        if text.count("\ufffd") <= len(text) / 100:
            return text.encode("utf-8", "replace")
    codec = guess(content)
    return content.decode(codec, "windows-1252 for strays" if codec == "utf-8" else "replace").encode("utf-8", "replace")


def beginning(stream) -> bytes:
    """The first bytes of a stream: at least as many as tell its encoding, if there are so many."""
    head = block = stream.read(BLOCK)
    while block and len(head) < HEAD:
        try:
            block = stream.read(BLOCK)
        except OSError:  # damage, which the next read meets again
            break
        head += block
    return head


class Utf8Stream:
    """
    A stream as UTF-8 without its mark: read() gives a block, b"" at the end.

    A line that is no UTF-8 is decoded by itself, in the encoding of all such lines of the block in which the first stands. A file
    of UTF-8 keeps its text where a few lines come from elsewhere.

    encoding    that the file declares; None: found out
    carriage    True: a file whose lines end in carriage returns alone gets line ends in their place
    """

    def __init__(self, stream, encoding=None, carriage=False):
        self.blocks, self.encoding = self._blocks(stream, carriage), encoding

    def read(self, n=None):
        return next(self.blocks, b"")

    def _blocks(self, stream, carriage):
        block, held, damage = beginning(stream), b"", None
        wide, skip = wide_encoding(block)
        block = block[skip:]
        if not wide and self.encoding and SEVEN_BIT.search(self.encoding):
            wide = declared_codec(self.encoding)
        decoder = codecs.getincrementaldecoder(wide)("replace") if wide not in (None, "utf-8") else None
        ends = None  # True: the carriage returns are its line ends
        while block or held:
            ended = not block
            if decoder:
                out = decoder.decode(block, ended).encode("utf-8", "replace")
            else:
                out, held = self._whole_lines(held + block, ended)
            if ends is None and out:
                ends = carriage and b"\r" in out and b"\n" not in out
            if out:
                yield out.replace(b"\r", b"\n") if ends else out
            if ended:
                break
            try:
                block = stream.read(BLOCK)
            except Exception as error:  # any library's; what came before it goes out first
                damage, block = error, b""
        if damage:
            raise damage

    def _whole_lines(self, data, ended):
        """(data in UTF-8, what has to wait for the next block)."""
        try:
            data.decode()
            return data, b""
        except UnicodeDecodeError as error:
            if not ended and error.end == len(data) and len(data) - error.start < 4:  # a letter that the block cuts in two
                return data[: error.start], data[error.start :]
        end = 0 if ended else data.rfind(b"\n") + 1
        data, held = (data[:end], data[end:]) if end else (data, b"")
        pieces = data.split(b"\n")
        return b"\n".join(piece if _is_utf8(piece) else self._decode(piece, pieces) for piece in pieces), held

    def _decode(self, piece, pieces):
        codec = declared_codec(self.encoding) if self.encoding else None
        if codec is None:
            sample, size = [], 0
            for other in pieces:
                if size < SAMPLE and not _is_utf8(other):
                    sample.append(other[:SAMPLE])
                    size += len(other)
            codec = guess(b"\n".join(sample))
        self.encoding = codec
        return piece.decode(codec, "windows-1252 for strays" if codec == "utf-8" else "replace").encode("utf-8", "replace")


def _is_utf8(piece):
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def guess(sample: bytes) -> str:
    """The encoding of bytes that are no UTF-8; "utf-8" for UTF-8 with some strays."""
    from data_engine.text.html_text import ASCII, WIDE

    foreign = len(sample.translate(None, ASCII))
    if sample.decode("utf-8", "replace").count("\ufffd") <= foreign / 20:
        return "utf-8"
    if foreign < max(FEW, len(sample) / 50):
        return "windows-1252"
    from bs4.dammit import UnicodeDammit

    sample = sample[:SAMPLE]
    found = UnicodeDammit(sample, is_html=False, exclude_encodings=WIDE).original_encoding or "windows-1252"
    return _checked(sample, found)


CYRILLIC = ("windows-1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic")
ASIAN = re.compile("cp932|cp949|euc|shift|big5|gb|johab")


def _checked(sample, found):
    """
    The detected encoding, or a better one where detection errs: Cyrillic in the wrong case, Japanese as Korean.

    Most letters of a text are small, and Japanese has Hiragana.
    """
    if codecs.lookup(found).name in {codecs.lookup(name).name for name in CYRILLIC}:
        return max(CYRILLIC, key=lambda name: len(re.findall("[а-я]", sample.decode(name, "replace"))))
    if ASIAN.match(found):
        for name in ("cp932", "euc_jp"):
            text = sample.decode(name, "replace")
            if len(re.findall("[ぁ-ん]", text)) > 0.15 * sum(letter > "\x7f" for letter in text):
                return name
    return found
