"""
Text of any origin -> the one form in which the engine keeps text.

in:   array of strings; a null stays null          out: large_string of the same length

- NFC; UTF-8 that was decoded as windows-1252 is repaired line by line (ftfy)
- "\\n" line ends, at most one empty line in a row, no spaces at line ends, no empty lines at the two ends
- every space that is not a tab is " ": no-break, thin, ideographic
- no control characters but "\\n" and "\\t"; no soft hyphens, zero-width spaces, direction marks or byte order marks
- a joiner (ZWJ, ZWNJ) only where it has a meaning: after letters of Arabic, Indic and like scripts, ZWJ also after emoji
- at most MAX_MARKS combining marks on a letter

Normalising twice gives the same as once.
"""

import functools
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from data_engine.records import text_buffers

# UTF-8 that was read as Latin-1 or windows-1252 looks like this. The second half are C1 controls, which windows-1252 leaves when
# it is read as Latin-1; NEL (U+0085) is not among them because it is a line end.
MOJIBAKE = (
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
    "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]|[\u0080-\u0084\u0086-\u009f]"
)
MOJIBAKE_IN_LINE = re.compile(MOJIBAKE)
MAX_MARKS = 30  # combining marks on one letter; the limit of Unicode's stream-safe text format (UAX 15)
INERT, MARK, UNSTABLE = range(3)  # NFC never changes an inert character; MARK is a combining mark; NFC may change the others


def fix_mojibake(text):
    """Repairs the lines in which UTF-8 was read as windows-1252; other texts come back as they are."""
    suspect = pc.fill_null(pc.match_substring_regex(text, MOJIBAKE), False)
    if not pc.any(suspect).as_py():
        return text
    import ftfy

    repaired = [
        "\n".join(ftfy.fix_encoding(line) if MOJIBAKE_IN_LINE.search(line) else line for line in document.split("\n"))
        for document in text.filter(suspect).to_pylist()
    ]
    return pc.replace_with_mask(text, suspect, pa.array(repaired, pa.large_string()))


@njit(cache=True)
def is_space(code):
    """Unicode's spaces outside ASCII."""
    return code == 0xA0 or 0x2000 <= code <= 0x200A or code in (0x1680, 0x202F, 0x205F, 0x3000)


@njit(cache=True)
def is_invisible(code):
    """Controls, soft hyphen, zero-width space, word joiner, byte order mark, marks of direction and of annotation."""
    return (
        code < 32
        or 0x7F <= code <= 0x9F
        or code in (0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0xFEFF)
        or 0x202A <= code <= 0x202E
        or 0x2060 <= code <= 0x206F
        or 0xFFF9 <= code <= 0xFFFB
    )


@njit(cache=True)
def joins(code, base):
    """True if a joiner (ZWNJ 200C, ZWJ 200D) has a meaning after the character `base`."""
    if (
        0x590 <= base <= 0x10FF
        or 0x1200 <= base <= 0x1CFF
        or 0xA800 <= base <= 0xABFF
        or 0xFB1D <= base <= 0xFEFC
        or 0x10800 <= base <= 0x11FFF
    ):
        return True  # Hebrew and Arabic to Mongolian, the other scripts of India and Java
    emoji = 0x2190 <= base <= 0x21FF or 0x23E9 <= base <= 0x23FF or 0x2600 <= base <= 0x27BF or 0x1F000 <= base <= 0x1FAFF
    return code == 0x200D and emoji


