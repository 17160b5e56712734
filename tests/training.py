"""A tiny run of train.py, in this process or in a forked one, and ways to stop it in the middle."""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import train
from model import Phoenix, load_checkpoint
from phoenix import shards
from phoenix.device import Device
from phoenix.run_log import RunLog
from tests.fixtures import ROOT

TEXT = "the cat sat on the mat; the dog sat on the log. ünïcödé 猫 🐈\n"
STEPS = 24
SETTINGS = dict(n_layer=2, n_head=2, d_model=16, d_ff=32, seq_len=16, micro_batch=2, tokens_per_step=64, steps=STEPS, lr=1e-2)
SETTINGS |= dict(warmup=4, eval_every=12, eval_tokens=128, ckpt_every=5, sample_tokens=20, cpu_threads=1, dtype="float32")


def make_data(folder, documents=120, seed=0):
    """A tiny run folder of the data engine: a byte-level BPE and shards of uneven sizes, one of them empty."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|reserved_0|>"]
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    rng = random.Random(seed)
    words = TEXT.split()
    texts = [" ".join(rng.choices(words, k=rng.randrange(1, 20))) for _ in range(documents)]
    ids = np.array([i for text in texts for i in [*tokenizer.encode(text).ids, 0]], np.uint16)
    (folder / "shards").mkdir()
    val, parts = len(ids) // 5, {"train": [0.0, 0.1, 0.1, 0.7, 1.0], "val": [0.0, 0.4, 1.0]}
    rows = {"train": [], "val": []}
    for split, tokens in (("train", ids[val:]), ("val", ids[:val])):
        cuts = [int(f * len(tokens)) for f in parts[split]]
        for n, (begin, end) in enumerate(itertools.pairwise(cuts)):
            data, name = tokens[begin:end].tobytes(), f"{split}-{n:05d}.bin"
            (folder / "shards" / name).write_bytes(data)
            rows[split].append({"file": name, "tokens": end - begin, "sha256": hashlib.sha256(data).hexdigest()})
    meta = {"format": shards.FORMAT, "version": shards.FORMAT_VERSION, "dtype": "<u2", "eot": 0, "shards": rows}
    meta |= {"vocab_size": tokenizer.get_vocab_size(), "tokens": {"train": len(ids) - val, "val": val}}
    meta["tokenizer_sha256"] = hashlib.sha256((folder / "tokenizer" / "tokenizer.json").read_bytes()).hexdigest()
    (folder / "shards" / "shards.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


PLOT = RunLog.plot


@contextmanager
def quick():
    """
    Makes runs fast: without fsync, which only a power cut would miss, without plots, and without asking git for the commit.

    These three take most of the time of so short a run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(train, "commit", lambda: "of a test")
        patch.setattr(RunLog, "plot", lambda self, title: None)
        yield patch


PLAIN = Device(torch.device("cpu"), "float32", "cpu", 1, None)


def arguments(data, out, **settings):
    return [f"--{name}={value}" for name, value in (SETTINGS | settings | {"data": data, "out": out}).items()]


def run(data, out, **settings):
    return train.main(arguments(data, out, **settings))


def weights_hash(out):
    saved = load_checkpoint(out / "ckpt.pt")
    assert saved["step"] == STEPS
    return hashlib.sha256(b"".join(p.numpy().tobytes() for p in saved["model"].values())).hexdigest()


def losses(out):
    """(step, loss or val_loss) of every row of the log, in its order."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["step"], row.get("loss", row.get("val_loss"))) for row in rows if "about" not in row]


def at_step(monkeypatch, step, act):
    """Replaces the loss of the second micro-batch of that step, counted from now, by act(loss)."""
    calls, objective_of = [], Phoenix.objective

    def objective(self, tokens_BT, targets_BT, z_loss):
        minimised, nats = objective_of(self, tokens_BT, targets_BT, z_loss)
        calls.append(1)
        if len(calls) == 2 * step:  # tokens_per_step / (micro_batch * seq_len) = 2 micro-batches
            return act(minimised), act(nats)
        return minimised, nats

    monkeypatch.setattr(Phoenix, "objective", objective)


def once(act):
    """A function for at_step that acts on its first call only, since a second Ctrl-C differs from the first; keeps the loss."""
    calls = []
    return lambda loss: calls.append(1) or (act() if len(calls) == 1 else None) or loss


LAUNCHER = """
import json
import os
import sys

# imported once, before the forks: imports take most of the time of so short a run
import matplotlib.figure
import tensorboardX.record_writer
import tokenizers
import torch._dynamo  # AdamW imports it
import train
from phoenix.config import main_guard

os.fsync = lambda _: None
train.commit = lambda: "of a test"
train.RunLog.plot = lambda self, title: None
for line in sys.stdin:
    output, argv = json.loads(line)
    pid = os.fork()
    if pid == 0:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.argv, code = ["train.py", *argv], 1
        try:
            main_guard(train.main)
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    _, status, usage = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)
"""


class Launcher:
    """Starts runs of train.py one at a time, each in a process that can be killed: a fork of one that has imported it."""

    def __init__(self, folder):
        self.output = folder / "output"
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen([sys.executable, "-c", LAUNCHER], cwd=ROOT, **pipes)

    def start(self, data, out, **settings):
        """-> pid"""
        self.output.unlink(missing_ok=True)
        self.process.stdin.write(json.dumps([str(self.output), arguments(data, out, **settings)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def printed(self, text):
        """True once the run that was started last has printed `text`."""
        return self.output.exists() and text in self.output.read_text(encoding="utf-8")

    def wait(self):
        """-> (exit code, or minus the signal; peak resident memory in bytes; the output)"""
        code, kib = self.process.stdout.readline().split()
        return int(code), int(kib) * 1024, self.output.read_text(encoding="utf-8")

    def close(self):
        self.process.kill()  # its own exit would take seconds, in which torch tidies up
        self.process.wait()


def wait_until(happened, secs=60):
    """Polls until happened() is true; fails after `secs`, which only a stuck process needs."""
    deadline = time.monotonic() + secs
    while not happened():
        assert time.monotonic() < deadline, f"not within {secs} s"
        time.sleep(0.002)


def logged(out, step):
    """Whether the run in `out` has logged that step."""
    log = out / "log.jsonl"
    return log.exists() and f'"step": {step},' in log.read_text(encoding="utf-8")
