"""A run of train.py in miniature, in this process, and ways to stop it in the middle."""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import train
from model import Phoenix, load_checkpoint
from phoenix import device as machine
from phoenix import shards
from phoenix.run_log import RunLog
from tests.fixtures import ROOT

TEXT = "the cat sat on the mat; the dog sat on the log. ünïcödé 猫 🐈\n"
STEPS = 24
SETTINGS = dict(n_layer=2, n_head=2, d_model=16, d_ff=32, seq_len=16, micro_batch=2, tokens_per_step=64, steps=STEPS, lr=1e-2)
SETTINGS |= dict(warmup=4, eval_every=12, eval_tokens=128, ckpt_every=5, sample_tokens=20, cpu_threads=1, dtype="float32")


def make_data(folder, documents=120, seed=0):
    """A tiny run folder of the data engine: a byte-level BPE, and shards of uneven sizes, one of them empty."""
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
    described = {"train": [], "val": []}
    for split, tokens in (("train", ids[val:]), ("val", ids[:val])):
        cuts = [int(f * len(tokens)) for f in parts[split]]
        for n, (begin, end) in enumerate(itertools.pairwise(cuts)):
            data, name = tokens[begin:end].tobytes(), f"{split}-{n:05d}.bin"
            (folder / "shards" / name).write_bytes(data)
            described[split].append({"file": name, "tokens": end - begin, "sha256": hashlib.sha256(data).hexdigest()})
    meta = {"format": shards.FORMAT, "version": shards.FORMAT_VERSION, "dtype": "<u2", "eot": 0, "shards": described}
    meta |= {"vocab_size": tokenizer.get_vocab_size(), "tokens": {"train": len(ids) - val, "val": val}}
    meta["tokenizer_sha256"] = hashlib.sha256((folder / "tokenizer" / "tokenizer.json").read_bytes()).hexdigest()
    (folder / "shards" / "shards.json").write_text(json.dumps(meta))
    return folder


PLOT = RunLog.plot


@contextmanager
def quick():
    """
    Without fsync, whose call only a power cut would tell and which is most of these runs' time on a busy disk; without plots,
    which are most of the rest.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(RunLog, "plot", lambda self, title: None)
        yield patch


PLAIN = machine.Machine(torch.device("cpu"), "float32", "cpu", 1, None)


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
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss", row.get("val_loss"))) for row in rows if "about" not in row]


def at_step(monkeypatch, step, act):
    """Calls act(loss) with the loss of the second micro-batch of that step, counted from now, and uses what it returns."""
    calls, objective_of = [], Phoenix.objective

    def objective(self, tokens_BT, targets_BT, z_loss):
        minimised, nats = objective_of(self, tokens_BT, targets_BT, z_loss)
        calls.append(1)
        if len(calls) == 2 * step:  # tokens_per_step / (micro_batch * seq_len) = 2 micro-batches
            return act(minimised), act(nats)
        return minimised, nats

    monkeypatch.setattr(Phoenix, "objective", objective)


def once(act):
    """A function of a loss that gives it back as it is, and acts on its first call: a second Ctrl-C would be another matter."""
    calls = []
    return lambda loss: calls.append(1) or (act() if len(calls) == 1 else None) or loss


LAUNCHER = """
import json
import os
import sys
import matplotlib.figure  # once: it is most of the time of so short a run
import tensorboardX  # once: it is most of the time of so short a run
import tokenizers  # once: it is most of the time of so short a run
import train  # once: it is most of the time of so short a run
for line in sys.stdin:
    said, argv = json.loads(line)
    pid = os.fork()
    if pid == 0:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        code = 1
        try:
            code = train.main(argv)
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(pid, flush=True)
    _, status, usage = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, flush=True)
"""


class Launcher:
    """Starts runs of train.py in processes of their own, one at a time, that can be killed: forks of one that has imported it."""

    def __init__(self, folder):
        self.said = folder / "said"
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen([sys.executable, "-c", LAUNCHER], cwd=ROOT, **pipes)

    def start(self, data, out, **settings):
        """-> pid"""
        self.process.stdin.write(json.dumps([str(self.said), arguments(data, out, **settings)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        """-> (exit code, or minus the signal; greatest resident memory in bytes; what was said)"""
        code, kib = self.process.stdout.readline().split()
        return int(code), int(kib) * 1024, self.said.read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
