"""
Compiled: texts in UTF-8 -> their words, as spaCy cuts them.

A word is what spaCy's rule-based English tokenizer cuts (spacy.blank("en") 3.8, the one behind datatrove's filters): at white
space; then symbols off either end of each piece until an exception ("Mr.", "don't", ":-)") or nothing is left to take off; then,
unless the rest is a URL, at dots, commas, hyphens and slashes inside it. Last, exceptions that came apart are put together again
where their parts stand side by side ("well", ":", ")" becomes "well", ":)"). The rules, their exceptions and the classes of
characters are spaCy's (spacy/lang/en, spacy/lang/char_classes.py).

Score: the same words as spaCy in each of 21,089 documents (65 MB: web, encyclopaedia, books, code, CJK, noise) and of 450,000
strings made of its own symbols and exceptions.
"""

import functools
import unicodedata

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import combine, find, hash_bytes, hash_table
from data_engine.kernels.utf8 import char_at, char_before, count_chars

# --- Classes of characters, as bits --------------------------------------------------------------------------------------------

SPACE = 1 << 0  # str.isspace
LINE_END = 1 << 1  # where str.splitlines cuts
ASCII_LETTER = 1 << 2
LOWER = 1 << 3  # small letters of Latin, Greek and Cyrillic, and letters of scripts without case
UPPER = 1 << 4  # likewise
ALPHA = 1 << 5
QUOTE = 1 << 6
PREFIX = 1 << 7  # comes off the front
SUFFIX = 1 << 8  # comes off the end
BEFORE_DOT = 1 << 9  # a full stop after it comes off the end
ICON = 1 << 10  # cuts wherever it stands: symbols, and the ellipsis
INFIX = 1 << 11  # may cut between two letters or digits
CURRENCY = 1 << 12  # comes off the end after a digit
HOST = 1 << 13  # may stand in a label of a host name
DIGIT = 1 << 14  # decimal, of any script
LETTER = 1 << 15  # str.isalpha
PUNCTUATION = 1 << 16  # Unicode's categories P*
WORD = 1 << 17  # str.isalnum, and "_"
SENTENCE_END = 1 << 18
SYMBOL = 1 << 19  # Gopher does not count words of symbols alone
LINE_STOP = 1 << 20  # ends a line for FineWeb
N_CODES = 0x32400  # no code point from here on is a letter, a symbol or a space

SPACES = "9-D 1C-20 85 A0 1680 2000-200A 2028 2029 202F 205F 3000"
LINE_ENDS = "A-D 1C-1E 85 2028 2029"
SMALL = "61-7A DF-2AF 3AC-3AF 3B1-3C9 3CC-3CE 430-451 453-45A 45C-45D 491 497 4A3 4AF 4BB 4D9 4E9 1D00-1D25 1D6B-1EFF"
SMALL += " 2C61-2C7B A723-A7B9 A7FA-AB64 FF41-FF5A"  # of these, what has category Ll
CAPITAL = "41-24E 386-3A9 400-401 403-40A 40C-40D 410-42F 490 496 4A2 4AE 4BA 4D8 4E8 1E00-1EFE 2C60-2C7F A722-A7B8 FF21-FF3A"  # Lu
UNCASED = "591-5F4 620-64A 66E-6D5 6E5-6FF 750-77F 8A0-8BD 900-9FF B80-CFF D80-DFF 1100-137F 2E80-2FDF 2FF0-30FF 31C0-31EF"
UNCASED += " 3200-4DBF 4E00-9FFF AC00-D7AF F900-FAFF FB1D-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE30-FE4F FE70-FEFC 1EE00-1EEBB"
UNCASED += " 1F200-1F2FF 20000-2A6DF 2A700-2EBEF 2F800-2FA1F"
ICONS = "A6-1399 1940-2B95 2B98-2BC8 2BCA-2BFE 2CE5-2CEA 2E80-32FE 3300-AA79 FDFD FFE4-1019B 101A0-1173F 16B3C-1BC9C"
ICONS += " 1D000-1D1E8 1D200-1DA86 1ECAC 1F000-1F0F5 1F110-1F16B 1F170-1F1AC 1F1E6-1F6D4 1F6E0-1F6F9 1F700-1F7D8 1F800-1F8AD"
ICONS += " 1F900-1F90B 1F910-1F93E 1F940-1F970 1F973-1F976 1F97A 1F97C-1F9A2 1F9B0-1F9B9 1F9C0-1F9C2 1F9D0-1F9FF 1FA60-1FA6D"  # So

