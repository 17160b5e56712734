"""
Lines of text with their positions on the pages of a PDF -> running text in reading order.

in:   Lines, in the order of the file          out:  str, an empty line between paragraphs, a tab between cells of a row

1. Rotated text is turned upright, or left out where it is only a stamp or the label of an axis. Of text that is drawn twice one
   copy stays, and the numbers of lines in a margin go.
2. Running headers, footers and page numbers are left out. They are lines that other pages have at the same height, and numbers
   that count the pages.
3. Columns are read one after the other. A page without columns keeps the order of the file, which is the author's; only blocks that
   stand below each other are sorted.
4. The lines of a paragraph are joined. A line continues where the first word of the next one had no room on it.
5. A hyphen at the end of a line is removed, unless the document has the compound elsewhere.

Lengths are in points, y grows downwards. Pages that are written from right to left are mirrored first, so that all later steps know
one direction only. Time is n log n in the number of lines.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

EDGE_ROWS = 4  # rows at the top and at the bottom of a page that may be running headers and footers
EDGE_LINES = 40  # the same limit in lines: a row of a table has many
SHARE_OF_TURNED = 0.1  # share of a page's letters; fewer in another direction are a stamp or labels
SIDE_BY_SIDE = 8  # most lines at one height that are compared with each other
SAME_TEXT = 0.75  # ratio of difflib; an OCR program mistakes fewer letters
LEAST_NUMBERS = 10  # fewer numbers are no numbers of lines
LINE_STEPS = 1, 2, 5, 10
COLUMN_LINES = 4  # fewer lines make no column
COLUMN_LETTERS = 14  # average letters of a line in a column
COLUMN_GAP = 40  # points from one left edge to the next; indents are smaller
SURE_OF_EACH, SURE_OF_BOTH = 0.3, 0.9  # least _wrapped_share of each of two columns, and least sum of both
SURE_ALONE = 0.5  # the same of each column in a document that has columns on few pages
COLUMN_DEPTH = 6  # levels of columns in bands in columns

RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
CJK = re.compile("[\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\uff01-\uffef]")  # written without spaces; Korean has them
PAGE_NUMBER = re.compile(
    r"[\W_]*(?:(?:page|pg|p|seite|página|pagina|strona|strana|side|sida|sivu|стр|страница)[\W_]+)?"
    r"(?:(\d{1,5})|(x{0,3}(?:ix|iv|v?i{0,3})))(?:\s*(?:of|/|von|de|sur|di|из)\s*\d+)?[\W_]*",
    re.IGNORECASE,
)
FIRST_NUMBER = re.compile(r"[\W_]*(\d{1,5})\b(?!\.\d)")
LAST_NUMBER = re.compile(r"(?<![\d.])(\d{1,5})[\W_]*\Z")
BULLETS = "•‣▪■□●○◦∙·◆►➢✓\uf0a7\uf0b7\uf0d8\uf0fc"
ITEM = re.compile(r"[-–—*] |\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)] |\[\w{1,12}\] ")
NUMBERED = re.compile(  # the number of a heading, a note or an item, and one text after it
    r"\A((?:[\dA-Z]{1,3}(?:\.\d{1,3})*|[ivxlc]{1,6}|\w)[.):]?|\W{1,2}|\(\w{1,3}\)|\[\w{1,9}\])\t(?=[^\W\d][^\t]*\Z)"
)
WORD_OF_ONE_LETTER = "AIO"
SPACES = re.compile(r"[ \xa0\u2000-\u200a\u202f\u205f]{2,}")
HYPHENS = "-\xad\u2010"
FIRST_HALF = re.compile(r"([^\W\d_]+).\Z")
SECOND_HALF = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
KEEPS_HYPHEN = re.compile(r"[-/@_.:\\]")  # the word is a compound of three, an address, the name of a file


@dataclass
class Lines:
    """Arrays of equal length, one entry a line."""

    page: np.ndarray  # int64, ascending
    block: np.ndarray  # int64, numbered through the document
    box: np.ndarray  # float64 [n, 4]: left, top, right, bottom
    origin: np.ndarray  # float64 [n, 2]: x and y of the first letter on its baseline
    size: np.ndarray  # float64, of the first letter's font
    vertical: np.ndarray  # bool, East Asian vertical writing
    text: list

    def take(self, rows):
        arrays = (self.page, self.block, self.box, self.origin, self.size, self.vertical)
        return Lines(*(array[rows] for array in arrays), [self.text[row] for row in rows.tolist()])


def widest_of_groups(width, starts):
    """For each group of neighbours, which begins at starts, the row of its widest member."""
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(width)))
    return np.lexsort((width, group))[np.append(starts[1:], len(width)) - 1]


# --- Directions --------------------------------------------------------------------------------------------------------------


def _turn_upright(lines):
    """Makes each direction on a page a page of its own, number 4 * page + quarter turns, that reads from left to right."""
    n = np.array([len(text) for text in lines.text], np.int64)
    width, height = lines.box[:, 2] - lines.box[:, 0], lines.box[:, 3] - lines.box[:, 1]
    long = n >= 3
    # East Asian vertical writing runs as a page turned to the right does: down, and from right to left
    turned = long & (lines.vertical | ((height > 2 * width) & (height > 0.2 * lines.size * n)))
    slanted = long & ~turned & (height > 0.3 * width) & (height > np.where(lines.size < 24, 5, 1.8) * lines.size) & (n > 3)
    right_to_left = np.array([not text.isascii() and bool(RIGHT_TO_LEFT.search(text)) for text in lines.text])
    from_right = long & ~turned & ~right_to_left & (lines.origin[:, 0] > lines.box[:, 0] + 0.7 * width)
    upward = ~lines.vertical & (lines.origin[:, 1] > lines.box[:, 1] + 0.5 * height)
    direction = np.where(turned, np.where(upward, 3, 1), np.where(from_right, 2, 0))

    pages = int(lines.page[-1]) + 1
    letters = np.bincount(lines.page * 4 + direction, np.where(long & ~slanted, n, 0), pages * 4).reshape(pages, 4)
    direction = np.where(long, direction, letters.argmax(1)[lines.page])  # short lines run as their page does
    slanted &= letters.sum(1)[lines.page] > 0
    enough = letters[lines.page, direction] >= SHARE_OF_TURNED * letters.sum(1)[lines.page]
    page = lines.page * 4 + direction
    keep = np.flatnonzero(enough & ~slanted)
    keep = keep[np.argsort(page[keep], kind="stable")]
    lines = lines.take(keep)
    lines.page, direction = page[keep], direction[keep]

    for turns in np.unique(direction[direction > 0]).tolist():
        rows = direction == turns
        x0, y0, x1, y1 = lines.box[rows].T
        x, y = lines.origin[rows].T
        if turns == 1:  # reads downwards
            lines.box[rows], lines.origin[rows] = np.column_stack([y0, -x1, y1, -x0]), np.column_stack([y, -x])
        elif turns == 2:
            lines.box[rows], lines.origin[rows] = np.column_stack([-x1, -y1, -x0, -y0]), np.column_stack([-x, -y])
        else:  # reads upwards
            lines.box[rows], lines.origin[rows] = np.column_stack([-y1, x0, -y0, x1]), np.column_stack([-y, x])

    right_to_left = right_to_left[keep]
    if right_to_left.any():
        n = n[keep]
        mirrored = (np.bincount(lines.page, n * right_to_left) > 0.5 * np.bincount(lines.page, n))[lines.page]
        lines.box[mirrored] = lines.box[mirrored][:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
    return lines


# --- What is no text of its own ----------------------------------------------------------------------------------------------


def overlapping_pairs(page, base, left, right, size):
    """Rows of lines or spans that lie over each other, on nearly one baseline: [(row, later row), ...]"""
    by_height, pairs = np.lexsort((base, page)), []
    for step in range(1, min(SIDE_BY_SIDE, len(base))):
        upper, lower = by_height[:-step], by_height[step:]
        near = (page[upper] == page[lower]) & (base[lower] - base[upper] < 0.4 * np.minimum(size[upper], size[lower]))
        common = np.minimum(right[upper], right[lower]) - np.maximum(left[upper], left[lower])
        near &= common > 0.6 * np.minimum(right[upper] - left[upper], right[lower] - left[lower])
        pairs += np.sort(np.column_stack([upper[near], lower[near]]), axis=1).tolist()
    return pairs


def _drawn_twice(lines):
    """bool [n]: the lines drawn over an earlier one with the same text: shadows, bold type made of two copies, OCR of text."""
    left, _, right, _ = lines.box.T
    twice = np.zeros(len(left), bool)
    for first, second in overlapping_pairs(lines.page, lines.origin[:, 1], left, right, lines.size):
        if not (twice[first] or twice[second]) and _is_copy(lines.text[first], lines.text[second]):
            # the longer text stays: an OCR program joins and parts lines
            twice[first if len(lines.text[first]) < 0.8 * len(lines.text[second]) else second] = True
    return twice


def _is_copy(text, other):
    """True if the letters of one are those of the other, or a part of them, but for mistakes of an OCR program."""
    text, other = ("".join(filter(str.isalnum, text.lower())) for text in (text, other))
    if not text or not other:
        return False
    return text in other or other in text or SequenceMatcher(None, text, other, autojunk=False).ratio() > SAME_TEXT


def _line_numbers(lines):
    """bool [n]: the numbers of lines in a margin: columns of numbers that grow by the same step, beside running text."""
    rows = np.array([row for row, text in enumerate(lines.text) if text.strip().isdecimal() and len(text) < 7], np.int64)
    found = np.zeros(len(lines.text), bool)
    if len(rows) < LEAST_NUMBERS:
        return found
    value = np.array([int(lines.text[row]) for row in rows.tolist()])
    base, page = lines.origin[rows, 1], lines.page[rows]
    for side in (2, 0):  # numbers are aligned at their right or left edge
        edge = lines.box[rows, side]
        by_edge = np.argsort(edge, kind="stable")
        column = np.empty(len(rows), np.int64)
        column[by_edge] = np.cumsum(np.diff(edge[by_edge], prepend=edge[by_edge[0]]) > 2)
        order = np.lexsort((base, page, column))
        runs = np.split(order, np.flatnonzero(np.diff(column[order]) | np.diff(page[order])) + 1)
        columns = defaultdict(list)  # (column, step) -> rows
        for run in runs:
            steps = Counter(np.diff(value[run]).tolist())
            step, times = steps.most_common(1)[0] if steps else (0, 0)
            pitch = np.diff(base[run])
            even = np.abs(pitch - np.median(pitch)) < 0.1 * np.median(pitch) if steps else pitch
            grow = step in LINE_STEPS and len(run) > 2 and min(times, 1.4 * even.sum()) >= 0.8 * len(pitch)
            if grow and _beside_running_text(lines, rows[run]):
                columns[int(column[run[0]]), step] += rows[run].tolist()
        for numbers in columns.values():
            found[numbers] |= len(numbers) >= LEAST_NUMBERS
    return found


def _beside_running_text(lines, numbers):
    """True if the nearest texts on the height of these numbers are long, and do not begin as items or rows of a table do."""
    texts = []
    starts = np.searchsorted(lines.page, np.arange(lines.page[-1] + 2))
    for row in numbers.tolist():
        page = slice(starts[lines.page[row]], starts[lines.page[row] + 1])
        box, (left, _, right, _) = lines.box[row], lines.box[page].T
        distance = np.maximum(left - box[2], box[0] - right)
        level = np.abs(lines.origin[page, 1] - lines.origin[row, 1]) < 0.6 * np.maximum(lines.size[page], lines.size[row])
        distance[~level | (distance < -0.5 * lines.size[row])] = np.inf
        distance[row - page.start] = np.inf
        if distance.min() < np.inf:
            texts.append(lines.text[page.start + int(distance.argmin())].strip())
    long = [text for text in texts if len(text) >= 20]
    inside = sum(text[0].isalpha() and not text[0].isupper() for text in long)
    return len(long) > 0.3 * len(numbers) and len(long) > 0.5 * len(texts) and inside > 0.2 * len(long)


def _join_drop_caps(lines):
    """Puts the large first letter of a paragraph before its first line, and the lines beside it at its left edge."""
    usual = np.median(lines.size)
    left, top, right, bottom = lines.box.T
    base, keep = lines.origin[:, 1], np.ones(len(lines.text), bool)
    for row in np.flatnonzero(lines.size > 1.7 * usual).tolist():
        cap = lines.text[row]
        if len(cap) > 2 or not cap[-1].isupper():
            continue
        beside = (lines.page == lines.page[row]) & (np.abs(left - right[row]) < usual) & (lines.size < 0.6 * lines.size[row])
        beside = np.flatnonzero(beside & (base > top[row]) & (base < bottom[row]))
        if len(beside) < 2:
            continue
        first = beside[base[beside].argmin()]
        if cap in WORD_OF_ONE_LETTER:  # "A river", but "Although"
            words, word = " ".join(lines.text).lower().split(), lines.text[first].lower().split()[0]
            cap += " " if words.count(word) - 1 > words.count(cap.lower() + word) else ""
        lines.text[first] = cap + lines.text[first]
        lines.box[beside, 0] = left[row]
        keep[row] = False
    return lines.take(np.flatnonzero(keep))


def _join_pieces(lines, widest_gap=np.inf):
    """
    Joins pieces that follow each other on one baseline with a gap of less than widest_gap font sizes.

    MuPDF cuts a line at gaps wider than 0.8 of the size: between the cells of a table, but in stretched lines of text too.
    """
    left, right, base, size = lines.box[:, 0], lines.box[:, 2], lines.origin[:, 1], lines.size
    gap = left[1:] - right[:-1]
    larger = np.maximum(size[1:], size[:-1])
    same = (lines.page[1:] == lines.page[:-1]) & (np.abs(base[1:] - base[:-1]) < 0.3 * larger)
    same &= (gap > -0.5 * larger) & (gap < widest_gap * larger)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    between = np.where(gap > 1.5 * larger, 2, gap > 0.1 * larger).tolist()
    ends = np.append(starts[1:], len(size))
    merged = lines.take(starts)
    for row in np.flatnonzero(ends - starts > 1).tolist():
        pieces = [lines.text[starts[row]]]
        for piece in range(starts[row] + 1, ends[row]):
            pieces += (("", " ", "\t")[between[piece - 1]], lines.text[piece])
        merged.text[row] = "".join(pieces)
    merged.text = [text.strip() for text in merged.text]
    merged.size = size[widest_of_groups(right - left, starts)]  # not that of a bullet or an index
    merged.box = np.hstack([np.minimum.reduceat(lines.box[:, :2], starts), np.maximum.reduceat(lines.box[:, 2:], starts)])
    return merged


# --- Running headers and footers ---------------------------------------------------------------------------------------------


def _edge_rows(order, base):
    """The first EDGE_ROWS rows of lines in this order; a row holds lines of one height."""
    rows, last = [], None
    for line in order:
        if last is None or abs(base[line] - last) > 3:
            if len(rows) == EDGE_ROWS:
                break
            rows.append([])
            last = base[line]
        rows[-1].append(line)
    return rows


def _rows_before_wide_gaps(rows, base):
    """The numbers of rows after which the gap is wider than usual."""
    gaps = np.abs(np.diff([base[row[0]] for row in rows]))
    return (np.flatnonzero(gaps > 1.4 * np.median(gaps)) + 1).tolist() if len(gaps) > 1 else []


def _has_leader(line):
    """True for a line with the dots of a table of contents."""
    return "...." in line or ". . ." in line or "……" in line or "____" in line


def _page_offsets(text, page):
    """Numbers at both ends of the line, less that of the page: a number that counts the pages gives the same on all of them."""
    if alone := PAGE_NUMBER.fullmatch(text):
        if alone[1]:
            return [int(alone[1]) - page]
        value = [{"i": 1, "v": 5, "x": 10}[letter] for letter in alone[2].lower()]
        return [sum(-a if a < b else a for a, b in zip(value, [*value[1:], 0], strict=True)) - page] if value else []
    if text.count(" ") < 2 or _has_leader(text):  # "Table 3" has no page number
        return []
    numbers = [int(found[1]) for found in (FIRST_NUMBER.match(text), LAST_NUMBER.search(text[-12:])) if found]
    return [number - page for number in numbers]


def _running_headers(lines):
    """bool [n]: the lines that are running headers, footers or page numbers."""
    base = lines.origin[:, 1]
    by_height = np.lexsort((lines.box[:, 0], base, lines.page))
    starts = np.flatnonzero(np.diff(lines.page[by_height], prepend=-1))
    edges = []  # (page, side, rows from the edge inwards; a row is [line, ...])
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(by_height)], strict=True):
        top = by_height[begin : min(end, begin + EDGE_LINES)].tolist()
        bottom = by_height[max(begin, end - EDGE_LINES) : end][::-1].tolist()
        page = int(lines.page[top[0]])
        edges += [(page, 0, _edge_rows(top, base)), (page, 1, _edge_rows(bottom, base))]
    pages = len(starts)
    seen = defaultdict(set)  # (side, height, text or offset of its number from the page's) -> pages
    marks = {}  # line -> (side, height, text, offsets)

    def repeated(line):
        """0; 1 for a text that other pages have at this height; 2 for a number that counts the pages."""
        side, height, *found = marks[line]
        for mark in found:
            on = len(set().union(*(seen.get((side, near, mark), ()) for near in (height - 1, height, height + 1))))
            if on >= (2 if pages < 6 or (isinstance(mark, int) and PAGE_NUMBER.fullmatch(found[0])) else 3):
                return 2 if isinstance(mark, int) else 1
        return 0

    def is_header(row):
        kinds = [repeated(line) for line in row]
        letters = [len(lines.text[line]) for line in row]
        alike = sum(n for n, kind in zip(letters, kinds, strict=True) if kind)
        return 2 in kinds or (2 * alike >= sum(letters) and len(row) < 4)  # a row of more pieces is the head of a table

    remove = np.zeros(len(base), bool)
    heights = defaultdict(set)  # heights of removed rows -> pages
    inwards = edges
    for depth in range(EDGE_ROWS):
        inwards = [edge for edge in inwards if len(edge[2]) > depth]
        for page, side, rows in inwards:
            for line in rows[depth]:
                height, text = round(base[line] / 3), " ".join(lines.text[line].split())
                marks[line] = (side, height, text, *_page_offsets(text, page // 4))
                for mark in marks[line][2:]:
                    seen[side, height, mark].add(page)
        inwards = [edge for edge in inwards if is_header(edge[2][depth])]
        for page, side, rows in inwards:
            remove[rows[depth]] = True
            heights[side, round(base[rows[depth][0]] / 3)].add(page)
        if pages < 3:  # two pages of a form repeat more than their edges: only a row with a page number lets the search go on
            inwards = [edge for edge in inwards if any(repeated(line) == 2 for line in edge[2][depth])]
    for _, _, rows in inwards:  # all rows were repeated, so the text is: only rows before a wide gap can be a header
        for row in rows[max(_rows_before_wide_gaps(rows, base), default=0) :]:
            remove[row] = False
    # a header at one height of most pages is one on every page, though it may name another section
    for page, side, rows in edges:
        height = round(base[rows[0][0]] / 3)
        on = set().union(*(heights.get((side, near), ()) for near in (height - 1, height, height + 1)))
        if page not in on and len(on) >= max(3, pages / 2) and 1 in _rows_before_wide_gaps(rows, base):
            remove[rows[0]] = True
    letters = [len(text) for text in lines.text]
    # if most of the text would go, the pages are copies of one page
    return remove if 2 * np.dot(remove, letters) < sum(letters) else np.zeros(len(base), bool)


# --- Reading order -----------------------------------------------------------------------------------------------------------


def _letters_and_first_word(lines):
    """The letters of each line, and the width of its first word."""
    letters = np.array([len(text) for text in lines.text], np.int64)
    word = np.array([text.find(" ") for text in lines.text], np.int64)
    return letters, (lines.box[:, 2] - lines.box[:, 0]) * np.where(word < 0, letters, word) / letters


def _find_gutter(left, right, letters):
    """
    The x that parts most letters into left and right, with few across: (x, how far a line across it must reach beyond it on both
    sides), or None.
    """
    begin, width = left.min(), right.max() - left.min()
    step = max(2.0, width / 1000)
    steps = int(width / step) + 2
    opened = np.cumsum(np.bincount(((left - begin) / step).astype(np.int64), letters, steps))
    closed = np.cumsum(np.bincount(np.ceil((right - begin) / step).astype(np.int64), letters, steps))
    # letters of the lines that end at or before each x, and that start at or after it
    before, after = closed, opened[-1] - np.concatenate([[0], opened[:-1]])
    score = np.minimum(before, after) - 0.25 * (opened[-1] - before - after)
    best = int(score.argmax())
    if score[best] <= 0:
        return None
    end = best + int((np.append(score[best:], -np.inf) != score[best]).argmax())
    return begin + step * (best + end - 1) / 2, 0.05 * width


def _wrapped_share(ids, left, right, base, size, letters, first_word, weight):
    """The share of the text in lines that ended because they were full: high in a column, low in a table."""
    if len(ids) < COLUMN_LINES or (letters[ids] ** 2).sum() < COLUMN_LETTERS * letters[ids].sum():
        return 0.0
    ids = ids[np.argsort(left[ids], kind="stable")]
    column = np.cumsum(np.diff(left[ids], prepend=left[ids[0]]) > COLUMN_GAP)  # a side may hold several columns
    by_height = np.lexsort((base[ids], column))
    ids, column = ids[by_height], column[by_height]
    edge = np.maximum.reduceat(right[ids], np.flatnonzero(np.diff(column, prepend=-1)))[column]
    this, following = ids[:-1], ids[1:]
    continues = (column[1:] == column[:-1]) & (edge[:-1] - right[this] < first_word[following] + 0.3 * size[following])
    down = base[following] - base[this]
    continues &= (down > 0.3 * size[this]) & (down < 2.5 * size[this]) & (np.abs(size[following] - size[this]) < 0.2 * size[this])
    return np.dot(letters[this[continues]], weight[following[continues]]) / letters[ids].sum()


def _is_sure(split, usual=None, each=SURE_OF_EACH):
    """True if both sides of the split look like columns; the usual gutter of the document needs less evidence."""
    (middle, _), _, shares = split
    if usual and abs(middle - usual[0]) < 12:
        return min(shares) > 0 and sum(shares) > 0.5 * SURE_OF_BOTH
    return min(shares) > each and sum(shares) > SURE_OF_BOTH


def _sort_by_height(base, size, block):
    """
    Positions in the order of the file, with what stands below other lines after them.

    Runs of lines are sorted by height; runs that stand side by side keep their order.
    """
    if len(base) < 2:
        return np.arange(len(base))
    starts = np.flatnonzero(np.concatenate([[True], (block[1:] != block[:-1]) | (base[1:] < base[:-1] - 0.7 * size[1:])]))
    top = np.minimum.reduceat(base - 0.6 * size, starts)
    bottom = np.maximum.reduceat(base, starts)
    if (top[1:] >= bottom[:-1]).all():
        return np.arange(len(base))
    by_top = np.argsort(top, kind="stable")
    lowest = np.maximum.accumulate(bottom[by_top])
    strip = np.empty(len(starts), np.int64)
    strip[by_top] = np.cumsum(np.concatenate([[0], top[by_top][1:] >= lowest[:-1]]))
    runs = np.repeat(strip, np.diff(starts, append=len(base)))
    return np.argsort(runs, kind="stable")


def _reading_order(lines):
    """Row numbers of the lines in reading order, and for each the number of its column or band."""
    left, right, base, size = lines.box[:, 0], lines.box[:, 2], lines.origin[:, 1], lines.size
    letters, first_word = _letters_and_first_word(lines)
    # a line inside a paragraph seldom begins with a capital; rows of a table often begin with a number
    weight = np.array([0.0 if text[0].isdigit() else 0.5 if text[0].isupper() else 1.0 for text in lines.text])
    order, region = [], []

    def split(ids, gutter=None):
        """(gutter, (lines across it, left of it, right of it), _wrapped_share of both sides); None where there is no gutter."""
        gutter = gutter or _find_gutter(left[ids], right[ids], letters[ids])
        if gutter is None:
            return None
        middle, reach = gutter
        across = (left[ids] < middle - reach) & (right[ids] > middle + reach)
        on_left = ~across & (left[ids] + right[ids] < 2 * middle)
        parts = ids[across], ids[on_left], ids[~across & ~on_left]
        return gutter, parts, [_wrapped_share(side, left, right, base, size, letters, first_word, weight) for side in parts[1:]]

    def read(ids, columns, depth=0):
        if columns is None:
            order.append(ids[_sort_by_height(base[ids], size[ids], lines.block[ids])])
            region.append(np.full(len(ids), len(region)))
            return
        across, *sides = columns[1]
        across = across[np.argsort(base[across], kind="stable")]
        bands = [np.searchsorted(base[across], base[side]) for side in sides]  # number of lines across that lie above
        sides = [side[np.argsort(band, kind="stable")] for side, band in zip(sides, bands, strict=True)]
        cuts = np.unique(np.concatenate([[0, len(across)], *bands]))
        limits = [np.searchsorted(np.sort(band), [*cuts, len(across) + 1]).tolist() for band in bands]
        cuts = [*cuts.tolist(), len(across)]
        for band in range(len(cuts) - 1):
            parts = [side[limit[band] : limit[band + 1]] for side, limit in zip(sides, limits, strict=True)]
            for part in (*parts, np.sort(across[cuts[band] : cuts[band + 1]])):
                if len(part):
                    again = split(part) if len(part) >= 2 * COLUMN_LINES and depth < COLUMN_DEPTH else None
                    read(part, again if again and _is_sure(again) else None, depth + 1)

    starts = np.flatnonzero(np.diff(lines.page, prepend=-1)).tolist()
    pages = [np.arange(begin, end) for begin, end in zip(starts, [*starts[1:], len(lines.page)], strict=True)]
    found = [split(page) if len(page) >= 2 * COLUMN_LINES else None for page in pages]
    sure = [split for split in found if split and _is_sure(split)]
    # pages full of formulas and figures are unsure, but their columns are those of the document's other pages
    usual = sorted(gutter for gutter, _, _ in sure)[len(sure) // 2] if len(sure) >= max(2, 0.2 * len(pages)) else None
    for page, own in zip(pages, found, strict=True):
        if usual and own and not _is_sure(own):
            own = split(page, usual)
        alone = len(pages) > 4 and not usual
        read(page, own if own and _is_sure(own, usual, SURE_ALONE if alone else SURE_OF_EACH) else None)
    return np.concatenate(order), np.concatenate(region)


# --- Paragraphs --------------------------------------------------------------------------------------------------------------


def _runs(lines):
    """The first line of each block, or of its part in a column, and its number of lines."""
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(lines.block) != 0) | (np.diff(lines.page) != 0)]))
    return starts, np.diff(starts, append=len(lines.text))


def _repeat(values, starts, n):
    return np.repeat(values, np.diff(starts, append=n))


def _justified(lines):
    """For each line: True if most lines of its block but the last end at one right edge, and the edge."""
    right, (run, n) = lines.box[:, 2], _runs(lines)
    edge = _repeat(np.maximum.reduceat(right, run), run, len(right))
    at_edge = np.add.reduceat(right > edge - 0.5 * lines.size, run)
    return _repeat((at_edge > 1) & (at_edge >= 0.6 * (n - 1)), run, len(right)), edge


def _join_stretched_words(lines):
    """Makes tabs spaces in a justified block where few lines have one, and after the number of a heading."""
    cells = np.array(["\t" in line for line in lines.text])
    if cells.any():
        run, n = _runs(lines)
        justified, edge = _justified(lines)
        stretched = (
            justified & _repeat(np.add.reduceat(cells, run) * 2 <= n, run, len(cells)) & (lines.box[:, 2] > edge - lines.size)
        )
        for row in np.flatnonzero(cells).tolist():
            line = lines.text[row]
            lines.text[row] = line.replace("\t", " ") if stretched[row] else NUMBERED.sub(r"\1 ", line)


def _line_pairs(lines):
    """
    For each line and the next one: (elsewhere, near, alike, full, shift, hanging).

    elsewhere  the next line is in another column or higher up
    near       it is as close as lines of a paragraph are
    alike      both have the same size
    full       this line had no room for the first word of the next one
    shift      the next line begins further left (-1), further right (1), or neither (0)
    hanging    this line's block has hanging indents
    """
    left, right, base, size = lines.box[:, 0], lines.box[:, 2], lines.origin[:, 1], lines.size
    run, n = _runs(lines)
    larger = np.maximum(size[1:], size[:-1])
    pitch = (base[1:] - base[:-1]) / larger
    elsewhere = (lines.page[1:] != lines.page[:-1]) | (pitch < -1)
    below = ~elsewhere & (pitch > 0.3)
    usual = np.median(pitch[below & (pitch < 3)]) if (below & (pitch < 3)).any() else 1.2
    near = below & (pitch < 1.3 * usual)
    height = lines.box[:, 3] - lines.box[:, 1]
    alike = (larger < 1.12 * np.minimum(size[1:], size[:-1])) | (np.abs(np.diff(height)) < 0.12 * height[1:])
    # the right edge of a justified block counts for its lines, else the edge of the column
    justified, edge = _justified(lines)
    column = np.flatnonzero(np.diff(lines.page, prepend=-1))
    edge = np.where(justified, edge, _repeat(np.maximum.reduceat(right, column), column, len(right)))
    # a third more: the width of the word is estimated from its number of letters, and some letters are narrow
    full = edge[:-1] - right[:-1] < 1.35 * _letters_and_first_word(lines)[1][1:] + 0.25 * size[1:]
    shift = np.where(np.abs(np.diff(left)) < 0.8 * larger, 0, np.sign(np.diff(left))).astype(np.int64)
    # most lines of a block with hanging indents are indented
    further = left > _repeat(np.minimum.reduceat(left, run), run, len(left)) + 0.5 * size
    hanging = _repeat(np.add.reduceat(further, run) * 2 > n, run, len(left))[:-1]
    return zip(*(array.tolist() for array in (elsewhere, near, alike, full, shift, hanging)), strict=True)


def _is_item(line, may_start):
    return line[0] in BULLETS or (may_start and bool(ITEM.match(line)))


def _remove_hyphens(parts, gaps):
    """
    Removes the hyphen of words that a line end broke; parts[gap] lies between the hyphen and the rest of the word.

    The hyphen stays where the document has the compound more often than the joined word, or both halves as words but not the joined
    word. Of 3,594 broken words in papers and manuals, 99.4 % get the form that is more frequent in Wikipedia; joining all gives
    98.7 %.
    """
    if not gaps:
        return
    halves = [(FIRST_HALF.search(parts[gap - 1][-40:])[1], SECOND_HALF.match(parts[gap + 1])[0]) for gap in gaps]

    def forms(word):
        return [case + mark for case in {word, word[0].lower() + word[1:]} for mark in ("", ",", ".", ";", ":", ")")]

    wanted = {form for start, end in halves for word in (start, end, start + end, f"{start}-{end}") for form in forms(word)}
    text = " ".join(parts)
    words = Counter(filter(wanted.__contains__, text.split()))
    words.subtract(parts[gap + 1].split(maxsplit=1)[0] for gap in gaps)  # second halves, which are not words of the document

    def count(word):
        return sum(words[form] for form in forms(word))

    soft_are_hard = "\xad" in text and any("\xad" in part[:-1] for part in parts)  # some fonts encode every hyphen as a soft one
    for gap, (start, end) in zip(gaps, halves, strict=True):
        line = parts[gap - 1]
        if line[-1] != "\xad" or soft_are_hard:
            joined, compound = count(start + end), count(f"{start}-{end}")
            two_words = len(start) > 3 and len(end) > 3 and count(start) > 0 and count(end) > 0
            rare = not joined and (two_words or len(start) == 1)
            if compound > joined or rare or KEEPS_HYPHEN.search(line, line.rfind(" ") + 1, len(line) - 1):
                continue
        parts[gap - 1] = line[:-1]


def _join_paragraphs(lines):
    """Lines in reading order, with the number of their column in lines.page -> text."""
    text = lines.text
    if len(text) == 1:
        return text[0]
    _join_stretched_words(lines)
    parts, broken_words = [text[0]], []
    first, item = True, _is_item(text[0], True)  # the last line was the first of its paragraph; the paragraph is a list item
    for i, (elsewhere, near, same_size, full, shift, hanging) in enumerate(_line_pairs(lines)):
        last, line = text[i], text[i + 1]
        ended = last[-1] in ".:;!?"
        broken = last[-1] in HYPHENS and last[-2:-1].isalpha() and line[0].islower() and line[0].isalpha()
        starts_item = _is_item(line, item or ended)
        if elsewhere:
            continues = same_size and (broken or (full and len(last) > 20 and line[0].islower() and not ended))
        else:
            continues = near and same_size and (broken or (full and not starts_item and not _has_leader(last)))
            continues = continues and "\t" not in last and "\t" not in line and not (last[0].isdigit() and line[0].isdigit())
            continues = continues and (broken or shift == 0 or (first and (shift < 0 or item or hanging)))
        if continues:
            if broken:
                broken_words.append(len(parts))
            closed = (last[-1] in HYPHENS and last[-2:-1].isalnum()) or (CJK.match(last[-1]) and CJK.match(line[0]))
            parts += ("" if closed else " ", line)
            first = False
        else:
            parts += ("\n" if near and (first or starts_item) else "\n\n", line)
            first, item = True, starts_item
    _remove_hyphens(parts, broken_words)
    return SPACES.sub(" ", "".join(parts).replace("\xad", "-").replace("\u2010", "-"))


# --- All of it ---------------------------------------------------------------------------------------------------------------


def reading_text(lines: Lines) -> str:
    """No lines give ""."""
    if not lines.text:
        return ""
    lines = _turn_upright(lines)
    lines = lines.take(np.flatnonzero(~_drawn_twice(lines)))
    lines = lines.take(np.flatnonzero(~_line_numbers(lines)))
    lines = _join_drop_caps(_join_pieces(lines, widest_gap=1.0))
    lines = lines.take(np.flatnonzero(~_running_headers(lines)))
    if not lines.text:
        return ""
    order, region = _reading_order(lines)
    lines = lines.take(order)
    lines.page = region
    lines = _join_pieces(lines)
    return _join_paragraphs(lines)
