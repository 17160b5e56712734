"""
Compiled: what the rules of Gopher, C4 and FineWeb measure of a text, in one pass over words.py's words and the lines.

data_engine/quality.py holds the rules, their sources and their score against datatrove 0.10.1, which is the reference here.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import combine, hash_bytes, set_size, slot_of
from data_engine.kernels.utf8 import char_at, char_before, count_chars
from data_engine.kernels.words import (
    DIGIT,
    LETTER,
    LINE_END,
    LINE_STOP,
    MARGIN,
    PUNCTUATION,
    SENTENCE_END,
    SPACE,
    SYMBOL,
    WORDS,
    bits_of,
    char_classes,
    hash_text,
    rules,
    split_words,
)

NUMBERS = """
characters dup_para_frac dup_para_char_frac dup_line_frac dup_line_char_frac
words word_length hashes ellipses bullet_lines ellipsis_lines alpha_words stop_words
lorem_ipsum curly_bracket sentences
lines stopped_lines short_lines dup_line_chars line_breaks
"""
MEASURES = np.dtype([(name, "f8") for name in NUMBERS.split()] + [("grams", "f8", (11,))])  # of 2 to 10 words
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
LOREM_IPSUM, JAVASCRIPT, POLICY = 1, 2, 4
PHRASES = {
    "lorem ipsum": LOREM_IPSUM,
    "javascript": JAVASCRIPT,
    "terms of use": POLICY,
    "privacy policy": POLICY,
    "cookie policy": POLICY,
    "uses cookies": POLICY,
    "use of cookies": POLICY,
    "use cookies": POLICY,
}
CITATIONS = ("[edit]", "[citation needed]")


class LineRules(NamedTuple):
    """Which lines are removed, and which texts are dropped for a line."""

    c4: bool  # False: lines stay as they are
    citations: bool  # citation marks are removed from lines
    stops: bool  # a line without a full stop or the like at its end is removed
    min_words: int  # a line with fewer words is removed
    max_word_length: int  # a line with a longer word is removed
    phrases: int  # a line with phrases of these kinds is removed; LOREM_IPSUM drops the text
    curly_bracket: bool  # a line with a curly bracket drops the text
    short_line: int  # characters up to which FineWeb counts a line as short


class Tables(NamedTuple):
    """The compiled pass's lookup tables."""

    classes: np.ndarray  # of characters
    rules: np.ndarray  # of words
    stop_words: np.ndarray  # their hashes
    phrases: np.ndarray  # a row a phrase: kind, length, bytes
    marks: np.ndarray  # a row a citation mark: length, bytes
    openings: np.ndarray  # whether a phrase begins so, by the low five bits of two bytes


@functools.cache
def tables():
    phrases = np.zeros((len(PHRASES), 2 + max(map(len, PHRASES))), np.uint8)
    openings = np.zeros(1024, np.bool_)
    for row, (phrase, kind) in zip(phrases, PHRASES.items(), strict=True):
        row[: 2 + len(phrase)] = [kind, len(phrase), *phrase.encode()]
        openings[(ord(phrase[0]) & 31) * 32 + (ord(phrase[1]) & 31)] = True
    marks = np.zeros((len(CITATIONS), 1 + max(map(len, CITATIONS))), np.uint8)
    for row, mark in zip(marks, CITATIONS, strict=True):
        row[: 1 + len(mark)] = [len(mark), *mark.encode()]
    stop_words = np.array([hash_text(word.encode()) for word in STOP_WORDS], np.uint64)
    return Tables(char_classes(), rules(), stop_words, phrases, marks, openings)


