"""Memory of a running command and of all processes that it starts."""

import time
from pathlib import Path


def peak_memory(process):
    """The most bytes that a Popen and its descendants held until it ended: their proportional set sizes, ten times a second."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(proportional_set_size, with_descendants(process.pid))))
        time.sleep(0.1)
    return peak


def with_descendants(pid):
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has ended
    found, grown = set(), {pid}
    while grown:
        found |= grown
        grown = {child for child, parent in parents.items() if parent in grown}
    return found


def proportional_set_size(pid):
    """Bytes, of which what several processes share is divided among them; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
