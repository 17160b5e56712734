"""
PDF -> plain text and title, read by MuPDF in a child process (pdf_child.py) with limits of time and memory.

in:   a file as bytes          out: {"text", "title"} or {"reason", "detail"}
drops encrypted   it needs a password
      broken      the parser refuses it, or crashes
      no_text     its pages are pictures, or empty, or only ask for another viewer
      timeout     it takes more than pdf_seconds of CPU time, or hangs for longer than a file may need on a busy machine
      too_large   it needs more memory than pdf_megabytes
      garbled     nearly all its letters have no Unicode, or a wrong one (pdf_letters.py); else only these are left out
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


class PdfChild:
    """The child process, and the protocol with it."""

    def __init__(self, megabytes):
        self.owner, self.megabytes, self.served = os.getpid(), megabytes, 0
        command = [sys.executable, "-m", "data_engine.text.pdf_child", str(megabytes)]
        self.process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],  # so that -m finds data_engine
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # every thread takes of the child's little address space
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def alive(self):
        return self.process.poll() is None

    def ask(self, content, seconds):
        """The child's answer for a file, or the reason why there is none."""
        self.served += 1
        # The child's own limit is of CPU time, which a busy machine does not shorten; the alarm is for a child that sleeps.
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
            head = b""  # the child is dead
        hung = not alarm.is_alive()
        alarm.cancel()
        if len(head) == 8 and len(body) == struct.unpack(">Q", head)[0]:
            return json.loads(body)
        code = self.process.wait()
        if hung or code == -signal.SIGPROF:
            return {"reason": "timeout", "detail": f"over {seconds} s"}
        return {"reason": "broken", "detail": f"the parser died: {f'signal {-code}' if code < 0 else f'exit code {code}'}"}

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):  # unsent bytes of a file
                pipe.close()


_child = None  # one a process, kept for the next PDF: starting it takes 0.3 s


def _pdf_child(megabytes):
    """The running child with this limit of memory; starts one where there is none."""
    global _child
    if _child and _child.owner != os.getpid():
        _child = None  # this process is a fork, and the child belongs to its parent
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


def read_pdf(content: bytes, cfg) -> dict:
    """
    cfg: ExtractConfig, for pdf_seconds and pdf_megabytes.

    A child that has read other files may be short of memory, or damaged. If it fails, a new child decides, so that the outcome
    depends on the file alone.
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
