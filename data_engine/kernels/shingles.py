"""
Compiled: texts in Arrow's buffers -> hashes of their word n-grams. No Python object is made per document.

A word is a maximal run of `\\w` characters (Python's definition), each lower-cased by itself; so "It's" is two words. A shingle
is the 64-bit hash of n consecutive words, order included. A text of fewer than n words has one shingle, of all its words; a text
without words, such as a line of stars, has one of its bytes without blanks; an empty one has none.
"""

from functools import cache

import numba
import numpy as np

from data_engine.kernels.hash_tables import mix64
from data_engine.kernels.utf8 import char_at

LETTER = np.uint64(0x9E3779B97F4A7C15)  # odd multipliers of the polynomial hashes over letters and over words
WORD = np.uint64(0xC2B2AE3D27D4EB4F)
STRIDE = 64  # steps of a comparison between checks whether it can still reach the threshold


@cache
def fold_table():
    """uint32[0x110000]: the lower-cased code point of every word character, 0 for all others."""
    table = np.zeros(0x110000, np.uint32)
    for point in range(0x110000):
        char = chr(point)
        if char.isalnum() or char == "_":  # what re's \w matches in str patterns
            lower = char.lower()
            table[point] = ord(lower) if len(lower) == 1 else point
    return table


@numba.njit(nogil=True, cache=True)
def shingle(data, start, end, fold, n, words, out):
    """
    Writes the hashes of the n-grams of data[start:end] to out; returns their number.

    words  uint64 scratch and out uint64, both at least (end - start) // 2 + 1 long: a word and its gap take two bytes
    """
    count, i, h, inside = 0, start, np.uint64(0), False
    while i <= end:
        point = np.uint32(0)
        if i < end:
            code, i = char_at(data, i)
            point = fold[code]
        else:
            i += 1
        if point:
            h = (h + np.uint64(point)) * LETTER
            h ^= h >> np.uint64(29)
            inside = True
        elif inside:
            words[count] = mix64(h)
            count, h, inside = count + 1, np.uint64(0), False
    if count == 0:
        for i in range(start, end):
            if data[i] > 32:
                h = (h + np.uint64(data[i])) * LETTER
                h ^= h >> np.uint64(29)
                inside = True
        out[0] = mix64(h)
        return 1 if inside else 0
    size = min(n, count)
    total = count - size + 1
    for j in range(total):
        h = np.uint64(size)
        for k in range(size):
            h = h * WORD + words[j + k]
        out[j] = mix64(h)
    return total


@numba.njit(nogil=True, cache=True)
def minhash(data, offsets, fold, n, a, b, signatures, whole):
    """
    Fills signatures uint32[docs, len(a)] with the minima of a*h+b mod 2^32 over the shingles (datasketch 2's scheme affine32,
    whose murmur finalizer is applied to the low 32 bits of the shingle) and whole uint64[docs] with a hash of the word sequence.

    A text without shingles keeps 2^32-1 in its signature and has whole 0.
    """
    longest = 0
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    words, hashes = np.empty(longest // 2 + 1, np.uint64), np.empty(longest // 2 + 1, np.uint64)
    for d in range(len(offsets) - 1):
        total = shingle(data, offsets[d], offsets[d + 1], fold, n, words, hashes)
        row = signatures[d]
        row[:] = np.uint32(0xFFFFFFFF)
        whole[d] = 0
        for j in range(total):
            h = np.uint32(hashes[j])  # numba widens products of uint32 to 64 bits: each is cut back
            h = np.uint32(h ^ (h >> np.uint32(16)))
            h = np.uint32(h * np.uint32(0x85EBCA6B))
            h = np.uint32(h ^ (h >> np.uint32(13)))
            h = np.uint32(h * np.uint32(0xC2B2AE35))
            h = np.uint32(h ^ (h >> np.uint32(16)))
            for k in range(len(a)):
                row[k] = min(row[k], np.uint32(a[k] * h + b[k]))
            whole[d] = mix64(whole[d] * WORD + hashes[j])


@numba.njit(nogil=True, cache=True)
def shingle_sets(data, offsets, fold, n):
    """The sorted distinct shingles of every text, end to end: (hashes uint64[], offsets int64[docs + 1])."""
    ends = np.zeros(len(offsets), np.int64)
    longest = 0
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    found = np.empty((offsets[-1] - offsets[0]) // 2 + len(offsets), np.uint64)
    words, hashes = np.empty(longest // 2 + 1, np.uint64), np.empty(longest // 2 + 1, np.uint64)
    size = 0
    for d in range(len(offsets) - 1):
        total = shingle(data, offsets[d], offsets[d + 1], fold, n, words, hashes)
        ordered = np.sort(hashes[:total])
        for j in range(total):
            if j == 0 or ordered[j] != ordered[j - 1]:
                found[size] = ordered[j]
                size += 1
        ends[d + 1] = size
    return found[:size].copy(), ends


@numba.njit(nogil=True, cache=True)
def jaccard(hashes, starts, ends, left, right, least, out):
    """
    out[i] = |A & B| / |A | B| of the sorted sets hashes[starts[x]:ends[x]] for x = left[i] and right[i]. It is 0 for empty sets,
    and for pairs that cannot reach `least`.
    """
    for i in range(len(left)):
        p, p_end, q, q_end = starts[left[i]], ends[left[i]], starts[right[i]], ends[right[i]]
        union = (p_end - p) + (q_end - q)
        common = 0
        if min(p_end - p, q_end - q) / max(1, p_end - p, q_end - q) < least:
            out[i] = 0.0
            continue
        possible = True
        while possible and p < p_end and q < q_end:
            for _ in range(STRIDE):
                if p == p_end or q == q_end:
                    break
                x, y = hashes[p], hashes[q]
                common += x == y
                p += x <= y
                q += y <= x
            most = common + min(p_end - p, q_end - q)
            possible = most / (union - most) >= least
        out[i] = common / (union - common) if possible and union > common else 0.0
