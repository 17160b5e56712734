"""
Raw records -> plain text: HTML and PDF are read, all is brought to one form.

in:   RAW (id, source, uri, media_type, content, licence, ...)          out:  OUT
text  UTF-8 in NFC, "\\n" at line ends, an empty line between paragraphs, no control characters but "\\n" and "\\t"
drops short         fewer than min_chars characters are left
      invalid_utf8  plain text that is not UTF-8
      too_large     HTML over max_html_bytes or max_html_tags; a PDF that needs more memory than pdf_megabytes
      broken        HTML or PDF that its parser refuses, or dies of
      encrypted, no_text, timeout     a PDF with a password; of pictures only; that takes more than pdf_seconds
      unknown_type  any other media type

HTML goes through BeautifulSoup on lxml: all text but that of scripts, menus, headers, footers, asides and forms. PDF goes through
MuPDF in a child process (pdf_child.py) with limits of time and memory.
"""

import atexit
import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.records import drop

VERSION = 1  # raise when the text of the same record changes
OUT = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "uri": pa.string(),
        "licence": pa.string(),
        "title": pa.string(),  # null where there is none
        "text": pa.large_string(),
    }
)


@dataclass(frozen=True)
class ExtractConfig:
    min_chars: int = 200  # characters; less is a menu, an error page, a stub
    max_html_bytes: int = 16_000_000  # bytes; no page that people read is longer
    max_html_tags: int = 100_000  # BeautifulSoup takes 1.2 KB of memory and some 15 us for each
    pdf_seconds: float = 30.0  # CPU seconds for a PDF; 300 pages of text take 1
    pdf_megabytes: int = 1024  # MB of address space of the PDF child, 200 of which are the program itself


def extract(pages: pa.Table, cfg: ExtractConfig) -> tuple[pa.Table, pa.Table]:
    """Documents in the order of the pages, and the ledger rows of what was dropped."""
    kinds = pages.column("media_type").combine_chunks()
    contents = pc.fill_null(_whole(pages.column("content")), b"")
    rows, titles, texts = [], [], [pa.array([], pa.large_string())]
    lost = []  # (row, reason, detail)

    plain = np.flatnonzero(pc.fill_null(pc.equal(kinds, "text/plain"), False).to_numpy(zero_copy_only=False))
    valid = _decode(contents.take(pa.array(plain)), plain.tolist(), lost)
    plain = plain[pc.is_valid(valid).to_numpy(zero_copy_only=False)]
    rows += plain.tolist()
    titles += [None] * len(plain)
    texts.append(valid.drop_null())

    read = {"text/html": _html, "application/pdf": _pdf}
    for row, kind in enumerate(kinds.to_pylist()):
        if kind == "text/plain":
            continue
        if kind not in read:
            lost.append((row, "unknown_type", kind or "none"))
            continue
        found = read[kind](contents[row].as_py(), cfg)
        if "reason" in found:
            lost.append((row, found["reason"], found["detail"][:200]))
        else:
            rows.append(row)
            titles.append(_title(found["title"]))
            texts.append(pa.array([found["text"].encode("utf-8", "replace")], pa.large_binary()).cast(pa.large_string()))

    order = np.argsort(np.array(rows, np.int64))
    rows, titles = np.array(rows, np.int64)[order], pa.array(titles, pa.string()).take(pa.array(order))
    text = normalise(pa.concat_arrays(texts).take(pa.array(order)))
    chars = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    long = chars >= cfg.min_chars
    lost += [(row, "short", f"{n} characters") for row, n in zip(rows[~long].tolist(), chars[~long].tolist(), strict=True)]

    kept = pages.select(["id", "source", "uri", "licence"]).take(pa.array(rows[long]))
    keep = pa.array(long)
    docs = pa.table([*kept.columns, titles.filter(keep), text.filter(keep)], names=OUT.names).cast(OUT)
    lost.sort()
    where = pages.select(["id", "source", "uri"]).take(pa.array([row for row, _, _ in lost], pa.int64()))
    return docs, drop(where, "extract", [reason for _, reason, _ in lost], [_clean(detail) for _, _, detail in lost])


