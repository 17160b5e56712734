"""
A step in a child process, for a partition whose worker died: what kills or hangs the child costs one record, not the run.

    with Child(step, out, side_inputs) as child:
        kept, dropped = child.run(table)

The table goes through in slices of SLICE_BYTES. A slice that kills the child, or takes too many CPU seconds, is halved until the
record that does it is alone: a ledger row with the reason `crashed` (it killed TRIES children) or `timeout`. Slicing changes no
row, because a step treats each row for itself; so the outcome is that of an undisturbed run.
"""

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from data_engine.records import drop
from data_engine.step import EngineError
from data_engine.storage import storage

SLICE_BYTES = 1 << 20  # a step's start costs little against it, and a lost slice little time
TRIES = 3  # deaths of a child on one record alone before the record is to blame; memory may be short for another reason
SECS_PER_MB = 3.0  # CPU seconds; the slowest steps take 1
SECS_ALONE = 60.0  # CPU seconds for one record on top of that, far beyond any known record
SECS_SLICE = 10.0  # the same for a slice: it may be too short, for its records are then tried alone
SECS_START = 600.0  # CPU seconds of the first call, which loads models and compiles kernels
MIN_MEMORY = 3 << 30  # bytes of the child's data, a model's among them; else a quarter of the machine's memory


def time_limit(table):
    """CPU seconds that a step may take for a table in its worker, before its rows are tried in a child."""
    return SECS_ALONE + SECS_PER_MB * table.nbytes / 1e6


def end_with_parent():
    """The kernel kills this process when its parent ends, be it busy in compiled code. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == 1:  # the parent ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """A step's function in a process of its own, started again after each death."""

    def __init__(self, step, out, side_inputs):
        self.step, self.setup, self.process = step, (step, out, side_inputs), None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stop()

    def run(self, table):
        """(kept, dropped) of all rows; EngineError if the step does not even survive an empty table."""
        status, result = self._ask(table.slice(0, 0), SECS_START)
        if status != "done":
            raise EngineError(f"{self.step.name} fails without any row: {result}")
        self.empty = result
        done, start = [result], 0
        while start < len(table):
            rows = 1
            while start + 2 * rows <= len(table) and table.slice(start, 2 * rows).nbytes <= SLICE_BYTES:
                rows *= 2
            done += self._rows(table.slice(start, rows))
            start += rows
        return tuple(pa.concat_tables(tables) for tables in zip(*done, strict=True))

    def _rows(self, table):
        """[(kept, dropped), ...] of a slice, halved where it fails."""
        alone = len(table) == 1
        secs = (SECS_ALONE if alone else SECS_SLICE) + SECS_PER_MB * table.nbytes / 1e6
        for _ in range(TRIES if alone else 1):
            status, result = self._ask(table, secs)
            if status == "done":
                return [result]
            if status != "crashed" or self.process is not None:  # it would be the same again
                break
        if alone:
            return [(self.empty[0], drop(table, self.step.name, status, result[:500]))]
        middle = len(table) // 2
        return self._rows(table.slice(0, middle)) + self._rows(table.slice(middle))

    def _ask(self, table, secs):
        """("done", (kept, dropped)), or the reason and a detail: quarantined (it raised), timeout, crashed."""
        if self.process is None:
            self._start()
        try:
            pickle.dump((table, secs), self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self.process.wait()
            self._stop()
        if code == -signal.SIGPROF:
            return "timeout", f"over {secs:.0f} s"
        return "crashed", f"its process died: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def _start(self):
        root = str(Path(__file__).parent.parent)
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        command = [sys.executable, "-m", "data_engine.isolated"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=root, env=env, **pipes)
        pickle.dump(self.setup, self.process.stdin)

    def _stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with suppress(OSError):  # the rest of a request to a dead child
                    pipe.close()
        self.process = None


# ---------------------------------------------------------------------------------------------------- in the child


def memory():
    """Bytes of memory of this machine or container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # not this kind of container, or "max"
            continue
    return total


def answer(step, table, side_inputs):
    try:
        kept, dropped, *_ = step.run(table, step.settings, *side_inputs)
        return "done", (kept, dropped)
    except MemoryError:
        return "crashed", "out of memory"
    except Exception as error:
        return "quarantined", f"{type(error).__name__}: {error}"


def main():
    end_with_parent()
    limit = max(MIN_MEMORY, memory() // 4)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is doing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")  # the first to go, before its worker
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a step prints is no answer
    step, out, names = pickle.load(requests)
    side_inputs = None
    while True:
        try:
            table, secs = pickle.load(requests)
        except EOFError:
            return
        if side_inputs is None:
            side_inputs = [storage(out).read_table(name) for name in names]
        signal.setitimer(signal.ITIMER_PROF, secs)
        found = answer(step, table, side_inputs)
        signal.setitimer(signal.ITIMER_PROF, 0)
        pickle.dump(found, answers)
        answers.flush()


if __name__ == "__main__":
    main()
