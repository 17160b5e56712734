"""
Raw records -> plain text: each media type is read, all is brought to one form.

in:   RAW (id, source, uri, media_type, content, licence, meta, ...)          out:  OUT
text  UTF-8 in NFC, "\\n" at line ends, an empty line between paragraphs, no control characters but "\\n" and "\\t" (see normalise)
title what the document says of itself, else what its record says (`title` in meta)
drops short         fewer than min_chars characters are left
      invalid_utf8  plain text that is not UTF-8, nor UTF-16 with its mark
      too_large     HTML over max_html_bytes or max_html_tags; a PDF that needs more memory than pdf_megabytes; LaTeX whose macros
                    grow beyond their limits
      broken        a PDF that its parser refuses, or dies of; JSON of a question that is none
      encrypted, no_text, timeout     a PDF with a password; of pictures only; that takes more than pdf_seconds
      garbled       a PDF whose letters are there for their looks alone: no Unicode map, or a wrong one
      redirect, disambiguation        wikitext that only points to other articles
      low_score     a question with a score under min_score
      unknown_type  any other media type

HTML: html_text.py. PDF: pdf_text.py, in a child process with limits of time and memory. Wikitext: wiki_text.py. Questions of
StackExchange: qa_text.py. LaTeX: latex_text.py. Plain text that names Project Gutenberg in its first lines: gutenberg.py.
"""

import codecs
import functools
import json
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from data_engine.records import drop, text_buffers
from data_engine.text.gutenberg import HEAD, decode_book, read_book
from data_engine.text.html_text import read_html
from data_engine.text.latex_text import read_latex
from data_engine.text.pdf_text import read_pdf
from data_engine.text.qa_text import read_question
from data_engine.text.wiki_text import read_wikitext

VERSION = 2  # raise when the text of the same record changes
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
    max_html_tags: int = 200_000  # each takes up to 2.5 KB and 10 us
    comments: bool = False  # True: readers' comments under an article stay
    pdf_seconds: float = 30.0  # CPU seconds for a PDF; 300 pages of text take 1
    pdf_megabytes: int = 1024  # MB of address space of the PDF child, 200 of which are the program itself
    min_score: int | None = 0  # votes; questions and answers with fewer are left out; None keeps all


READERS = {
    "text/html": read_html,
    "application/pdf": read_pdf,
    "text/x-wiki": read_wikitext,
    "application/x-tex": read_latex,
    "application/x-stackexchange+json": read_question,
}


def extract(pages: pa.Table, cfg: ExtractConfig) -> tuple[pa.Table, pa.Table]:
    """Documents in the order of the pages, and the ledger rows of what was dropped."""
    kinds = pages.column("media_type").combine_chunks()
    contents = pc.fill_null(_whole(pages.column("content")), b"")
    lost = []  # (row, reason, detail)

    is_plain = pc.fill_null(pc.equal(kinds, "text/plain"), False).to_numpy(zero_copy_only=False)
    plain = np.flatnonzero(is_plain)
    text = _decode(contents.take(pa.array(plain)), plain.tolist(), lost)
    plain = plain[pc.is_valid(text).to_numpy(zero_copy_only=False)]
    text, title = _books(text.drop_null())
    rows, texts, titles = plain.tolist(), [text], [title]

    found_texts, found_titles = [], []
    others = np.flatnonzero(~is_plain)
    for row, kind in zip(others.tolist(), kinds.take(pa.array(others)).to_pylist(), strict=True):
        if kind not in READERS:
            lost.append((row, "unknown_type", kind or "none"))
            continue
        found = READERS[kind](contents[row].as_py(), cfg)
        if "reason" in found:
            lost.append((row, found["reason"], found["detail"][:200]))
        else:
            rows.append(row)
            found_texts.append(found["text"])
            found_titles.append(found["title"])

    order = np.argsort(np.array(rows, np.int64))
    rows = np.array(rows, np.int64)[order]
    text, title = (
        pa.concat_arrays(part).take(pa.array(order))
        for part in ([*texts, _strings(found_texts)], [*titles, _strings(found_titles)])
    )
    text = normalise(text)
    title = _one_line(pc.coalesce(title, _meta_titles(_whole(pages.column("meta"))).take(pa.array(rows))))
    chars = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    long = chars >= cfg.min_chars
    lost += [(row, "short", f"{n} characters") for row, n in zip(rows[~long].tolist(), chars[~long].tolist(), strict=True)]

    kept = pages.select(["id", "source", "uri", "licence"]).take(pa.array(rows[long]))
    keep = pa.array(long)
    docs = pa.table([*kept.columns, title.filter(keep), text.filter(keep)], names=OUT.names).cast(OUT)
    lost.sort()
    where = pages.select(["id", "source", "uri"]).take(pa.array([row for row, _, _ in lost], pa.int64()))
    return docs, drop(where, "extract", [reason for _, reason, _ in lost], [_clean(detail) for _, _, detail in lost])


