"""
Estimates what a run would fetch, make and need: python -m data_engine.run CONFIG.py --plan. Writes nothing.

Every data set is asked for first: one that has moved ends the plan with one sentence. The figures come from the servers' listings,
from the first bytes of a few files of each source (budget.py), and from the measured costs below.
"""

import os
import shutil
from dataclasses import dataclass

from data_engine import download
from data_engine.engine import CPUS_PER_ACTOR, STORE_BYTES_PER_CPU
from data_engine.mix import allocate, shares
from data_engine.sources import budget, fetch, listing
from data_engine.storage import storage
from phoenix.progress import duration

# bytes on disk for each byte of content and record (raw), byte of clean text and document (documents, work), token
RAW_BYTE, RAW_RECORD, TEXT_BYTE, TEXT_DOCUMENT = 0.41, 150, 0.42, 150
WORK_TEXT, WORK_DOCUMENT, WORK_TOKEN, WORK_SAMPLE = 0.25, 1500, 4.5, 0.1  # the last for a byte of the tokenizer's sample
SHARD_TOKEN, SHARD_DOCUMENT = 2.0, 90
START_SECS = 12.0  # until Ray and the stages have started
TEXT_SECS = 103e-9  # of one core, for a byte of text, from cleaning to the shards
COUNTING_SECS = 20e-9  # of one core, for a byte of the tokenizer's sample, to count its pre-tokens
TRAINING_SECS = 6e-9  # for a byte of the sample, to add the counts and learn the merges; on one core, whatever their number
UNSURE, SECOND_OPINION_SECS = 0.005, 0.17  # fraction of the documents that XLM-RoBERTa reads; seconds of one core for each
BANDWIDTH = 12_500_000  # assumed bytes a second: 100 Mbit/s
RAM_BYTES = 1_700_000_000  # Ray, the driver and idle workers
RAM_PARTITIONS, RAM_XLM_ROBERTA, RAM_SAMPLE = 10, 1_700_000_000, 1.2  # times a worker's partition; a model; times the sample


@dataclass
class Estimate:
    files: int = 0  # to be taken
    listed: int = 0  # files of the source
    fetch: int = 0  # bytes that are not on this machine yet
    stored: int = 0  # bytes of the downloads
    content: float = 0.0  # bytes of raw records
    text: float = 0.0  # bytes of their text
    secs: float = 0.0  # of one core, to read and clean them
    records: float = 0.0
    documents: float = 0.0  # left after cleaning and deduplication
    tokens: float = 0.0  # of these documents


def describe(cfg, out, cores):
    """The text that --plan prints."""
    download.survey(cfg.sources)
    raw = set(storage(str(out)).names("raw"))
    found = {source.name: estimate(source, cfg, raw) for source in cfg.sources}
    targets = allocate({name: int(e.tokens) for name, e in found.items()}, shares(cfg), cfg.tokens, cfg.mix)
    lines = [f"{'source':<16}{'kind':<13}{'share':>6}{'files':>14}{'fetch MB':>11}{'documents':>12}{'M tokens':>10}{'of them':>10}"]
    for source in cfg.sources:
        e = found[source.name]
        files = f"{e.files:,} of {e.listed:,}" if e.listed else "-"
        lines.append(
            f"{source.name:<16}{type(source).__name__:<13}{source.share:>6.3f}{files:>14}{e.fetch / 1e6:>11,.3f}"
            f"{e.documents:>12,.0f}{e.tokens / 1e6:>10,.3f}{targets[source.name] / 1e6:>10,.3f}"
        )
    disk = disk_bytes(cfg, found, targets)
    total, content, fetched = sum(disk.values()), sum(e.content for e in found.values()), sum(e.fetch for e in found.values())
    folder = storage(str(out)).local  # None in an object store, whose room is not known
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free if folder else float("inf")
    room = f"; {free / 1e6:,.0f} MB are free" if folder else ""
    ram, store = ram_bytes(cfg, found, cores), STORE_BYTES_PER_CPU * cores
    shm = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    parts = ", ".join(f"{name} {size / 1e6:,.2f}" for name, size in disk.items())
    budget_text = f"{cfg.tokens:,} tokens" if cfg.tokens else "all that keeps the shares"
    lines += [
        f"budget  {budget_text}; the corpus would have about {sum(targets.values()) / 1e6:,.2f} M",
        f"fetch   {fetched / 1e6:,.1f} MB, {duration(fetched / BANDWIDTH)} at 100 Mbit/s; {content / 1e6:,.1f} MB of records",
        f"disk    {total / 1e6:,.1f} MB in {out} ({parts}){room}",
        f"memory  about {ram / 1e9:.1f} GB with {cores} cores; {available_ram() / 1e9:.1f} GB are available",
        f"shm     {store / 1e9:.2f} GB for Ray's object store; /dev/shm has {shm / 1e9:.2f} GB free",
        f"time    about {duration(work_secs(cfg, found, cores))} of work on {cores} cores; the first run compiles a minute more",
    ]
    lines += warnings(cfg, found, targets)
    if total > free:
        lines.append(f"warning: the disk is too small: {(total - free) / 1e9:.1f} GB are missing")
    if ram > available_ram():
        lines.append("warning: the memory is too small: lower num_cpus or partition_bytes")
    if store > shm:
        lines.append("warning: /dev/shm is smaller than the object store, so Ray would use /tmp: enlarge it or lower num_cpus")
    return "\n".join(lines)


