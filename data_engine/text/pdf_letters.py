"""
Letters of a PDF: is the text garbled, and plain forms for the letters that fonts spell oddly.

in:   str          out:  garbled: why the text is garbage, or ""; plain_letters: str

A PDF stores glyphs. The table of the letters that they stand for may be missing or wrong, and then the text is garbage though the
page looks right. Its characters show it: they have no Unicode at all (private use, U+FFFD), are accented Western letters in place
of another script, or are Latin letters in an order that no language has.
"""

import re
import unicodedata

import numpy as np

SAMPLE = 16_000  # characters from the beginning, and as many from the middle
NO_UNICODE = 0.3  # share of characters without Unicode, spaces and digits not counted; formulas have 0.04
WESTERN_ACCENTS = 0.4  # share of U+00C0 to U+00FF in Latin letters; no language has 0.3
MIN_PAIRS = 500  # fewer pairs of letters prove nothing
# The commonest pairs of letters in 21 languages of Latin script (sentences of the lingua test data, equally weighted). Their share
# is above 0.45 in each of 60 languages and 0.6 in code; with permuted letters it is below 0.36 in 99.5 % of texts.
PAIRS = """
ac ad ai ak al am an ar as at ba be ca ce ch ci co da de di do ed el em en er es et ga ge gi ha he hi ho ia ic ie ik il im in io
is it je ka ki ko la le li ll lo ma me mi na nd ne ng nh ni no nt ol om on or os pa pe po pr ra re ri ro sa se si st ta te th ti
to tr tu ul um un ur us ut va ve vi wa ya
"""
COMMON = np.zeros((27, 27), bool)
for _pair in PAIRS.split():
    COMMON[ord(_pair[0]) - 97, ord(_pair[1]) - 97] = True
COMMON_OF_LETTERS = 0.36  # least share of common pairs in the pairs of two letters
COMMON_OF_ALL = 0.26  # least share in all pairs with a letter and without a space or digit

SYMBOL_BULLETS = "\uf06c\uf06e\uf076\uf09f\uf0a7\uf0b7\uf0d8\uf0e0\uf0fc"  # bullets of the fonts Symbol and Wingdings
# TeX's old fonts set an accent before its letter; ´ before any other letter is an apostrophe
ACCENTS = {"´": "\u0301", "¨": "\u0308", "ˆ": "\u0302", "˜": "\u0303", "ˇ": "\u030c", "˚": "\u030a"}
WITH_ACCENT = {"´": "aeiouycnz", "¨": "aeiouy", "ˆ": "aeiouwy", "˜": "ano", "ˇ": "cdenrstz", "˚": "au"}
ACCENTED = {accent: re.compile(f"{accent}[{letters}{letters.upper()}ı]") for accent, letters in WITH_ACCENT.items()}


def garbled(text: str) -> str:
    """Why the text is garbage, or "" for good text."""
    middle = max(SAMPLE, len(text) // 2)
    codes = np.frombuffer((text[:SAMPLE] + text[middle : middle + SAMPLE]).lower().encode("utf-32-le", "replace"), np.uint32)
    shown = (codes > 32) & ((codes < 48) | (codes > 57)) & (codes != 0xA0)
    ascii_letter = (codes >= 97) & (codes <= 122)
    western = (codes >= 0xC0) & (codes <= 0xFF) & (codes != 0xD7) & (codes != 0xF7)
    symbol = ((codes >= 0x2000) & (codes < 0x2C00)) | ((codes >= 0x1D400) & (codes < 0x1D800))
    without = (codes == 0xFFFD) | ((codes >= 0xE000) & (codes < 0xF900)) | (codes >= 0xF0000) | ((codes >= 0x80) & (codes < 0xA0))
    without |= (codes < 32) & (codes != 9) & (codes != 10) & (codes != 13)
    share = without.sum() / max((shown | without).sum(), 1)
    if share > NO_UNICODE:
        return f"{share:.0%} of the characters have no Unicode"
    latin = ascii_letter.sum() + western.sum()
    other = ((codes >= 0x100) & ~symbol & ~without).sum()
    if other > latin:
        return ""
    if western.sum() > WESTERN_ACCENTS * latin and latin > MIN_PAIRS:
        return f"{western.sum() / latin:.0%} of the letters are Western ones with accents"
    kind = np.where(ascii_letter, codes.astype(np.int64) - 97, np.where(shown & (symbol | (codes < 0xC0)), 26, 27))
    pairs = (kind[:-1] < 27) & (kind[1:] < 27)
    first, second = kind[:-1][pairs], kind[1:][pairs]
    letters, one = (first < 26) & (second < 26), (first < 26) | (second < 26)
    common = COMMON[first, second].sum()
    if letters.sum() >= MIN_PAIRS and common < COMMON_OF_LETTERS * letters.sum() and common < COMMON_OF_ALL * one.sum():
        return f"{common / letters.sum():.0%} of the pairs of letters are common ones"
    return ""


def _compose(found):
    accent, letter = found[0]
    whole = unicodedata.normalize("NFC", letter.replace("ı", "i") + ACCENTS[accent])
    return whole if len(whole) == 1 else found[0]


def plain_letters(text: str) -> str:
    """Ligatures and other forms become plain letters, accents move onto their letters, characters without Unicode go."""
    if text.isascii():
        return text
    for letter in set(text):
        if letter in SYMBOL_BULLETS:
            text = text.replace(letter, "•")
        elif "\ue000" <= letter <= "\uf8ff" or letter == "\ufffd" or letter >= "\U000f0000":
            text = text.replace(letter, "")
        elif "\ufb00" <= letter <= "\ufdff" or "\ufe70" <= letter <= "\ufefc":  # ligatures, and forms of Arabic letters
            text = text.replace(letter, unicodedata.normalize("NFKC", letter))
    for accent, of in ACCENTED.items():
        if accent in text:
            text = of.sub(_compose, text)
    return text