QUOTES = "\"',`«´»‘’‚“”„\u2329\u232a⟦⟧〈〉《》「」『』【】〔〕（）"
MARKS = "!#&()*:;<>?[]_{}¡·¿،؛؟٪۔।…、。！，：；？～"  # with QUOTES, what comes off both ends
CURRENCIES = "$£¥฿₠₡₢₣₤₥₦₧₨₩₪₫€₭₮₯₰₱₲₳₴₵₶₷₸₹₺₻₼₽₾₿﷼"
BEFORE_DOTS = "0123456789%²-+|…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
# what ends a sentence for spaCy's sentencizer
SENTENCE_ENDS = "21 2E 3F 589 61F 6D4 700-702 7F9 964 965 104A 104B 1362 1367 1368 166E 1735 1736 1803 1809 1944 1945 1AA8-1AAB"
SENTENCE_ENDS += (
    " 1B5A 1B5B 1B5E 1B5F 1C3B 1C3C 1C7E 1C7F 203C 203D 2047-2049 2E2E 2E3C 3002 A4FF A60E A60F A6F3 A6F7 A876 A877 A8CE"
)
SENTENCE_ENDS += " A8CF A92F A9C8 A9C9 AA5D-AA5F AAF0 AAF1 ABEB FE52 FE56 FE57 FF01 FF0E FF1F FF61 10A56 10A57 11047 11048"
SENTENCE_ENDS += " 110BE-110C1 11141-11143 111C5 111C6 111CD 111DE 111DF 11238 11239 1123B 1123C 112A9 1144B 1144C 115C2 115C3"
SENTENCE_ENDS += " 115C9-115D7 11641 11642 1173C-1173E 11A42 11A43 11A9B 11A9C 11C41 11C42 16A6E 16A6F 16AF5 16B37 16B38 16B44"
SENTENCE_ENDS += " 1BC9F 1DA88"
# datatrove's TERMINAL_PUNCTUATION beyond these, and its PUNCTUATION_SET beyond both
LINE_STOPS = "61D 61E 837 839 83D 83E 17D4-17D6 17D9 17DA 1B7D 1B7E 2E53 2E54 10F55-10F59 10F86-10F89 11944 11946 11EF7 11EF8"
LINE_STOPS += " 11F43 11F44 16E98"
SYMBOLS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
CONTROLS = "0-8 B-1F 7F-9F"


def codes(ranges):
    """Ranges in hexadecimal -> the set of their code points."""
    pairs = [(part.split("-") * 2)[:2] for part in ranges.split()]
    return {code for first, last in pairs for code in range(int(first, 16), int(last, 16) + 1)}


