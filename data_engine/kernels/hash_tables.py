"""
Compiled: hashes of bytes and of sequences, and the hash table that all kernels look things up in.

A table is an open-addressed array of (key uint64, value int64 >= 0), at most a third full, built once by `hash_table`.
"""

import numpy as np
from numba import njit

TABLE = np.dtype([("key", "u8"), ("value", "i8")])
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: consecutive keys land far apart (Knuth, TAOCP 6.4)
FNV_START, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def hash_table(keys, values=None):
    """Distinct uint64 keys -> table of their values, by default their positions."""
    keys = np.asarray(keys, np.uint64)
    table = np.zeros(1 << max(4, (3 * len(keys)).bit_length()), TABLE)
    table["value"] = -1
    fill(table, keys, np.arange(len(keys)) if values is None else np.asarray(values, np.int64))
    return table


@njit(cache=True)
def fill(table, keys, values):
    mask = len(table) - 1
    for i in range(len(keys)):
        at = spread(keys[i]) & mask
        while table[at].value >= 0:
            at = (at + 1) & mask
        table[at].key, table[at].value = keys[i], values[i]


@njit(cache=True)
def find(table, key):
    """The value of a key; -1 where the table does not hold it."""
    mask = len(table) - 1
    at = spread(np.uint64(key)) & mask
    while table[at].value >= 0:
        if table[at].key == np.uint64(key):
            return table[at].value
        at = (at + 1) & mask
    return np.int64(-1)


@njit(cache=True)
def spread(key):
    """30 bits in which keys that differ a little differ a lot."""
    return np.int64((key * GOLDEN) >> np.uint64(34))


@njit(cache=True)
def set_size(n):
    """Slots of a set of n keys for slot_of: a power of two, at most half of them full."""
    size = 16
    while size < 2 * n:
        size *= 2
    return size


@njit(cache=True)
def slot_of(keys, key):
    """Where a set (zeros where empty) holds a well-mixed key other than 0, or the free slot where it belongs."""
    mask = len(keys) - 1
    at = np.int64(key) & mask
    while keys[at] and keys[at] != key:
        at = (at + 1) & mask
    return at


# --- Hashes ----------------------------------------------------------------------------------------------------------------


@njit(inline="always")
def mix64(h):
    """MurmurHash3's 64-bit finalizer: a bijection that spreads every input bit."""
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@njit(cache=True)
def hash_bytes(text, start, end):
    """64 bits of text[start:end], eight bytes at a time."""
    value = np.uint64(end - start) * GOLDEN
    while end - start >= 8:
        eight = np.uint64(0)
        for i in range(8):
            eight |= np.uint64(text[start + i]) << np.uint64(8 * i)
        value = mix(value ^ eight)
        start += 8
    rest = np.uint64(0)
    for i in range(start, end):
        rest = rest << np.uint64(8) | np.uint64(text[i])
    return mix(mix(value ^ rest))


@njit(cache=True)
def combine(state, value):
    """The hash of a sequence, from the hash of all but its last element (0 of none) and that of the last."""
    return mix(state * GOLDEN ^ value)


@njit(cache=True)
def mix(value):
    """Half of mix64, for the inner loops."""
    value *= np.uint64(0xBF58476D1CE4E5B9)
    return value ^ (value >> np.uint64(32))


@njit(cache=True)
def fnv1a_bytes(text):
    """FNV-1a of a uint8 array, 64 bits."""
    value = FNV_START
    for byte in text:
        value = fnv1a(value, byte)
    return value


@njit(cache=True)
def fnv1a(value, byte):
    """FNV-1a one byte further, for words that are changed as they are read; it begins at FNV_START."""
    return (value ^ np.uint64(byte)) * FNV_PRIME