def warnings(cfg, found, targets):
    """A line for each source that has fewer tokens than its share."""
    total = sum(targets.values())
    lines = []
    for source in cfg.sources:
        wanted = source.share * (cfg.tokens or total)
        if found[source.name].tokens < 0.999 * wanted:
            short = f"{found[source.name].tokens / 1e6:,.2f} M of the {wanted / 1e6:,.2f} M tokens of its share"
            lines.append(
                f"warning: {source.name} has about {short}: its documents would be repeated up to {cfg.mix.max_epochs} times"
            )
    return lines


def estimate(source, cfg, raw=frozenset()):
    """The Estimate of one source; raw: names of the raw partitions that are done."""
    e = Estimate()
    if hasattr(source, "list_files"):
        found = source.list_files()
        looked, web = found["looked"], source.web
        remotes = []
        for job in source.jobs(cfg.partition_bytes):
            wanted, cut = source.remotes(job), f"{source.name}-{job.name}-000.parquet" in raw
            if cut or listing.is_available(source, job):
                remotes += wanted
            if not cut:
                e.fetch += sum(r.size or 0 for r in wanted if not fetch.is_complete(r.file(source.downloads), r))
        e.files, e.listed = len(remotes), len(found["files"])
        e.stored = sum(remote.size or 0 for remote in remotes)
        kinds = [(e.stored, looked)] if looked and looked["bytes"] else []
    elif hasattr(source, "sampled"):
        kinds, web = source.sampled(), source.web
        e.files = e.listed = sum(looked["files"] for _, looked in kinds)
    else:
        size = sum(job.size for job in source.jobs(cfg.partition_bytes))
        kinds, web = [(size, {"bytes": 1, "content": 1, "text": 0.7, "documents": 1 / 4000})], False
    for size, looked in kinds:
        times = size / max(1, looked["bytes"])
        e.content += times * looked["content"]
        e.text += times * looked["text"]
        e.secs += times * looked.get("secs", budget.PLAIN_SECS * looked["content"])  # a listing of an older run lacks it
        e.records += times * looked["documents"]
    e.documents = e.records * budget.KEPT[web]
    e.tokens = e.text * budget.KEPT[web] * budget.tokens_per_byte(cfg.vocab_size)
    return e


def work_secs(cfg, found, cores):
    """Seconds of a run on so many cores, without the downloads."""
    text, sample = sum(e.text for e in found.values()), sample_bytes(cfg, found)
    work = sum(e.secs for e in found.values()) + TEXT_SECS * text + COUNTING_SECS * sample
    if cfg.language.xlm_roberta:
        work += SECOND_OPINION_SECS * UNSURE * sum(e.records for e in found.values())
    return START_SECS + work / cores + TRAINING_SECS * sample


def ram_bytes(cfg, found, cores):
    """Peak memory of all processes of a run: while it cleans partitions, or while it trains the tokenizer."""
    content = sum(e.content for e in found.values())
    cleaning = RAM_PARTITIONS * min(cores * cfg.partition_bytes, content)
    if cfg.language.xlm_roberta:
        cleaning += RAM_XLM_ROBERTA * max(1, cores // CPUS_PER_ACTOR)
    return RAM_BYTES + max(cleaning, RAM_SAMPLE * sample_bytes(cfg, found))


def sample_bytes(cfg, found):
    """Bytes of text that the tokenizer is trained on."""
    kept = sum(found[source.name].text * budget.KEPT[source.web] for source in cfg.sources)
    return min(cfg.tokenizer.sample_bytes, kept)


def disk_bytes(cfg, found, targets):
    """{stage: bytes on disk} at the end of a run, with the downloads."""
    kept = {source.name: budget.KEPT[source.web] for source in cfg.sources}
    tokens, taken = sum(targets.values()), 0.0
    for name, e in found.items():
        taken += e.documents * min(1.0, 1.1 * targets[name] / max(1.0, e.tokens))
    clean = sum(e.text * kept[name] for name, e in found.items())
    documents = sum(e.documents for e in found.values())
    return {
        "downloads": sum(e.stored for e in found.values()) if cfg.keep_downloads else 0,
        "raw": sum(RAW_BYTE * e.content + RAW_RECORD * e.records for e in found.values()),
        "documents": TEXT_BYTE * clean + TEXT_DOCUMENT * documents,
        "work": WORK_TEXT * clean + WORK_DOCUMENT * documents + WORK_TOKEN * tokens + WORK_SAMPLE * sample_bytes(cfg, found),
        "shards": SHARD_TOKEN * tokens + SHARD_DOCUMENT * taken,
    }


def available_ram():
    """Bytes of memory that programs can still get."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
