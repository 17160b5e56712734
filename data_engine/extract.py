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

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.html_text import read_html
from data_engine.pdf_text import read_pdf
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

    read = {"text/html": read_html, "application/pdf": read_pdf}
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
