"""
Reads PDF files for pdf_text.py in a process of its own: MuPDF can hang, crash or eat the memory, and none of it can be caught.

    python -m data_engine.text.pdf_child MEGABYTES

stdin   per file: 8 bytes of length and 8 bytes of CPU seconds (big-endian integer, double), then the file
stdout  per file: 8 bytes of length, then JSON: {"text", "title"} or {"reason", "detail"}
Ends at the end of stdin, with its parent, and by SIGPROF in a file that takes more than its seconds.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from operator import itemgetter

import numpy as np
import pymupdf
from pymupdf import mupdf

from data_engine.text.pdf_layout import Lines, reading_text
from data_engine.text.pdf_letters import garbled, plain_letters

# Ligatures are taken apart, what lies outside the page stays out. A letter without a Unicode map becomes U+FFFD: without
# TEXT_CID_FOR_UNKNOWN_UNICODE, which takes the number of its glyph for a character.
FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
SCALE = 10  # MuPDF's JSON holds integers: tenths of a point


def read(data):
    document = mupdf.fz_open_document_with_buffer("pdf", mupdf.fz_new_buffer_from_copied_data(data))
    if mupdf.fz_needs_password(document):
        return {"reason": "encrypted", "detail": "needs a password"}
    pages, blocks, failure = mupdf.fz_count_pages(document), 0, None
    places, text = [], []  # of each line what lines_at takes, all in one list, and its text
    for page in range(pages):
        try:
            content = json.loads(page_json(document, page))["blocks"]
        except Exception as error:  # a damaged page costs itself, unless it is the memory
            failure = refusal(error, f"page {page + 1}: ")
            if failure["reason"] == "too_large":
                return failure
            continue
        for block in content:
            blocks += 1
            for line in block.get("lines", ()):
                letters, box, font, *where = LINE(line)
                if letters.strip():
                    text.append(letters)
                    places += (page, blocks, *where, font["size"], *BOX(box))
    if not text:
        return failure or {"reason": "no_text", "detail": f"{pages} pages without a letter"}
    text = reading_text(lines_at(np.array(places).reshape(len(text), -1), text))
    if detail := garbled(text):
        return {"reason": "garbled", "detail": detail}
    return {"text": plain_letters(text), "title": title(document)}


def title(document):
    try:
        return mupdf.fz_lookup_metadata2(document, "info:Title") or None
    except Exception:  # there is none, or not in a form that MuPDF reads
        return None


LINE = itemgetter("text", "bbox", "font", "wmode", "x", "y")
BOX = itemgetter("x", "y", "w", "h")


def lines_at(places, text):
    """Rows of page, block, vertical writing, x and y of the first letter, its size, x, y, width, height -> Lines."""
    points = places[:, 3:] / SCALE
    left, top, width, height = points[:, 3:].T
    # the first letter can be an index: then the height of the line tells more about its size
    size = np.maximum(points[:, 2], 1)
    high = np.where(height > 3 * width, width, height)  # turned text is as high as its box is wide
    # fonts of TeX that are drawn (Type 3) say 1, whatever their size
    size = np.where(size < 2, np.maximum(0.7 * high, size), np.clip(0.7 * height, size, 1.5 * size))
    box = np.column_stack([left, top, left + width, top + height])
    return Lines(places[:, 0], places[:, 1], box, points[:, :2], size, places[:, 2] > 0, text)


def page_json(document, number):
    page = mupdf.fz_load_page(document, number)
    layout = mupdf.FzStextPage(mupdf.fz_bound_page(page))
    options = mupdf.FzStextOptions()
    options.flags = FLAGS
    device = mupdf.fz_new_stext_device(layout, options)
    mupdf.fz_run_page(page, device, mupdf.FzMatrix(), mupdf.FzCookie())
    mupdf.fz_close_device(device)
    buffer = mupdf.FzBuffer(1 << 16)
    output = mupdf.FzOutput(buffer)
    mupdf.fz_print_stext_page_as_json(output, layout, SCALE)
    output.fz_close_output()
    return mupdf.fz_buffer_extract(buffer).decode("utf-8", "replace")


def refusal(error, where=""):
    out_of_memory = isinstance(error, MemoryError) or "malloc" in str(error) or ("alloc" in str(error) and "fail" in str(error))
    return {"reason": "too_large" if out_of_memory else "broken", "detail": f"{where}{type(error).__name__}: {error}"}


def main(megabytes):
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also when the parent is killed while we work
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is doing
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # MuPDF's messages are not answers
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    pymupdf.TOOLS.set_icc(False)  # colours do not matter, and their profiles take a fifth of the time
    while len(head := requests.read(16)) == 16:
        size, seconds = struct.unpack(">Qd", head)
        data = requests.read(size)
        if len(data) < size:
            break
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = json.dumps(read(data)).encode()
        except Exception as error:  # MuPDF's own, and what its Python layer makes of damaged files
            answer = json.dumps(refusal(error)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        pymupdf.TOOLS.store_shrink(100)
        answers.write(struct.pack(">Q", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
