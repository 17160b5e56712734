"""
The order of the training data: a permutation of fixed-length windows, a pure function of (seed, epoch).

A resumed run needs to know its step alone, and the steps of data that rollbacks left out.

    data = open_data(cfg)
    tokens_BT, targets_BT = batch_of_step(data, cfg, step=7)

Shapes: B windows, T = seq_len positions.
"""

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phoenix import shards
from phoenix.checkpoint import checkpoint_files
from phoenix.config import UserError
from phoenix.files import sha256_file


class Windows:
    """
    A split's shards laid end to end and cut into windows of seq_len targets.

    A window reads seq_len + 1 tokens; its last token is the first input of the next window. So every token but the first is a
    target once, except the tail that fills no window.
    """

    def __init__(self, split, seq_len):
        self.shards, self.seq_len = split.shards, seq_len
        self.start_S = np.cumsum([0] + [len(shard) for shard in split.shards])
        self.count = max(0, (split.tokens - 1) // seq_len)
        self.vocab_size = split.meta.get("vocab_size", 2**16)

    def read(self, window):
        """int -> tokens (seq_len + 1,), from as many shards as it touches. UserError where one is beyond the vocabulary."""
        begin, end = window * self.seq_len, (window + 1) * self.seq_len + 1
        first, last = np.searchsorted(self.start_S, [begin, end - 1], side="right") - 1
        parts = [self.shards[s][max(0, begin - self.start_S[s]) : end - self.start_S[s]] for s in range(first, last + 1)]
        tokens = np.concatenate(parts)
        if tokens.max() >= self.vocab_size:
            bad, token = next((s, part.max()) for s, part in enumerate(parts, first) if len(part) and part.max() >= self.vocab_size)
            file = getattr(self.shards[bad], "filename", f"shard {bad}")
            why = f"holds the token {token}, the vocabulary ends at {self.vocab_size - 1}"
            raise UserError(
                f"{file} {why}: it is damaged; --verify compares all shards with shards.json, data_engine.run makes them anew"
            )
        return tokens

    def spread(self, n):
        """The numbers of `n` windows that are spread evenly, or of all where there are fewer."""
        n = min(n, self.count)
        return np.arange(n) * self.count // n

    def batch(self, windows, pin=False):
        """windows (B,) -> inputs (B, T) and targets (B, T), int64; `pin` allows an asynchronous copy to the GPU."""
        both_BT = torch.from_numpy(np.stack([self.read(w) for w in windows]).astype(np.int64))
        tokens_BT, targets_BT = both_BT[:, :-1].contiguous(), both_BT[:, 1:].contiguous()
        if pin:
            with contextlib.suppress(RuntimeError):  # WSL2 pins little memory; a copy from other memory takes a moment longer
                return tokens_BT.pin_memory(), targets_BT.pin_memory()
        return tokens_BT, targets_BT


# ---- the order -------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)  # a step may lie in two epochs
def epoch_order(count, seed, epoch):
    """
    The windows 0..count-1 in the order of one epoch: sorted by a hash of (seed, epoch, window).

    The hash is SplitMix64 (Steele, Lea and Flood 2014): numpy's permutation may change with its version. 2 M windows take
    about 1 s and 16 MB, once an epoch.
    """

    def mix(x):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    key = mix(mix(np.array([seed], np.uint64)) + np.uint64(epoch))
    return np.argsort(mix(np.arange(count, dtype=np.uint64) + key))  # mix is a bijection: no two keys are equal


def windows_of_step(step, per_step, count, seed):
    """The windows that step number `step` (from 0) trains on, an array of `per_step`."""
    position = np.arange(step * per_step, (step + 1) * per_step)
    epoch = position // count
    return np.concatenate([epoch_order(count, seed, int(e))[position[epoch == e] % count] for e in np.unique(epoch)])


def data_step(step, left_out):
    """The step of data that the run's step trains on: rollbacks exclude the steps of data in `left_out` for good."""
    for n in sorted(left_out):
        step += step >= n
    return step


# ---- the data of a run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    train: Windows
    val: Windows
    val_windows: np.ndarray  # of val, spread evenly: what a validation reads
    train_tokens: int
    vocab_size: int
    eot: int  # id of <|endoftext|>
    tokenizer_json: Path
    tokenizer_sha256: str
    shards_sha256: str  # of shards.json, which holds the sha256 of every shard


def open_data(cfg):
    """The data engine's run folder that cfg.data names; UserError where it does not fit together or to the settings."""
    folder, tokenizer_json = Path(cfg.data, "shards"), Path(cfg.data, "tokenizer", "tokenizer.json")
    first_start = not checkpoint_files(cfg.out)  # shards.json is compared on each start, what it lists on the first
    verify = first_start if cfg.verify is None else cfg.verify
    splits = [shards.open(folder, split, verify) for split in ("train", "val")]
    meta = splits[0].meta
    if not tokenizer_json.is_file():
        raise UserError(f"{tokenizer_json} does not exist: data= must be a run folder with shards/ and tokenizer/")
    tokenizer_sha256 = sha256_file(tokenizer_json)
    if tokenizer_sha256 != meta["tokenizer_sha256"]:
        raise UserError(f"{tokenizer_json} is not the tokenizer that {folder} was written with: rerun data_engine.run")
    if cfg.vocab_size not in (None, meta["vocab_size"]):
        raise UserError(f"vocab_size={cfg.vocab_size}, but {cfg.data} has {meta['vocab_size']}: leave it out, or give other data")
    train, val = (Windows(split, cfg.seq_len) for split in splits)
    for name, split, windows in zip(("train", "val"), splits, (train, val), strict=True):
        if not windows.count:
            raise UserError(f"{cfg.data} has {split.tokens} tokens in its {name} split, a window is seq_len={cfg.seq_len} + 1")
    val_windows = val.spread(max(1, cfg.eval_tokens // cfg.seq_len))
    hashes = tokenizer_sha256, sha256_file(folder / "shards.json")
    return Data(train, val, val_windows, splits[0].tokens, meta["vocab_size"], meta["eot"], tokenizer_json, *hashes)


def batch_of_step(data, cfg, step, left_out=(), pin=False):
    """Inputs and targets (tokens_per_step / seq_len, seq_len) of the run's step number `step`."""
    per_step = cfg.tokens_per_step // cfg.seq_len
    return data.train.batch(windows_of_step(data_step(step, left_out), per_step, data.train.count, cfg.seed), pin)
