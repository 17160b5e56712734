"""
Blocks of a page -> the probability of each to be content and not a menu, a banner, an advertisement, a list of other pages.

Two rounds of gradient-boosted trees, fitted by dev/fit_html.py to pages whose content people have marked. The first one sees a
block as it is (words, links, punctuation, the names of the elements around it), its neighbours, the elements that contain it and
the page; the second one sees also what the first one thought of all of those. `select` then takes the blocks of most expected F1.

Score: mean word F1 over seven sets 0.93 on pages whose templates it never saw, 0.92 on sets it never saw.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import find, hash_table
from data_engine.text.html_blocks import (
    BIT,
    BOLD,
    FNV_PRIME,
    FNV_START,
    GROUPS,
    H1,
    HASH,
    HIDDEN,
    LINK,
    TAG,
    Blocks,
    P,
    fnv,
    is_letter,
    is_space,
    words,
)

# Elements that say something of what is in them; GROUPS of html_blocks has the words in class and id.
ELEMENTS = dict(
    p="p", item="li", list="ul ol menu dir", definition="dl dt dd", cell="td th", table="table", nav="nav", header="header hgroup",
    footer="footer", aside="aside", form="form fieldset label button legend", article="article", main="main", section="section",
    quote="blockquote", figure="figure figcaption", heading="h1 h2 h3 h4 h5 h6", pre="pre listing xmp", div="div center custom",
    address="address", details="details summary dialog",
)  # fmt: skip
NAMES = len(GROUPS) + len(ELEMENTS)
ELEMENT_BITS = np.zeros(len(TAG) + 8, np.int64)
for _position, _tags in enumerate(ELEMENTS.values()):
    for _tag in words(_tags):
        ELEMENT_BITS[TAG[_tag]] |= 1 << (len(GROUPS) + _position)
HTML5 = sum(
    1 << (len(GROUPS) + list(ELEMENTS).index(name)) for name in ("nav", "header", "footer", "aside", "article", "main", "section")
)
COMMENT = BIT["comment"]
COMMENT_LEVELS = 6  # further out it is the page that "has-comments"

ORDER = np.zeros(len(TAG) + 8, np.int64)  # tags from running text to headings to what frames a page: trees cut an order in two
for _position, _tag in enumerate(
    (
        *words("p blockquote pre dd dt li td th div center section article main body custom figcaption summary"),
        *words("h1 h2 h3 h4 h5 h6 header caption address label form aside footer nav button"),
    )
):
    ORDER[TAG[_tag]] = _position + 1
FIRST_HEADING, LAST_HEADING = ORDER[TAG["h1"]], ORDER[TAG["h6"]]
TABLE, DIV = TAG["table"], TAG["div"]
NAV, FOOTER, ARTICLE, MAIN = (TAG[name] for name in ("nav", "footer", "article", "main"))

STOP_WORDS = """
the of and to a in is that it for was on with as be by at this have from or had not are but which they you were his her she he their
has been will would who there we an if when what so can more all about my your our its them than then some could into only other
der die und den das von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach bei um noch
wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sind
de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont avec ou son
el los del las por con una su para al lo como más o pero sus ha di che è e per non si da sono nel della alla più anche come
van het een en dat niet te zijn voor met op aan er maar om ook os as um uma do da em no na não mais
i w z na się nie do że jest och att det som på är av för inte den med till
"""
LONG = 20  # words outside of links that make a long block
GOOD = 8  # words outside of links from which a block counts as running text


class Forest(NamedTuple):
    """Trees as one array of nodes; the children of a node stand side by side."""

    roots: np.ndarray  # int32: where each tree begins
    feature: np.ndarray  # int16: -1 in a leaf
    value: np.ndarray  # float32: a block with more than this goes right; what a leaf adds to the log odds
    left: np.ndarray  # int32: the left child; the right one is the next


@functools.cache
def model():
    """Stop words and the two forests."""
    with np.load(Path(__file__).with_name("html_content.npz")) as file:
        forests = [Forest(*(file[f"{name}{stage}"].astype(kind) for name, kind in FOREST_TYPES)) for stage in (1, 2)]
    return (word_set(STOP_WORDS), *forests)


FOREST_TYPES = ("roots", np.int32), ("feature", np.int16), ("value", np.float32), ("left", np.int32)


def word_set(text):
    """The words of a text, as `count` tells them apart, for `find`."""
    return hash_table(sorted({fnv(word) for word in WORD.findall(text.encode("utf-8", "replace").lower())}))


WORD = re.compile(rb"(?:[0-9A-Za-z_\xc3-\xe1\xe3-\xee\xf0-\xff][\x80-\xbf]*)+")


def content_probability(blocks: Blocks, title: str, page_bytes: int):
    """
    For each block the probability to be content, float32; and what else was seen of it.

    title       of the page
    page_bytes  its length as HTML
    """
    stop, first, second = model()
    seen = observe(blocks, stop, word_set(title[:1000]), page_bytes)
    p = evaluate(first, seen.features)
    p = evaluate(second, np.hstack([reconsider(blocks, seen, p), seen.features]))
    return p, seen


@njit(cache=True)
def in_frame(tag, parent):
    """bool (m,): the elements in a <nav>, or in a <footer> that is the page's and not an article's: content is elsewhere."""
    frame, article = np.zeros(len(tag), np.bool_), np.zeros(len(tag), np.bool_)
    for e in range(len(tag)):
        if e:  # parents come before their children
            frame[e], article[e] = frame[parent[e]], article[parent[e]]
        article[e] |= tag[e] == ARTICLE or tag[e] == MAIN
        frame[e] |= tag[e] == NAV or (tag[e] == FOOTER and not article[e])
    return frame


def select(p, weights):
    """
    Which blocks give the most expected F1 of words: those above half of it (Lipton et al. 2014, arXiv:1402.1892).

    p        probability of each block; where all are low, the bar is low too, so that something is always kept
    weights  its words
    """
    total, best = float((p * weights).sum()), 0.0
    while True:
        keep = p >= best / 2
        f1 = 2 * float((p * weights)[keep].sum()) / max(float(weights[keep].sum()) + total, 1e-9)
        if f1 <= best + 1e-9:
            return keep
        best = f1


@njit(cache=True)
def evaluate(forest, features):
    """Probabilities by the sum of what the trees say."""
    p = np.empty(len(features), np.float32)
    for block in range(len(features)):
        row = features[block]
        total = np.float32(0)
        for root in forest.roots:
            node = root
            while forest.feature[node] >= 0:
                node = forest.left[node] + (row[forest.feature[node]] > forest.value[node])
            total += forest.value[node]
        p[block] = 1 / (1 + np.exp(-total))
    return p


# --- The first round: what can be seen -------------------------------------------------------------------------------------


class Seen(NamedTuple):
    features: np.ndarray  # float32 (n, FEATURES)
    words: np.ndarray  # float32 (n,)
    running: np.ndarray  # float32 (n,): its words outside of links, 0 where they are too few to be a sentence
    template: np.ndarray  # int32 (n,): equal for blocks that the same template made
    comment: np.ndarray  # bool (n,)


# counts of a block
(
    WORDS,
    BYTES,
    LINKED,
    BOLD_,
    HIDDEN_,
    COMMAS,
    ENDS,
    UPPER,
    CAPITALS,
    DIGITS,
    STOP,
    TITLED,
    SPECIAL,
    COLONS,
    RIGHTS,
    LINKS,
    FIRST,
    LAST,
) = range(18)
COUNTS = 18
OWN, PAGE, PLACE, CONTAINER, NEIGHBOUR = 26, 16, 14, 9, 5  # features of each kind
CONTAINERS, NEIGHBOURS = 5, (-1, 1, -2, 2, -3, 3)
FEATURES = OWN + PAGE + PLACE + CONTAINER * CONTAINERS + NEIGHBOUR * len(NEIGHBOURS) + 6 + NAMES


@njit(cache=True)
def observe(blocks, stop_words, title_words, page_bytes):
    """What the first round of trees sees of each block."""
    n, m, n_title = len(blocks.start), len(blocks.tag), max(1, (title_words["value"] >= 0).sum())
    tag, parent, element = blocks.tag, blocks.parent, blocks.element
    counts, hashes = count(blocks, stop_words, title_words)
    _, text_number = number(hashes)
    kinds = np.empty(n, np.int64)
    for b in range(n):
        kinds[b] = (blocks.kind[element[b]] * FNV_PRIME ^ blocks.kind[parent[element[b]]]) * FNV_PRIME
    n_templates, template = number(kinds)
    repeats = np.zeros(n, np.float32)
    for b in range(n):
        repeats[text_number[b]] += 1
    template_sum = np.zeros((n_templates, 3), np.float32)  # blocks, words, linked words
    for b in range(n):
        same = template_sum[template[b]]
        same[0] += 1
        same[1] += counts[b, WORDS]
        same[2] += counts[b, LINKED]

    good = np.zeros(n, np.float32)
    for b in range(n):
        plain = counts[b, WORDS] - counts[b, LINKED]
        if plain >= GOOD and plain > counts[b, LINKED]:
            good[b] = plain
    total, first, last = sum_up(blocks, counts, good)
    best, most = main_elements(blocks, good, total)
    out_of_best, out_of_most = levels_out(best, parent), levels_out(most, parent)

    depth = np.zeros(m, np.float32)
    for e in range(1, m):
        depth[e] = depth[parent[e]] + 1
    page_words, page_good = max(total[0, 0], np.float32(1)), max(total[0, 3], np.float32(1))
    first_h1, long_blocks, long_words, longest = n, 0, np.float32(0), np.float32(0)
    for b in range(n):
        if good[b] >= LONG:
            long_blocks += 1
            long_words += good[b]
        longest = max(longest, good[b])
        if tag[element[b]] == H1 and first_h1 == n:
            first_h1 = b
    html5 = tables = divs = 0
    for e in range(m):
        html5 += ELEMENT_BITS[tag[e]] & HTML5 != 0
        tables += tag[e] == TABLE
        divs += tag[e] == DIV
    after_long = np.empty(n, np.float32)
    ahead = np.float32(100)
    for b in range(n - 1, -1, -1):
        after_long[b] = ahead
        ahead = np.float32(0) if good[b] >= LONG else min(ahead + 1, np.float32(100))
    since_long = since_heading = np.float32(100)
    words_before = good_before = np.float32(0)

    features, comment = np.zeros((n, FEATURES), np.float32), np.zeros(n, np.bool_)
    for b in range(n):
        f, c, e = features[b], counts[b], element[b]
        words = max(c[WORDS], np.float32(1))
        # itself
        f[0], f[1], f[2], f[3], f[4] = c[WORDS], c[BYTES] / words, c[LINKED] / words, c[BOLD_] / words, c[HIDDEN_] / words
        f[5], f[6], f[7], f[8], f[9] = c[COMMAS] / words, c[ENDS] / words, c[ENDS], c[UPPER] / words, c[CAPITALS] / words
        f[10], f[11], f[12], f[13] = (
            c[DIGITS] / max(c[BYTES], np.float32(1)),
            c[STOP] / words,
            c[TITLED] / words,
            c[TITLED] / n_title,
        )
        f[14], f[15], f[16], f[17], f[18] = c[SPECIAL] / words, c[COLONS] / words, c[RIGHTS], c[LINKS], c[LAST]
        f[19], f[20], f[21], f[22] = ORDER[tag[e]], ORDER[tag[parent[e]]], depth[e], repeats[text_number[b]]
        same = template_sum[template[b]]
        f[23], f[24], f[25] = same[0], same[1] / same[0], same[2] / max(same[1], np.float32(1))
        at = OWN
        # the page
        f[at], f[at + 1], f[at + 2], f[at + 3] = page_words, total[0, 1] / page_words, n, long_blocks
        f[at + 4], f[at + 5], f[at + 6] = long_words / page_words, longest, total[0, 4] / page_words
        f[at + 7], f[at + 8], f[at + 9] = total[0, 6] / page_words, page_words / page_bytes, html5
        f[at + 10], f[at + 11] = tables, divs
        f[at + 12], f[at + 13] = total[best, 0] / page_words, total[best, 1] / max(total[best, 0], np.float32(1))
        f[at + 14], f[at + 15] = total[most, 0] / page_words, total[most, 1] / max(total[most, 0], np.float32(1))
        at += PAGE
        # its place in the page
        f[at], f[at + 1] = out_of_best[e], out_of_most[e]
        f[at + 2] = (b - first[best]) / (last[best] - first[best] + 1)
        f[at + 3] = (b - first[most]) / (last[most] - first[most] + 1)
        f[at + 4], f[at + 5], f[at + 6] = since_long, after_long[b], since_heading
        f[at + 7], f[at + 8], f[at + 9], f[at + 10] = b / n, words_before / page_words, good_before / page_good, b - first_h1
        f[at + 11], f[at + 12], f[at + 13] = first_h1 < n, blocks.gap[b], c[FIRST]
        since_long = np.float32(0) if good[b] >= LONG else min(since_long + 1, np.float32(100))
        since_heading = min(since_heading + 1, np.float32(100))
        if FIRST_HEADING <= ORDER[tag[e]] <= LAST_HEADING:
            since_heading = np.float32(0)
        words_before += c[WORDS]
        good_before += good[b]
        at += PLACE
        # the elements around it, each with more in it than the one before
        inner, around = np.float32(1), e
        for _ in range(CONTAINERS):
            while around and total[around, 2] <= inner:
                around = parent[around]
            s = total[around]
            inside = max(s[0], np.float32(1))
            f[at], f[at + 1], f[at + 2], f[at + 3] = s[0], s[1] / inside, s[2], s[0] / page_words
            f[at + 4], f[at + 5], f[at + 6] = s[3] / inside, s[4] / inside, s[5] / inside
            f[at + 7], f[at + 8] = (b - first[around] + 1) / (last[around] - first[around] + 1), ORDER[tag[around]]
            inner = s[2]
            at += CONTAINER
        # its neighbours
        for step in NEIGHBOURS:
            if 0 <= b + step < n:
                o = counts[b + step]
                others = max(o[WORDS], np.float32(1))
                f[at], f[at + 1], f[at + 2], f[at + 3] = o[WORDS], o[LINKED] / others, o[STOP] / others, o[LAST]
                f[at + 4] = ORDER[tag[element[b + step]]]
            else:
                f[at : at + NEIGHBOUR] = -2
            at += NEIGHBOUR
        for reach in (5, 15):
            near = near_linked = near_good = np.float32(0)
            for other in range(max(0, b - reach), min(n, b + reach + 1)):
                near += counts[other, WORDS]
                near_linked += counts[other, LINKED]
                near_good += good[other]
            near = max(near, np.float32(1))
            f[at], f[at + 1], f[at + 2] = near, near_linked / near, near_good / near
            at += 3
        # how many levels out stands an element of each name
        f[at:] = 16
        found = blocks.words[b]
        mark_names(f, at, found, -1)
        level, around = 0, e
        while level < 16:
            names = (blocks.element_words[around] | ELEMENT_BITS[tag[around]]) & ~found
            mark_names(f, at, names, level)
            found |= names
            if around == 0:
                break
            around = parent[around]
            level += 1
        comment[b] = f[at + COMMENT_AT] <= COMMENT_LEVELS
    return Seen(features, counts[:, WORDS].copy(), good, template, comment)


COMMENT_AT = list(GROUPS).index("comment")


@njit(cache=True)
def mark_names(row, at, names, level):
    while names:
        if names & 1:
            row[at] = level
        names >>= 1
        at += 1


@njit(cache=True)
def count(blocks, stop_words, title_words):
    """COUNTS of each block, and a hash of its words."""
    text, marks = blocks.text, blocks.marks
    counts, hashes = np.zeros((len(blocks.start), COUNTS), np.float32), np.zeros(len(blocks.start), np.int64)
    for b in range(len(blocks.start)):
        c, at, stop = counts[b], blocks.start[b], blocks.end[b]
        hashed, was_link = np.int64(FNV_START), False
        while at < stop:
            is_link = marks[at] & LINK != 0
            c[LINKS] += is_link and not was_link
            was_link = is_link
            byte = text[at]
            if is_word(byte):
                first, word, upper = at, np.int64(FNV_START), 0
                while at < stop and is_word(text[at]):
                    byte = np.int64(text[at])
                    if 65 <= byte <= 90:
                        upper += 1
                        byte |= 32
                    c[DIGITS] += 48 <= byte <= 57
                    word = (word ^ byte) * FNV_PRIME
                    at += 1
                word &= HASH
                hashed = (hashed ^ word) * FNV_PRIME
                c[WORDS] += 1
                c[BYTES] += at - first
                c[UPPER] += 65 <= text[first] <= 90
                c[CAPITALS] += upper == at - first and upper > 1
                c[LINKED] += marks[first] & LINK != 0
                c[BOLD_] += marks[first] & BOLD != 0
                c[HIDDEN_] += marks[first] & HIDDEN != 0
                c[STOP] += find(stop_words, word) >= 0
                c[TITLED] += find(title_words, word) >= 0
                continue
            if byte == 44 or byte == 59:
                c[COMMAS] += 1
            elif byte in (33, 46, 63):
                c[ENDS] += at + 1 == stop or is_space(text[at + 1]) or text[at + 1] == 34 or text[at + 1] >= 128
            elif byte in (35, 42, 47, 62, 64, 124):  # # * / > @ |
                c[SPECIAL] += 1
            elif byte == 58:
                c[COLONS] += 1
            elif byte == 0xC2:
                c[SPECIAL] += text[at + 1] in (0xB7, 0xBB)
                c[RIGHTS] += text[at + 1] == 0xA9
                at += 1
            elif byte in (0xE2, 0xEF):
                at += 2
            at += 1
        hashes[b] = hashed
        at = stop - 1
        while at > blocks.start[b] and (text[at] in (34, 41, 0x9D, 0x80) or (text[at] == 0xE2 and at + 1 < stop)):  # " ) ”
            at -= 1
        last, first_byte = text[at], text[blocks.start[b]]
        c[LAST] = 3 if last in (33, 46, 63) else 2 if last == 58 else 1 if last in (44, 59) else 0 if is_word(last) else -1
        c[FIRST] = 2 if 65 <= first_byte <= 90 else 1 if 97 <= first_byte <= 122 else 3 if first_byte >= 128 else 0
    return counts, hashes


@njit(cache=True)
def is_word(byte):
    """Letters, digits, and every byte beyond ASCII that does not begin a sign (U+0080..BF, U+2000..2FFF, U+F000..)."""
    return is_letter(byte) or 48 <= byte <= 57 or byte == 95 or (byte >= 128 and byte not in (0xC2, 0xE2, 0xEF))


@njit(cache=True)
def number(hashes):
    """How many different ones, and the number of each, in order of appearance."""
    size = 16
    while size < 3 * len(hashes):
        size *= 2
    slots, numbers = np.zeros(size, np.int64), np.full(size, -1, np.int32)
    found, n = np.empty(len(hashes), np.int32), 0
    for i in range(len(hashes)):
        at = (hashes[i] ^ hashes[i] >> 29) & (size - 1)
        while numbers[at] >= 0 and slots[at] != hashes[i]:
            at = (at + 1) & (size - 1)
        if numbers[at] < 0:
            slots[at], numbers[at] = hashes[i], n
            n += 1
        found[i] = numbers[at]
    return n, found


@njit(cache=True)
def sum_up(blocks, counts, good):
    """
    For each element with all that is in it: words, linked words, blocks, words of running text, words in <p>, commas, stop words;
    its first and last block.
    """
    n, m = len(blocks.start), len(blocks.tag)
    total, first, last = np.zeros((m, 7), np.float32), np.full(m, n, np.int32), np.full(m, -1, np.int32)
    for b in range(n):
        e, words = blocks.element[b], counts[b, WORDS]
        in_p = words if blocks.tag[e] == P else np.float32(0)
        one = np.float32(1)
        for i, value in enumerate((words, counts[b, LINKED], one, good[b], in_p, counts[b, COMMAS], counts[b, STOP])):
            total[e, i] += value
        first[e], last[e] = min(first[e], b), b
    for e in range(m - 1, 0, -1):
        up = blocks.parent[e]
        for i in range(7):
            total[up, i] += total[e, i]
        first[up], last[up] = min(first[up], first[e]), max(last[up], last[e])
    return total, first, last


@njit(cache=True)
def main_elements(blocks, good, total):
    """The element with the most running text near to it (as Readability scores them), and the smallest with most of the page's."""
    score = np.zeros(len(blocks.tag), np.float32)
    for b in range(len(good)):
        e, share = blocks.element[b], good[b]
        if blocks.tag[e] == P:
            e = blocks.parent[e]
        for _ in range(6):
            score[e] += share
            share /= 2
            if e == 0:
                break
            e = blocks.parent[e]
    best = most = 0
    for e in range(len(score)):
        if total[e, 0] > 0:
            score[e] *= 1 - total[e, 1] / total[e, 0]
        if score[e] > score[best]:
            best = e
        if total[e, 3] > 0 and total[e, 3] > np.float32(0.6) * total[0, 3]:
            most = e  # children come after their parents
    return best, most


