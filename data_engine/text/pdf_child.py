"""
The child process of pdf_text.py, which reads PDF files with MuPDF. MuPDF can hang, crash or eat the memory, and no exception
reports it.

    python -m data_engine.text.pdf_child MEGABYTES

stdin   per file: 8 bytes of length and 8 bytes of CPU seconds (big-endian integer, double), then the file
stdout  per file: 8 bytes of length, then JSON: {"text", "title"} or {"reason", "detail"}

The process ends at the end of stdin, with its parent, and by SIGPROF in a file that takes more than its seconds.
"""

import ctypes
import functools
import json
import os
import re
import resource
import signal
import struct
import sys
from operator import itemgetter

import numpy as np
import pymupdf
from pymupdf import mupdf

from data_engine.text.pdf_layout import RIGHT_TO_LEFT, Lines, overlapping_pairs, reading_text, widest_of_groups
from data_engine.text.pdf_letters import (
    FONT_KIND,
    LATIN_LETTER,
    SHARE_OF_GOOD,
    drawn_ligatures,
    logical_order,
    plain_letters,
    symbol,
    without_garbage,
)

# Ligatures are taken apart, and text outside of the page is left out. TEXT_CID_FOR_UNKNOWN_UNICODE is not set: it would take the
# number of a glyph for a character where a letter without a Unicode map should become U+FFFD.
FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
SPANS = pymupdf.TEXT_PRESERVE_SPANS  # cuts lines where the font or its size changes
TEXT_BLOCK = mupdf.FZ_STEXT_BLOCK_TEXT
SCALE = 10  # MuPDF's JSON holds integers: tenths of a point
SPAN = itemgetter("text", "bbox", "font", "wmode", "x", "y")
BOX = itemgetter("x", "y", "w", "h")
PAGE, BLOCK, VERTICAL, X, Y, SIZE, LEFT, TOP, WIDTH, HEIGHT = range(10)  # columns of the positions of spans
NO_LINE = 0.8  # font sizes between spans, in both directions, from which MuPDF starts a new line
RAISED = 0.15  # font sizes above the baseline; exponents stand 0.3 to 0.4 above it
LEAST_SIZE = 2  # points; nobody can read smaller text
# the page that a form made with XFA, or a portfolio, shows to other viewers
OTHER_VIEWER = re.compile(
    r"adobe\.com/(?:go|products)/\S*(?:reader|acr)|message is not eventually replaced|open this PDF portfolio", re.I
)
OTHER_VIEWER_LETTERS = 2_000  # a longer text says more than that


def page_layout(page, flags):
    """MuPDF's text of a page, and the same as JSON: blocks of lines with their boxes and fonts."""
    layout = mupdf.FzStextPage(mupdf.fz_bound_page(page))
    options = mupdf.FzStextOptions()
    options.flags = flags
    device = mupdf.fz_new_stext_device(layout, options)
    mupdf.fz_run_page(page, device, mupdf.FzMatrix(), mupdf.FzCookie())
    mupdf.fz_close_device(device)
    buffer = mupdf.FzBuffer(1 << 16)
    output = mupdf.FzOutput(buffer)
    mupdf.fz_print_stext_page_as_json(output, layout, SCALE)
    output.fz_close_output()
    return layout, mupdf.fz_buffer_extract(buffer).decode("utf-8", "replace")


def page_blocks(document, number):
    """Blocks of spans; blocks of lines where a page has letters written from right to left."""
    page = mupdf.fz_load_page(document, number)
    _, found = page_layout(page, FLAGS | SPANS)
    blocks = json.loads(found)["blocks"]
    if "\\u00" in found or "\\f" in found or "\\r" in found:  # control codes
        for span in (span for block in blocks for span in block.get("lines", ())):
            span["text"] = drawn_ligatures(span["text"])
    if found.isascii() or not any(RIGHT_TO_LEFT.search(span["text"]) for block in blocks for span in block.get("lines", ())):
        return blocks
    layout, found = page_layout(page, FLAGS)  # MuPDF orders the letters of a whole line only
    blocks = json.loads(found)["blocks"]
    texts = [block for block in layout if block.m_internal.type == TEXT_BLOCK]
    for block, letters in zip((block for block in blocks if "lines" in block), texts, strict=False):
        for line, chars in zip(block["lines"], letters, strict=False):
            if RIGHT_TO_LEFT.search(line["text"]):
                quads = [(chr(char.m_internal.c), char.m_internal.quad) for char in chars]
                if "".join(letter for letter, _ in quads) == line["text"]:
                    line["text"] = logical_order([(letter, quad.ul.x, quad.ur.x) for letter, quad in quads])
    return blocks


