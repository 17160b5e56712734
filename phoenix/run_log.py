"""
The record of a training run: log.jsonl, TensorBoard's events, loss.png.

    log = RunLog(out, until=step)          # removes the rows that a killed run logged after its last checkpoint
    log.row(step=7, tokens=7 * 524288, loss=3.2, ...)
    log.plot(title)
"""

import json
import math
import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from phoenix.files import atomic, disk_is_full, write_atomic
from phoenix.progress import say

FLUSH_SECS = 10  # between two moments at which TensorBoard can see new events


def read_rows(path):
    """(the rows of log.jsonl, the number of other lines); a last line that a kill cut in half is neither."""
    rows, damaged = [], 0
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for number, line in enumerate(lines, 1):
        row = None
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
        if isinstance(row, dict) and all(type(row.get(name)) is int for name in ("step", "tokens")):
            rows.append(row)
        elif number < len(lines):
            damaged += 1
    return rows, damaged


def commit():
    """The checkout's commit, "with changes" where files differ from it; "unknown" where there is no git."""
    try:
        git = ["git", "-C", str(Path(__file__).resolve().parents[1])]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
        return head + (" with changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class RunLog:
    """
    log.jsonl and TensorBoard's events in out/tensorboard, one row a logged step in both.

    A log that cannot be written does not end a run: the error is printed once, and the rows are written when they can be.
    """

    def __init__(self, out, until, left_out=()):
        self.path, self.folder = out / "log.jsonl", out / "tensorboard"
        self.rows, self.events, damaged = [], None, 0
        self.error_printed, self.flushed_at = False, time.monotonic()
        with self._errors_printed_once("read"):
            self.rows, damaged = read_rows(self.path)
        if damaged:
            say(f"{self.path}: {damaged} damaged lines are left out")
        self.rewind(until, left_out)

    def rewind(self, step, left_out=()):
        """Removes the rows after `step`, and those of rollbacks that `left_out` does not know: those steps are logged anew."""
        self.rows = [row for row in self.rows if row["step"] <= step and set(row.get("left_out", ())) <= set(left_out)]
        self.events_from, self.events_step = len(self.rows), step + 1  # the row and step that new events begin with
        self._close_events()
        self.incomplete = True  # log.jsonl holds other rows than self.rows
        self._write_rows([])

    def row(self, **row):
        self.rows.append({name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()})
        self._write_rows(self.rows[-1:])
        self._write_events(self.rows[-1:], flush=time.monotonic() - self.flushed_at > FLUSH_SECS)

    def flush(self):
        """Call it before a checkpoint: a resumed run does not write the events from before it again."""
        self._write_events([], flush=True)

    def close(self):
        self._write_rows([])
        self.flush()
        self._close_events()

    def _write_rows(self, rows):
        """Appends rows to log.jsonl; where the file lacks earlier ones, it is written anew."""
        rewrite, self.incomplete = self.incomplete, True
        with self._errors_printed_once():
            if rewrite:
                write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))
            elif rows:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(row) + "\n" for row in rows))
            self.incomplete = False

    def _write_events(self, rows, flush):
        """Writes rows as events; after an error all rows since the last rewind, in a new file that replaces their events."""
        if self.events is None and len(self.rows) == self.events_from:
            return
        written = False
        with self._errors_printed_once():
            if self.events is None:
                self.events, rows = self._new_events(), self.rows[self.events_from :]
            for row in rows:
                self.events.write(event(row))
            if flush:
                self.events.flush()
                self.flushed_at = time.monotonic()
            written = True
        if not written:
            self._close_events()

    def _new_events(self):
        """A new file of events; TensorBoard drops what earlier files hold of its first step and later ones."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # a part of a second that --help and --plan need not wait for
        from tensorboardX.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        now = time.time_ns()  # nanoseconds: two rollbacks within a second need two files
        events = RecordWriter(str(self.folder / f"events.out.tfevents.{now // 10**9}.{now % 10**9:09d}"))
        events.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        start = SessionLog(status=SessionLog.START)
        events.write(Event(wall_time=time.time(), step=self.events_step, session_log=start).SerializeToString())
        return events

    def _close_events(self):
        events, self.events = self.events, None
        with self._errors_printed_once():
            if events is not None:
                events.close()

    @contextmanager
    def _errors_printed_once(self, action="written"):
        try:
            yield
        except Exception as error:  # of a disk or a library: no log is worth a run
            if not self.error_printed:
                why = "the disk is full" if disk_is_full(self.path.parent, error) else f"{type(error).__name__}: {error}"
                say(f"the log in {self.path.parent} cannot be {action}: {why}; training goes on")
            self.error_printed = True

    def plot(self, title):
        """loss.png: the training loss of each logged step, its running mean, the validation loss and the rollbacks, over tokens."""
        with self._errors_printed_once(), atomic(self.path.with_name("loss.png")) as temporary:
            self._figure(title).savefig(temporary, format="png")

    def _figure(self, title):
        os.environ["MPLBACKEND"] = "agg"  # a notebook's may name a package that is not here, and importing would fail
        from matplotlib.figure import Figure  # a second of import that --help need not wait for

        train = [row for row in self.rows if row.get("loss") is not None and "left_out" not in row]
        val = [row for row in self.rows if row.get("val_loss") is not None]
        rollbacks = [row for row in self.rows if row.get("left_out")]
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        ax = figure.add_subplot()
        if train:
            tokens, loss = (np.array([row[name] for row in train]) for name in ("tokens", "loss"))
            width = max(2, len(loss) // 50)
            sums, last = np.cumsum(np.concatenate([np.zeros(1), loss])), np.arange(1, len(loss) + 1)
            first = np.maximum(0, last - width)
            ax.plot(tokens / 1e6, loss, color="#9ecae1", linewidth=0.8, label="training, each logged step")
            ax.plot(tokens / 1e6, (sums[last] - sums[first]) / (last - first), color="#08519c", label=f"training, mean of {width}")
        if val:
            points = np.array([(row["tokens"] / 1e6, row["val_loss"]) for row in val])
            label = f"validation, {val[-1]['val_loss']:.3f} at the end"
            ax.plot(*points.T, "o-", color="#d94801", markersize=4, linewidth=1, label=label)
        for n, row in enumerate(rollbacks):
            ax.axvline(row["tokens"] / 1e6, color="#636363", linewidth=1, linestyle=":", label="rollback" if n == 0 else None)
        ax.set(xlabel="tokens trained on (millions)", ylabel="loss (nats per token)", title=title)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        if train or val:
            ax.legend(frameon=False)
        return figure


def event(row):
    """A row's numbers as one serialised TensorBoard event, tagged training/loss, validation/val_loss, hellaswag/acc, ..."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    values = []
    for name, value in row.items():
        if isinstance(value, (int, float)) and name != "step":
            tag = name if "/" in name else f"{'validation' if name.startswith('val_') else 'training'}/{name}"
            values.append(Summary.Value(tag=tag, simple_value=value))
    return Event(wall_time=time.time(), step=row["step"], summary=Summary(value=values)).SerializeToString()
