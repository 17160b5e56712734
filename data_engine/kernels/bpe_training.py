"""
Counts of pre-tokens -> the vocabulary of a byte-level BPE tokenizer: entry by entry what BpeTrainer of `tokenizers` makes of them.

Training merges the most frequent pair of neighbouring tokens, everywhere, until the vocabulary is full (Sennrich et al. 2016,
arXiv:1508.07909). Of pairs with the same count the one with the smaller ids comes first. In "aaa" the pair "aa" counts twice, and
is merged once, from the left. The order of the pre-tokens has no effect.

All pre-tokens lie in one row of symbols. A token of n bytes takes n places of it and has its id in the first and the last, so both
neighbours of a token are found without links. Every pair knows the positions where it was made. Other merges may since have taken
some away, but none can add one: a new position needs a new token, which makes a new pair. So a pair's count only falls, and is
corrected when the pair comes to the top of the heap.
"""

import numpy as np
from numba import njit

from data_engine.records import text_buffers

IDS = 1 << 16  # a token is a uint16
BOUNDARY = IDS - 1  # the symbol between two pre-tokens; as a token this id can only be the last made, which no pair has
SLICE = 500  # merges between two calls of `progress`
COUNT, PAIR, START, STOP = range(4)  # columns of the heap; PAIR is left << 16 | right, the positions are positions[START:STOP]
NEIGHBOUR, POSITION, WEIGHT = range(3)  # columns of what one merge makes


def train(pre_tokens, vocab_size, specials=(), alphabet=range(256), min_frequency=2, progress=None):
    """
    Table PRE_TOKENS, each once -> ({token: id}, [(left, right), ...] by rank), spelled as in tokenizer.json.

    specials  tokens that have the first ids; no pre-token may hold the text of one
    alphabet  bytes that are in the vocabulary even if they do not occur
    progress  progress(merges made so far) after every SLICE
    """
    data, offsets = text_buffers(pre_tokens["pre_token"])
    counts = pre_tokens["count"].to_numpy()
    counts.flags.writeable = False  # always, because numba compiles once for each case
    assert len(data) + len(offsets) < 1 << 32 and counts.max(initial=0) < 1 << 32, "positions and weights are uint32"
    spelled = byte_letters()
    occur = np.unique(data[offsets[0] : offsets[-1]]).tolist()
    letters = sorted({*alphabet, *occur}, key=lambda byte: spelled[byte])
    wanted = max(0, min(vocab_size, IDS) - len(specials) - len(letters))
    least = max(1, min_frequency)

    ids = np.zeros(256, np.uint16)
    ids[letters] = np.arange(len(letters))
    symbols = in_one_row(data, offsets, ids)
    lengths = np.ones(len(letters) + wanted, np.int64)
    merges = np.empty((wanted, 2), np.uint16)
    # each merge of two symbols adds at most two positions to the first len(symbols); what is never written to takes no memory
    positions, weights = np.empty(3 * len(symbols), np.uint32), np.empty(3 * len(symbols), np.uint32)
    heap = np.empty((4 * IDS, 4), np.int64)
    size, used = find_pairs(symbols, counts, len(letters), least, positions, weights, heap)
    made = 0
    while made < wanted and size:
        if size + 2 * IDS > len(heap):
            heap = np.concatenate([heap, np.empty_like(heap)])
        state = size, used, made, min(made + SLICE, wanted)
        size, used, made = merge_pairs(symbols, lengths, positions, weights, heap, merges, least, state)
        if progress:
            progress(made)

    tokens, pairs = [spelled[byte] for byte in letters], []
    for left, right in merges[:made].tolist():
        pairs.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    vocabulary = {token: number for number, token in enumerate([*specials, *tokens])}
    assert len(vocabulary) == len(specials) + len(tokens), "a pre-token holds the text of a special token"
    return vocabulary, pairs


def byte_letters():
    """The character that spells each byte in a byte-level vocabulary: itself where it prints, else one from 256 on."""
    prints = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in prints]
    return [chr(byte) if byte in prints else chr(256 + hidden.index(byte)) for byte in range(256)]


# --- Compiled -----------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def in_one_row(data, offsets, ids):
    """The pre-tokens' symbols, with a BOUNDARY before and after each."""
    symbols = np.full(offsets[-1] - offsets[0] + len(offsets), BOUNDARY, np.uint16)
    for word in range(len(offsets) - 1):
        for i in range(offsets[word], offsets[word + 1]):
            symbols[i - offsets[0] + word + 1] = ids[data[i]]
    return symbols