def _whole(column):
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _strings(texts):
    """Python's strings -> array; a lone surrogate becomes "?"."""
    return pa.array([text and text.encode("utf-8", "replace") for text in texts], pa.large_binary()).cast(pa.large_string())


def _decode(contents, rows, lost):
    """Bytes -> text, null where they are not UTF-8; a book of Project Gutenberg says itself what it is."""
    try:
        return contents.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = []
        for row, content in zip(rows, contents.to_pylist(), strict=True):
            try:
                texts.append(content.decode())
            except UnicodeDecodeError as error:
                utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                texts.append(content.decode("utf-16", "replace") if utf16 else decode_book(content))
                if texts[-1] is None:
                    lost.append((row, "invalid_utf8", f"byte {error.start}: {error.reason}"))
        return pa.array(texts, pa.large_string())


def _books(texts):
    """Texts with those of Project Gutenberg reduced to the book, and titles, null but for those."""
    heads = pc.binary_slice(texts.cast(pa.large_binary()), 0, HEAD)
    named = pc.match_substring(heads, b"project gutenberg", ignore_case=True)
    found = [read_book(text) for text in texts.filter(named).to_pylist()]
    titles = pa.nulls(len(texts), pa.large_string())
    if not found:
        return texts, titles
    book_titles, books = (pa.array(column, pa.large_string()) for column in zip(*found, strict=True))
    return pc.replace_with_mask(texts, named, books), pc.replace_with_mask(titles, named, book_titles)


def _meta_titles(meta):
    """JSON objects -> their titles, null where there is none, without parsing all of them."""
    found = pc.struct_field(pc.extract_regex(meta, r'"(?:metadata\.)?title": ?"(?P<title>(?:[^"\\]|\\.)*)"'), "title")
    escaped = pc.fill_null(pc.match_substring(found, "\\"), False)
    plain = [_unescaped(title) for title in found.filter(escaped).to_pylist()]
    return pc.replace_with_mask(found.cast(pa.large_string()), escaped, _strings(plain))


def _unescaped(text):
    try:
        return json.loads(f'"{text}"')
    except ValueError:  # JSON that somebody else has written
        return None


def _one_line(titles):
    """Normalised, on one line, at most 300 characters; null where nothing is left."""
    titles = pc.replace_substring_regex(normalise(titles), r"\s+", " ")
    titles = pc.utf8_slice_codeunits(pc.utf8_trim(titles, " "), 0, 300)
    return pc.if_else(pc.equal(titles, ""), None, titles).cast(pa.string())


def _clean(text):
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", text)


# --- The one form of text ---------------------------------------------------------------------------------------------------

# What UTF-8 looks like that was taken for Latin-1 or windows-1252, and the C1 controls (but NEL, a line end) that windows-1252
# leaves when it is taken for Latin-1
SUSPECT = (
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
    "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]|[\u0080-\u0084\u0086-\u009f]"
)
MISREAD = re.compile(SUSPECT)
INERT, MARK, UNSETTLED = 0, 1, 2  # a character that NFC leaves as it is in any text; a combining mark; another that it may change


MARKS = 30  # marks on one letter beyond which the others are left out, as in Unicode's stream-safe texts
_replace = pc.replace_substring_regex


def normalise(text: pa.Array) -> pa.Array:
    """
    Text in its one form; a null stays null. Twice is once.

    - NFC; UTF-8 that was decoded as windows-1252 is repaired (ftfy), line by line
    - "\\n" line ends, at most one empty line in a row, no spaces at line ends, no empty lines at the two ends
    - every space that is not a tab is " ": no-break, thin, ideographic
    - no control characters but "\\n" and "\\t"; no soft hyphens, zero-width spaces, marks of direction or of byte order; joiners
      (ZWJ, ZWNJ) only where they mean something: after letters of Arabic, Indic and like scripts, ZWJ also after emoji

    "a\\r\\nb \\x00\\n\\n\\n\\nc" -> "a\\nb\\n\\nc"
    """
    mended = mend(text.cast(pa.large_string()))
    text = settle(mended)
    changed = pc.fill_null(pc.not_equal(text, mended), False)
    if pc.any(changed).as_py():  # without a control character in its middle, a sequence may be one to mend
        settled = text.filter(changed)
        mended = mend(settled)
        if not mended.equals(settled):
            text = pc.replace_with_mask(text, changed, normalise(mended))
    return text


def mend(text):
    """Texts in which UTF-8 was taken for windows-1252, in whole or in lines, as they were meant; others as they are."""
    suspect = pc.fill_null(pc.match_substring_regex(text, SUSPECT), False)
    if not pc.any(suspect).as_py():
        return text
    import ftfy

    found = [
        "\n".join(ftfy.fix_encoding(line) if MISREAD.search(line) else line for line in document.split("\n"))
        for document in text.filter(suspect).to_pylist()
    ]
    return pc.replace_with_mask(text, suspect, pa.array(found, pa.large_string()))


