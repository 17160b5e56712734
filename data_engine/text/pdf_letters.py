"""
Letters of a PDF: is the text garbled, and plain forms for the letters that fonts spell oddly.

in:   str          out:  garbled: why the text is garbage, or ""; plain_letters: str

A PDF stores glyphs. The table of the letters that they stand for may be missing or wrong, and then the text is garbage though the
page looks right. Its characters show it: they have no Unicode at all (private use, U+FFFD), are accented Western letters in place
of another script, or are Latin letters in an order that no language has.
"""

import re
import unicodedata
from itertools import pairwise

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

PROOF = 140  # pairs of letters in garbled long lines, of which fewer are common ones
LONG_LINE, SHORT_LINE = 60, 8  # least Latin letters; the shorter ones are garbled only where there are long ones
SHORT_COMMON = 0.25  # common pairs in the pairs of a line; Hindi in Latin letters has 0.11
SHORT_ACCENTS = 0.6  # Western letters with accents in the Latin letters of a line; lines of Yoruba have 0.4
SHARE_OF_GOOD = 0.1  # of the letters; less is not kept
EMPTY_LINES = re.compile(r"\n{3,}")

# Names of fonts. legacy: they draw Hindi and Marathi for Latin letters. symbols: pictures for Latin letters. ocr: the letters of
# an OCR program, which nobody sees.
FONT_KIND = re.compile(
    r"(?P<legacy>kruti|dev ?lys|chanakya|shree-?(?:dev|lipi|\d)|shusha|walkman|aps-?c?-?(?:dv|prakash)|dvb?w?-?tt)"
    r"|(?P<symbols>wingdings|webdings|dingbats)|(?P<ocr>glyphless|hiddenhorz|hiddenvert|invisible)",
    re.IGNORECASE,
)
LATIN_LETTER = re.compile(r"[A-Za-z\xc0-\xff]")

# Codes of the ligatures in the fonts of TeX, whose drawn forms (Type 3) have no names of letters: OT1 and T1
LIGATURES = "ff", "fi", "fl", "ffi", "ffl"
OT1_LIGATURE = re.compile(r"(?<=[A-Za-z])[\x0b-\x0f]|[\x0b-\x0f](?=[a-z])")
T1_LIGATURE = re.compile(r"(?<=[A-Za-z])[\x1b-\x1f]|[\x1b-\x1f](?=[a-z])")

RIGHT_TO_LEFT = re.compile("[\u0590-\u065f\u066a-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")  # without the digits
NUMBER = re.compile(r"\d+(?:[.,:/\u066b\u066c-]\d+)*")
LEFT_TO_RIGHT_RUN = re.compile(
    f"(?:(?!{RIGHT_TO_LEFT.pattern})\\w)(?:(?:(?!{RIGHT_TO_LEFT.pattern}).)*(?!{RIGHT_TO_LEFT.pattern})\\w)?"
)

# the space between an Arabic and a Latin word is often drawn on the other side of the Latin one
BETWEEN_SCRIPTS = re.compile(f"(?<={RIGHT_TO_LEFT.pattern})(?=[A-Za-z])|(?<=[A-Za-z])(?={RIGHT_TO_LEFT.pattern})")

SYMBOL_BULLETS = "\uf06c\uf06e\uf076\uf09f\uf0a7\uf0b7\uf0d8\uf0e0\uf0fc"  # bullets of the fonts Symbol and Wingdings
# TeX's old fonts set an accent before its letter; ´ before any other letter is an apostrophe
ACCENTS = {"´": "\u0301", "¨": "\u0308", "ˆ": "\u0302", "˜": "\u0303", "ˇ": "\u030c", "˚": "\u030a"}
WITH_ACCENT = {"´": "aeiouycnz", "¨": "aeiouy", "ˆ": "aeiouwy", "˜": "ano", "ˇ": "cdenrstz", "˚": "au"}
ACCENTED = {accent: re.compile(f"{accent}[{letters}{letters.upper()}ı]") for accent, letters in WITH_ACCENT.items()}


def _count(text):
    """
    int64 [lines of text, 8], of each line the number of: shown characters, those without Unicode, Latin letters, Western letters
    with accents, letters of other scripts, pairs of two letters, pairs with a letter, common pairs.
    """
    codes = np.frombuffer((text.lower() + "\n").encode("utf-32-le", "replace"), np.uint32)
    shown = (codes > 32) & ((codes < 48) | (codes > 57)) & (codes != 0xA0)
    ascii_letter = (codes >= 97) & (codes <= 122)
    western = (codes >= 0xC0) & (codes <= 0xFF) & (codes != 0xD7) & (codes != 0xF7)
    symbol = ((codes >= 0x2000) & (codes < 0x2C00)) | ((codes >= 0x1D400) & (codes < 0x1D800))
    without = (codes == 0xFFFD) | ((codes >= 0xE000) & (codes < 0xF900)) | (codes >= 0xF0000) | ((codes >= 0x80) & (codes < 0xA0))
    without |= (codes < 32) & (codes != 9) & (codes != 10) & (codes != 13)
    other = (codes >= 0x100) & ~symbol & ~without
    kind = np.where(ascii_letter, codes.astype(np.int64) - 97, np.where(shown & (symbol | (codes < 0xC0)), 26, 27))
    pairs = np.zeros((3, len(codes)), bool)
    first, second = kind[:-1], kind[1:]
    pairs[0, :-1] = (first < 26) & (second < 26)
    pairs[1, :-1] = (first < 27) & (second < 27) & ((first < 26) | (second < 26))
    pairs[2, :-1] = pairs[0, :-1] & COMMON[np.minimum(first, 26), np.minimum(second, 26)]
    counted = shown | without, without, ascii_letter | western, western, other, *pairs
    starts = np.concatenate([[0], np.flatnonzero(codes == 10)[:-1] + 1])
    return np.column_stack([np.add.reduceat(found.view(np.uint8), starts, dtype=np.int64) for found in counted])


