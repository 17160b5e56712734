"""Compiled: the characters of UTF-8 bytes. The bytes are valid, as Arrow's strings are; nothing is checked."""

import numpy as np
from numba import njit


@njit(cache=True)
def char_at(text, i):
    """The code point of the character that begins at i, and where the next one begins."""
    byte = np.int64(text[i])
    if byte < 0x80:
        return byte, i + 1
    second = np.int64(text[i + 1]) & 0x3F
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | second, i + 2
    third = np.int64(text[i + 2]) & 0x3F
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | second << 6 | third, i + 3
    return (byte & 0x07) << 18 | second << 12 | third << 6 | (np.int64(text[i + 3]) & 0x3F), i + 4


@njit(cache=True)
def char_before(text, i, first):
    """The code point of the character that ends at i, and where it begins; 0 and i at the start of the text."""
    if i <= first:
        return np.int64(0), i
    start = i - 1
    while start > first and text[start] & 0xC0 == 0x80:
        start -= 1
    return char_at(text, start)[0], start


@njit(cache=True)
def count_chars(text, first, last):
    n = 0
    for i in range(first, last):
        n += text[i] & 0xC0 != 0x80
    return n
