"""Ctrl-C and SIGTERM as a note that is read between two steps."""

import signal
from contextlib import contextmanager


@contextmanager
def signals_noted():
    """A list that Ctrl-C and SIGTERM are put on, so that the step can be finished; the second of a kind acts as ever."""
    noted, usual = [], {}

    def note(number, _frame):
        noted.append(number)
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextmanager
def stoppable():
    """SIGTERM ends the block as Ctrl-C does, so that Ray's processes go with the run."""

    def stop(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
