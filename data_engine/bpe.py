"""
Text -> tokens of a byte-level BPE tokenizer: the ids of `tokenizers`, from one compiled pass over the Arrow buffer.

The text is cut into pre-tokens as GPT-2's regular expression cuts it ('s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|
 ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+), and every pre-token is merged by rank (Sennrich et al. 2016, arXiv:1508.07909; byte-level:
Radford et al. 2019). Text repeats itself: a table of the pre-tokens met so far gives nine of ten tokens without a merge. A
pre-token of any length takes n log n steps, so a document of 16 M characters without a space takes seconds.

Which characters are letters and numbers is Unicode's business and changes from year to year. Characters that Python's own tables
do not know may have got a class since, so a text that holds one is left to the caller: `encode` returns which ones.
"""

import functools
import json
import unicodedata
from typing import NamedTuple

import numpy as np
from numba import njit

LETTER, NUMBER, OTHER, SPACE, UNKNOWN = 0, 1, 2, 3, 4
CODE_POINTS = 0x110000
SHORT = 48  # bytes up to which looking through all pairs for each merge is faster than a heap
WORD = 15  # bytes of the longest pre-token that the table holds: with its length they are two machine words, compared exactly
KNOWN = 1 << 19  # pre-tokens that the table holds; 64 MB of Wikipedia has 2^19.2
ROOM = KNOWN * 4  # tokens of all of them; English needs 2.5 each


class Encoder(NamedTuple):
    """A tokenizer as arrays, and the pre-tokens that it has met."""

    classes: np.ndarray  # uint8 (CODE_POINTS,)
    letters: np.ndarray  # uint16 (256,): token of each byte
    pairs: np.ndarray  # uint64 slots: left << 16 | right, plus 1
    merged: np.ndarray  # uint64 slots: rank << 16 | token
    slots: np.ndarray  # int32: number of a known pre-token, plus 1
    words: np.ndarray  # uint64 (KNOWN, 2): the length and first 7 bytes of a known pre-token, its other bytes
    tokens_at: np.ndarray  # int32: where its tokens begin, and those of the next
    tokens: np.ndarray
    count: np.ndarray  # (1,): how many are known


def load(tokenizer_json: str) -> Encoder:
    """From the text of tokenizer.json. ValueError where it is not a plain byte-level BPE with GPT-2's pre-tokenizer."""
    described = json.loads(tokenizer_json)
    model, cut = described["model"], described["pre_tokenizer"] or {}
    odd = (model.get("dropout"), model.get("ignore_merges"), model.get("continuing_subword_prefix"), described["normalizer"])
    wanted = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    if model["type"] != "BPE" or any(odd) or not wanted.items() <= cut.items():
        raise ValueError("not a plain byte-level BPE with the pre-tokenizer of GPT-2")
    vocab = model["vocab"]
    if max(vocab.values()) >= 1 << 16:
        raise ValueError(f"{max(vocab.values()) + 1} tokens do not fit two bytes")
    spelled = byte_letters()
    letters = np.array([vocab[spelled[byte]] for byte in range(256)], np.uint16)
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    size = 1 << max(4, (4 * len(merges)).bit_length())
    pairs, merged = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    keys = np.array([vocab[left] << 16 | vocab[right] for left, right in merges], np.uint64)
    values = np.array([rank << 16 | vocab[left + right] for rank, (left, right) in enumerate(merges)], np.uint64)
    fill(pairs, merged, keys, values)
    slots, words, tokens_at = np.zeros(4 * KNOWN, np.int32), np.zeros((KNOWN, 2), np.uint64), np.zeros(KNOWN + 1, np.int32)
    known = slots, words, tokens_at, np.zeros(ROOM, np.uint16), np.zeros(1, np.int64)
    return Encoder(character_classes(), letters, pairs, merged, *known)


def byte_letters():
    """The character that spells each byte in a byte-level vocabulary: itself where it prints, else one from 256 on."""
    prints = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in prints]
    return [chr(byte) if byte in prints else chr(256 + hidden.index(byte)) for byte in range(256)]