@njit(cache=True)
def levels_out(element, parent):
    """For each element how many levels one has to go out of this one to find it; 0 inside of it."""
    levels = np.full(len(parent), -1, np.float32)
    level = 0
    while levels[element] < 0:
        levels[element] = level
        level += 1
        element = parent[element]
    for e in range(len(parent)):
        if levels[e] < 0:
            levels[e] = levels[parent[e]]
    return levels


# --- The second round: what the first one thought of everything around -----------------------------------------------------

AROUND = 36


@njit(cache=True)
def reconsider(blocks, seen, p):
    """What the second round sees besides: the first one's probabilities of the block, its neighbours, elements and template."""
    n, m = len(p), len(blocks.tag)
    weight = seen.words + np.float32(0.5)
    total = np.zeros((m, 4), np.float32)  # expected words of content, words, blocks, highest probability
    templates = np.zeros((n, 2), np.float32)
    upto, words_upto, squares = np.zeros(n + 1, np.float32), np.zeros(n + 1, np.float32), np.float32(0)
    for b in range(n):
        e, expected = blocks.element[b], p[b] * weight[b]
        total[e, 0] += expected
        total[e, 1] += weight[b]
        total[e, 2] += 1
        total[e, 3] = max(total[e, 3], p[b])
        templates[seen.template[b], 0] += expected
        templates[seen.template[b], 1] += weight[b]
        upto[b + 1], words_upto[b + 1] = upto[b] + expected, words_upto[b] + weight[b]
        squares += p[b] * expected
    for e in range(m - 1, 0, -1):
        up = blocks.parent[e]
        for i in range(3):
            total[up, i] += total[e, i]
        total[up, 3] = max(total[up, 3], total[e, 3])
    whole, little = total[0, 0] + np.float32(1e-6), np.float32(1e-3)
    until = np.empty(n, np.float32)
    ahead = np.float32(50)
    for b in range(n - 1, -1, -1):
        until[b] = ahead
        ahead = np.float32(0) if p[b] > 0.6 and seen.words[b] >= GOOD else min(ahead + 1, np.float32(50))
    since = np.float32(50)
    around = np.zeros((n, AROUND), np.float32)
    for b in range(n):
        f, own, mine = around[b], p[b] * weight[b], weight[b]
        f[0], at = p[b], 1
        for step in (-1, 1, -2, 2, -3, 3, -4, 4):
            f[at] = p[b + step] if 0 <= b + step < n else -1
            at += 1
        for reach in (2, 5, 10, 25):
            low, high = max(0, b - reach), min(n, b + reach + 1)
            f[at] = (upto[high] - upto[low] - own) / (words_upto[high] - words_upto[low] - mine + little)
            at += 1
        inner, e = np.float32(1), blocks.element[b]
        for _ in range(CONTAINERS):
            while e and total[e, 2] <= inner:
                e = blocks.parent[e]
            f[at] = (total[e, 0] - own) / (total[e, 1] - mine + little)
            f[at + 1], f[at + 2] = total[e, 3], total[e, 0] / whole
            inner = total[e, 2]
            at += 3
        same = templates[seen.template[b]]
        f[at] = (same[0] - own) / (same[1] - mine + little)
        f[at + 1], f[at + 2] = upto[b] / whole, (upto[n] - upto[b + 1]) / whole
        f[at + 3], f[at + 4], f[at + 5] = whole / max(total[0, 1], little), total[0, 3], squares / whole
        f[at + 6], f[at + 7] = since, until[b]
        since = np.float32(0) if p[b] > 0.6 and seen.words[b] >= GOOD else min(since + 1, np.float32(50))
    return around
