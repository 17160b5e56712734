"""One progress line a stage: partitions, rows, bytes, speed, ETA. Redrawn on a terminal, a line every few seconds elsewhere."""

import sys
import threading
import time

EVERY_SECS = 10.0  # between lines where stdout is not a terminal


class Progress:
    """Counts steps of a stage whose `total` is known; nothing is shown for a stage with nothing to do."""

    def __init__(self, name, total):
        self.name, self.total = name, total
        self.done = self.rows = self.bytes = 0
        self.told = ""
        self.lock = threading.Lock()
        self.start = self.shown = time.monotonic()
        if total:
            self._show()

    def step(self, made=None):
        """One more is done; `made` may hold its rows and bytes."""
        self.done += 1
        self.rows += (made or {}).get("rows", 0)
        self.bytes += (made or {}).get("bytes", 0)
        if sys.stdout.isatty() or time.monotonic() - self.shown >= EVERY_SECS:
            self._show()

    def tell(self, text):
        """More to say in the line than partitions tell, from another thread."""
        self.told = text
        if self.total and (sys.stdout.isatty() or time.monotonic() - self.shown >= EVERY_SECS):
            self._show()

    def close(self):
        if self.total and (sys.stdout.isatty() or self.shown_at < self.done):
            self._show()
        if self.total and sys.stdout.isatty():
            print()

    def _show(self):
        with self.lock:
            self._print()

    def _print(self):
        secs = self.shown = time.monotonic()
        self.shown_at = self.done
        secs -= self.start
        text = f"{self.name:<14} {self.done:>5}/{self.total}"
        if self.rows:
            text += f"  {self.rows:,} rows"
        if self.bytes:
            text += f"  {self.bytes / 1e6:,.1f} MB  {self.bytes / 1e6 / max(secs, 1e-9):,.1f} MB/s"
        left = f"ETA {clock(secs / self.done * (self.total - self.done))}" if 0 < self.done < self.total else ""
        text += f"  {clock(secs)} " + (f" {self.told}" if self.told else left)
        if sys.stdout.isatty():
            print(f"\r\x1b[K{text}", end="", flush=True)
        else:
            print(text, flush=True)


def clock(secs):
    """Seconds -> h:mm:ss or m:ss."""
    minutes, secs = divmod(round(secs), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
