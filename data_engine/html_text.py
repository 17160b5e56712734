"""
HTML -> plain text and title.

BeautifulSoup on lxml: all text but that of scripts, menus, headers, footers, asides and forms; blocks apart, list items and table
rows on lines of their own, <pre> as it is.
"""

import re
import warnings

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


def read_html(content: bytes, cfg) -> dict:
    """{"text", "title"}, or {"reason", "detail"} where it cannot be had. cfg: ExtractConfig."""
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
