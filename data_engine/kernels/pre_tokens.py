"""
Texts -> how often each pre-token occurs: what a byte-level BPE tokenizer is trained on.

    count_pre_tokens(texts) -> PRE_TOKENS     of one partition
    add_counts(tables) -> PRE_TOKENS          of all partitions

Pre-tokens are the pieces that GPT-2's regular expression cuts from a text (Radford et al. 2019), here in UTF-8:
's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

The letters and numbers of Unicode change from year to year. A character that Python's tables do not know has the class that it
has for `tokenizers`.
"""

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
from numba import njit

from data_engine.records import text_buffers

PRE_TOKENS = pa.schema({"pre_token": pa.large_binary(), "count": pa.int64()})
LETTER, NUMBER, OTHER, SPACE, UNKNOWN = 0, 1, 2, 3, 4  # classes of characters
CODE_POINTS = 0x110000
ADD_ROWS = 4_000_000  # rows of partitions that are added at once: about 100 MB
KEY_BYTES = 15  # the longest pre-token that KEY and REST hold with its length; of longer ones they are the length and a hash
KEY, REST, COUNT, START, END = range(5)  # columns of the pre-tokens' rows; data[START:END] is the first appearance


def count_pre_tokens(texts):
    """Column of texts -> PRE_TOKENS in order of first appearance; a null is an empty text."""
    data, offsets = text_buffers(texts)
    return _sum(data, offsets, np.ones(len(offsets) - 1, np.int64), True)


def add_counts(tables):
    """Tables PRE_TOKENS -> one with the sums, in order of first appearance. Holds the sums and ADD_ROWS rows, or as many again."""
    total, more = PRE_TOKENS.empty_table(), []
    for table in tables:
        more.append(table)
        if sum(map(len, more)) > len(total) + ADD_ROWS:
            total, more = _add([total, *more]), []
    return _add([total, *more])


def _add(tables):
    rows = pa.concat_tables(tables)
    data, offsets = text_buffers(rows["pre_token"])
    return _sum(data, offsets, rows["count"].to_numpy(), False)


def _sum(data, offsets, weights, cut):
    """
    data, offsets  texts, or pre-tokens, as text_buffers gives them; `cut` says which
    weights        int64: how often each text or pre-token counts
    """
    classes = character_classes()
    weights.flags.writeable = False  # always, because numba compiles once for each case
    rows, known, text, at = np.empty((1 << 14, 5), np.uint64), 0, 0, int(offsets[0])
    while True:
        slots = hash_table(rows, known)
        known, text, at = count_rows(data, offsets, weights, cut, classes, rows, slots, known, text, at)
        if text == len(offsets) - 1:
            break
        if known == len(rows):
            rows = np.concatenate([rows, np.empty_like(rows)])
        else:
            for char in set(data[at : offsets[text + 1]].tobytes().decode()):
                if classes[ord(char)] == UNKNOWN:
                    classes[ord(char)] = class_in_tokenizers(char)
    rows = rows[:known].view(np.int64)
    ends = np.concatenate([[0], np.cumsum(rows[:, END] - rows[:, START])])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(copy_bytes(data, rows, ends))]
    return pa.table([pa.LargeBinaryArray.from_buffers(pa.large_binary(), known, buffers), rows[:, COUNT]], schema=PRE_TOKENS)


@cache
def character_classes():
    """uint8 (CODE_POINTS,): LETTER, NUMBER, SPACE (Unicode's White_Space), OTHER, or UNKNOWN where Python has no entry."""
    categories = [unicodedata.category(chr(code)) for code in range(CODE_POINTS)]
    initial = np.frombuffer("".join(category[0] for category in categories).encode(), np.uint8)
    classes = np.full(CODE_POINTS, OTHER, np.uint8)
    classes[initial == ord("L")] = LETTER
    classes[initial == ord("N")] = NUMBER
    classes[initial == ord("Z")] = SPACE
    classes[[9, 10, 11, 12, 13, 0x85]] = SPACE
    classes[np.array(categories) == "Cn"] = UNKNOWN
    return classes


def class_in_tokenizers(char):
    """The class that a character has for `tokenizers`: the one with whose members it makes one pre-token."""
    from tokenizers.pre_tokenizers import ByteLevel

    cut = ByteLevel(add_prefix_space=False).pre_tokenize_str
    return next((kind for kind, member in ((LETTER, "a"), (NUMBER, "1"), (OTHER, "!")) if len(cut(member + char)) == 1), SPACE)