@njit(cache=True)
def measure(data, offsets, tables, lines):
    """MEASURES of every text, and the bytes and offsets that the line rules leave; the last row of NUMBERS measures those."""
    classes = tables.classes
    n_texts = len(offsets) - 1
    longest = 0
    for i in range(n_texts):
        longest = max(longest, offsets[i + 1] - offsets[i])
    measures = np.zeros(n_texts, MEASURES)
    page = np.zeros(longest + MARGIN, np.uint8)
    out, out_offsets = np.empty(offsets[n_texts] - offsets[0] + MARGIN, np.uint8), np.zeros(n_texts + 1, np.int64)
    words, spare = np.empty(4096, WORDS), np.empty(256, WORDS)
    first = np.int64(0)
    for i in range(n_texts):
        last = offsets[i + 1] - offsets[i]
        for at in range(last):
            page[at] = data[offsets[i] + at]
        for at in range(last, last + MARGIN):
            page[at] = 0
        row = measures[i]
        n, words = split_words(page, first, last, classes, tables.rules, words)
        row.characters = count_chars(page, first, last)
        gopher_lines(page, first, last, classes, row)
        gopher_ngrams(words, n, row)
        gopher_words(page, first, last, words, n, classes, tables.stop_words, row)
        start = out_offsets[i]
        if lines.c4:
            end, n, spare = c4_lines(page, last, words, n, tables, lines, spare, out, start, row)
        else:
            end = start + last
            for at in range(last):
                out[start + at] = page[at]
        fineweb_lines(out, start, end, n, classes, lines.short_line, row)
        out_offsets[i + 1] = end
    return measures, out[: out_offsets[n_texts]], out_offsets


@njit(cache=True)
def ratio(part, whole):
    return part / whole if whole else 0.0


@njit(cache=True)
def strip(text, first, last, classes):
    """str.strip: start and end of the rest."""
    while first < last:
        code, after = char_at(text, first)
        if not bits_of(classes, code) & SPACE:
            break
        first = after
    while first < last:
        code, before = char_before(text, last, first)
        if not bits_of(classes, code) & SPACE:
            break
        last = before
    return first, last


@njit(cache=True)
def line_end(text, first, last, classes):
    """str.splitlines: the end of the line, and the start of the next one."""
    while first < last:
        if 32 <= text[first] < 0x80:  # most are
            first += 1
            continue
        code, after = char_at(text, first)
        if bits_of(classes, code) & LINE_END:
            if code == 13 and after < last and text[after] == 10:
                after += 1
            return first, after
        first = after
    return last, last


@njit(cache=True)
def is_repeat(text, start, end, seen):
    """Whether the set holds the bytes already; adds them."""
    key = hash_bytes(text, start, end) | np.uint64(1)
    at = slot_of(seen, key)
    found = seen[at] == key
    seen[at] = key
    return found


@njit(cache=True)
def count(text, first, last, byte):
    n = 0
    for i in range(first, last):
        n += text[i] == byte
    return n


@njit(cache=True)
def repeats(text, first, last, newlines):
    """Pieces between runs of at least `newlines`: their number, the number of repeated ones, the characters of those."""
    seen = np.zeros(set_size(count(text, first, last, 10) + 1), np.uint64)
    pieces, again, chars = 0, 0, 0
    start = i = first
    while True:
        while i < last and text[i] != 10:
            i += 1
        end = i
        while i < last and text[i] == 10:
            i += 1
        if i < last and i - end < newlines:
            continue
        pieces += 1
        if is_repeat(text, start, end, seen):
            again += 1
            chars += count_chars(text, start, end)
        if end == last:
            return pieces, again, chars
        start = i


@njit(cache=True)
def gopher_lines(text, first, last, classes, row):
    chars = np.int64(row.characters)
    start, end = strip(text, first, last, classes)
    pieces, again, again_chars = repeats(text, start, end, np.int64(2))
    row.dup_para_frac, row.dup_para_char_frac = ratio(again, pieces), ratio(again_chars, chars)
    pieces, again, again_chars = repeats(text, first, last, np.int64(1))
    row.dup_line_frac, row.dup_line_char_frac = ratio(again, pieces), ratio(again_chars, chars)
    lines = bullets = ellipses = 0
    while first < last:
        end, after = line_end(text, first, last, classes)
        start, end = strip(text, first, end, classes)
        code = char_at(text, start)[0] if start < end else 0
        bullets += code == 45 or code == 0x2022
        ellipses += ends_in_ellipsis(text, start, end) or char_before(text, end, start)[0] == 0x2026
        lines += 1
        first = after
    row.bullet_lines, row.ellipsis_lines = ratio(bullets, lines), ratio(ellipses, lines)


@njit(cache=True)
def ends_in_ellipsis(text, start, end):
    return end - start >= 3 and text[end - 1] == 46 and text[end - 2] == 46 and text[end - 3] == 46