@functools.cache
def char_classes():
    """Code point -> bits, uint32."""
    table = np.zeros(N_CODES, np.uint32)
    category = [unicodedata.category(chr(code)) for code in range(N_CODES)]

    def put(bits, members):
        table[[ord(member) if isinstance(member, str) else member for member in members]] |= np.uint32(bits)

    put(SPACE, codes(SPACES))
    put(LINE_END, codes(LINE_ENDS))
    put(ASCII_LETTER, codes("41-5A 61-7A"))
    put(LOWER | ALPHA, [code for code in codes(SMALL) if category[code] == "Ll"] + [0x294])
    put(UPPER | ALPHA, [code for code in codes(CAPITAL) if category[code] == "Lu"] + [0x3A2])
    put(LOWER | UPPER | ALPHA, codes(UNCASED))
    put(ALPHA, "ƻǅǈǋǲ")
    put(QUOTE | PREFIX | SUFFIX | BEFORE_DOT, QUOTES)
    put(PREFIX | SUFFIX, MARKS)
    put(PREFIX, "§%=–—" + CURRENCIES)
    put(SUFFIX, "–—")
    put(BEFORE_DOT, BEFORE_DOTS)
    put(PREFIX | SUFFIX | ICON | INFIX, [code for code in codes(ICONS) if category[code] == "So"])
    put(ICON | INFIX, "…")
    put(INFIX, ".,+-*^–—~:<>=/")
    put(CURRENCY, CURRENCIES)
    put(HOST, codes("30-39 41-5A 61-7A A1-FFFF"))
    put(DIGIT, [code for code in range(N_CODES) if category[code] == "Nd"])
    put(LETTER, [code for code in range(N_CODES) if category[code][0] == "L"])
    put(PUNCTUATION, [code for code in range(N_CODES) if category[code][0] == "P"])
    put(WORD, [code for code in range(N_CODES) if chr(code).isalnum()] + ["_"])
    put(SENTENCE_END | LINE_STOP | SYMBOL, codes(SENTENCE_ENDS))
    put(LINE_STOP | SYMBOL, codes(LINE_STOPS))
    put(SYMBOL, SYMBOLS)
    put(SYMBOL, codes(CONTROLS))
    put(BEFORE_DOT, np.flatnonzero(table & LOWER).tolist())
    return table


# --- Exceptions: pieces that are cut by a list and not by rule ("|" stands for a cut) -------------------------------------------

WHOLE = r"""
' '' \") <space> C++ \t \n — a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= ]= :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-(( :((( :-(((
): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :* :-* :3 :-3 =3 =[ =] :> :->
:X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O
0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯
(╯°□°）╯︵┻━┻ ><(((*>
doin doin' goin goin' nothin nothin' nuthin nuthin' ol ol' somethin somethin' lovin lovin' havin havin'
Doin Doin' Goin Goin' Nothin Nothin' Nuthin Nuthin' Ol Ol' Somethin Somethin' Lovin Lovin' Havin Havin'
em 'em ll 'll nuff 'nuff 'S 's ‘S ‘s 're 'd 'cause 'Cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout and/or w/o ma'am Ma'am o'clock O'clock
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La.
Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash.
Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs.
Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
"""
CUT = """
y'|all y|all how|'d|'y How|'d|'y can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s c'm|on C'm|on
°|c|. °|f|. °|k|. °|C|. °|F|. °|K|.
"""
# (words, in small letters or with a capital; endings that each of them may have)
CONTRACTIONS = (
    ("i", "'m m 'm|a m|a"),
    ("i you he she it we they who what when where why how there that this these those", "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"),
    ("i you we they who what when where why how there these those", "'ve ve"),
    ("you we they who what when where why how there these those", "'re re"),
    ("he she it who what when where why how there that this", "'s s"),
    ("ca could do does did had may might must need ought sha should wo would", "n't nt n't|'ve nt|ve"),
    ("ai are is was were have has dare", "n't nt"),
    ("could might must should would not", "'ve ve"),
)
NOT_CUT = "ill its hell shell shed were well whore"  # words in their own right


@functools.cache
def exceptions():
    """Pieces -> their words."""
    pieces = [f"{hour}|{half}" for hour in range(1, 13) for half in ("am", "pm", "a.m.", "p.m.")] + CUT.split()
    for words, endings in CONTRACTIONS:
        pieces += [f"{form}|{ending}" for word in words.split() for form in (word, word.title()) for ending in endings.split()]
    cuts = {piece: [piece] for piece in WHOLE.split()} | {piece.replace("|", ""): piece.split("|") for piece in pieces}
    for word in NOT_CUT.split():
        cuts.pop(word, None), cuts.pop(word.title(), None)
    return cuts | {piece.replace("'", "’"): [word.replace("'", "’") for word in words] for piece, words in cuts.items()}