def normalise(text: pa.Array) -> pa.Array:
    """
    Text in its one form: NFC, "\\n" line ends, at most one empty line in a row, no control characters, no spaces at line ends.

    "a\\r\\nb \\x00\\n\\n\\n\\nc" -> "a\\nb\\n\\nc"
    """
    if len(text) == 0:
        return text
    text = _replace(text, r"\r\n?|[\v\f\x{85}\x{2028}\x{2029}]", "\n")
    text = _replace(text, r"[\x00-\x08\x0e-\x1f\x7f-\x{9f}\x{feff}]+", "")  # they can stand between a letter and its accent
    other = pc.invert(pc.string_is_ascii(text))
    if pc.any(other).as_py():
        text = pc.replace_with_mask(text, other, pc.utf8_normalize(text.filter(other), "NFC"))
    text = _replace(text, r"[ \t]+\n", "\n")
    text = _replace(text, r"\n{3,}", "\n\n")
    return _replace(text, r"\A\n+|\s+\z", "")


_replace = pc.replace_substring_regex


def _whole(column):
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _decode(contents, rows, lost):
    """Bytes -> text, null where they are not UTF-8."""
    try:
        return contents.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = []
        for row, content in zip(rows, contents.to_pylist(), strict=True):
            try:
                texts.append(content.decode())
            except UnicodeDecodeError as error:
                texts.append(None)
                lost.append((row, "invalid_utf8", f"byte {error.start}: {error.reason}"))
        return pa.array(texts, pa.large_string())


def _title(text):
    """On one line, at most 300 characters; None where nothing is left."""
    return _clean(" ".join((text or "").split()))[:300] or None


def _clean(text):
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", text)


# ---------------------------------------------------------------------------------------------------------------------------
# HTML

LEFT_OUT = frozenset(
    ("script", "style", "nav", "header", "footer", "aside", "form", "head", "noscript", "template", "svg", "iframe", "button")
)
LINE, PARAGRAPH, CELL = "\x01", "\x02", "\x03"  # marks in the text while it is put together; the input has none left
MARKS = dict.fromkeys(("caption", "dd", "dt", "figcaption", "legend", "li", "option", "tr"), LINE) | dict.fromkeys(
    (
        *("address", "article", "blockquote", "body", "center", "details", "div", "dl", "fieldset", "figure"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "main", "ol", "p", "pre", "section", "summary", "table", "ul"),
    ),
    PARAGRAPH,
)
VERBATIM = str.maketrans({" ": "\xa0", "\n": "\v", "\t": "\x1c"})  # what stands in <pre> is no layout
LAYOUT = str.maketrans({"\xa0": " ", "\v": "\n", "\x1c": "\t", CELL: "\t"})


DECLARES = re.compile(rb"(?i)charset|encoding\s*=")
ASCII = bytes(range(128))