def join_spans(at, text):
    """
    Positions and texts of spans -> those of lines: what MuPDF would have put on one line.

    A line has the size and the baseline of its widest span: the first one may be a bullet or an index. Digits that are raised
    behind a digit get a "^": 10^6.
    """
    size, (before, this) = np.maximum(at[1:, SIZE], SCALE), (at[:-1], at[1:])
    same = (this[:, [PAGE, BLOCK, VERTICAL]] == before[:, [PAGE, BLOCK, VERTICAL]]).all(1)
    right, down = this[:, X] - before[:, X], this[:, Y] - before[:, Y]
    gap = this[:, LEFT] - before[:, LEFT] - before[:, WIDTH]
    joined = same & (this[:, VERTICAL] == 0) & (np.maximum(np.abs(down), np.abs(gap)) <= NO_LINE * size)
    raised = joined & (down < -RAISED * before[:, SIZE]) & (this[:, HEIGHT] < 0.9 * before[:, HEIGHT])
    for i in np.flatnonzero(raised).tolist():
        if text[i][-1:].isdigit():
            text[i + 1] = exponent(text, i + 1)
    for i in np.flatnonzero(joined & (gap > 0.2 * size)).tolist():
        if text[i][-1:] != " " != text[i + 1][:1]:
            text[i + 1] = " " + text[i + 1]
    # the letters of turned text may be spans of their own, which are wider than high
    letters = np.array([len(span.strip()) for span in text])
    turned = (letters == 1) & (at[:, WIDTH] > 1.2 * at[:, HEIGHT]) | (letters > 2) & (at[:, HEIGHT] > 2 * at[:, WIDTH])
    turned |= at[:, VERTICAL] > 0
    apart = np.maximum(this[:, TOP] - before[:, TOP] - before[:, HEIGHT], before[:, TOP] - this[:, TOP] - this[:, HEIGHT])
    joined |= same & turned[1:] & turned[:-1] & (np.maximum(np.abs(right), np.abs(apart)) <= NO_LINE * size)
    starts = np.flatnonzero(np.concatenate([[True], ~joined]))
    if len(starts) == len(text):
        return at, text
    ends = np.append(starts[1:], len(text))
    lines = at[starts]
    corner = np.minimum.reduceat(at[:, [LEFT, TOP]], starts)
    lines[:, [WIDTH, HEIGHT]] = np.maximum.reduceat(at[:, [LEFT, TOP]] + at[:, [WIDTH, HEIGHT]], starts) - corner
    lines[:, [LEFT, TOP]] = corner
    # a space at the start of a span, which MuPDF puts there, is on the baseline of the span before
    width = at[:, WIDTH] * np.array([0.1 if span[:1] == " " else 1 for span in text])
    upright = np.flatnonzero(~turned[starts])
    lines[upright[:, None], [Y, SIZE]] = at[widest_of_groups(width, starts)[upright, None], [Y, SIZE]]
    return lines, ["".join(text[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def exponent(text, at):
    """The raised span at this number, behind a digit: with "^" if it is an exponent, with a space if a fraction begins."""
    rest = "".join(text[at : at + 3])
    if re.match(r"\d+\s*[/⁄]\s*\d", rest):
        return " " + text[at]
    return "^" + text[at] if re.match(r"[-+−–]?\d", rest) else text[at]


def lines_at(positions, text):
    """Positions of lines, and their texts -> Lines."""
    points = positions / SCALE
    left, top, width, height = points[:, LEFT:].T
    size = np.maximum(points[:, SIZE], 1)
    high = np.where(height > 3 * width, width, height)  # turned text is as high as its box is wide
    # drawn fonts of TeX (Type 3) give their size as 1
    size = np.where(size < 2, np.maximum(0.7 * high, size), size)
    box = np.column_stack([left, top, left + width, top + height])
    origin = points[:, [X, Y]]
    return Lines(positions[:, PAGE], positions[:, BLOCK], box, origin, size, positions[:, VERTICAL] > 0, text)


def without_hidden(lines):
    """Leaves out what is too small to be read, unless most of the text is: then the page has another unit of length."""
    letters, small = np.array([len(text) for text in lines.text]), lines.size < LEAST_SIZE
    if not small.any() or 2 * letters[small].sum() > letters.sum():
        return lines
    return lines.take(np.flatnonzero(~small))


@functools.cache
def font_kind(name):
    """The group of the expression that finds the name, or None."""
    found = FONT_KIND.search(name)
    return found and found.lastgroup


def title(document):
    """The title in the metadata; None where there is none, or MuPDF cannot read it."""
    try:
        return mupdf.fz_lookup_metadata2(document, "info:Title") or None
    except Exception:  # MuPDF raises for a missing title too
        return None


def refusal(error, where=""):
    out_of_memory = isinstance(error, MemoryError) or "malloc" in str(error) or ("alloc" in str(error) and "fail" in str(error))
    return {"reason": "too_large" if out_of_memory else "broken", "detail": f"{where}{type(error).__name__}: {error}"}


def spans(document):
    """
    Positions and texts of all spans, how many letters in legacy fonts are left out, and the refusal of a page if there is one.

    A damaged page costs only itself, but a lack of memory the file: then there are no spans.
    """
    blocks, failure, legacy = 0, None, 0
    positions, text, ocr = [], [], []  # the positions in one flat list
    for page in range(mupdf.fz_count_pages(document)):
        try:
            content = page_blocks(document, page)
        except Exception as error:
            failure = refusal(error, f"page {page + 1}: ")
            if failure["reason"] == "too_large":
                return [], [], 0, failure
            continue
        for block in content:
            blocks += 1
            for span in block.get("lines", ()):
                letters, box, font, *rest = SPAN(span)
                kind = font_kind(font["name"])
                if kind == "legacy" and LATIN_LETTER.search(letters):
                    legacy += len(letters)
                    continue
                if kind == "symbols" and len(letters.strip()) == 1:
                    letters = symbol(letters.strip())
                text.append(letters)
                ocr.append(kind == "ocr")
                positions += (page, blocks, *rest, font["size"], *BOX(box))
    positions = np.array(positions).reshape(len(text), HEIGHT + 1)
    ocr = np.array(ocr, bool) | under_other_text(document, positions)
    if ocr.any():  # of two copies of a line the first one stays
        order = np.lexsort((ocr, positions[:, PAGE]))
        positions, text = positions[order], [text[row] for row in order.tolist()]
    return positions, text, legacy, failure


def under_other_text(document, at):
    """bool [n]: the spans without a colour on pages where long spans lie over each other: the result of an OCR program."""
    hidden, left, right = np.zeros(len(at), bool), at[:, LEFT], at[:, LEFT] + at[:, WIDTH]
    long = np.flatnonzero(at[:, WIDTH] > 5 * at[:, SIZE])
    pairs = overlapping_pairs(at[long, PAGE], at[long, Y], left[long], right[long], at[long, SIZE])
    for page in sorted({int(at[long[first], PAGE]) for first, _ in pairs}):
        layout, _ = page_layout(mupdf.fz_load_page(document, page), FLAGS | SPANS)
        colours = [span.m_internal.first_char.argb for block in layout if block.m_internal.type == TEXT_BLOCK for span in block]
        rows = np.flatnonzero(at[:, PAGE] == page)
        if len(rows) == len(colours):  # no span was left out
            hidden[rows] = np.array(colours) >> 24 == 0
    return hidden


def read(data):
    """Bytes of a PDF -> {"text", "title"} or {"reason", "detail"}."""
    document = mupdf.fz_open_document_with_buffer("pdf", mupdf.fz_new_buffer_from_copied_data(data))
    if mupdf.fz_needs_password(document):
        return {"reason": "encrypted", "detail": "needs a password"}
    positions, text, legacy, failure = spans(document)
    if text:
        positions, text = join_spans(positions, text)
        rows = [row for row, line in enumerate(text) if line.strip()]
        positions, text = positions[rows], [text[row] for row in rows]
    if legacy and sum(map(len, text)) < SHARE_OF_GOOD * legacy:
        return {"reason": "garbled", "detail": f"{legacy} letters in fonts that draw Hindi for Latin letters"}
    if not text:
        return failure or {"reason": "no_text", "detail": f"{mupdf.fz_count_pages(document)} pages without a letter"}
    text = reading_text(without_hidden(lines_at(positions, text)))
    if len(text) < OTHER_VIEWER_LETTERS and OTHER_VIEWER.search(text):
        return {"reason": "no_text", "detail": "its page only asks for another viewer"}
    text, reason = without_garbage(text)
    if reason:
        return {"reason": "garbled", "detail": reason}
    return {"text": plain_letters(text), "title": title(document)}


def main(megabytes):
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it dies with its parent, even in the middle of a file
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process even inside of MuPDF
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # MuPDF prints messages to stdout
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    pymupdf.TOOLS.set_icc(False)  # colour profiles take a fifth of the time, and text has no use for them
    while len(head := requests.read(16)) == 16:
        size, seconds = struct.unpack(">Qd", head)
        data = requests.read(size)
        if len(data) < size:
            break
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = json.dumps(read(data)).encode()
        except Exception as error:  # MuPDF's errors, and any error of its Python layer on damaged files
            answer = json.dumps(refusal(error)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        pymupdf.TOOLS.store_shrink(100)
        answers.write(struct.pack(">Q", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
