"""
CSV of any dialect -> rows, in which one bad row costs itself.

    delimiter, backslash, header = dialect(head, ".csv", "text")     from the first lines of a file
    for row, problem in rows(lines, delimiter, backslash)            a list of fields, or None and what is wrong with the row

A quote that is never closed would take in all rows that follow. So the csv module reads strictly: at a quote that it cannot make
sense of, the line in which the row began is the bad one, and reading goes on at the next line.
"""

import csv
import re
from collections import deque

DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}  # the first is taken where the names do not tell
SAMPLE = 1 << 16  # characters that tell quotes with a backslash
FREE_REPEATS = 256 << 20  # characters that may be read a second time; then a cell has at most SHORT
SHORT = 4096
CARRIAGE = "\ue00d"  # for a carriage return inside a line, where the csv module raises
ESCAPED = re.compile(r'\\(["\\])')


def dialect(head: str, kind: str, text: str) -> tuple[str, bool, int]:
    """
    (delimiter, True if \\" is a quote in a cell, lines in front of the names) of a file's first lines.

    The delimiter is the first that finds the field `text` among the names.
    """
    lines = head[:SAMPLE].split("\n")
    if len(lines) > 1:
        lines.pop()  # maybe cut
    named = re.match(r"sep=(.)\s*$", lines[0])  # Excel's own line
    skipped = 1 if named else 0
    first = lines[skipped] if len(lines) > skipped else ""
    found = named[1] if named else next((d for d in DELIMITERS[kind] if text in names(first, d)), DELIMITERS[kind][0])
    if '\\"' not in head[:SAMPLE]:
        return found, False, skipped
    width = len(names(first, found))
    good = [
        sum(len(row or ()) == width for row, _ in rows(iter(lines[skipped:]), found, backslash, strict=True))
        for backslash in (False, True)
    ]
    return found, good[1] > good[0], skipped


def names(line: str, delimiter: str) -> list[str]:
    """The names in a file's first line."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def rows(lines, delimiter, backslash, most=64 << 20, strict=False):
    """
    (row, None) or (None, problem) for each row; blank lines give nothing.

    lines   strings without their ends; None for one that is too long
    most    characters of a row
    strict  False: a letter behind a closing quote is part of the field, as the csv module and others have it
    """
    csv.field_size_limit(most)
    waiting, taken, repeated, width = deque(), [], 0, None

    def feed():
        size = 0
        while True:
            line = waiting.popleft() if waiting else next(lines, "")
            if line == "":
                return
            taken.append(line)
            if line is None:
                raise csv.Error("a line that is too long")
            size = size + len(line) if len(taken) > 1 else 0
            if size > (most if repeated < FREE_REPEATS else SHORT):
                raise csv.Error("a cell that is too long")
            yield line

    lines = (None if line is None else _plain(line, backslash) + "\n" for line in lines)
    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
            row = None if strict or taken[-1] is None else _leniently(taken, delimiter, width, str(error))
            if row is None:
                waiting.extendleft(reversed(taken[1:]))
                repeated += sum(len(line) for line in taken[1:] if line)
                problem = f"a quote that is never closed ({error})" if len(taken) > 1 or taken[0] else str(error)
                yield None, problem
                continue
        if row:
            width = width or len(row)
            yield ([field.replace(CARRIAGE, "\r") for field in row] if any(CARRIAGE in line for line in taken) else row), None


def _plain(line, backslash):
    """A line for the csv module: its carriage returns hidden, \\" as a doubled quote."""
    line = line.removesuffix("\r")
    if "\r" in line:
        line = line.replace("\r", CARRIAGE)
    return ESCAPED.sub(lambda found: '""' if found[1] == '"' else found[0], line) if backslash and "\\" in line else line


def _leniently(taken, delimiter, width, problem):
    """The one row of lines with a letter behind a closing quote; None if the lines behind the first are rows by themselves."""
    if "end of data" in problem or "too long" in problem or "limit" in problem:
        return None
    if any(len(names(line, delimiter)) == (width or 1) for line in taken[1:]):
        return None
    try:
        found = list(csv.reader(taken, delimiter=delimiter))
    except csv.Error:
        return None
    return found[0] if len(found) == 1 else None