# units come off the end after a digit ("тбكم" is spaCy's, which lacks a space there)
UNITS = """
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb
GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб
ТБ тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب
"""


# --- Tables ----------------------------------------------------------------------------------------------

WORDS = np.dtype([("hash", "u8"), ("start", "i4"), ("end", "i4"), ("chars", "i4"), ("cut", "i4")])  # bytes; cut is scratch
MARGIN = 8  # bytes after a text that the compiled code may read
LONGEST_EXCEPTION = max(len(piece.encode()) for piece in exceptions())
LONGEST_UNIT = max(len(unit.encode()) for unit in UNITS.split())


@functools.cache
def rules():
    """
    The hash table of all that is cut by a list. Keys and values are

    the hash of an exception              -> lengths of its words in bytes, 8 bits each
    the complement of the hash of a unit  -> 1
    the hash of a sequence of words       -> whether it begins (1), is (2), is and is cut otherwise (4) an exception that came apart
    """
    cuts = {key.encode(): [len(word.encode()) for word in words] for key, words in exceptions().items()}
    values = {~hash_text(unit.encode()): 1 for unit in UNITS.split()}
    plain, phrases = hash_table(list(values), list(values.values())), {}
    for key, lengths in cuts.items():
        n, words = split_words(scratch(key), 0, len(key), char_classes(), plain, np.empty(64, WORDS))
        state = np.uint64(0)
        for i in range(n if n > 1 else 0):
            state = np.uint64(combine(state, words["hash"][i]))
            phrases[state] = phrases.get(state, 0) | (1 if i < n - 1 else 2)
        if n > 1 and (words["end"] - words["start"])[:n].tolist() != lengths:
            phrases[state] |= 4
    packed = {hash_text(key): sum(length << 8 * i for i, length in enumerate(lengths)) for key, lengths in cuts.items()}
    values |= phrases | packed
    return hash_table(list(values), list(values.values()))


def scratch(text):
    """bytes -> uint8 array with MARGIN zeros after them."""
    return np.frombuffer(text + bytes(MARGIN), np.uint8).copy()


def hash_text(text):
    return np.uint64(hash_bytes(scratch(text), 0, len(text)))


# --- Words: a text lies in text[first:last] ---------------------------------------------------------


@njit(cache=True)
def bits_of(classes, code):
    return classes[code] if code < N_CODES else np.uint32(0)


@njit(cache=True)
def is_digit(code):
    """Whether it is one of 0-9."""
    return 48 <= code <= 57


@njit(cache=True)
def split_words(text, first, last, classes, table, words):
    """The number of words, and the array that holds them in order: `words`, or a larger one."""
    n, i = np.int64(0), first  # a plain 0 has another type, and numba would compile every function that takes it twice
    while True:
        while i < last:
            code, after = char_at(text, i)
            if not bits_of(classes, code) & SPACE:
                break
            i = after
        if i >= last:
            break
        start, dots, digits, plain = i, False, False, True
        while i < last:
            if 97 <= text[i] <= 122:  # most are
                i += 1
                continue
            code, after = char_at(text, i)
            bits = bits_of(classes, code)
            if bits & SPACE:
                break
            plain &= bits & ASCII_LETTER != 0
            dots |= code == 46
            digits |= is_digit(code)
            i = after
        while n + i - start >= len(words):
            words = grown(words)
        value = hash_bytes(text, start, i)
        lengths = find(table, value) if i - start <= LONGEST_EXCEPTION else -1
        if lengths >= 0:
            n = add_exception(text, start, lengths, words, n)
        elif plain:
            n = put(words, n, start, i, i - start, value)
        else:
            n = cut_piece(text, start, i, dots, digits, classes, table, words, n)
    return join_phrases(text, table, words, n)