@njit(cache=True)
def gopher_ngrams(words, n, row):
    """
    Shares of the characters in n-grams of words, n from 2 to 10.

    A longer n-gram can only repeat where the shorter one does, so only those starts are looked at again.
    """
    chars = np.int64(row.characters)
    before = np.zeros(n + 1, np.int64)  # characters of the words before each word
    key, starts, slot = np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        starts[i] = i
        before[i + 1] = before[i] + words[i].chars
        key[i] = words[i].hash
    m = n  # starts[:m]: starts of repeated n-grams, one word shorter
    for size in range(2, 11):
        k = 0
        for x in range(m - 1):
            if starts[x + 1] == starts[x] + 1:
                starts[k] = starts[x]
                k += 1
        m = k
        keys, times = np.zeros(set_size(m), np.uint64), np.zeros(set_size(m), np.int32)
        most = 1
        for x in range(m):
            i = starts[x]
            key[i] = combine(key[i], words[i + size - 1].hash) | np.uint64(1)
            slot[x] = slot_of(keys, key[i])
            keys[slot[x]] = key[i]
            times[slot[x]] += 1
            most = max(most, times[slot[x]])
        if size <= 4:
            first = 0  # the first of the most frequent ones
            while most > 1 and times[slot[first]] < most:
                first += 1
            if n >= size:
                i = starts[first] if most > 1 else 0
                row.grams[size] = ratio((before[i + size] - before[i] + size - 1) * most, chars)
        else:
            total = free = 0
            for x in range(m):
                i, at = starts[x], slot[x]
                if i < free or abs(times[at]) == 1:
                    continue
                if times[at] < 0:  # its first occurrence is behind
                    total += before[i + size] - before[i]
                    free = i + size
                else:
                    times[at] = -times[at]
            row.grams[size] = ratio(total, chars)
        k = 0
        for x in range(m):
            if abs(times[slot[x]]) > 1:
                starts[k] = starts[x]
                k += 1
        m = k


@njit(cache=True)
def gopher_words(text, first, last, words, n, classes, stop_words, row):
    full = chars = alpha = stops = 0
    for i in range(n):
        word = words[i]
        at, symbols, letters = np.int64(word.start), True, False
        while at < word.end and (symbols or not letters):
            code, at = char_at(text, at)
            bits = bits_of(classes, code)
            symbols &= bits & SYMBOL != 0
            letters |= bits & LETTER != 0
        alpha += letters
        if not symbols:
            full += 1
            chars += word.chars
        if word.chars <= 4:
            for k in range(len(stop_words)):
                if word.hash == stop_words[k]:
                    stops |= 1 << k
    hashes = count(text, first, last, 35)
    ellipses = dots = 0
    for i in range(first, last):
        if text[i] == 46:
            dots += 1
            if dots == 3:
                ellipses += 1
                dots = 0
        else:
            dots = 0
            ellipses += text[i] == 0xE2 and text[i + 1] == 0x80 and text[i + 2] == 0xA6
    row.words, row.word_length = full, ratio(chars, full)
    row.hashes, row.ellipses, row.alpha_words = ratio(hashes, n), ratio(ellipses, n), ratio(alpha, n)
    while stops:
        row.stop_words += stops & 1
        stops >>= 1


@njit(cache=True)
def c4_lines(text, last, words, n, tables, lines, spare, out, start, row):
    """Writes the lines that stay to out from start: where they end, and the number of their words."""
    classes = tables.classes
    to, i, first, total, kept = start, 0, 0, 0, 0
    while i < last:
        end, after = line_end(text, i, last, classes)
        a, b = strip(text, i, end, classes)
        i = after
        while first < n and words[first].start < a:
            first += 1
        behind, parts, longest, chars = first, 0, 0, 0  # the parts between white space
        while behind < n and words[behind].start < b:
            if behind == first or words[behind].start > words[behind - 1].end:
                parts += 1
                chars = 0
            chars += words[behind].chars
            longest = max(longest, chars)
            behind += 1
        if longest > lines.max_word_length:
            continue
        line = to + 1 if kept else to
        stop = copy_line(text, a, b, lines.citations, classes, tables.marks, out, line)
        if lines.stops and not (line < stop and out[stop - 1] in (46, 63, 33, 34, 39) and not ends_in_ellipsis(out, line, stop)):
            continue
        if parts < lines.min_words:
            continue
        kinds, curly = find_phrases(out, line, stop, tables.phrases, tables.openings)
        kinds &= lines.phrases
        if kinds & LOREM_IPSUM:
            row.lorem_ipsum = 1
            return start, 0, spare
        if kinds & JAVASCRIPT:
            continue
        if lines.curly_bracket and curly:
            row.curly_bracket = 1
            return start, 0, spare
        if kinds & POLICY:
            continue
        if stop - line == b - a:
            row.sentences += sentences(text, b, words, first, behind, classes)
            total += behind - first
        else:  # without its citations it may fall into other words
            n_words, spare = split_words(out, line, stop, classes, tables.rules, spare)
            row.sentences += sentences(out, stop, spare, 0, n_words, classes)
            total += n_words
        if kept:
            out[to] = 10
        kept += 1
        to = stop
    a, b = strip(out, start, to, classes)
    for at in range(b - a):
        out[start + at] = out[a + at]
    return start + b - a, total, spare


