"""
HTML -> plain text and title.

html_blocks.py cuts the page into blocks, html_content.py says how likely each is content; what is kept becomes paragraphs with an
empty line between, list items and table rows on lines of their own (cells by tab), <pre> as it is, formulas as $LaTeX$. Menus,
banners, share bars, lists of other pages go, and readers' comments unless `comments` is set. A page that is nothing but text, or
nothing but links, is kept: the bar is set by the page.
"""

import codecs
import html
import re

import numpy as np

from data_engine.text.html_blocks import GAPS, H1, parse
from data_engine.text.html_content import content_probability, in_frame, select

DISCUSSION = 0.1  # a page with less than this share of its content outside of comments consists of them
LIKELY = np.float32(0.9)


def read_html(content: bytes, cfg) -> dict:
    """{"text", "title"}, or {"reason", "detail"} where a limit is passed. cfg: ExtractConfig."""
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
    return {"text": join(blocks, select(p, seen.words)), "title": title}


def weigh_comments(p, seen, wanted):
    """Readers' comments out, unless the page is a discussion and consists of them; or in, where they are wanted."""
    if wanted:
        return np.where(seen.comment & (seen.running > 0), np.maximum(p, LIKELY), p)
    expected = p * seen.words
    return p if expected[~seen.comment].sum() < DISCUSSION * expected.sum() else np.where(seen.comment, np.float32(0), p)


def fragment_text(fragment: str | bytes) -> str:
    """
    All the text of a piece of HTML in UTF-8: paragraphs apart, list items and table rows on lines of their own, code verbatim.

    '<p>a <b>b</b></p><pre>x\\n  y</pre>' -> 'a b\\n\\nx\\n  y'
    """
    blocks = parse(fragment.encode("utf-8", "replace") if isinstance(fragment, str) else fragment)
    return join(blocks, np.ones(len(blocks.start), bool))


def join(blocks, keep):
    """The text of the blocks to keep, with the strongest gap that lies between two of them."""
    text, pieces, gap = memoryview(blocks.text), [], 0
    columns = (blocks.gap, blocks.start, blocks.end, keep)
    for before, start, end, kept in zip(*(column.tolist() for column in columns), strict=True):
        gap = max(gap, before)
        if kept:
            pieces += GAPS[gap], text[start:end]
            gap = 0
    return b"".join(pieces[1:]).decode("utf-8", "replace")


def page_title(page, blocks):
    """The text of <title>, else that of the first h1, else ""."""
    title = html.unescape(page[slice(*blocks.title)].decode("utf-8", "replace"))
    if title.strip():
        return title
    headings = np.flatnonzero(blocks.tag[blocks.element] == H1)[:1]
    return "".join(blocks.text[blocks.start[i] : blocks.end[i]].tobytes().decode("utf-8", "replace") for i in headings)


# --- Encodings -------------------------------------------------------------------------------------------------------------

DECLARED = re.compile(rb"(?i)(?:charset|encoding)\s*=\s*[\"']?\s*([a-z0-9_:-]{2,30})")
HEAD = 4096  # bytes in which a declaration counts
# What browsers read instead of what is declared (encoding.spec.whatwg.org): supersets that people's editors really wrote.
READ_AS = {
    **{
        "ascii": "windows-1252",
        "iso8859-1": "windows-1252",
        "iso8859-9": "windows-1254",
        "iso8859-11": "cp874",
        "tis-620": "cp874",
    },
    **{"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"},
}
ASCII = bytes(range(128))
WIDE = ["utf-16", "utf-16le", "utf-16be", "utf-32"]  # a declaration that can be read byte by byte is in none of these


def decode_html(content: bytes) -> str:
    """By the byte order mark; as UTF-8 where the bytes are that; as declared; as what it looks like."""
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
        b"a\xe9".decode(name, "replace")  # hex, idna and the like have a name too, and are no encodings of pages
    except (LookupError, UnicodeError):
        declared, name = None, "utf-8"
    if not name.startswith("utf"):  # a declaration that can be read says that it is none
        text = content.decode(READ_AS.get(name, name), "replace")
        if text.count("\ufffd") <= len(text) / 100:
            return text
    text, foreign = content.decode("utf-8", "replace"), len(content.translate(None, ASCII))
    if text.count("\ufffd") <= foreign / 20:  # UTF-8 with some strays
        return content.decode("utf-8", "windows-1252 for strays")
    if (not declared or name.startswith("utf")) and foreign < len(
        content
    ) / 50:  # guessing from so little goes wrong (naďve), the web's default does not
        return content.decode("windows-1252", "replace")
    from bs4.dammit import UnicodeDammit

    return UnicodeDammit(content, is_html=True, exclude_encodings=WIDE).unicode_markup or text


def _as_windows_1252(error):
    return error.object[error.start : error.end].decode("windows-1252", "replace"), error.end


codecs.register_error("windows-1252 for strays", _as_windows_1252)