# --- Compiled -----------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def count_rows(data, offsets, weights, cut, classes, rows, slots, known, text, at):
    """
    Counts from byte `at` of `text` on in `rows`, of which `known` are in use: (known, text, at) where it ended.

    It ends when no text is left, or `rows` have no room, or a character's class is UNKNOWN. Two of 100,000 long pre-tokens would
    be taken for the same with a chance of 3e-10. The arrays are made outside of the loop: numba counts references at each use of a
    variable that a loop gives another array, which took twice the time.
    """
    while text < len(offsets) - 1:
        stop = offsets[text + 1]
        while at < stop:
            after = next_pre_token(data, at, stop, classes) if cut else stop
            if after < 0:
                return known, text, at
            key, rest = np.uint64(after - at), np.uint64(0)
            if after - at <= KEY_BYTES:
                for i in range(at, min(after, at + 7)):
                    key = key << np.uint64(8) | np.uint64(data[i])
                for i in range(at + 7, after):
                    rest = rest << np.uint64(8) | np.uint64(data[i])
            else:
                key |= np.uint64(1 << 63)
                for i in range(at, after):
                    rest = (rest ^ np.uint64(data[i])) * np.uint64(0x9E3779B97F4A7C15)
                    rest ^= rest >> np.uint64(32)
            slot = first_slot(key, rest, len(slots))
            row = slots[slot] - 1
            while row >= 0 and (rows[row, KEY] != key or rows[row, REST] != rest):
                slot = (slot + 1) & (len(slots) - 1)
                row = slots[slot] - 1
            if row < 0:
                if known == len(rows):
                    return known, text, at
                row = known
                rows[row, KEY], rows[row, REST], rows[row, COUNT], rows[row, START], rows[row, END] = key, rest, 0, at, after
                known += 1
                slots[slot] = known
            rows[row, COUNT] += np.uint64(weights[text])
            at = after
        text += 1
    return known, text, at


@njit(cache=True, nogil=True, inline="always")
def first_slot(key, rest, slots):
    value = (key ^ (rest * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64((value ^ (value >> np.uint64(32))) >> np.uint64(8)) & (slots - 1)


@njit(cache=True, nogil=True)
def hash_table(rows, known):
    """int32 slots: number of one of the first `known` rows, plus 1; 0 is free. At most half of them are ever taken."""
    slots = np.zeros(2 * len(rows), np.int32)
    for row in range(known):
        slot = first_slot(rows[row, KEY], rows[row, REST], len(slots))
        while slots[slot]:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = row + 1
    return slots


@njit(cache=True, nogil=True)
def copy_bytes(data, rows, ends):
    copied = np.empty(ends[-1], np.uint8)
    for row in range(len(rows)):
        copied[ends[row] : ends[row + 1]] = data[rows[row, START] : rows[row, END]]
    return copied


@njit(cache=True, nogil=True, inline="always")
def read_character(data, at, classes):
    """(class of the character at `at`, where the next begins)."""
    byte = data[at]
    if byte < 0x80:
        return classes[byte], at + 1
    if byte < 0xE0:
        return classes[(np.int64(byte) & 0x1F) << 6 | data[at + 1] & 0x3F], at + 2
    if byte < 0xF0:
        return classes[(np.int64(byte) & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | data[at + 2] & 0x3F], at + 3
    code = (np.int64(byte) & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
    return classes[code | (np.int64(data[at + 2]) & 0x3F) << 6 | data[at + 3] & 0x3F], at + 4


@njit(cache=True, nogil=True)
def next_pre_token(data, at, stop, classes):
    """Where the pre-token that begins at `at` ends; -1 where a character of class UNKNOWN decides."""
    kind, after = read_character(data, at, classes)
    if data[at] == 39 and at + 1 < stop:  # 's 't 'm 'd 're 've 'll
        one = data[at + 1]
        if one == 115 or one == 116 or one == 109 or one == 100:
            return at + 2
        if at + 2 < stop:
            two = data[at + 2]
            if (two == 101 and (one == 114 or one == 118)) or (one == 108 and two == 108):
                return at + 3
    if data[at] == 32 and after < stop:  # the blank before a word belongs to it
        next_kind, next_after = read_character(data, after, classes)
        if next_kind != SPACE:
            kind, after = next_kind, next_after
    if kind == UNKNOWN:
        return -1
    before = at
    while after < stop:
        if data[after] < 0x80 and classes[data[after]] == kind:
            before, after = after, after + 1
            continue
        next_kind, next_after = read_character(data, after, classes)
        if next_kind == UNKNOWN:
            return -1
        if next_kind != kind:
            # of white space before a word the last character is left to it
            return before if kind == SPACE and before > at else after
        before, after = after, next_after
    return after