@njit(cache=True)
def copy_line(text, first, last, citations, classes, marks, out, to):
    """Copies a line, without its citation marks if so wanted: where the copy ends."""
    while first < last:
        if citations and text[first] == 91:
            end = citation_end(text, first, last, classes, marks)
            if end > first:
                first = end
                continue
        out[to] = text[first]
        first += 1
        to += 1
    return to


@njit(cache=True)
def citation_end(text, first, last, classes, marks):
    """[, digits, ] or [edit] or [citation needed] from first: the end, or first."""
    for k in range(len(marks)):
        i = 0
        while i < marks[k, 0] and first + i < last and text[first + i] == marks[k, 1 + i]:
            i += 1
        if i == marks[k, 0]:
            return first + i
    i = first + 1
    while i < last:
        code, after = char_at(text, i)
        if code == 93:
            return after
        if not bits_of(classes, code) & DIGIT:
            return first
        i = after
    return first


@njit(cache=True)
def find_phrases(text, first, last, phrases, openings):
    """The kinds of phrases in a line, in whatever case, and whether it has a curly bracket."""
    kinds, curly = 0, False
    for i in range(first, last):
        curly |= text[i] == 123
        if openings[(text[i] & 31) * 32 + (text[i + 1] & 31)]:
            for k in range(len(phrases)):
                at, length = 0, phrases[k, 1]
                while at < length and i + at < last and small(text[i + at]) == phrases[k, 2 + at]:
                    at += 1
                if at == length:
                    kinds |= phrases[k, 0]
    return kinds, curly


@njit(cache=True)
def small(byte):
    return byte + 32 if 65 <= byte <= 90 else byte


@njit(cache=True)
def sentences(text, end, words, first, behind, classes):
    """
    Sentences of a line that ends at `end` and has words[first:behind], as spaCy's sentencizer counts them.

    After a mark that ends one, the next word that is no punctuation begins another; so does white space that is not one blank.
    """
    n, ended = 1, False
    for i in range(first, behind):
        word = words[i]
        code, after = char_at(text, np.int64(word.start))
        bits = bits_of(classes, code)
        if bits & SENTENCE_END and after == word.end:
            ended = True
        elif ended:
            while bits & PUNCTUATION and after < word.end:
                code, after = char_at(text, after)
                bits = bits_of(classes, code)
            if not bits & PUNCTUATION:
                n += 1
                ended = False
        if ended:
            gap = (words[i + 1].start if i + 1 < behind else end) - word.end
            if gap > 1 or (gap == 1 and text[word.end] != 32):
                n += 1
                ended = False
    return n


@njit(cache=True)
def fineweb_lines(text, first, last, n_words, classes, short, row):
    breaks = count(text, first, last, 10)
    seen = np.zeros(set_size(breaks + 1), np.uint64)
    lines = stopped = shorts = again_chars = 0
    start = first
    while start < last:
        end = start
        while end < last and text[end] != 10:
            end += 1
        a, b = strip(text, start, end, classes)
        if a < b:
            chars = count_chars(text, start, end)
            lines += 1
            stopped += bits_of(classes, char_before(text, end, start)[0]) & LINE_STOP != 0
            shorts += chars <= short
            again_chars += chars if is_repeat(text, start, end, seen) else 0
        start = end + 1
    row.lines, row.stopped_lines, row.short_lines = lines, ratio(stopped, lines), ratio(shorts, lines)
    row.dup_line_chars = ratio(again_chars, count_chars(text, first, last) - breaks)
    row.line_breaks = ratio(breaks, n_words)
