"""
The one progress display: a tqdm bar on a terminal; elsewhere a line at the start, every ten seconds, and at the end.

    with Progress("documents", total=50) as progress:
        progress.update(1, rows="343 rows")
"""

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager

from tqdm import tqdm

from phoenix.signals import request_stop

EVERY_SECS = 10.0  # between two lines where there is no terminal


@contextmanager
def closed_output_noted():
    """Where the output is closed, asks the run to stop and drops later output; outside of a run's loop it is an error."""
    try:
        yield
    except BrokenPipeError:
        if not request_stop(signal.SIGPIPE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text):
    """Prints a line on stdout above the progress bar."""
    with closed_output_noted():
        tqdm.write(text)
        sys.stdout.flush()


def duration(secs):
    """45 -> "45 s", 90 -> "1.5 min", 7200 -> "2.0 h"."""
    return f"{secs:.0f} s" if secs < 60 else f"{secs / 60:.1f} min" if secs < 5400 else f"{secs / 3600:.1f} h"


class Progress:
    """Counts up to `total` and estimates the time left; prints nothing where nothing is left to do. Threads may share it."""

    def __init__(self, name, total, done=0, unit="", file=None):
        """done: the count of earlier runs. unit: what the bar counts. file: stdout or stderr; None: stdout."""
        self.name, self.total, self.begin, self.done, self.notes = name, total, done, done, {}
        self.file = file or sys.stdout
        self.quiet = done >= total
        self.lines = not self.quiet and not self.file.isatty()
        self.start = time.monotonic()
        self.lock = threading.RLock()
        # in a container tqdm may read a terminal width of 0 and hide the bar; this width is never 0
        width, height = shutil.get_terminal_size()
        bar = {"file": self.file, "ncols": width, "nrows": height, "disable": self.quiet or self.lines}
        self.bar = tqdm(desc=name, total=total, initial=done, unit=unit or "it", unit_scale=total > 99_999, **bar)
        if self.lines:
            self._line()

    def update(self, n=1, **notes):
        """Adds n to the count; each note is text behind it, and replaces the earlier note of its name."""
        with self.lock:
            self.done += n
            self.notes |= notes
            self.bar.set_postfix_str("  ".join(self.notes.values()), refresh=False)
            self.bar.update(n)
            if self.lines and time.monotonic() - self.shown >= EVERY_SECS:
                self._line()

    def rewind(self, done):
        """Sets the count back to `done`, as after a rollback."""
        with self.lock:
            self.done = self.begin = done
            self.start = time.monotonic()
            self.bar.reset()
            self.bar.initial = done
            self.bar.update(done)

    def close(self):
        """Prints the last state, where it is not printed yet."""
        with self.lock:
            if self.lines and self.shown_at != (self.done, self.notes):
                self._line()
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _line(self):
        self.shown, self.shown_at = time.monotonic(), (self.done, dict(self.notes))
        secs, made = self.shown - self.start, self.done - self.begin
        left = f", {duration(secs / made * (self.total - self.done))} left" if made and self.done < self.total else ""
        notes = "".join(f"  {note}" for note in self.notes.values())
        with closed_output_noted():
            print(f"{self.name:<14} {self.done:>7,}/{self.total:,}{notes}  {duration(secs)}{left}", file=self.file, flush=True)