def _verdict(counts, least=MIN_PAIRS):
    """Why text with these counts is garbage, or "" for good text; `least` pairs of letters prove it."""
    shown, without, latin, western, other, letters, pairs, common = counts.tolist()
    if without > NO_UNICODE * shown:
        return f"{without / shown:.0%} of the characters have no Unicode"
    if other > latin:
        return ""
    if western > WESTERN_ACCENTS * latin and latin > least:
        return f"{western / latin:.0%} of the letters are Western ones with accents"
    if letters >= least and common < COMMON_OF_LETTERS * letters and common < COMMON_OF_ALL * pairs:
        return f"{common / letters:.0%} of the pairs of letters are common ones"
    return ""


def garbled(text: str) -> str:
    """Why the text is garbage, or "" for good text."""
    middle = max(SAMPLE, len(text) // 2)
    return _verdict(_count(text[:SAMPLE] + text[middle : middle + SAMPLE]).sum(0))


def without_garbage(text: str) -> tuple[str, str]:
    """The text without its garbled lines, and why all of it is garbage, or ""."""
    counts = _count(text)
    _, _, latin, western, other, letters, pairs, common = counts.T
    odd = (common < SHORT_COMMON * np.minimum(letters, pairs)) | (western > SHORT_ACCENTS * latin)
    odd &= (other <= latin) & (latin >= SHORT_LINE)
    long = odd & (latin >= LONG_LINE)
    reason = _verdict(counts[long].sum(0), PROOF)
    if not reason:
        return text, garbled(text)
    if counts[~odd, 2].sum() < SHARE_OF_GOOD * latin.sum():
        return "", reason
    lines = [line for line, garbage in zip(text.split("\n"), odd.tolist(), strict=True) if not garbage]
    text = EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")
    return text, garbled(text)


def drawn_ligatures(text: str) -> str:
    """Codes of TeX's ligatures beside letters -> the letters."""
    text = OT1_LIGATURE.sub(lambda code: LIGATURES[ord(code[0]) - 0x0B], text)
    return T1_LIGATURE.sub(lambda code: LIGATURES[ord(code[0]) - 0x1B], text)


def symbol(letter: str) -> str:
    """The letter of a font of symbols as a bullet, unless it has a Unicode of its own."""
    return "•" if (letter.isascii() and letter.isalpha()) or letter == "\ufffd" else "" if "\x80" <= letter < "\xa0" else letter


def _from_left(text):
    """Letters of a run that was put in the order from right to left, in which numbers apart from words stay apart."""
    return text[::-1] if any(map(str.isalpha, text)) else NUMBER.sub(lambda number: number[0][::-1], text)


def logical_order(chars: list[tuple[str, float, float]]) -> str:
    """
    A line with letters that are written from right to left, as MuPDF orders them -> its text.

    chars: (letter, left edge, right edge). MuPDF turns ligatures around, whose letters but the first have no width, and leaves
    spaces and points where the file has them, which may be the other end of a Latin word or of the line. So the letters are
    ordered by their place, unless they overlap as those of Nastaliq do.
    """
    glyphs, narrow = [], ""  # (right edge, letters)
    for letter, left, right in chars:
        if right - left > 0.01:
            glyphs.append((right, letter + narrow))
            narrow = ""
        elif unicodedata.combining(letter) or not RIGHT_TO_LEFT.match(letter) or (glyphs and abs(glyphs[-1][0] - left) < 0.01):
            glyphs[-1:] = [(glyphs[-1][0], glyphs[-1][1] + letter) if glyphs else (right, letter)]
        else:
            narrow = letter + narrow
    text = "".join(letters for _, letters in glyphs) + narrow
    edges = [right for right, letters in glyphs if RIGHT_TO_LEFT.match(letters)]
    if 3 * len(edges) < sum(map(str.isalpha, text)) or 10 * sum(a < b for a, b in pairwise(edges)) > len(edges):
        return text
    text = "".join(letters for _, letters in sorted(glyphs, key=lambda glyph: -glyph[0])) + narrow
    return LEFT_TO_RIGHT_RUN.sub(lambda run: _from_left(run[0]), text)


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
    if RIGHT_TO_LEFT.search(text):
        text = BETWEEN_SCRIPTS.sub(" ", text)
    for accent, of in ACCENTED.items():
        if accent in text:
            text = of.sub(_compose, text)
    return text