def _html(content, cfg):
    import bs4

    if len(content) > cfg.max_html_bytes:
        return {"reason": "too_large", "detail": f"{len(content)} bytes"}
    if (tags := content.count(b"<")) > cfg.max_html_tags:
        return {"reason": "too_large", "detail": f"{tags} tags"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it looks like XML, or like a file name
            soup = bs4.BeautifulSoup(decode_html(content), "lxml")
        title = soup.title.get_text() if soup.title else None
        text = page_text(soup)
        if len(text) < cfg.min_chars:
            text = page_text(soup, LEFT_OUT - {"form"})  # some frameworks put the whole page into one form
        return {"text": text, "title": title}
    except Exception as error:  # parsers of broken pages raise nearly anything; one page costs itself only
        return {"reason": "broken", "detail": f"{type(error).__name__}: {error}"}


def decode_html(content: bytes) -> str:
    """UTF-8 where the bytes are that; else what the page declares; else windows-1252, or what it looks like."""
    from bs4.dammit import UnicodeDammit

    if b"\x1b" not in content and b"\0" not in content:  # neither ISO-2022 nor UTF-16, which can pass for UTF-8
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            # few letters beyond ASCII and no declaration: guessing from so little goes wrong (naďve), the web's default does not
            if not DECLARES.search(content[:4096]) and len(content.translate(None, ASCII)) < len(content) / 50:
                return content.decode("windows-1252", "replace")
    return UnicodeDammit(content, is_html=True).unicode_markup or content.decode("utf-8", "replace")


def page_text(soup, left_out=LEFT_OUT) -> str:
    """Text of a parsed page: blocks apart, list items and table rows on lines of their own, <pre> as it is."""
    from bs4 import CData, NavigableString

    pieces, todo = [], [(soup, False)]  # a stack of our own: pages nest deeper than Python's
    while todo:
        node, verbatim = todo.pop()
        if node.__class__ is NavigableString or node.__class__ is CData:
            pieces.append(node.translate(VERBATIM) if verbatim else re.sub(r"[\x00-\x20]+", " ", node))
        elif node.__class__ is str:
            pieces.append(node)
        elif isinstance(node, NavigableString) or node.name in left_out:
            continue  # comments, declarations
        elif node.name == "br":
            pieces.append("\v" if verbatim else LINE)
        else:
            mark = MARKS.get(node.name)
            if mark:
                pieces.append(mark)
                todo.append((mark, False))
            elif node.name in ("td", "th"):
                todo.append((CELL, False))
            verbatim = verbatim or node.name == "pre"
            todo.extend((child, verbatim) for child in reversed(node.contents))
    text = "".join(pieces)
    for mark, others, becomes in ((CELL, " ", CELL), (PARAGRAPH, f" {CELL}{LINE}", "\n\n"), (LINE, f" {CELL}", "\n")):
        # the whole run at once: a pattern like " *X" would look at a long run of spaces again from each of them
        text = re.sub(f"[{others}{mark}]+", lambda run, mark=mark, to=becomes: to if mark in run[0] else run[0], text)
    return re.sub("  +", " ", text).translate(LAYOUT)


# ---------------------------------------------------------------------------------------------------------------------------
# PDF


def _pdf(content, cfg):
    """
    What the child makes of the file: {"text", "title"} or {"reason", "detail"}.

    A child that has served other files may be short of memory, or hurt: then a new one has the last word, so that the
    outcome depends on the file alone.
    """
    while True:
        child = _pdf_child(cfg.pdf_megabytes)
        fresh = child.served == 0
        answer = child.ask(content, cfg.pdf_seconds)
        reason = answer.get("reason")
        if child.alive() and reason != "too_large":
            return answer
        close_child()
        if fresh or reason == "timeout":
            return answer


class PdfChild:
    """The process that reads PDFs for this one."""

    def __init__(self, megabytes):
        self.owner, self.megabytes, self.served = os.getpid(), megabytes, 0
        command = [sys.executable, str(Path(__file__).with_name("pdf_child.py")), str(megabytes)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def alive(self):
        return self.process.poll() is None

    def ask(self, content, seconds):
        self.served += 1
        # The child ends itself by its CPU time, which does not depend on what else the machine does; this is for one asleep.
        alarm = threading.Timer(4 * seconds + 30, self.process.kill)
        alarm.daemon = True
        alarm.start()
        head = body = b""
        try:
            self.process.stdin.write(struct.pack(">Qd", len(content), seconds))
            self.process.stdin.write(content)
            self.process.stdin.flush()
            head = self.process.stdout.read(8)
            if len(head) == 8:
                body = self.process.stdout.read(struct.unpack(">Q", head)[0])
        except BrokenPipeError:
            head = b""  # it is dead
        rang = not alarm.is_alive()
        alarm.cancel()
        if len(head) == 8 and len(body) == struct.unpack(">Q", head)[0]:
            return json.loads(body)
        code = self.process.wait()
        if rang or code == -signal.SIGPROF:
            return {"reason": "timeout", "detail": f"over {seconds} s"}
        return {"reason": "broken", "detail": f"the parser died: {f'signal {-code}' if code < 0 else f'exit code {code}'}"}

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use any more
                pipe.close()


_child = None  # one a process, kept for the next PDF: starting it takes 0.3 s


def _pdf_child(megabytes):
    global _child
    if _child and _child.owner != os.getpid():
        _child = None  # we are a fork; the child is our parent's
    if _child and (_child.megabytes != megabytes or not _child.alive()):
        close_child()
    _child = _child or PdfChild(megabytes)
    return _child


@atexit.register
def close_child():
    global _child
    if _child and _child.owner == os.getpid():
        _child.close()
    _child = None