def settle(text):
    """normalise without the repair of encodings."""
    out, ends, unsettled = sweep(*text_buffers(text), character_classes())
    swept = pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(ends), pa.py_buffer(out))
    if text.null_count:
        swept = pc.if_else(pc.is_valid(text), swept, None)
    if not unsettled.any():
        return swept
    rows = pa.array(unsettled)
    # composing sorts the marks of a letter, in a time that grows with the square of their number; no writing has ten
    found = pc.utf8_normalize(_replace(swept.filter(rows), rf"(\p{{M}}{{{2 * MARKS}}})\p{{M}}+", r"\1"), "NFC")
    return pc.replace_with_mask(swept, rows, _replace(found, rf"(\p{{M}}{{{MARKS}}})\p{{M}}+", r"\1"))


@functools.cache
def character_classes():
    """INERT, MARK or UNSETTLED for each code point; those beyond the table are inert."""
    classes = np.zeros(0x30000, np.uint8)
    for code in range(0x300, len(classes)):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if parts and parts[0][0] != "<":
            classes[[int(part, 16) for part in parts[1:]]] |= UNSETTLED  # they merge with what stands before
            if not unicodedata.is_normalized("NFC", character):
                classes[code] |= UNSETTLED
        elif unicodedata.category(character) == "Cn":
            classes[code] = UNSETTLED  # not assigned in Python's version of Unicode
        if unicodedata.combining(character) or (parts and unicodedata.combining(unicodedata.normalize("NFD", character)[0])):
            classes[code] = MARK
    classes[0x1161:0x1176] = classes[0x11A8:0x11C3] = UNSETTLED  # Hangul vowels and finals
    return classes


@njit(cache=True)
def sweep(data, offsets, classes):
    """Texts without what normalise takes away: bytes, offsets, and which of them NFC may change."""
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    unsettled = np.zeros(len(offsets) - 1, np.bool_)
    o = 0
    for doc in range(len(offsets) - 1):
        start, i, stop = o, offsets[doc], offsets[doc + 1]
        base = 0  # the last character that is no combining mark
        while i < stop:
            code, length = np.int64(data[i]), 1
            if 32 <= code < 127 or code == 9:
                out[o] = code
                o += 1
                i += 1
                base = code
                continue
            if code >= 0xF0:
                code, length = (code & 7) << 18 | (data[i + 1] & 63) << 12 | (data[i + 2] & 63) << 6 | (data[i + 3] & 63), 4
            elif code >= 0xE0:
                code, length = (code & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63), 3
            elif code >= 0xC0:
                code, length = (code & 31) << 6 | (data[i + 1] & 63), 2
            if 10 <= code <= 13 or code == 0x85 or code == 0x2028 or code == 0x2029:
                i += 2 if code == 13 and i + 1 < stop and data[i + 1] == 10 else length
                while o > start and (out[o - 1] == 32 or out[o - 1] == 9):
                    o -= 1
                if o > start and not (out[o - 1] == 10 and out[o - 2] == 10):
                    out[o] = 10
                    o += 1
                base = 10
            elif is_space(code):
                out[o] = base = 32
                o += 1
                i += length
            elif is_invisible(code) or ((code == 0x200C or code == 0x200D) and not joins(code, base)):
                i += length
            else:
                character_class = classes[code] if code < len(classes) else INERT
                unsettled[doc] |= character_class != INERT
                if character_class != MARK and not 0xFE00 <= code <= 0xFE0F:
                    base = code
                for _ in range(length):
                    out[o] = data[i]
                    o += 1
                    i += 1
        while o > start and (out[o - 1] == 32 or out[o - 1] == 9 or out[o - 1] == 10):
            o -= 1
        ends[doc + 1] = o
    return out[:o], ends, unsettled


@njit(cache=True)
def is_space(code):
    """Of Unicode's spaces, those that are not ASCII."""
    return code == 0xA0 or 0x2000 <= code <= 0x200A or code in (0x1680, 0x202F, 0x205F, 0x3000)


@njit(cache=True)
def is_invisible(code):
    """Controls, soft hyphen, zero-width space, word joiner, byte order mark, marks of direction and of annotation."""
    return (
        code < 32
        or 0x7F <= code <= 0x9F
        or code in (0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0xFEFF)
        or 0x202A <= code <= 0x202E
        or 0x2060 <= code <= 0x206F
        or 0xFFF9 <= code <= 0xFFFB
    )


@njit(cache=True)
def joins(code, base):
    """Whether a joiner (ZWNJ 200C, ZWJ 200D) means something after this character."""
    if (
        0x590 <= base <= 0x10FF
        or 0x1200 <= base <= 0x1CFF
        or 0xA800 <= base <= 0xABFF
        or 0xFB1D <= base <= 0xFEFC
        or 0x10800 <= base <= 0x11FFF
    ):
        return True  # Hebrew and Arabic to Mongolian, the other scripts of India and Java
    emoji = 0x2190 <= base <= 0x21FF or 0x23E9 <= base <= 0x23FF or 0x2600 <= base <= 0x27BF or 0x1F000 <= base <= 0x1FAFF
    return code == 0x200D and emoji
