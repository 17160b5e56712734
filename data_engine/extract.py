"""
Raw records -> plain text: each media type has its reader in text/, and all text is brought to one form (text/normalise.py).

in:   RAW (id, source, uri, media_type, content, licence, meta, ...)          out:  OUT
text  UTF-8 in NFC, "\\n" at line ends, an empty line between paragraphs, no control characters but "\\n" and "\\t"
title the document's own, else `title` in the record's meta
drops short           fewer than min_chars characters are left
      invalid_utf8    plain text that is neither UTF-8 nor UTF-16 with a byte order mark
      too_large       HTML over max_html_bytes or max_html_tags; a PDF that needs more memory than pdf_megabytes; LaTeX over its
                      limits of size and of macro expansion
      broken          a PDF that the parser refuses or crashes on; a question that is not valid JSON
      encrypted       a PDF with a password
      no_text         a PDF that holds only pictures
      timeout         a PDF that takes more than pdf_seconds
      garbled         a PDF whose letters have no Unicode map, or a wrong one
      redirect, disambiguation        wikitext that only points to other articles
      low_score       a question with a score under min_score
      unknown_type    any other media type

Plain text, HTML and PDF that name Project Gutenberg are read by gutenberg.py.
"""

import codecs
import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.records import drop, one_array
from data_engine.text.gutenberg import HEAD, decode_book, read_book, read_edition
from data_engine.text.html_text import read_html
from data_engine.text.latex_text import read_latex
from data_engine.text.normalise import normalise
from data_engine.text.pdf_text import read_pdf
from data_engine.text.qa_text import read_question
from data_engine.text.wiki_text import read_wikitext

VERSION = 3  # raise when the text of the same record changes
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


MOST_UNKNOWN = 100  # names that a partition's receipt lists
READERS = {  # media type -> f(content, cfg) -> {"text", "title"}, or {"reason", "detail"} of a drop
    "text/html": read_html,
    "application/pdf": read_pdf,
    "text/x-wiki": read_wikitext,
    "application/x-tex": read_latex,
    "application/x-stackexchange+json": read_question,
}
EDITIONS = "text/html", "application/pdf"  # of Project Gutenberg's books, beside plain text


def extract(pages: pa.Table, cfg: ExtractConfig) -> tuple[pa.Table, pa.Table, dict, dict]:
    """
    Documents in the order of the pages, the ledger rows of what was dropped, no files, and notes for the receipt.

    notes  {"unknown": [[media type, name, count], ...]}: LaTeX commands and wiki templates that no rule knows, the most frequent
    """
    media_types = one_array(pages.column("media_type"))
    contents = pc.fill_null(one_array(pages.column("content")), b"")
    drops, unknown = [], Counter()  # (row, reason, detail); (media type, name of a command or template)

    # Plain text is decoded as one column: most corpora have millions of short records.
    is_plain = pc.fill_null(pc.equal(media_types, "text/plain"), False).to_numpy(zero_copy_only=False)
    plain = np.flatnonzero(is_plain)
    text = _decode(contents.take(pa.array(plain)), plain.tolist(), drops)
    plain = plain[pc.is_valid(text).to_numpy(zero_copy_only=False)]
    text, title = _read_books(text.drop_null())

    rows, texts, titles = plain.tolist(), [], []
    others = np.flatnonzero(~is_plain)
    for row, media_type in zip(others.tolist(), media_types.take(pa.array(others)).to_pylist(), strict=True):
        if media_type not in READERS:
            drops.append((row, "unknown_type", media_type or "none"))
            continue
        result = READERS[media_type](contents[row].as_py(), cfg)
        if "reason" in result:
            drops.append((row, result["reason"], result["detail"][:200]))
        else:
            title_of_row, text_of_row = result["title"], result["text"]
            if media_type in EDITIONS:
                title_of_row, text_of_row = read_edition(text_of_row, title_of_row)
            rows.append(row)
            texts.append(text_of_row)
            titles.append(title_of_row)
            unknown.update({(media_type, name): count for name, count in result.get("unknown", {}).items()})

    rows = np.array(rows, np.int64)
    order = np.argsort(rows)
    rows = rows[order]
    text = normalise(pa.concat_arrays([text, _string_array(texts)]).take(pa.array(order)))
    title = pa.concat_arrays([title, _string_array(titles)]).take(pa.array(order))
    title = _one_line(pc.coalesce(title, _titles_in_meta(one_array(pages.column("meta"))).take(pa.array(rows))))

    chars = pc.utf8_length(text).to_numpy(zero_copy_only=False)
    keep = chars >= cfg.min_chars
    drops += [(row, "short", f"{n} characters") for row, n in zip(rows[~keep].tolist(), chars[~keep].tolist(), strict=True)]

    kept = pages.select(["id", "source", "uri", "licence"]).take(pa.array(rows[keep]))
    mask = pa.array(keep)
    docs = pa.table([*kept.columns, title.filter(mask), text.filter(mask)], names=OUT.names).cast(OUT)
    drops.sort()
    dropped = pages.select(["id", "source", "uri"]).take(pa.array([row for row, _, _ in drops], pa.int64()))
    details = [CONTROLS.sub("", detail) for _, _, detail in drops]
    notes = {"unknown": [[*key, n] for key, n in sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:MOST_UNKNOWN]]}
    return docs, drop(dropped, "extract", [reason for _, reason, _ in drops], details), {}, notes if unknown else {}


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # and lone surrogates, which Arrow refuses


