"""
Ctrl-C and SIGTERM: train.py finishes its step and saves; the data engine stops at once and keeps its finished partitions.

Where a script does not catch KeyboardInterrupt itself, `main_guard` (config.py) ends it with one line and code 130.
"""

import os
import signal
from contextlib import contextmanager

waiting = []  # the lists of the stop_requests blocks that run


@contextmanager
def stop_requests():
    """
    Yields a list to which SIGINT and SIGTERM are appended, for a loop to read; a second signal has its default effect.

    So is SIGPIPE, by request_stop: a handler would stop the run for a connection to the NAS that breaks, too.
    """
    requests, default = [], {}

    def note(number, _frame):
        requests.append(number)
        signal.signal(number, default[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        default[number] = signal.signal(number, note)
    waiting.append(requests)
    try:
        yield requests
    finally:
        waiting.remove(requests)
        for number, handler in default.items():
            signal.signal(number, handler)


def request_stop(number):
    """Appends a signal to the list of the stop_requests block that runs. -> whether there is one"""
    for requests in waiting:
        requests.append(number)
    return bool(waiting)


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
