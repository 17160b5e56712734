"""
The child process of pdf_text.py, which reads PDF files with MuPDF. MuPDF can hang, crash or eat the memory, and no exception
reports it.

    python -m data_engine.text.pdf_child MEGABYTES

stdin   per file: 8 bytes of length and 8 bytes of CPU seconds (big-endian integer, double), then the file
stdout  per file: 8 bytes of length, then JSON: {"text", "title"} or {"reason", "detail"}

The process ends at the end of stdin, with its parent, and by SIGPROF in a file that takes more than its seconds.
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

# Ligatures are taken apart, and text outside of the page is left out. TEXT_CID_FOR_UNKNOWN_UNICODE is not set: it would take the
# number of a glyph for a character where a letter without a Unicode map should become U+FFFD.
FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP
SCALE = 10  # MuPDF's JSON holds integers: tenths of a point
LINE = itemgetter("text", "bbox", "font", "wmode", "x", "y")
BOX = itemgetter("x", "y", "w", "h")


def page_json(document, number):
    """MuPDF's text of a page, as JSON: blocks of lines with their boxes and fonts."""
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


def lines_at(positions, text):
    """Rows of page, block, vertical writing, x and y of the first letter, its size, x, y, width, height -> Lines."""
    points = positions[:, 3:] / SCALE
    left, top, width, height = points[:, 3:].T
    # the first letter can be an index: then the height of the line tells more about its size
    size = np.maximum(points[:, 2], 1)
    high = np.where(height > 3 * width, width, height)  # turned text is as high as its box is wide
    # drawn fonts of TeX (Type 3) give their size as 1
    size = np.where(size < 2, np.maximum(0.7 * high, size), np.clip(0.7 * height, size, 1.5 * size))
    box = np.column_stack([left, top, left + width, top + height])
    return Lines(positions[:, 0], positions[:, 1], box, points[:, :2], size, positions[:, 2] > 0, text)


def title(document):
    """The title in the metadata; None where there is none, or MuPDF cannot read it."""
    try:
        return mupdf.fz_lookup_metadata2(document, "info:Title") or None
    except Exception:  # MuPDF raises for a missing title too
        return None


def refusal(error, where=""):
    out_of_memory = isinstance(error, MemoryError) or "malloc" in str(error) or ("alloc" in str(error) and "fail" in str(error))
    return {"reason": "too_large" if out_of_memory else "broken", "detail": f"{where}{type(error).__name__}: {error}"}


def read(data):
    """Bytes of a PDF -> {"text", "title"} or {"reason", "detail"}."""
    document = mupdf.fz_open_document_with_buffer("pdf", mupdf.fz_new_buffer_from_copied_data(data))
    if mupdf.fz_needs_password(document):
        return {"reason": "encrypted", "detail": "needs a password"}
    pages, blocks, failure = mupdf.fz_count_pages(document), 0, None
    positions, text = [], []  # the numbers of all lines for lines_at in one flat list, and the text of each line
    for page in range(pages):
        try:
            content = json.loads(page_json(document, page))["blocks"]
        except Exception as error:  # a damaged page costs only itself, but a lack of memory the file
            failure = refusal(error, f"page {page + 1}: ")
            if failure["reason"] == "too_large":
                return failure
            continue
        for block in content:
            blocks += 1
            for line in block.get("lines", ()):
                letters, box, font, *rest = LINE(line)
                if letters.strip():
                    text.append(letters)
                    positions += (page, blocks, *rest, font["size"], *BOX(box))
    if not text:
        return failure or {"reason": "no_text", "detail": f"{pages} pages without a letter"}
    text = reading_text(lines_at(np.array(positions).reshape(len(text), -1), text))
    if detail := garbled(text):
        return {"reason": "garbled", "detail": detail}
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