@njit(cache=True)
def clean_characters(data, offsets, classes):
    """Applies every rule of normalise but NFC and mojibake: bytes, offsets, and for each text whether NFC may change it."""
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    unstable = np.zeros(len(offsets) - 1, np.bool_)
    o = 0
    for doc in range(len(offsets) - 1):
        start, i, stop = o, offsets[doc], offsets[doc + 1]
        base = 0  # the last character that is not a combining mark
        while i < stop:
            code, length = np.int64(data[i]), 1
            if 32 <= code < 127 or code == 9:
                out[o] = code
                o += 1
                i += 1
                base = code
                continue
            if code >= 0xF0:
                code, length = (code & 7) << 18 | (data[i + 1] & 63) << 12 | (data[i + 2] & 63) << 6 | (data[i + 3] & 63), 4
            elif code >= 0xE0:
                code, length = (code & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63), 3
            elif code >= 0xC0:
                code, length = (code & 31) << 6 | (data[i + 1] & 63), 2
            if 10 <= code <= 13 or code == 0x85 or code == 0x2028 or code == 0x2029:
                i += 2 if code == 13 and i + 1 < stop and data[i + 1] == 10 else length
                while o > start and (out[o - 1] == 32 or out[o - 1] == 9):
                    o -= 1
                if o > start and not (out[o - 1] == 10 and out[o - 2] == 10):
                    out[o] = 10
                    o += 1
                base = 10
            elif is_space(code):
                out[o] = base = 32
                o += 1
                i += length
            elif is_invisible(code) or ((code == 0x200C or code == 0x200D) and not joins(code, base)):
                i += length
            else:
                character_class = classes[code] if code < len(classes) else INERT
                unstable[doc] |= character_class != INERT
                if character_class != MARK and not 0xFE00 <= code <= 0xFE0F:
                    base = code
                for _ in range(length):
                    out[o] = data[i]
                    o += 1
                    i += 1
        while o > start and (out[o - 1] == 32 or out[o - 1] == 9 or out[o - 1] == 10):
            o -= 1
        ends[doc + 1] = o
    return out[:o], ends, unstable


@functools.cache
def character_classes():
    """uint8: INERT, MARK or UNSTABLE for each code point below 0x30000; all code points beyond are inert."""
    classes = np.zeros(0x30000, np.uint8)
    for code in range(0x300, len(classes)):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if parts and parts[0][0] != "<":
            classes[[int(part, 16) for part in parts[1:]]] |= UNSTABLE  # these compose with the character before them
            if not unicodedata.is_normalized("NFC", character):
                classes[code] |= UNSTABLE
        elif unicodedata.category(character) == "Cn":
            classes[code] = UNSTABLE  # not assigned in Python's version of Unicode
        if unicodedata.combining(character) or (parts and unicodedata.combining(unicodedata.normalize("NFD", character)[0])):
            classes[code] = MARK
    classes[0x1161:0x1176] = classes[0x11A8:0x11C3] = UNSTABLE  # Hangul vowels and finals
    return classes


def _cut_marks(text, most):
    return pc.replace_substring_regex(text, rf"(\p{{M}}{{{most}}})\p{{M}}+", r"\1")


def _clean_and_compose(text):
    """All of normalise but the repair of mojibake."""
    data, offsets, unstable = clean_characters(*text_buffers(text), character_classes())
    cleaned = pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(data))
    if text.null_count:
        cleaned = pc.if_else(pc.is_valid(text), cleaned, None)
    if not unstable.any():
        return cleaned
    mask = pa.array(unstable)
    # Composing sorts the marks of a letter in quadratic time, so their number is cut before NFC and once more after it.
    composed = pc.utf8_normalize(_cut_marks(cleaned.filter(mask), 2 * MAX_MARKS), "NFC")
    return pc.replace_with_mask(cleaned, mask, _cut_marks(composed, MAX_MARKS))


def normalise(text: pa.Array) -> pa.Array:
    """ "a\\r\\nb \\x00\\n\\n\\n\\nc" -> "a\\nb\\n\\nc" """
    repaired = fix_mojibake(text.cast(pa.large_string()))
    text = _clean_and_compose(repaired)
    changed = pc.fill_null(pc.not_equal(text, repaired), False)
    if pc.any(changed).as_py():  # removing a control character from its middle can complete a broken sequence
        cleaned = text.filter(changed)
        repaired = fix_mojibake(cleaned)
        if not repaired.equals(cleaned):
            text = pc.replace_with_mask(text, changed, normalise(repaired))
    return text
