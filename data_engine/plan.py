"""What a run would fetch, make and need, before it does any of it: python -m data_engine.run CONFIG.py --plan. Writes nothing."""

import shutil
from pathlib import Path

from data_engine.progress import clock

# What a byte of plain text costs, measured on 65 MB of Wikipedia (dev/LOG.md); HTML and PDF give less text and take longer.
DISK = {"raw": 0.41, "documents": 0.41, "work": 1.31, "shards": 0.43}
TOKENS_PER_BYTE = 0.22
BYTES_PER_SECOND = 700_000  # on one core, from raw to shards
RAM_BYTES, RAM_PARTITIONS = 1_700_000_000, 10  # of Ray and the driver; partitions that a worker holds at its peak


def text(cfg, out, cores):
    """What the run would read and make, and about what it needs; nothing is written."""
    lines = [f"{'source':<16}{'kind':<14}{'share':>7}{'jobs':>7}{'input MB':>11}"]
    total = 0
    for source in cfg.sources:
        jobs = source.jobs(cfg.partition_bytes)
        size = sum(job.size for job in jobs)
        total += size
        lines.append(f"{source.name:<16}{type(source).__name__:<14}{source.share:>7.3f}{len(jobs):>7}{size / 1e6:>11,.1f}")
    folder = next(p for p in (Path(out).resolve(), *Path(out).resolve().parents) if p.exists())
    free, needed = shutil.disk_usage(folder).free, total * sum(DISK.values())
    ram = RAM_BYTES + cores * RAM_PARTITIONS * cfg.partition_bytes
    budget = f"{cfg.tokens:,} tokens" if cfg.tokens else "all that keeps the shares"
    parts = ", ".join(f"{name} {total * share / 1e6:,.0f}" for name, share in DISK.items())
    lines += [
        f"input   {total / 1e6:,.1f} MB; plain text of that size would make about {total * TOKENS_PER_BYTE / 1e6:,.1f} M tokens",
        f"budget  {budget}",
        f"out     {out}: about {needed / 1e6:,.0f} MB ({parts}); {free / 1e6:,.0f} MB are free",
        f"memory  about {ram / 1e9:.1f} GB with {cores} cores",
        f"time    about {clock(total / BYTES_PER_SECOND / cores)} of work on {cores} cores, and a minute for starting",
    ]
    if needed > free:
        lines.append("warning: the disk will not do")
    return "\n".join(lines)
