"""
What is seen of a training run: log.jsonl, TensorBoard's events, loss.png, lines on stdout.

    log = RunLog(out, until=step)          # what a killed run logged after its last checkpoint is taken back
    log.row(step=7, tokens=7 * 524288, loss=3.2, ...)
    log.plot(title)
"""

import json
import math
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from phoenix.checkpoint import is_full, write_atomically

SAY_EVERY = 20  # seconds between two lines of progress where there is no terminal for a bar


def say(text):
    """A line on stdout that leaves a progress bar whole."""
    tqdm.write(text)
    sys.stdout.flush()


def duration(secs):
    """90 -> "1.5 min", 7200 -> "2.0 h"."""
    return f"{secs:.0f} s" if secs < 60 else f"{secs / 60:.1f} min" if secs < 5400 else f"{secs / 3600:.1f} h"


class Progress:
    """How far a run is: a bar on a terminal, elsewhere a line every twenty seconds and at the end."""

    def __init__(self, done, total):
        self.total, self.said_at, self.lines = total, time.perf_counter(), not sys.stderr.isatty() or done >= total
        width, height = shutil.get_terminal_size()  # never 0, where tqdm's own look at a container's terminal is: it hid the bar
        self.bar = tqdm(total=total, initial=done, unit="step", ncols=width, nrows=height, disable=self.lines)

    def step(self, step, status, secs_left):
        self.bar.set_postfix_str(status, refresh=False)
        self.bar.update()
        if self.lines and (time.perf_counter() - self.said_at > SAY_EVERY or step == self.total):
            say(f"step {step}/{self.total}  {status}  {duration(secs_left)} left")
            self.said_at = time.perf_counter()

    def back_to(self, step):
        self.bar.reset()
        self.bar.update(step)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()


def read_rows(path):
    """The rows of log.jsonl; a last line that a kill cut in half is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def commit():
    """The checkout's commit, marked where files have changed since; "unknown" where there is no git."""
    try:
        git = ["git", "-C", str(Path(__file__).resolve().parents[1])]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
        return head + (" with changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class RunLog:
    """log.jsonl and TensorBoard's events below out/tensorboard, a row a logged step in both."""

    def __init__(self, out, until, left_out=()):
        self.path, self.folder = out / "log.jsonl", out / "tensorboard"
        self.failed = self.behind = False  # a write has failed, and that was said; log.jsonl lacks rows that are in self.rows
        self.rows, self.events = read_rows(self.path), None
        self.back_to(until, left_out)

    def back_to(self, step, left_out=()):
        """Takes back the rows after `step`, and of rollbacks that the state does not know: all that is done and logged anew."""
        self.rows = [row for row in self.rows if row["step"] <= step and set(row.get("left_out", ())) <= set(left_out)]
        self.behind = True
        self._write()
        self.close_events()
        self.purge_step = step + 1

    def row(self, **row):
        row = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        self.rows.append(row)
        self._write(row)
        with self._or_said():
            self._add_events(row)

    @contextmanager
    def _or_said(self):
        """What cannot be written to a log does not end a run: it is said once, and the rows are written when they can be."""
        try:
            yield
        except OSError as error:
            if not self.failed:
                why = "the disk is full" if is_full(self.path.parent, error) else error
                say(f"the log in {self.path.parent} cannot be written: {why}; training goes on")
            self.failed = True

    def _write(self, row=None):
        """The row to log.jsonl; all of them where some could not be written before."""
        late, self.behind = self.behind, True
        with self._or_said():
            if late:
                write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
            elif row is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            self.behind = False

    def _add_events(self, row):
        if self.events is None:
            from tensorboardX import SummaryWriter  # a part of a second that --help and --plan need not pay

            suffix = f".{time.time_ns() % 10**9:09d}"  # its names have seconds: a rollback within one would write over the file
            self.events = SummaryWriter(str(self.folder), purge_step=self.purge_step, flush_secs=10, filename_suffix=suffix)
            file = self.events.file_writer.event_writer._ev_writer  # an error would end its thread, and then a full queue the run
            for name in ("write_event", "flush", "close"):
                setattr(file, name, self._guarded(getattr(file, name)))
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "step":
                kind = "validation" if name.startswith("val_") else "zero_shot" if "/" in name else "training"
                self.events.add_scalar(name if "/" in name else f"{kind}/{name}", value, row["step"])

    def flush(self):
        """Events of before a checkpoint are not written again by a rerun: they must not be lost with what waits in memory."""
        if self.events is not None:
            self.events.flush()

    def _guarded(self, method):
        def guarded(*args):
            with self._or_said():
                return method(*args)

        return guarded

    def close_events(self):
        events, self.events = self.events, None
        with self._or_said():
            if events is not None:
                events.close()

    def close(self):
        self._write()
        self.close_events()

    def plot(self, title):
        """loss.png: the training loss of each logged step, its running mean, the validation loss and the rollbacks, over tokens."""
        from matplotlib.figure import Figure  # a second of import that --help need not pay

        train = [row for row in self.rows if row.get("loss") is not None and "left_out" not in row]
        val = [row for row in self.rows if row.get("val_loss") is not None]
        back = [row for row in self.rows if row.get("left_out")]
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
        for n, row in enumerate(back):
            ax.axvline(row["tokens"] / 1e6, color="#636363", linewidth=1, linestyle=":", label="rollback" if n == 0 else None)
        ax.set(xlabel="tokens trained on (millions)", ylabel="loss (nats per token)", title=title)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        if train or val:
            ax.legend(frameon=False)
        path = self.path.with_name("loss.png")
        with self._or_said():
            figure.savefig(path.with_suffix(".tmp"), format="png")
            path.with_suffix(".tmp").replace(path)