@njit(cache=True)
def grown(words):
    larger = np.empty(2 * len(words), WORDS)
    for i in range(len(words)):
        larger[i] = words[i]
    return larger


@njit(cache=True)
def put(words, n, start, end, chars, value):
    word = words[n]
    word.start, word.end, word.chars, word.hash = start, end, chars, value
    return n + 1


@njit(cache=True)
def add(text, start, end, words, n):
    return put(words, n, start, end, count_chars(text, start, end), hash_bytes(text, start, end))


@njit(cache=True)
def add_exception(text, start, lengths, words, n):
    while lengths:
        n = add(text, start, start + (lengths & 0xFF), words, n)
        start += lengths & 0xFF
        lengths >>= 8
    return n


@njit(cache=True)
def exception(text, start, end, table):
    """The lengths of an exception's words; 0 where the bytes are no exception."""
    return max(0, find(table, hash_bytes(text, start, end))) if start < end <= start + LONGEST_EXCEPTION else 0


@njit(cache=True)
def cut_piece(text, start, end, dots, digits, classes, table, words, n):
    """Adds the words of a piece between white space that is no exception; dots and digits say whether it has any."""
    n_cuts, lengths = 0, 0
    while start < end and not lengths:
        front = prefix_end(text, start, end, classes)
        if front > start:
            lengths = exception(text, front, end, table)
            if lengths:
                n = add(text, start, front, words, n)
                start = front
                break
        back = suffix_start(text, front, end, digits, classes, table)
        if back < end:
            words[n_cuts].cut = end
            n_cuts += 1
            lengths = exception(text, start, back, table)
            if lengths:
                end = back
                break
        if front == start and back == end:
            break
        if front > start:
            n = add(text, start, front, words, n)
            if back < end:
                lengths = exception(text, front, back, table)
        start, end = front, back
    if lengths:
        n = add_exception(text, start, lengths, words, n)
    elif start < end and dots and is_url(text, start, end, classes):
        n = add(text, start, end, words, n)
    elif start < end:
        n = cut_inside(text, start, end, classes, words, n)
    while n_cuts:
        n_cuts -= 1
        start, end = end, np.int64(words[n_cuts].cut)
        n = add(text, start, end, words, n)
    return n


@njit(cache=True)
def prefix_end(text, start, end, classes):
    """The end of what comes off the front, or start."""
    code, after = char_at(text, start)
    if code == 46:
        while after < end and text[after] == 46:
            after += 1
        return after if after > start + 1 else start
    if code == 43:
        return start if after < end and is_digit(text[after]) else after
    if bits_of(classes, code) & PREFIX:
        return after
    if code == 85 and end - start >= 3 and text[start + 1] == 83 and text[start + 2] == 36:  # US$
        return start + 3
    if (code == 67 or code == 65) and end - start >= 2 and text[start + 1] == 36:  # C$ A$
        return start + 2
    return start


@njit(cache=True)
def suffix_start(text, start, end, digits, classes, table):
    """The start of what comes off the end, or end. The longest, when several could."""
    code, at = char_before(text, end, start)
    if at == end:
        return end
    bits = bits_of(classes, code)
    before, before_at = char_before(text, at, start)
    if bits & SUFFIX:
        return before_at if code == 0x2026 and before == 0x2026 else at
    if code == 46:
        if before == 46:
            while before_at > start and text[before_at - 1] == 46:
                before_at -= 1
            return before_at
        if at == start:
            return end
        before_bits = bits_of(classes, before)
        if before_bits & BEFORE_DOT:
            return at
        second = char_before(text, before_at, start)[0]
        if before_bits & UPPER and bits_of(classes, second) & UPPER:
            return at
        return at if second == 0xB0 and (before == 67 or before == 70 or before == 75) else end  # 5°C.
    if (code == 115 or code == 83) and (before == 39 or before == 0x2019):  # 's
        return before_at
    if digits:
        if is_digit(before) and (code == 43 or bits & CURRENCY):
            return at
        if code == 36:
            if at - 1 > start and (before == 67 or before == 65) and is_digit(text[at - 2]):  # 5C$
                return at - 1
            if at - 2 > start and before == 83 and text[at - 2] == 85 and is_digit(text[at - 3]):  # 5US$
                return at - 2
        at = end - 1
        while at > start and end - at <= LONGEST_UNIT and not is_digit(text[at - 1]):
            at -= 1
        if at > start and is_digit(text[at - 1]) and find(table, ~hash_bytes(text, at, end)) >= 0:
            return at
    return end


