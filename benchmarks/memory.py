"""Memory of a running command and of all processes that it starts."""

import time
from pathlib import Path


def peak_memory(process):
    """Waits for a Popen to end. Returns the largest sum, in bytes, of the proportional set sizes of it and its descendants."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(proportional_set_size, with_descendants(process.pid))))
        time.sleep(0.1)
    return peak


def with_descendants(pid):
    """The process ids of `pid` and of all processes that it started."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # the process has ended
    found, grown = set(), {pid}
    while grown:
        found |= grown
        grown = {child for child, parent in parents.items() if parent in grown}
    return found


def proportional_set_size(pid):
    """Bytes of memory, shared pages divided by the number of processes that share them; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
