"""
PDF -> plain text and title, read by MuPDF in a child process (pdf_child.py) with limits of time and memory.

reasons for none  encrypted   it needs a password
                  broken      the parser refuses it, or dies of it
                  no_text     its pages are pictures, or empty
                  timeout     it takes more CPU seconds, or sleeps for longer than a file may need on a busy machine
                  too_large   it needs more memory
                  garbled     its letters have no Unicode, or a wrong one (pdf_letters.py)
"""

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path


def read_pdf(content: bytes, cfg) -> dict:
    """
    What the child makes of the file: {"text", "title"} or {"reason", "detail"}.

    A child that has served other files may be short of memory, or hurt: then a new one has the last word, so that the
    outcome depends on the file alone.
    """
    while True:
        child = _pdf_child(cfg.pdf_megabytes)
        fresh = child.served == 0
        answer = child.ask(content, cfg.pdf_seconds)
        reason = answer.get("reason")
        if child.alive() and reason != "too_large":
            return answer
        close_child()
        if fresh or reason == "timeout":
            return answer


class PdfChild:
    """The process that reads PDFs for this one."""

    def __init__(self, megabytes):
        self.owner, self.megabytes, self.served = os.getpid(), megabytes, 0
        command = [sys.executable, "-m", "data_engine.text.pdf_child", str(megabytes)]
        self.process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=os.environ
            | {"OPENBLAS_NUM_THREADS": "1"},  # each of its threads takes address space, of which the child has little
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def alive(self):
        return self.process.poll() is None

    def ask(self, content, seconds):
        self.served += 1
        # The child ends itself by its CPU time, which does not depend on what else the machine does; this is for one asleep.
        alarm = threading.Timer(4 * seconds + 30, self.process.kill)
        alarm.daemon = True
        alarm.start()
        head = body = b""
        try:
            self.process.stdin.write(struct.pack(">Qd", len(content), seconds))
            self.process.stdin.write(content)
            self.process.stdin.flush()
            head = self.process.stdout.read(8)
            if len(head) == 8:
                body = self.process.stdout.read(struct.unpack(">Q", head)[0])
        except BrokenPipeError:
            head = b""  # it is dead
        rang = not alarm.is_alive()
        alarm.cancel()
        if len(head) == 8 and len(body) == struct.unpack(">Q", head)[0]:
            return json.loads(body)
        code = self.process.wait()
        if rang or code == -signal.SIGPROF:
            return {"reason": "timeout", "detail": f"over {seconds} s"}
        return {"reason": "broken", "detail": f"the parser died: {f'signal {-code}' if code < 0 else f'exit code {code}'}"}

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use any more
                pipe.close()


_child = None  # one a process, kept for the next PDF: starting it takes 0.3 s


def _pdf_child(megabytes):
    global _child
    if _child and _child.owner != os.getpid():
        _child = None  # we are a fork; the child is our parent's
    if _child and (_child.megabytes != megabytes or not _child.alive()):
        close_child()
    _child = _child or PdfChild(megabytes)
    return _child


@atexit.register
def close_child():
    global _child
    if _child and _child.owner == os.getpid():
        _child.close()
    _child = None