@njit(cache=True, nogil=True)
def find_pairs(symbols, counts, letters, least, positions, weights, heap):
    """The pairs of bytes into the heap, their positions and the counts of the pre-tokens there: (pairs, positions) in use."""
    sums, ends = np.zeros(letters * letters, np.int64), np.zeros(letters * letters + 1, np.int64)
    word = -1
    for at in range(len(symbols) - 1):
        if symbols[at] == BOUNDARY:
            word += 1
        elif symbols[at + 1] != BOUNDARY:
            pair = np.int64(symbols[at]) * letters + symbols[at + 1]
            sums[pair] += counts[word]
            ends[pair + 1] += 1
    ends = np.cumsum(ends)
    size, used = 0, ends[-1]
    for pair in range(len(sums)):
        if sums[pair] >= least:
            push(heap, size, sums[pair], (pair // letters) << 16 | pair % letters, ends[pair], ends[pair + 1])
            size += 1
    word = -1
    for at in range(len(symbols) - 1):
        if symbols[at] == BOUNDARY:
            word += 1
        elif symbols[at + 1] != BOUNDARY:
            pair = np.int64(symbols[at]) * letters + symbols[at + 1]
            positions[ends[pair]], weights[ends[pair]] = at, counts[word]
            ends[pair] += 1
    return size, used


@njit(cache=True, nogil=True)
def merge_pairs(symbols, lengths, positions, weights, heap, merges, least, state):
    """
    Merges until `until` are made, no pair is left, or the heap may become too small: (size, used, made) as they are then.

    lengths  of each token in bytes
    heap     of `size` pairs, the next to merge first
    """
    size, used, made, until = state
    letters = len(lengths) - len(merges)
    sums, ends, keys = np.zeros(2 * IDS, np.int64), np.zeros(2 * IDS, np.int64), np.empty(2 * IDS, np.int64)
    corrected = -1
    while made < until and size and size + 2 * IDS <= len(heap):
        pair, start, stop = heap[0, PAIR], heap[0, START], heap[0, STOP]
        if pair != corrected:
            heap[0, COUNT], heap[0, STOP] = recount(symbols, lengths, positions, weights, pair, start, stop)
            corrected = pair
            if heap[0, COUNT] < least:
                size -= 1
                heap[0] = heap[size]
            sink(heap, size)
            continue
        size -= 1
        heap[0] = heap[size]
        sink(heap, size)
        new = letters + made
        merges[made, 0], merges[made, 1] = pair >> 16, pair & 0xFFFF
        lengths[new] = lengths[pair >> 16] + lengths[pair & 0xFFFF]
        made += 1

        found = merge_everywhere(symbols, lengths, positions[start:stop], weights[start:stop], pair, new)
        # the pairs that were made: neighbour + new, and IDS + neighbour for new + neighbour
        n_keys = 0
        for row in found:
            if ends[row[NEIGHBOUR]] == 0:
                keys[n_keys] = row[NEIGHBOUR]
                n_keys += 1
            sums[row[NEIGHBOUR]] += row[WEIGHT]
            ends[row[NEIGHBOUR]] += 1
        for key in keys[:n_keys]:
            if sums[key] < least:
                ends[key] = -1  # it never will be merged, so nothing is kept of it
                continue
            push(heap, size, sums[key], key << 16 | new if key < IDS else new << 16 | key - IDS, used, used + ends[key])
            size += 1
            used, ends[key] = used + ends[key], used
        for row in found:
            place = ends[row[NEIGHBOUR]]
            if place >= 0:
                positions[place], weights[place] = row[POSITION], row[WEIGHT]
                ends[row[NEIGHBOUR]] += 1
        for key in keys[:n_keys]:
            sums[key] = ends[key] = 0
    return size, used, made


@njit(cache=True, nogil=True)
def recount(symbols, lengths, positions, weights, pair, start, stop):
    """(count of a pair, end of its positions) when those where it is no more are taken out."""
    left, right, count, kept = pair >> 16, pair & 0xFFFF, 0, start
    for i in range(start, stop):
        at = np.int64(positions[i])
        if symbols[at] == left and symbols[at + lengths[left]] == right:
            positions[kept], weights[kept] = at, weights[i]
            count += weights[i]
            kept += 1
    return count, kept


@njit(cache=True, nogil=True)
def merge_everywhere(symbols, lengths, positions, weights, pair, new):
    """
    Replaces the pair by the token `new`: a row (key, position, weight) for every neighbour of it.

    The positions rise within a pre-token, so "aaa" is merged from the left; and so do those of every pair that is made. Of two new
    tokens in a row the first has `left` as its neighbour until the second is made: that row is one too many.
    """
    left, right = pair >> 16, pair & 0xFFFF
    found, n = np.empty((2 * len(positions), 3), np.uint32), 0
    for i in range(len(positions)):
        at = np.int64(positions[i])
        middle, end = at + lengths[left], at + lengths[new]
        if symbols[at] != left or symbols[middle] != right:
            continue  # in "aaa" the second pair has lost its left symbol to the first
        symbols[middle] = BOUNDARY  # equals no token, so that a position of a pair that began here is known to be gone
        symbols[at] = symbols[end - 1] = new
        before, after = np.int64(symbols[at - 1]), np.int64(symbols[end])
        if before != BOUNDARY:
            found[n, NEIGHBOUR], found[n, POSITION], found[n, WEIGHT] = before, at - lengths[before], weights[i]
            n += 1
        if after != BOUNDARY:
            found[n, NEIGHBOUR], found[n, POSITION], found[n, WEIGHT] = IDS + after, at, weights[i]
            n += 1
    return found[:n]


@njit(cache=True, nogil=True)
def push(heap, size, count, pair, start, stop):
    at = size
    while at and comes_first(count, pair, heap[(at - 1) >> 1]):
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at, COUNT], heap[at, PAIR], heap[at, START], heap[at, STOP] = count, pair, start, stop


@njit(cache=True, nogil=True)
def sink(heap, size):
    """Moves the first entry, which has changed, to where it belongs."""
    count, pair, start, stop = heap[0]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and comes_first(heap[child + 1, COUNT], heap[child + 1, PAIR], heap[child]):
            child += 1
        if comes_first(count, pair, heap[child]):
            break
        heap[at] = heap[child]
        at = child
    heap[at, COUNT], heap[at, PAIR], heap[at, START], heap[at, STOP] = count, pair, start, stop


@njit(cache=True, nogil=True)
def comes_first(count, pair, entry):
    return count > entry[COUNT] or (count == entry[COUNT] and pair < entry[PAIR])
