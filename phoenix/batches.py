"""
The order of the training data: a permutation of fixed-length windows that is a pure function of (seed, epoch), so a run goes on
from its step alone.

    train = Windows(shards.open("data/quickstart/shards", "train"), seq_len=256)
    tokens_BT, targets_BT = train.batch(windows_of_step(step=7, per_step=8, count=train.count, seed=1))
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phoenix import shards
from phoenix.checkpoint import sha256_of
from phoenix.config import UserError


class Windows:
    """
    A split's shards laid end to end and cut into windows of seq_len targets. A window reads one token more than that, its last
    token being the first input of the next: every token but the very first is a target once, save the tail that fills no window.
    """

    def __init__(self, split, seq_len):
        self.shards, self.seq_len = split.shards, seq_len
        self.start_S = np.cumsum([0] + [len(shard) for shard in split.shards])
        self.count = max(0, (split.tokens - 1) // seq_len)

    def read(self, window):
        """int -> tokens (seq_len + 1,), from as many shards as the window touches."""
        begin, end = window * self.seq_len, (window + 1) * self.seq_len + 1
        first, last = np.searchsorted(self.start_S, [begin, end - 1], side="right") - 1
        touched = range(first, last + 1)
        return np.concatenate([self.shards[s][max(0, begin - self.start_S[s]) : end - self.start_S[s]] for s in touched])

    def batch(self, windows, pin=False):
        """windows (B,) -> inputs (B, T) and targets (B, T), int64; pinned for an asynchronous copy to the GPU."""
        both_BT = torch.from_numpy(np.stack([self.read(w) for w in windows]).astype(np.int64))
        tokens_BT, targets_BT = both_BT[:, :-1].contiguous(), both_BT[:, 1:].contiguous()
        return (tokens_BT.pin_memory(), targets_BT.pin_memory()) if pin else (tokens_BT, targets_BT)


@functools.lru_cache(maxsize=2)  # a step may lie in two epochs
def epoch_order(count, seed, epoch):
    """
    The windows 0..count-1 in the order of an epoch: sorted by a hash of (seed, epoch, window), SplitMix64 by Steele, Lea and
    Flood 2014. Not numpy's permutation, whose stream may change with its version. 2 M windows: about 1 s and 16 MB, once an epoch.
    """

    def mix(x):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    key = mix(mix(np.array([seed], np.uint64)) + np.uint64(epoch))
    return np.argsort(mix(np.arange(count, dtype=np.uint64) + key))  # mix is a bijection: no two keys are equal


def windows_of_step(step, per_step, count, seed):
    """The windows that step number `step` (from 0) trains on: what a resumed run needs to know is the step alone."""
    position = np.arange(step * per_step, (step + 1) * per_step)
    epoch = position // count
    return np.concatenate([epoch_order(count, seed, int(e))[position[epoch == e] % count] for e in np.unique(epoch)])


def data_step(step, left_out):
    """The step of the data that the run's step number `step` trains on: rollbacks leave some out for good, listed in `left_out`."""
    for n in sorted(left_out):
        step += step >= n
    return step


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
    """The run folder of the data engine that a train.Train names; UserError where it does not fit together or to the settings."""
    folder, tokenizer_json = Path(cfg.data, "shards"), Path(cfg.data, "tokenizer", "tokenizer.json")
    splits = [shards.open(folder, split, verify=cfg.verify) for split in ("train", "val")]
    meta = splits[0].meta
    if not tokenizer_json.is_file():
        raise UserError(f"{tokenizer_json} does not exist: data= must be a run folder with shards/ and tokenizer/")
    tokenizer_sha256 = sha256_of(tokenizer_json)
    if tokenizer_sha256 != meta["tokenizer_sha256"]:
        raise UserError(f"{tokenizer_json} is not the tokenizer that {folder} was written with: rerun data_engine.run")
    if cfg.vocab_size not in (None, meta["vocab_size"]):
        raise UserError(f"vocab_size={cfg.vocab_size}, but {cfg.data} has {meta['vocab_size']}: leave it out, or give other data")
    train, val = (Windows(split, cfg.seq_len) for split in splits)
    for name, split, windows in zip(("train", "val"), splits, (train, val), strict=True):
        if not windows.count:
            raise UserError(f"{cfg.data} has {split.tokens} tokens in its {name} split, a window is seq_len={cfg.seq_len} + 1")
    count = min(val.count, max(1, cfg.eval_tokens // cfg.seq_len))
    if count > cfg.micro_batch:
        count -= count % cfg.micro_batch  # a last part of another shape would be compiled for itself
    chosen = np.arange(count) * val.count // count
    hashes = tokenizer_sha256, sha256_of(folder / "shards.json")
    return Data(train, val, chosen, splits[0].tokens, meta["vocab_size"], meta["eot"], tokenizer_json, *hashes)
