"""
Reads PDF files for extract.py in a process of its own: MuPDF can hang, crash or eat the memory, and none of it can be caught.

    python pdf_child.py MEGABYTES

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

import pymupdf


def read(data):
    with pymupdf.open(stream=data, filetype="pdf") as document:
        if document.needs_pass:
            return {"reason": "encrypted", "detail": "needs a password"}
        pages, failure = [], None
        flags = pymupdf.TEXTFLAGS_BLOCKS & ~pymupdf.TEXT_PRESERVE_LIGATURES
        for number in range(document.page_count):
            try:
                blocks = document[number].get_text("blocks", flags=flags)
            except Exception as error:  # a damaged page costs itself, unless it is the memory
                failure = refusal(error, f"page {number + 1}: ")
                if failure["reason"] == "too_large":
                    return failure
                continue
            pages.append("\n\n".join(block[4].strip() for block in blocks if block[6] == 0))
        text = "\n\n".join(page for page in pages if page)
        if not text.strip():
            return failure or {"reason": "no_text", "detail": f"{document.page_count} pages without a letter"}
        return {"text": text, "title": (document.metadata or {}).get("title") or None}


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
