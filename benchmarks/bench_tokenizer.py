"""
The tokenizer's training on a large sample, and beside `tokenizers` on a part of it.

    python benchmarks/bench_tokenizer.py TEXTS ... [--mb=1000] [--peer_mb=112] [--workers=2] [--json=FILE]

TEXTS are files or folders that Local reads. The sample is made from them and is distinct text by text: each time through, 15 % of
the words are replaced by others, seeded; one in ten of those has a wrong letter, so that the number of pre-tokens grows with the
sample, as in a real corpus. Reading, making the sample and loading the compiled kernels are not timed.

    sample      ours: pre-tokens counted by `workers` processes, partition by partition; then one process adds them and trains
    peer        the same on --peer_mb of it, and BpeTrainer of `tokenizers`, each on one thread; both vocabularies must be the same

On a machine that others use look at the CPU seconds; the time on idle cores is then about count / workers + add + train.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from data_engine.download import Local  # noqa: E402
from data_engine.extract import ExtractConfig, extract  # noqa: E402
from data_engine.kernels.bpe_training import train  # noqa: E402
from data_engine.kernels.pre_tokens import add_counts, count_pre_tokens  # noqa: E402

PARTITION_BYTES = 64_000_000
SPECIALS = ["<|endoftext|>"]
REPLACED, MISSPELLED = 0.15, 0.1  # of the words; of the replaced ones


def documents(paths):
    """The texts of all files, as the engine extracts them."""
    for path in paths:
        source = Local("text", str(path))
        for job in source.jobs(64 << 20):
            for records, _ in source.read(job):
                yield from extract(records, ExtractConfig())[0]["text"].to_pylist()


def distinct(texts, seed):
    """The texts again and again, without end, each time with other words replaced."""
    words = sorted({word for text in texts[::10] for word in text.split(" ") if word.isalpha() and len(word) < 20})
    numbers, draw = np.random.default_rng(seed), random.Random(seed)
    while True:
        for text in texts:
            pieces = text.split(" ")
            for place in np.flatnonzero(numbers.random(len(pieces)) < REPLACED).tolist():
                word = draw.choice(words)
                if draw.random() < MISSPELLED:
                    letter = draw.randrange(len(word))
                    word = word[:letter] + draw.choice("abcdefghijklmnopqrstuvwxyz") + word[letter + 1 :]
                pieces[place] = word
            yield " ".join(pieces)


def write_sample(paths, target_bytes, folder):
    """Parquet files of about PARTITION_BYTES of text each, with the column `text`."""
    base = list(documents(paths))
    if not base:
        sys.exit(f"no document in {', '.join(map(str, paths))}")
    texts = distinct(base, seed=1)
    while target_bytes > 0:
        part, size = [], 0
        while size < min(PARTITION_BYTES, target_bytes):
            part.append(next(texts))
            size += len(part[-1].encode())
        target_bytes -= size
        files = len(list(folder.glob("*.parquet")))
        pq.write_table(pa.table({"text": pa.array(part, pa.large_string())}), folder / f"{files:05d}.parquet", compression="none")


class Clock:
    """Wall and CPU seconds of a block."""

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def load_kernels(_=None):
    train(add_counts([count_pre_tokens(pa.array(["load the compiled code " * 3]))]), 300)


def count(file):
    """Counts of one partition into a file; CPU seconds without the reading."""
    texts = pq.read_table(file)["text"]
    with Clock() as clock:
        pq.write_table(count_pre_tokens(texts), f"{file}.counts")
    return clock.cpu


def train_on_counts(files, vocab_size):
    """In a process of its own: figures of what the engine's driver would do."""
    load_kernels()
    with Clock() as add:
        pre_tokens = add_counts(pq.read_table(f"{file}.counts") for file in files)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = []
    with Clock() as learn:
        _, merges = train(pre_tokens, vocab_size, SPECIALS, progress=shown.append)
    return {
        "pre_tokens": len(pre_tokens),
        "merges": len(merges),
        "add": (add.wall, add.cpu),
        "train": (learn.wall, learn.cpu),
        "progress calls": len(shown),
        "peak MB": {"add": memory // 1024, "train": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024},
    }


def beside_tokenizers(files, size, vocab_size):
    """In a process of its own: ours and BpeTrainer on about `size` bytes, each on one thread."""
    load_kernels()
    texts = pq.read_table(files)["text"]
    ends = np.cumsum(pc.binary_length(texts).to_numpy())
    texts = texts[: int(np.searchsorted(ends, size)) + 1]
    with Clock() as ours:
        vocabulary, merges = train(count_pre_tokens(texts), vocab_size, SPECIALS)
    texts = texts.to_pylist()
    with Clock() as peer:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        settings = {"vocab_size": vocab_size, "special_tokens": SPECIALS, "initial_alphabet": alphabet, "min_frequency": 2}
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(show_progress=False, **settings))
    model = json.loads(tokenizer.to_str())["model"]
    same = model["vocab"] == vocabulary and list(map(tuple, model["merges"])) == merges
    return {"bytes": int(ends[len(texts) - 1]), "ours": (ours.wall, ours.cpu), "tokenizers": (peer.wall, peer.cpu), "same": same}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--mb", type=int, default=1000, help="size of the sample, in millions of bytes")
    parser.add_argument("--peer_mb", type=int, default=112, help="how much of it `tokenizers` gets; 0: leave it out")
    parser.add_argument("--workers", type=int, default=2, help="processes that count")
    parser.add_argument("--vocab_size", type=int, default=32768)
    parser.add_argument("--data", type=Path, help="folder of the sample, kept and used again; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # the threads of `tokenizers`
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(f"{date.today()}, commit {commit}, {machine}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not list(folder.glob("*.parquet")):
            write_sample(args.texts, args.mb * 1_000_000, folder)
        results = measure(sorted(map(str, folder.glob("*.parquet"))), args)
    if args.json:
        args.json.write_text(
            json.dumps({"date": str(date.today()), "commit": commit, "results": results}, indent=1) + "\n", encoding="utf-8"
        )


def measure(files, args):
    size = sum(pq.read_metadata(file).row_group(0).column(0).total_uncompressed_size for file in files)
    context = get_context("spawn")
    with ProcessPoolExecutor(args.workers, context) as pool:
        list(pool.map(load_kernels, range(args.workers * 4)))  # both are loaded before the clock starts
        with Clock() as clock:
            cpu = sum(pool.map(count, files))
    with ProcessPoolExecutor(1, context) as pool:
        results = pool.submit(train_on_counts, files, args.vocab_size).result()
    results |= {"bytes": size, "count": (clock.wall, cpu)}
    print(f"sample of {size / 1e6:,.0f} MB: {results['pre_tokens']:,} pre-tokens, {results['merges']:,} merges")
    for step, workers in (("count", args.workers), ("add", 1), ("train", 1)):
        wall, cpu = results[step]
        print(f"    {step:6} {wall:6.1f} s, {cpu:6.1f} s of CPU" + (f" in {workers} processes" if workers > 1 else ""))
    wall = sum(results[step][0] for step in ("count", "add", "train"))
    idle = results["count"][1] / args.workers + results["add"][1] + results["train"][1]
    print(f"    all    {wall:6.1f} s; {idle:.1f} s where every process has a core of its own; peak MB {results['peak MB']}")
    if args.peer_mb:
        with ProcessPoolExecutor(1, context) as pool:
            results["peer"] = peer = pool.submit(beside_tokenizers, files, args.peer_mb * 1_000_000, args.vocab_size).result()
        (_, ours), (_, theirs) = peer["ours"], peer["tokenizers"]
        print(f"{peer['bytes'] / 1e6:,.0f} MB, one thread, CPU: ours {ours:.1f} s, tokenizers {theirs:.1f} s, {theirs / ours:.1f}x")
        print("    the same vocabulary and merges" if peer["same"] else "    NOT THE SAME vocabulary and merges")
        if not peer["same"]:
            sys.exit(1)
    return results


if __name__ == "__main__":
    main()
