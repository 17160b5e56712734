"""
Ctrl-C and SIGTERM: train.py finishes its step and saves; the data engine stops at once and keeps its finished partitions.

Elsewhere Ctrl-C is a KeyboardInterrupt, which `main_guard` (config.py) turns into one line and exit code 130.
"""

import os
import signal
from contextlib import contextmanager


@contextmanager
def stop_requests():
    """
    Yields a list to which SIGINT and SIGTERM are appended, for a loop to read; a second signal has its default effect.

    SIGPIPE is a third: progress.say raises it where the reader of the output is gone.
    """
    requests, default = [], {}

    def note(number, _frame):
        requests.append(number)
        signal.signal(number, default[number])

    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGPIPE] if hasattr(signal, "SIGPIPE") else [])):
        default[number] = signal.signal(number, note)
    try:
        yield requests
    finally:
        for number, handler in default.items():
            signal.signal(number, handler)


def exit_on_ctrl_c():
    """Ctrl-C ends a script that still imports with one line and exit code 130; main_guard takes over from there."""

    def end(_number, _frame):
        os.write(2, b"stopped by Ctrl-C\n")
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as nohup's children have it
        signal.signal(signal.SIGINT, end)


@contextmanager
def stoppable():
    """SIGTERM raises KeyboardInterrupt in the block, as Ctrl-C does, so that Ray's processes end with the run."""

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    default = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, default)