@functools.cache
def character_classes():
    """uint8 (CODE_POINTS,): LETTER, NUMBER, SPACE (Unicode's White_Space), OTHER, or UNKNOWN where nothing was assigned yet."""
    initial = np.frombuffer("".join(unicodedata.category(chr(c))[0] for c in range(CODE_POINTS)).encode(), np.uint8)
    unassigned = np.frombuffer("".join(unicodedata.category(chr(c))[1] for c in range(CODE_POINTS)).encode(), np.uint8) == ord("n")
    classes = np.full(CODE_POINTS, OTHER, np.uint8)
    classes[initial == ord("L")] = LETTER
    classes[initial == ord("N")] = NUMBER
    classes[initial == ord("Z")] = SPACE
    classes[[9, 10, 11, 12, 13, 0x85]] = SPACE
    classes[(initial == ord("C")) & unassigned] = UNKNOWN
    return classes


def encode(data, offsets, encoder, end):
    """
    Texts as text_buffers gives them -> (tokens uint16, ends int64: where each text's tokens end, left: texts not encoded).

    Every text is followed by the token `end`; one in `left` has that alone.
    """
    out = np.empty(int(offsets[-1] - offsets[0]) + len(offsets) - 1, np.uint16)
    ends, unknown = np.empty(len(offsets) - 1, np.int64), np.zeros(len(offsets) - 1, np.bool_)
    used = encode_texts(data, offsets, encoder, np.uint16(end), out, ends, unknown)
    return out[:used], ends, np.flatnonzero(unknown)