def _string_array(texts):
    """Python's strings -> array; a lone surrogate becomes "?"."""
    return pa.array([text and text.encode("utf-8", "replace") for text in texts], pa.large_binary()).cast(pa.large_string())


def _decode(contents, rows, drops):
    """Bytes -> text, null where the encoding is unknown; such rows are added to drops."""
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
                    drops.append((row, "invalid_utf8", f"byte {error.start}: {error.reason}"))
        return pa.array(texts, pa.large_string())


def _read_books(texts):
    """Texts, those of Project Gutenberg without its additions, and titles, null for all other texts."""
    heads = pc.binary_slice(texts.cast(pa.large_binary()), 0, HEAD)
    is_book = pc.match_substring(heads, b"project gutenberg", ignore_case=True)
    read = [read_book(text) for text in texts.filter(is_book).to_pylist()]
    titles = pa.nulls(len(texts), pa.large_string())
    if not read:
        return texts, titles
    book_titles, books = (pa.array(column, pa.large_string()) for column in zip(*read, strict=True))
    return pc.replace_with_mask(texts, is_book, books), pc.replace_with_mask(titles, is_book, book_titles)


def _titles_in_meta(meta):
    """JSON objects -> their titles, null where there is none. A regular expression is faster than parsing all objects."""
    raw = pc.struct_field(pc.extract_regex(meta, r'"(?:metadata\.)?title": ?"(?P<title>(?:[^"\\]|\\.)*)"'), "title")
    is_escaped = pc.fill_null(pc.match_substring(raw, "\\"), False)
    unescaped = [_unescape(title) for title in raw.filter(is_escaped).to_pylist()]
    return pc.replace_with_mask(raw.cast(pa.large_string()), is_escaped, _string_array(unescaped))


def _unescape(text):
    try:
        return json.loads(f'"{text}"')
    except ValueError:  # meta need not be valid JSON: other programs write it too
        return None


def _one_line(titles):
    """Titles normalised, on one line, at most 300 characters; null where nothing is left."""
    titles = pc.replace_substring_regex(normalise(titles), r"\s+", " ")
    titles = pc.utf8_slice_codeunits(pc.utf8_trim(titles, " "), 0, 300)
    return pc.if_else(pc.equal(titles, ""), None, titles).cast(pa.string())
