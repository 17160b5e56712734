"""
The order of the training data: a permutation of fixed-length windows that is a pure function of (seed, epoch), so a run goes on
from its step alone.

    train = Windows(shards.open("data/quickstart/shards", "train"), seq_len=256)
    tokens_BT, targets_BT = train.batch(windows_of_step(step=7, per_step=8, count=train.count, seed=1))
"""

import functools

import numpy as np
import torch


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