# --- The compiled pass -----------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def encode_texts(data, offsets, encoder, end, out, ends, unknown):
    classes, slots, words = encoder.classes, encoder.slots, encoder.words  # numba counts references at each use of a field
    tokens_at, tokens = encoder.tokens_at, encoder.tokens
    mask = len(slots) - 1
    used = 0
    for doc in range(len(offsets) - 1):
        at, stop, first = offsets[doc], offsets[doc + 1], used
        while at < stop:
            after = next_pre_token(data, at, stop, classes)
            if after < 0:
                unknown[doc] = True
                used = first
                break
            low, high, slot = np.uint64(after - at), np.uint64(0), np.int64(-1)
            if after - at <= WORD:
                for i in range(at, min(after, at + 7)):
                    low = low << np.uint64(8) | np.uint64(data[i])
                for i in range(at + 7, after):
                    high = high << np.uint64(8) | np.uint64(data[i])
                value = (low ^ (high * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
                slot = np.int64((value ^ (value >> np.uint64(32))) >> np.uint64(8)) & mask
                while slots[slot] > 0 and (words[slots[slot] - 1, 0] != low or words[slots[slot] - 1, 1] != high):
                    slot = (slot + 1) & mask
            if slot >= 0 and slots[slot] > 0:
                for i in range(tokens_at[slots[slot] - 1], tokens_at[slots[slot]]):
                    out[used] = tokens[i]
                    used += 1
            else:
                used += add_tokens(data[at:after], encoder, low, high, slot, out[used:])
            at = after
        out[used] = end
        used += 1
        ends[doc] = used
    return used


@njit(cache=True, nogil=True, inline="always")
def look(data, at, classes):
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
    """Where the pre-token that begins at `at` ends; -1 where a character of unknown class decides."""
    kind, after = look(data, at, classes)
    if data[at] == 39 and at + 1 < stop:  # 's 't 'm 'd 're 've 'll
        one = data[at + 1]
        if one == 115 or one == 116 or one == 109 or one == 100:
            return at + 2
        if at + 2 < stop:
            two = data[at + 2]
            if (two == 101 and (one == 114 or one == 118)) or (one == 108 and two == 108):
                return at + 3
    if data[at] == 32 and after < stop:  # the blank before a word belongs to it
        next_kind, next_after = look(data, after, classes)
        if next_kind != SPACE:
            kind, after = next_kind, next_after
    if kind == UNKNOWN:
        return -1
    before = at
    while after < stop:
        if data[after] < 0x80 and classes[data[after]] == kind:
            before, after = after, after + 1
            continue
        next_kind, next_after = look(data, after, classes)
        if next_kind == UNKNOWN:
            return -1
        if next_kind != kind:
            # of white space before a word the last character is left to it
            return before if kind == SPACE and before > at else after
        before, after = after, next_after
    return after


@njit(cache=True, nogil=True)
def add_tokens(letters, encoder, low, high, slot, out):
    """A pre-token that the table does not have: its tokens to `out`, and into the table at `slot`; how many there are."""
    for i in range(len(letters)):
        out[i] = encoder.letters[letters[i]]
    word = out[: len(letters)]
    n = merge_short(word, encoder.pairs, encoder.merged) if len(word) <= SHORT else merge_long(word, encoder.pairs, encoder.merged)
    known, token = encoder.count[0], encoder.tokens_at[encoder.count[0]]
    if slot >= 0 and known < KNOWN and token + n <= ROOM:
        encoder.words[known, 0], encoder.words[known, 1] = low, high
        encoder.tokens[token : token + n] = word[:n]
        encoder.tokens_at[known + 1] = token + n
        encoder.slots[slot] = known + 1
        encoder.count[0] = known + 1
    return n


NONE = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def find(pairs, merged, left, right):
    """rank << 16 | token of the merge of two tokens, NONE where there is none."""
    key = (np.uint64(left) << np.uint64(16) | np.uint64(right)) + np.uint64(1)
    mask = len(pairs) - 1
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while pairs[slot] != 0:
        if pairs[slot] == key:
            return merged[slot]
        slot = (slot + 1) & mask
    return NONE


@njit(cache=True)
def fill(pairs, merged, keys, values):
    mask = len(pairs) - 1
    for i in range(len(keys)):
        key = keys[i] + np.uint64(1)
        slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
        while pairs[slot] != 0 and pairs[slot] != key:
            slot = (slot + 1) & mask
        pairs[slot], merged[slot] = key, values[i]


@njit(cache=True, nogil=True)
def merge_short(word, pairs, merged):
    """Merges in place, always the first pair of the lowest rank; how many tokens are left."""
    n = len(word)
    found = np.empty(SHORT, np.uint64)
    for i in range(n - 1):
        found[i] = find(pairs, merged, word[i], word[i + 1])
    while n > 1:
        best = 0
        for i in range(1, n - 1):
            if found[i] < found[best]:
                best = i
        if found[best] == NONE:
            break
        word[best] = np.uint16(found[best] & np.uint64(0xFFFF))
        n -= 1
        for i in range(best + 1, n):
            word[i] = word[i + 1]
        for i in range(best + 1, n - 1):
            found[i] = found[i + 1]
        if best > 0:
            found[best - 1] = find(pairs, merged, word[best - 1], word[best])
        if best < n - 1:
            found[best] = find(pairs, merged, word[best], word[best + 1])
    return n


@njit(cache=True, nogil=True)
def merge_long(word, pairs, merged):
    """As merge_short, with the pairs in a heap ordered by (rank, place) and the tokens in a linked list."""
    n = len(word)
    before, after = np.empty(n, np.int32), np.empty(n, np.int32)
    rank, place = np.empty(2 * n, np.uint64), np.empty(2 * n, np.int32)  # every merge adds at most two pairs and ends one
    size = 0
    for i in range(n):
        before[i], after[i] = i - 1, i + 1
        if i + 1 < n:
            found = find(pairs, merged, word[i], word[i + 1])
            if found != NONE:
                size = push(rank, place, size, found, i)
    while size:
        found, at = rank[0], place[0]
        size = pop(rank, place, size)
        if before[at] == -2:
            continue  # it was merged into the token before it
        right = after[at]
        if right >= n or find(pairs, merged, word[at], word[right]) != found:
            continue  # one of the two has changed since
        word[at] = np.uint16(found & np.uint64(0xFFFF))
        after[at] = after[right]
        before[right] = -2
        if after[at] < n:
            before[after[at]] = at
            more = find(pairs, merged, word[at], word[after[at]])
            if more != NONE:
                size = push(rank, place, size, more, at)
        if before[at] >= 0:
            more = find(pairs, merged, word[before[at]], word[at])
            if more != NONE:
                size = push(rank, place, size, more, before[at])
    at = left = 0
    while at < n:
        word[left] = word[at]
        left += 1
        at = after[at]
    return left


@njit(cache=True, nogil=True)
def push(rank, place, size, one_rank, one_place):
    at = size
    while at:
        up = (at - 1) >> 1
        if rank[up] < one_rank or (rank[up] == one_rank and place[up] < one_place):
            break
        rank[at], place[at] = rank[up], place[up]
        at = up
    rank[at], place[at] = one_rank, one_place
    return size + 1


@njit(cache=True, nogil=True)
def pop(rank, place, size):
    size -= 1
    one_rank, one_place, at = rank[size], place[size], 0
    while 2 * at + 1 < size:
        low = 2 * at + 1
        if low + 1 < size and (rank[low + 1] < rank[low] or (rank[low + 1] == rank[low] and place[low + 1] < place[low])):
            low += 1
        if one_rank < rank[low] or (one_rank == rank[low] and one_place < place[low]):
            break
        rank[at], place[at] = rank[low], place[low]
        at = low
    if size:
        rank[at], place[at] = one_rank, one_place
    return size