@njit(cache=True)
def cut_inside(text, start, end, classes, words, n):
    """Adds the words of what is left between prefixes and suffixes."""
    piece, i, before = start, start, np.uint32(0)
    after_digit = is_digit(np.int64(0))
    while i < end:
        code, after = char_at(text, i)
        bits = bits_of(classes, code)
        stop = infix_end(text, i, after, end, code, bits, before, after_digit, classes) if bits & INFIX else i
        if stop > i:
            if i > start:  # one at the very beginning stays where it is
                if i > piece:
                    n = add(text, piece, i, words, n)
                n = add(text, i, stop, words, n)
                piece = stop
            code = char_before(text, stop, start)[0]
            bits = bits_of(classes, code)
            after = stop
        before, after_digit, i = bits, is_digit(code), after
    return add(text, piece, end, words, n) if piece < end else n


@njit(cache=True)
def infix_end(text, i, after, end, code, bits, before, after_digit, classes):
    """The end of the infix that begins at i, or i; before: the class of the character before it."""
    if bits & ICON:
        return after
    if code == 46 and after < end and text[after] == 46:
        while after < end and text[after] == 46:
            after += 1
        return after
    if after >= end:
        return i
    following = char_at(text, after)[0]
    next_bits = bits_of(classes, following)
    if code == 46:
        return after if before & (LOWER | QUOTE) and next_bits & (UPPER | QUOTE) else i
    if code == 44:
        return after if before & ALPHA and next_bits & ALPHA else i
    if code in (43, 45, 42, 94) and after_digit and (is_digit(following) or following == 45):  # + - * ^
        return after
    if code in (43, 42, 94) or not (before & ALPHA or after_digit):
        return i
    if next_bits & ALPHA:
        return after
    if code == 45 or code == 0x2014:  # -- --- ——
        longest = 3 if code == 45 else 2
        for _ in range(longest - 1):
            if following != code:
                return i
            after = char_at(text, after)[1]
            if after >= end:
                return i
            following = char_at(text, after)[0]
            if bits_of(classes, following) & ALPHA:
                return after
    return i


@njit(cache=True)
def is_url(text, start, end, classes):
    """[scheme://][anything@]host[:port][/?#anything], where host is a public IPv4 address or a name that ends in small letters."""
    i = start
    while i < end:
        code, after = char_at(text, i)
        if not bits_of(classes, code) & WORD and code not in (43, 45, 46):  # + - .
            break
        i = after
    scheme = start < i and char_at(text, start)[1] < i  # two characters or more
    scheme = scheme and i + 3 < end and text[i] == 58 and text[i + 1] == 47 and text[i + 2] == 47
    found = is_host(text, start, end, classes) or (scheme and is_host(text, i + 3, end, classes))
    at = start + 1
    while at < end and not found:
        found = text[at] == 64 and is_host(text, at + 1, end, classes)
        at += 1
    return found


@njit(cache=True)
def is_host(text, start, end, classes):
    """Whether host, port and path fill the bytes."""
    if start < end and is_digit(text[start]) and is_address(text, start, end, classes):
        return True
    i, labels = start, 0
    while i < end:
        chars, begins, ends, host, small = 0, np.uint32(0), np.uint32(0), True, True
        while i < end and text[i] not in (46, 47, 58, 63, 35):  # . / : ? #
            code, after = char_at(text, i)
            ends = bits_of(classes, code) & (HOST | LOWER)
            if not ends and code != 45 and code != 95:
                return False
            begins = begins if chars else ends
            host &= ends & HOST != 0 or code == 45 or code == 95
            small &= ends & LOWER != 0
            chars += 1
            i = after
        if i == end or text[i] != 46:
            return labels > 0 and small and 2 <= chars <= 63 and is_tail(text, i, end, classes)
        if not host or not begins & HOST or not ends & HOST or chars > 64:
            return False
        labels += 1
        i += 1
    return False


