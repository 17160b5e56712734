"""
Ctrl-C and SIGTERM: train.py finishes its step and saves; the data engine stops at once and keeps its finished partitions.

Elsewhere Ctrl-C is a KeyboardInterrupt, which `main_guard` (config.py) turns into one line and exit code 130.
"""

import signal
from contextlib import contextmanager


@contextmanager
def stop_requests():
    """Yields a list to which SIGINT and SIGTERM are appended, for a loop to read; a second signal has its default effect."""
    requests, default = [], {}

    def note(number, _frame):
        requests.append(number)
        signal.signal(number, default[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        default[number] = signal.signal(number, note)
    try:
        yield requests
    finally:
        for number, handler in default.items():
            signal.signal(number, handler)


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
