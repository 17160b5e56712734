"""
JSON -> values, in which one bad value costs itself.

    values(text)          JSON values behind each other in one text, such as a line
    items(read, text)     the items of arrays of any length; read() gives the next text, "" at the end
    clean(value, text)    a value without lone surrogates ("\\\\ud83d", half of an emoji that was cut): each becomes U+FFFD
"""

import json
import re

MAX_ITEM = 64 << 20  # characters
SCANNED = 1024  # characters at least in which the end of a bad item is looked for by its brackets
DECODER = json.JSONDecoder(strict=False)  # control characters may stand in strings
BLANK = re.compile(r"[\s\x1e\x00]*")  # \x1e begins a text of RFC 7464
BETWEEN = re.compile(r"[\s,\x1e]*")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|,', re.S)
FOLLOWS = re.compile(r"\s*(?:(,)\s*|\]|$)")
SEAM = re.compile(r"\}\s*,(?=\s*\{)")  # between two objects
HIGH, LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
LONE = re.compile(rf"{HIGH}(?!{LOW})|(?<!\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F]){LOW}")
SURROGATE = re.compile("[\ud800-\udfff]")


def clean(value, text):
    if not ("\\ud" in text or "\\uD" in text) or not LONE.search(text):
        return value
    return json.loads(SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))


def values(text):
    """(value, None) for each value, and (None, problem) for what cannot be read behind them."""
    at = BLANK.match(text).end()
    while at < len(text):
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield None, str(error)
            return
        yield clean(value, text[at:end] if at or end < len(text) else text), None
        at = BLANK.match(text, end).end()


def items(read, text):
    """(value, None, text of it) or (None, problem, text of it) for each item of the arrays in a text that begins with "["."""
    at, ended, is_open = BLANK.match(text).end() + 1, False, True
    while True:
        at = BETWEEN.match(text, at).end() if is_open else BLANK.match(text, at).end()
        if at == len(text) and not ended:
            text, at, ended = read(), 0, False
            ended = not text
            continue
        if at == len(text):
            if is_open:
                yield None, "the file ends inside of an array", ""
            return
        if text[at] in "[]" and (text[at] == "]") == is_open:  # an array ends, or the next begins
            is_open, at = not is_open, at + 1
            continue
        if not is_open:
            yield None, f"behind the array stands {text[at : at + 20]!r}; the number of records in it is unknown", text[at:]
            return
        value, problem, end = _item(text, at, ended or len(text) - at > MAX_ITEM)
        if end is None or (end == len(text) and not ended):  # more text may complete it
            grown = [text[at:]]
            while not ended and sum(map(len, grown)) < max(2 * len(grown[0]), 2) and len(grown[0]) <= MAX_ITEM:
                grown.append(read())
                ended = not grown[-1]
            if len(grown) > 1:
                text, at = "".join(grown), 0
                continue
            if end is None:
                yield None, f"{problem}; the number of records behind it is unknown", text[at:]
                return
        yield (value, problem, text[at:end]) if problem else (clean(value, text[at:end]), None, text[at:end])
        at = end


def _item(text, at, is_all):
    """
    (value, None, its end), (None, problem, the end of a bad item), or (None, problem, None) if the end is not in the text.

    is_all: no more text will come
    """
    try:
        value, end = DECODER.raw_decode(text, at)
        return value, None, end
    except RecursionError as error:
        return None, str(error), _end(text, at, len(text))
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):  # a number of too many digits
            return None, str(error), _end(text, at, len(text))
        if error.msg.startswith("Unterminated") or (not is_all and error.pos > len(text) - 4 * SCANNED):
            return None, str(error), None
        seam = SEAM.search(text, error.pos)
        end = _end(text, at, at + max(SCANNED, 4 * (seam.start() - at) if seam else 0))
        if end is None or not _goes_on(text, end):
            end = seam.end() - 1 if seam else None
        return None, str(error), end


def _goes_on(text, end):
    """True if an item may end here: behind it the array ends, or another item that is whole or cut by the end of the text."""
    follows = FOLLOWS.match(text, end)
    if not follows or not follows[1]:
        return bool(follows)
    try:
        DECODER.raw_decode(text, follows.end())
    except (ValueError, RecursionError) as error:
        return getattr(error, "pos", 0) >= len(text) - 16 or getattr(error, "msg", "").startswith("Unterminated")
    return True


def _end(text, at, limit):
    """The end of an item by its brackets and commas; None if it is not before `limit`."""
    open_brackets = []
    for token in TOKEN.finditer(text, at, min(limit, len(text))):
        letter = token[0]
        if letter in ("{", "["):
            open_brackets.append("}" if letter == "{" else "]")
        elif letter in (",", "]") and not open_brackets:
            return token.start()
        elif letter in ("}", "]"):
            if not open_brackets or open_brackets.pop() != letter:
                return None
            if not open_brackets:
                return token.end()
    return None
