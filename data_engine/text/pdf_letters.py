"""
The letters of text from a PDF: whether they are letters at all, and the ones that fonts spell oddly.

A PDF shows glyphs; which letters they are is in a table beside the font that may be missing or wrong. Then the text layer is
garbage though the page looks well. It is known by its characters: no Unicode at all (private use, U+FFFD), Western letters with
accents where another script was meant, or Latin letters that follow each other as in no language.
"""

import re
import unicodedata

import numpy as np

SAMPLE = 16_000  # characters from the beginning, and as many from the middle
NO_UNICODE = 0.3  # share of what is neither space nor digit that has no meaning; formulas have 0.04
WESTERN_ACCENTS = 0.4  # share of U+00C0 to U+00FF in the letters of the Latin script; no language has 0.3
MIN_PAIRS = 500  # fewer pairs of letters say little
# The commonest pairs of letters in 21 languages of Latin script (sentences of the lingua test data, all of the same weight). Their
# share is above 0.45 in each of 60 languages and 0.6 in code; in texts with permuted letters it is below 0.36 in 99.5 %.
PAIRS = """
ac ad ai ak al am an ar as at ba be ca ce ch ci co da de di do ed el em en er es et ga ge gi ha he hi ho ia ic ie ik il im in io
is it je ka ki ko la le li ll lo ma me mi na nd ne ng nh ni no nt ol om on or os pa pe po pr ra re ri ro sa se si st ta te th ti
to tr tu ul um un ur us ut va ve vi wa ya
"""
COMMON = np.zeros((27, 27), bool)
for _pair in PAIRS.split():
    COMMON[ord(_pair[0]) - 97, ord(_pair[1]) - 97] = True
COMMON_OF_LETTERS = 0.36  # at least, of the pairs of two letters
COMMON_OF_ALL = 0.26  # at least, of the pairs with one letter, the other not being a space or a digit

SYMBOL_BULLETS = "\uf06c\uf06e\uf076\uf09f\uf0a7\uf0b7\uf0d8\uf0e0\uf0fc"  # of the fonts Symbol and Wingdings
# TeX's old fonts set an accent and then its letter; ´ before other letters is somebody's apostrophe
ACCENTS = {"´": "\u0301", "¨": "\u0308", "ˆ": "\u0302", "˜": "\u0303", "ˇ": "\u030c", "˚": "\u030a"}
WITH_ACCENT = {"´": "aeiouycnz", "¨": "aeiouy", "ˆ": "aeiouwy", "˜": "ano", "ˇ": "cdenrstz", "˚": "au"}
ACCENTED = {accent: re.compile(f"{accent}[{letters}{letters.upper()}ı]") for accent, letters in WITH_ACCENT.items()}


def garbled(text: str) -> str:
    """Why the text is none, or "" where it seems to be one."""
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


def plain_letters(text: str) -> str:
    """Ligatures and other forms of letters in their plain form, accents on their letters, characters without meaning gone."""
    if text.isascii():
        return text
    for letter in set(text):
        if letter in SYMBOL_BULLETS:
            text = text.replace(letter, "•")
        elif "\ue000" <= letter <= "\uf8ff" or letter == "\ufffd" or letter >= "\U000f0000":
            text = text.replace(letter, "")
        elif "\ufb00" <= letter <= "\ufdff" or "\ufe70" <= letter <= "\ufefc":  # ligatures, letters by their place in the word
            text = text.replace(letter, unicodedata.normalize("NFKC", letter))
    for accent, of in ACCENTED.items():
        if accent in text:
            text = of.sub(_composed, text)
    return text


def _composed(found):
    accent, letter = found[0]
    whole = unicodedata.normalize("NFC", letter.replace("ı", "i") + ACCENTS[accent])
    return whole if len(whole) == 1 else found[0]