@njit(cache=True)
def is_address(text, start, end, classes):
    """Whether an IPv4 address outside the private networks, port and path fill the bytes."""
    numbers = 0
    i = start
    for part in range(4):
        value, first = 0, i
        while i < end and i - first < 3 and is_digit(text[i]):
            value = 10 * value + text[i] - 48
            i += 1
        low, high = (1, 223) if part == 0 else (1, 254) if part == 3 else (0, 255)
        if i == first or not low <= value <= high:
            return False
        if text[first] == 48 and (part in (0, 3) or i - first == 3):
            return False
        numbers = numbers << 8 | value
        if part < 3:
            if i >= end or text[i] != 46:
                return False
            i += 1
    private = numbers >> 24 in (10, 127) or numbers >> 16 in (0xA9FE, 0xC0A8) or 0xAC10 <= numbers >> 16 <= 0xAC1F
    return not private and is_tail(text, i, end, classes)


@njit(cache=True)
def is_tail(text, i, end, classes):
    """[:port][/?#anything], to the end."""
    if i < end and text[i] == 58:
        digits = 0
        i += 1
        while i < end:
            code, after = char_at(text, i)
            if not bits_of(classes, code) & DIGIT:
                break
            digits += 1
            i = after
        if not 2 <= digits <= 5:
            return False
    return i == end or text[i] in (47, 63, 35)


# --- Exceptions that came apart -----------------------------------------------------------------------------------------------


@njit(cache=True)
def join_phrases(text, table, words, n):
    """
    The words with the exceptions among them joined whose parts stand side by side: the longest win, then the first.

    As in spaCy, parts with one space between them are no exception, yet keep others off.
    """
    apart = False
    for i in range(n):
        state, j = np.uint64(0), i
        words[i].cut = 0  # the number of words of the longest phrase from here; it wins over shorter ones
        while True:
            state = combine(state, words[j].hash)
            kind = max(0, find(table, state))
            j += 1
            if kind & 2:
                words[i].cut = j - i
                apart |= kind & 4 != 0
            gap = words[j].start - words[j - 1].end if j < n else 2
            if not kind & 1 or gap > 1 or (gap == 1 and text[words[j - 1].end] != 32):
                break
    if not apart:
        return n, words
    seen = np.zeros(n, np.bool_)
    low = 0
    while low < n:  # phrases that overlap are decided together
        high, longest = low + 1, words[low].cut
        reach = low + longest
        while high < reach:
            longest = max(longest, words[high].cut)
            reach = max(reach, high + words[high].cut)
            high += 1
        for size in range(longest, 1, -1):
            for i in range(low, high):
                if words[i].cut == size:
                    if seen[i] or seen[i + size - 1]:
                        words[i].cut = 0
                    for j in range(i, i + size):
                        seen[j] = True
        low = high
    joined = np.empty(2 * n + 4, WORDS)  # an exception has at most twice the words that it came apart into
    i = new = np.int64(0)
    while i < n:
        size = max(1, words[i].cut)
        start, end, whole = np.int64(words[i].start), np.int64(words[i + size - 1].end), size > 1
        for j in range(i + 1, i + size):
            whole &= words[j].start == words[j - 1].end
        lengths = exception(text, start, end, table) if whole else 0
        if lengths:
            new = add_exception(text, start, lengths, joined, new)
        else:
            for j in range(i, i + size):
                joined[new] = words[j]
                new += 1
        i += size
    return new, joined
