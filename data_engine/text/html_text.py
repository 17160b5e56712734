"""
HTML -> plain text and title.

in:   a page as bytes          out: {"text", "title"} or {"reason", "detail"}
kept  the blocks that html_content.py takes for content: paragraphs with an empty line between, list items and table rows on lines
      of their own (a tab between cells, "2. " before the items of a numbered list), <pre> and other listings of code verbatim and
      without line numbers, formulas as $LaTeX$, exponents as 10^6, <q> in quotes
gone  menus, banners, share bars, lists of other pages; readers' comments, unless cfg.comments is set
drops too_large     more bytes or tags than the settings allow

A page that holds nothing but links is kept too: the bar for content depends on the page.
"""

import codecs
import html
import re

import numpy as np

from data_engine.text.html_blocks import GAPS, H1, LOWER_LETTER, LOWER_ROMAN, UPPER_LETTER, UPPER_ROMAN, parse
from data_engine.text.html_content import content_probability, in_frame, keep_code_and_headings, select

# --- Encodings -------------------------------------------------------------------------------------------------------------

DECLARED = re.compile(rb"(?i)(?:charset|encoding)\s*=\s*[\"']?\s*([a-z0-9_:-]{2,30})")
HEAD = 4096  # bytes; a declaration further down is ignored
# Browsers read these supersets in place of the declared encoding, as authors' editors did (encoding.spec.whatwg.org).
READ_AS = {
    "ascii": "windows-1252", "iso8859-1": "windows-1252", "iso8859-9": "windows-1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949",
}  # fmt: skip
ASCII = bytes(range(128))
WIDE = ["utf-16", "utf-16le", "utf-16be", "utf-32"]  # a page whose declaration reads byte by byte is in none of these


def _as_windows_1252(error):
    return error.object[error.start : error.end].decode("windows-1252", "replace"), error.end


codecs.register_error("windows-1252 for strays", _as_windows_1252)


def decode_html(content: bytes) -> str:
    """Decodes by the byte order mark, else as UTF-8 where the bytes are valid, else as declared, else by detection."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    if content[:2] in (b"<\0", b"\0<"):
        return content.decode("utf-16-le" if content[0] else "utf-16-be", "replace")
    if b"\x1b" not in content:  # ISO-2022 can pass for UTF-8
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    declared = DECLARED.search(content[:HEAD])
    try:
        name = codecs.lookup(declared[1].decode()).name if declared else "utf-8"
        b"a\xe9".decode(name, "replace")  # raises for hex, idna and the like: codecs that are not encodings of pages
    except (LookupError, UnicodeError):
        declared, name = None, "utf-8"
    if not name.startswith("utf"):  # a page whose declaration reads byte by byte is not in UTF-16
        text = content.decode(READ_AS.get(name, name), "replace")
        if text.count("\ufffd") <= len(text) / 100:
            return text
    text, foreign = content.decode("utf-8", "replace"), len(content.translate(None, ASCII))
    if text.count("\ufffd") <= foreign / 20:  # UTF-8 with some strays
        return content.decode("utf-8", "windows-1252 for strays")
    # Detection fails on few foreign bytes (naďve for naïve); the web's default does not.
    if (not declared or name.startswith("utf")) and foreign < len(content) / 50:
        return content.decode("windows-1252", "replace")
    from bs4.dammit import UnicodeDammit

    return UnicodeDammit(content, is_html=True, exclude_encodings=WIDE).unicode_markup or text


# --- Text ------------------------------------------------------------------------------------------------------------------

DISCUSSION = 0.1  # a page with less than this share of its content outside of comments is a discussion
LIKELY = np.float32(0.9)  # at least this probability for comments, where they are wanted


def page_title(page, blocks):
    """The text of <title>, else that of the first h1, else ""."""
    title = html.unescape(page[slice(*blocks.title)].decode("utf-8", "replace"))
    if title.strip():
        return title
    headings = np.flatnonzero(blocks.tag[blocks.element] == H1)[:1]
    return "".join(blocks.text[blocks.start[i] : blocks.end[i]].tobytes().decode("utf-8", "replace") for i in headings)


def weigh_comments(p, seen, wanted):
    """Probabilities with those of readers' comments raised where they are wanted, else set to 0 (but in a discussion)."""
    if wanted:
        return np.where(seen.comment & (seen.running > 0), np.maximum(p, LIKELY), p)
    expected = p * seen.words
    return p if expected[~seen.comment].sum() < DISCUSSION * expected.sum() else np.where(seen.comment, np.float32(0), p)


OWN_NUMBER = re.compile(rb"\W{0,2}(?:\d{1,4}|[a-zA-Z]|[ivxIVX]{1,5})[.)\]:]")  # an item that is numbered in its text already
ROMAN = dict(m=1000, cm=900, d=500, cd=400, c=100, xc=90, l=50, xl=40, x=10, ix=9, v=5, iv=4, i=1)


def item_number(number):
    """The number that a browser shows before an item of an <ol>: b"2. ". number: that of Blocks."""
    value, style = number >> 3, number & 7
    shown = str(value)
    if style in (LOWER_LETTER, UPPER_LETTER) and value > 0:
        shown = ""
        while value:
            value, letter = divmod(value - 1, 26)
            shown = chr(97 + letter) + shown
    elif style in (LOWER_ROMAN, UPPER_ROMAN) and 0 < value < 4000:
        shown = ""
        for letters, worth in ROMAN.items():
            shown += letters * (value // worth)
            value %= worth
    return f"{shown.upper() if style in (UPPER_LETTER, UPPER_ROMAN) else shown}. ".encode()


def join(blocks, keep):
    """The text of the blocks to keep; between two of them stands the strongest gap on the way."""
    text, pieces, gap = memoryview(blocks.text), [], 0
    columns = (blocks.gap, blocks.start, blocks.end, blocks.number, keep)
    for before, start, end, number, kept in zip(*(column.tolist() for column in columns), strict=True):
        gap = max(gap, before)
        if kept:
            pieces += GAPS[gap], text[start:end]
            if number and not OWN_NUMBER.match(text[start : start + 9]):
                pieces.insert(-1, item_number(number))
            gap = 0
    return b"".join(pieces[1:]).decode("utf-8", "replace")


def fragment_text(fragment: str | bytes) -> str:
    """
    All the text of a piece of HTML in UTF-8, menus too.

    '<p>a <b>b</b></p><pre>x\\n  y</pre>' -> 'a b\\n\\nx\\n  y'
    """
    blocks = parse(fragment.encode("utf-8", "replace") if isinstance(fragment, str) else fragment)
    return join(blocks, np.ones(len(blocks.start), bool))


def read_html(content: bytes, cfg) -> dict:
    """cfg: ExtractConfig, for max_html_bytes, max_html_tags and comments."""
    if len(content) > cfg.max_html_bytes:
        return {"reason": "too_large", "detail": f"{len(content)} bytes"}
    page = decode_html(content).encode("utf-8", "replace")
    if (tags := page.count(b"<")) > cfg.max_html_tags:
        return {"reason": "too_large", "detail": f"{tags} tags"}
    blocks = parse(page)
    title = page_title(page, blocks)
    p, seen = content_probability(blocks, title, len(page))
    p = weigh_comments(p, seen, cfg.comments)
    framed = in_frame(blocks.tag, blocks.parent)[blocks.element]
    p = p if framed.all() else np.where(framed, np.float32(0), p)
    keep = select(p, seen.words)
    keep_code_and_headings(blocks, keep, seen.words, framed | (seen.comment & ~keep))
    return {"text": join(blocks, keep), "title": title}
