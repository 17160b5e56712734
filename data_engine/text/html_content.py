"""
Blocks of a page -> the probability of each to be content and not a menu, a banner, an advertisement, a list of other pages.

in:   Blocks of html_blocks.py, the page's title and size          out: float32 a block, and BlockFeatures

Two rounds of gradient-boosted trees, fitted by dev/fit_html.py to pages whose content people have marked. The first round reads a
block's own features (words, links, punctuation, the names of the elements around it) and those of its neighbours, its containers
and the page. The second round also reads the probabilities that the first one gave to all of these. `select` then keeps the blocks
that give the most expected F1. `keep_code_and_headings` adds what is too short for the trees to know.

Score: mean word F1 over seven sets 0.93 on pages whose templates the fit never saw, 0.92 on sets it never saw.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import find, hash_table
from data_engine.text.html_blocks import (
    BOLD,
    FNV_PRIME,
    FNV_START,
    GROUPS,
    H1,
    HASH,
    HIDDEN,
    LINK,
    PRE,
    TAG,
    Blocks,
    P,
    fnv,
    is_letter,
    is_space,
    words,
)

# --- Names of elements -----------------------------------------------------------------------------------------------------

# Kinds of elements by their tag. GROUPS of html_blocks has the kinds by the words in class and id; a feature counts both alike.
ELEMENTS = dict(
    p="p", item="li", list="ul ol menu dir", definition="dl dt dd", cell="td th", table="table", nav="nav", header="header hgroup",
    footer="footer", aside="aside", form="form fieldset label button legend", article="article", main="main", section="section",
    quote="blockquote", figure="figure figcaption", heading="h1 h2 h3 h4 h5 h6", pre="pre listing xmp", div="div center custom",
    address="address", details="details summary dialog",
)  # fmt: skip
N_NAMES = len(GROUPS) + len(ELEMENTS)
ELEMENT_BITS = np.zeros(len(TAG) + 8, np.int64)
for _position, _tags in enumerate(ELEMENTS.values()):
    for _tag in words(_tags):
        ELEMENT_BITS[TAG[_tag]] |= 1 << (len(GROUPS) + _position)
HTML5 = sum(
    1 << (len(GROUPS) + list(ELEMENTS).index(name)) for name in ("nav", "header", "footer", "aside", "article", "main", "section")
)
COMMENT = list(GROUPS).index("comment")
COMMENT_LEVELS = 6  # a "comment" further out than this is the page that "has-comments"

TAG_ORDER = np.zeros(len(TAG) + 8, np.int64)  # rank: running text, headings, frames of a page; a tree can split it
for _position, _tag in enumerate(
    (
        *words("p blockquote pre dd dt li td th div center section article main body custom figcaption summary"),
        *words("h1 h2 h3 h4 h5 h6 header caption address label form aside footer nav button"),
    )
):
    TAG_ORDER[TAG[_tag]] = _position + 1
FIRST_HEADING, LAST_HEADING = TAG_ORDER[TAG["h1"]], TAG_ORDER[TAG["h6"]]
TABLE, DIV = TAG["table"], TAG["div"]
NAV, FOOTER, ARTICLE, MAIN = (TAG[name] for name in ("nav", "footer", "article", "main"))
IS_HEADING, IS_CODE = (
    np.isin(np.arange(len(TAG) + 8), [TAG[name] for name in words(ELEMENTS[kind])]) for kind in ("heading", "pre")
)

# --- Features --------------------------------------------------------------------------------------------------------------

STOP_WORDS = """
the of and to a in is that it for was on with as be by at this have from or had not are but which they you were his her she he their
has been will would who there we an if when what so can more all about my your our its them than then some could into only other
der die und den das von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach bei um noch
wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sind
de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont avec ou son
el los del las por con una su para al lo como más o pero sus ha di che è e per non si da sono nel della alla più anche come
van het een en dat niet te zijn voor met op aan er maar om ook os as um uma do da em no na não mais
i w z na się nie do że jest och att det som på av för inte den med till
"""
WORD = re.compile(rb"(?:[0-9A-Za-z_\xc3-\xe1\xe3-\xee\xf0-\xff][\x80-\xbf]*)+")  # the words of count_words
RUNNING = 8  # words outside of links from which a block counts as running text
LONG = 20  # words outside of links that make a long block
FAR = np.float32(100)  # blocks; a distance is cut off here
NO_BLOCK = -2  # features of a neighbour beyond the ends of the page
N_LEVELS = 16  # levels of elements whose names are looked at; also the level of a name that was not found

CONTAINERS = 5  # elements around a block
NEIGHBOURS = (-1, 1, -2, 2, -3, 3)  # blocks before and after
WINDOWS = (5, 15)  # blocks on each side


def float32(names):
    return [(name, np.float32) for name in words(names)]


# The trees in html_content.npz know a feature by its position in FEATURES and CONTEXT: another order needs another fit.
# "share" is of words unless it says otherwise.
COUNTS = np.dtype(
    float32("""words letters linked bold hidden commas sentence_ends capitalised all_capitals digits stop_words title_words special
        colons copyright_signs links first last""")
)
TOTALS = np.dtype(float32("words linked blocks running in_p commas stop_words"))
CONTAINER = np.dtype(
    float32("words linked_share blocks share_of_page running_share in_p_share comma_share position_inside tag_order")
)
NEIGHBOUR = np.dtype(float32("words linked_share stop_word_share last tag_order"))
WINDOW = np.dtype(float32("words linked_share running_share"))
FEATURES = np.dtype(
    [
        # the block
        *float32("""words letters_per_word linked_share bold_share hidden_share commas_per_word sentence_ends_per_word sentence_ends
            capitalised_share all_capitals_share digits_per_letter stop_word_share title_word_share share_of_title special_per_word
            colons_per_word copyright_signs links last tag_order parent_tag_order depth equal_blocks
            template_blocks template_words_per_block template_linked_share"""),
        # the page
        *float32("""page_words page_linked_share page_blocks long_blocks long_share longest page_in_p_share page_stop_word_share
            words_per_byte html5_elements tables divs top_share top_linked_share majority_share majority_linked_share"""),
        # the block's position in the page
        *float32("""levels_to_top levels_to_majority position_in_top position_in_majority blocks_since_long blocks_until_long
            blocks_since_heading position share_before running_share_before blocks_after_h1 has_h1 gap first"""),
        ("containers", CONTAINER, (CONTAINERS,)),  # innermost first, each with more blocks than the one before
        ("neighbours", NEIGHBOUR, (len(NEIGHBOURS),)),
        ("windows", WINDOW, (len(WINDOWS),)),
        ("levels_to_name", np.float32, (N_NAMES,)),  # names of GROUPS, then of ELEMENTS; -1: an inline element in the block
    ]
)


class BlockFeatures(NamedTuple):
    features: np.ndarray  # FEATURES (n,)
    words: np.ndarray  # float32 (n,)
    running: np.ndarray  # float32 (n,): words outside of links, 0 where they are too few to be a sentence
    template: np.ndarray  # int32 (n,): equal for blocks that the same template made
    comment: np.ndarray  # bool (n,): inside of readers' comments


def columns(records):
    """Records of float32 fields -> float32 (n, fields)."""
    return records.view(np.float32).reshape(len(records), records.dtype.itemsize // 4)


def word_set(text):
    """Hash table of the words of a text, for `find`; count_words hashes words in the same way."""
    return hash_table(sorted({fnv(word) for word in WORD.findall(text.encode("utf-8", "replace").lower())}))


@njit(cache=True)
def is_word(byte):
    """Letters, digits, and every byte beyond ASCII that does not begin a sign (U+0080..BF, U+2000..2FFF, U+F000..)."""
    return is_letter(byte) or 48 <= byte <= 57 or byte == 95 or (byte >= 128 and byte not in (0xC2, 0xE2, 0xEF))


@njit(cache=True)
def count_words(blocks, stop_words, title_words):
    """COUNTS of each block, and a hash of its words."""
    text, marks = blocks.text, blocks.marks
    counts, hashes = np.zeros(len(blocks.start), COUNTS), np.zeros(len(blocks.start), np.int64)
    for b in range(len(blocks.start)):
        c, at, stop = counts[b], blocks.start[b], blocks.end[b]
        hashed, was_link = np.int64(FNV_START), False
        while at < stop:
            is_link = marks[at] & LINK != 0
            c.links += is_link and not was_link
            was_link = is_link
            byte = text[at]
            if is_word(byte):
                first, word, upper = at, np.int64(FNV_START), 0
                while at < stop and is_word(text[at]):
                    byte = np.int64(text[at])
                    if 65 <= byte <= 90:
                        upper += 1
                        byte |= 32
                    c.digits += 48 <= byte <= 57
                    word = (word ^ byte) * FNV_PRIME
                    at += 1
                word &= HASH
                hashed = (hashed ^ word) * FNV_PRIME
                c.words += 1
                c.letters += at - first
                c.capitalised += 65 <= text[first] <= 90
                c.all_capitals += upper == at - first and upper > 1
                c.linked += marks[first] & LINK != 0
                c.bold += marks[first] & BOLD != 0
                c.hidden += marks[first] & HIDDEN != 0
                c.stop_words += find(stop_words, word) >= 0
                c.title_words += find(title_words, word) >= 0
                continue
            if byte == 44 or byte == 59:  # , ;
                c.commas += 1
            elif byte in (33, 46, 63):  # ! . ?
                c.sentence_ends += at + 1 == stop or is_space(text[at + 1]) or text[at + 1] == 34 or text[at + 1] >= 128
            elif byte in (35, 42, 47, 62, 64, 124):  # # * / > @ |
                c.special += 1
            elif byte == 58:
                c.colons += 1
            elif byte == 0xC2:
                c.special += text[at + 1] in (0xB7, 0xBB)  # middle dot, »
                c.copyright_signs += text[at + 1] == 0xA9
                at += 1
            elif byte in (0xE2, 0xEF):
                at += 2
            at += 1
        hashes[b] = hashed
        at = stop - 1
        while at > blocks.start[b] and (text[at] in (34, 41, 0x9D, 0x80) or (text[at] == 0xE2 and at + 1 < stop)):  # " ) ”
            at -= 1
        last, first_byte = text[at], text[blocks.start[b]]
        c.last = 3 if last in (33, 46, 63) else 2 if last == 58 else 1 if last in (44, 59) else 0 if is_word(last) else -1
        c.first = 2 if 65 <= first_byte <= 90 else 1 if 97 <= first_byte <= 122 else 3 if first_byte >= 128 else 0
    return counts, hashes


@njit(cache=True)
def number(hashes):
    """Numbers different hashes in order of appearance: how many there are, and the number of each."""
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
def sum_elements(blocks, counts, running):
    """TOTALS of each element with all that is in it, and its first and last block."""
    n, m = len(blocks.start), len(blocks.tag)
    total, first, last = np.zeros(m, TOTALS), np.full(m, n, np.int32), np.full(m, -1, np.int32)
    for b in range(n):
        e, c = blocks.element[b], counts[b]
        t = total[e]
        t.words += c.words
        t.linked += c.linked
        t.blocks += np.float32(1)
        t.running += running[b]
        if blocks.tag[e] == P:
            t.in_p += c.words
        t.commas += c.commas
        t.stop_words += c.stop_words
        first[e], last[e] = min(first[e], b), b
    for e in range(m - 1, 0, -1):  # children come after their parents
        up, t = total[blocks.parent[e]], total[e]
        up.words += t.words
        up.linked += t.linked
        up.blocks += t.blocks
        up.running += t.running
        up.in_p += t.in_p
        up.commas += t.commas
        up.stop_words += t.stop_words
        around = blocks.parent[e]
        first[around], last[around] = min(first[around], first[e]), max(last[around], last[e])
    return total, first, last


@njit(cache=True)
def main_elements(blocks, running, total):
    """Readability's top candidate, and the smallest element with most of the page's running text."""
    score = np.zeros(len(blocks.tag), np.float32)
    for b in range(len(running)):
        e, share = blocks.element[b], running[b]
        if blocks.tag[e] == P:
            e = blocks.parent[e]
        for _ in range(6):
            score[e] += share
            share /= 2
            if e == 0:
                break
            e = blocks.parent[e]
    top = majority = 0
    for e in range(len(score)):
        if total[e].words > 0:
            score[e] *= 1 - total[e].linked / total[e].words
        if score[e] > score[top]:
            top = e
        if total[e].running > 0 and total[e].running > np.float32(0.6) * total[0].running:
            majority = e  # children come after their parents
    return top, majority


@njit(cache=True)
def levels_to(element, parent):
    """float32 (m,): how many levels out of each element the given one, or an element around it, is reached; 0 inside of it."""
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


@njit(cache=True)
def set_level(levels_to_name, names, level):
    """Writes the level at the position of each bit in names."""
    position = 0
    while names:
        if names & 1:
            levels_to_name[position] = level
        names >>= 1
        position += 1


@njit(cache=True)
def block_features(blocks, stop_words, title_words, page_bytes):
    """The features of the first round."""
    n, m, n_title = len(blocks.start), len(blocks.tag), max(1, (title_words["value"] >= 0).sum())
    tag, parent, element = blocks.tag, blocks.parent, blocks.element
    counts, hashes = count_words(blocks, stop_words, title_words)
    _, text_number = number(hashes)
    kinds = np.empty(n, np.int64)
    for b in range(n):
        kinds[b] = (blocks.kind[element[b]] * FNV_PRIME ^ blocks.kind[parent[element[b]]]) * FNV_PRIME
    n_templates, template = number(kinds)
    equal_blocks = np.zeros(n, np.float32)
    for b in range(n):
        equal_blocks[text_number[b]] += 1
    of_template = np.zeros(n_templates, TOTALS)
    for b in range(n):
        same = of_template[template[b]]
        same.blocks += 1
        same.words += counts[b].words
        same.linked += counts[b].linked

    running = np.zeros(n, np.float32)
    for b in range(n):
        unlinked = counts[b].words - counts[b].linked
        if unlinked >= RUNNING and unlinked > counts[b].linked:
            running[b] = unlinked
    total, first, last = sum_elements(blocks, counts, running)
    top, majority = main_elements(blocks, running, total)
    levels_to_top, levels_to_majority = levels_to(top, parent), levels_to(majority, parent)

    depth = np.zeros(m, np.float32)
    for e in range(1, m):
        depth[e] = depth[parent[e]] + 1
    page = total[0]
    page_words, page_running = max(page.words, np.float32(1)), max(page.running, np.float32(1))
    first_h1, long_blocks, long_words, longest = n, 0, np.float32(0), np.float32(0)
    for b in range(n):
        if running[b] >= LONG:
            long_blocks += 1
            long_words += running[b]
        longest = max(longest, running[b])
        if tag[element[b]] == H1 and first_h1 == n:
            first_h1 = b
    html5_elements = tables = divs = 0
    for e in range(m):
        html5_elements += ELEMENT_BITS[tag[e]] & HTML5 != 0
        tables += tag[e] == TABLE
        divs += tag[e] == DIV
    blocks_until_long = np.empty(n, np.float32)
    until_long = FAR
    for b in range(n - 1, -1, -1):
        blocks_until_long[b] = until_long
        until_long = np.float32(0) if running[b] >= LONG else min(until_long + 1, FAR)
    since_long = since_heading = FAR
    words_before = running_before = np.float32(0)

    features, comment = np.zeros(n, FEATURES), np.zeros(n, np.bool_)
    for b in range(n):
        f, c, e = features[b], counts[b], element[b]
        # the block
        words = max(c.words, np.float32(1))
        f.words, f.letters_per_word = c.words, c.letters / words
        f.linked_share, f.bold_share, f.hidden_share = c.linked / words, c.bold / words, c.hidden / words
        f.commas_per_word, f.sentence_ends_per_word, f.sentence_ends = c.commas / words, c.sentence_ends / words, c.sentence_ends
        f.capitalised_share, f.all_capitals_share = c.capitalised / words, c.all_capitals / words
        f.digits_per_letter = c.digits / max(c.letters, np.float32(1))
        f.stop_word_share, f.title_word_share, f.share_of_title = (
            c.stop_words / words,
            c.title_words / words,
            c.title_words / n_title,
        )
        f.special_per_word, f.colons_per_word = c.special / words, c.colons / words
        f.copyright_signs, f.links, f.last = c.copyright_signs, c.links, c.last
        f.tag_order, f.parent_tag_order, f.depth = TAG_ORDER[tag[e]], TAG_ORDER[tag[parent[e]]], depth[e]
        f.equal_blocks = equal_blocks[text_number[b]]
        same = of_template[template[b]]
        f.template_blocks, f.template_words_per_block = same.blocks, same.words / same.blocks
        f.template_linked_share = same.linked / max(same.words, np.float32(1))
        # the page
        f.page_words, f.page_linked_share, f.page_blocks = page_words, page.linked / page_words, n
        f.long_blocks, f.long_share, f.longest = long_blocks, long_words / page_words, longest
        f.page_in_p_share, f.page_stop_word_share = page.in_p / page_words, page.stop_words / page_words
        f.words_per_byte, f.html5_elements, f.tables, f.divs = page_words / page_bytes, html5_elements, tables, divs
        f.top_share, f.top_linked_share = total[top].words / page_words, total[top].linked / max(total[top].words, np.float32(1))
        f.majority_share = total[majority].words / page_words
        f.majority_linked_share = total[majority].linked / max(total[majority].words, np.float32(1))
        # its position in the page
        f.levels_to_top, f.levels_to_majority = levels_to_top[e], levels_to_majority[e]
        f.position_in_top = (b - first[top]) / (last[top] - first[top] + 1)
        f.position_in_majority = (b - first[majority]) / (last[majority] - first[majority] + 1)
        f.blocks_since_long, f.blocks_until_long, f.blocks_since_heading = since_long, blocks_until_long[b], since_heading
        f.position, f.share_before, f.running_share_before = b / n, words_before / page_words, running_before / page_running
        f.blocks_after_h1, f.has_h1, f.gap, f.first = b - first_h1, first_h1 < n, blocks.gap[b], c.first
        since_long = np.float32(0) if running[b] >= LONG else min(since_long + 1, FAR)
        since_heading = min(since_heading + 1, FAR)
        if FIRST_HEADING <= TAG_ORDER[tag[e]] <= LAST_HEADING:
            since_heading = np.float32(0)
        words_before += c.words
        running_before += running[b]
        # its containers
        inner, around = np.float32(1), e
        for i in range(CONTAINERS):
            while around and total[around].blocks <= inner:
                around = parent[around]
            container, t = f.containers[i], total[around]
            inside = max(t.words, np.float32(1))
            container.words, container.linked_share, container.blocks = t.words, t.linked / inside, t.blocks
            container.share_of_page, container.running_share = t.words / page_words, t.running / inside
            container.in_p_share, container.comma_share = t.in_p / inside, t.commas / inside
            container.position_inside = (b - first[around] + 1) / (last[around] - first[around] + 1)
            container.tag_order = TAG_ORDER[tag[around]]
            inner = t.blocks
        # its neighbours
        for i in range(len(NEIGHBOURS)):
            neighbour, other = f.neighbours[i], b + NEIGHBOURS[i]
            if 0 <= other < n:
                o = counts[other]
                others = max(o.words, np.float32(1))
                neighbour.words, neighbour.linked_share, neighbour.stop_word_share = (
                    o.words,
                    o.linked / others,
                    o.stop_words / others,
                )
                neighbour.last, neighbour.tag_order = o.last, TAG_ORDER[tag[element[other]]]
            else:
                neighbour.words = neighbour.linked_share = neighbour.stop_word_share = NO_BLOCK
                neighbour.last = neighbour.tag_order = NO_BLOCK
        for i in range(len(WINDOWS)):
            near = near_linked = near_running = np.float32(0)
            for other in range(max(0, b - WINDOWS[i]), min(n, b + WINDOWS[i] + 1)):
                near += counts[other].words
                near_linked += counts[other].linked
                near_running += running[other]
            near = max(near, np.float32(1))
            window = f.windows[i]
            window.words, window.linked_share, window.running_share = near, near_linked / near, near_running / near
        # the levels from it to the nearest element of each name
        f.levels_to_name[:] = N_LEVELS
        found = blocks.words[b]
        set_level(f.levels_to_name, found, -1)
        level, around = 0, e
        while level < N_LEVELS:
            names = (blocks.element_words[around] | ELEMENT_BITS[tag[around]]) & ~found
            set_level(f.levels_to_name, names, level)
            found |= names
            if around == 0:
                break
            around = parent[around]
            level += 1
        comment[b] = f.levels_to_name[COMMENT] <= COMMENT_LEVELS
        if f.levels_to_name[COMMENT] < 0 and blocks.marks[blocks.start[b]] & PRE:
            comment[b] = False  # <span class="comment"> of a programming language
    words = np.empty(n, np.float32)
    for b in range(n):
        words[b] = counts[b].words
    return BlockFeatures(features, words, running, template, comment)


# --- Features of the second round: what the first one gave to everything around ---------------------------------------------

CONTEXT_NEIGHBOURS = (-1, 1, -2, 2, -3, 3, -4, 4)
CONTEXT_WINDOWS = (2, 5, 10, 25)
LIKELY = 0.6  # probability of a block that counts as content here
CONTEXT_FAR = np.float32(50)  # blocks; a distance is cut off here
CONTEXT_TOTALS = np.dtype(float32("expected words blocks highest"))  # expected: words times probability
CONTEXT_CONTAINER = np.dtype(float32("mean highest share_of_page"))
CONTEXT = np.dtype(
    [
        ("own", np.float32),
        ("neighbours", np.float32, (len(CONTEXT_NEIGHBOURS),)),
        ("window_means", np.float32, (len(CONTEXT_WINDOWS),)),  # means of probability leave the block itself out
        ("containers", CONTEXT_CONTAINER, (CONTAINERS,)),
        *float32("template_mean share_before share_after page_mean page_highest page_certainty since_content until_content"),
    ]
)


@njit(cache=True)
def context_features(blocks, seen, p):
    """CONTEXT of each block. seen: BlockFeatures; p: the first round's probabilities."""
    n, m = len(p), len(blocks.tag)
    weight = seen.words + np.float32(0.5)
    total, of_template = np.zeros(m, CONTEXT_TOTALS), np.zeros(n, CONTEXT_TOTALS)
    expected_before, words_before = np.zeros(n + 1, np.float32), np.zeros(n + 1, np.float32)
    squares = np.float32(0)
    for b in range(n):
        expected = p[b] * weight[b]
        t, same = total[blocks.element[b]], of_template[seen.template[b]]
        t.expected += expected
        t.words += weight[b]
        t.blocks += 1
        t.highest = max(t.highest, p[b])
        same.expected += expected
        same.words += weight[b]
        expected_before[b + 1], words_before[b + 1] = expected_before[b] + expected, words_before[b] + weight[b]
        squares += p[b] * expected
    for e in range(m - 1, 0, -1):  # children come after their parents
        up, t = total[blocks.parent[e]], total[e]
        up.expected += t.expected
        up.words += t.words
        up.blocks += t.blocks
        up.highest = max(up.highest, t.highest)
    page, little = total[0].expected + np.float32(1e-6), np.float32(1e-3)
    until_content = np.empty(n, np.float32)
    until = CONTEXT_FAR
    for b in range(n - 1, -1, -1):
        until_content[b] = until
        until = np.float32(0) if p[b] > LIKELY and seen.words[b] >= RUNNING else min(until + 1, CONTEXT_FAR)
    since = CONTEXT_FAR
    context = np.zeros(n, CONTEXT)
    for b in range(n):
        f, own, mine = context[b], p[b] * weight[b], weight[b]
        f.own = p[b]
        for i in range(len(CONTEXT_NEIGHBOURS)):
            other = b + CONTEXT_NEIGHBOURS[i]
            f.neighbours[i] = p[other] if 0 <= other < n else -1
        for i in range(len(CONTEXT_WINDOWS)):
            low, high = max(0, b - CONTEXT_WINDOWS[i]), min(n, b + CONTEXT_WINDOWS[i] + 1)
            expected = expected_before[high] - expected_before[low] - own
            f.window_means[i] = expected / (words_before[high] - words_before[low] - mine + little)
        inner, e = np.float32(1), blocks.element[b]
        for i in range(CONTAINERS):
            while e and total[e].blocks <= inner:
                e = blocks.parent[e]
            container, t = f.containers[i], total[e]
            container.mean = (t.expected - own) / (t.words - mine + little)
            container.highest, container.share_of_page = t.highest, t.expected / page
            inner = t.blocks
        same = of_template[seen.template[b]]
        f.template_mean = (same.expected - own) / (same.words - mine + little)
        f.share_before, f.share_after = expected_before[b] / page, (expected_before[n] - expected_before[b + 1]) / page
        f.page_mean, f.page_highest = page / max(total[0].words, little), total[0].highest
        f.page_certainty = squares / page
        f.since_content, f.until_content = since, until_content[b]
        since = np.float32(0) if p[b] > LIKELY and seen.words[b] >= RUNNING else min(since + 1, CONTEXT_FAR)
    return context


# --- From features to blocks -----------------------------------------------------------------------------------------------


class Forest(NamedTuple):
    """Trees as one array of nodes; the two children of a node stand side by side."""

    roots: np.ndarray  # int32: where each tree begins
    feature: np.ndarray  # int16: column of the feature; -1 in a leaf
    value: np.ndarray  # float32: in a node a block with more than this goes right; in a leaf what it adds to the log odds
    left: np.ndarray  # int32: the left child; the right one is the next


FOREST_TYPES = ("roots", np.int32), ("feature", np.int16), ("value", np.float32), ("left", np.int32)


@functools.cache
def model():
    """Stop words and the two forests."""
    with np.load(Path(__file__).with_name("html_content.npz")) as file:
        forests = [Forest(*(file[f"{name}{stage}"].astype(kind) for name, kind in FOREST_TYPES)) for stage in (1, 2)]
    return (word_set(STOP_WORDS), *forests)


@njit(cache=True)
def evaluate(forest, features):
    """float32 (n,): the probability by the sum of all trees. features: float32 (n, columns)."""
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


def content_probability(blocks: Blocks, title: str, page_bytes: int):
    """
    float32 (n,): the probability of each block to be content; and its BlockFeatures.

    title       of the page
    page_bytes  its length as HTML
    """
    stop_words, first, second = model()
    seen = block_features(blocks, stop_words, word_set(title[:1000]), page_bytes)
    p = evaluate(first, columns(seen.features))
    p = evaluate(second, np.hstack([columns(context_features(blocks, seen, p)), columns(seen.features)]))
    return p, seen


@njit(cache=True)
def in_frame(tag, parent):
    """bool (m,): elements in a <nav>, or in a <footer> of the page (not one of an article): content is elsewhere."""
    frame, article = np.zeros(len(tag), np.bool_), np.zeros(len(tag), np.bool_)
    for e in range(len(tag)):
        if e:  # parents come before their children
            frame[e], article[e] = frame[parent[e]], article[parent[e]]
        article[e] |= tag[e] == ARTICLE or tag[e] == MAIN
        frame[e] |= tag[e] == NAV or (tag[e] == FOOTER and not article[e])
    return frame


def select(p, weights):
    """
    bool (n,): the blocks with the most expected F1 of words: those above half of it (Lipton et al. 2014, arXiv:1402.1892).

    p        probability of each block; where all are low, the bar is low too, so that something is always kept
    weights  words of each block
    """
    total, best = float((p * weights).sum()), 0.0
    while True:
        keep = p >= best / 2
        f1 = 2 * float((p * weights)[keep].sum()) / max(float(weights[keep].sum()) + total, 1e-9)
        if f1 <= best + 1e-9:
            return keep
        best = f1


DOCUMENT = 0.8  # a page of which at least this share of words is kept is a document and no article among other things
MOST = 0.9  # share of the kept words whose element holds the headings of a document without code


@njit(cache=True)
def keep_code_and_headings(blocks, keep, words, outside):
    """
    Sets keep for the code and the headings inside of the content.

    keep     bool (n,): the blocks that are kept for their probability
    words    of each block
    outside  bool (n,): blocks in frames of the page, and readers' comments

    Headings come back on pages that hold code and on documents; elsewhere they stand above lists of other pages.
    """
    n, m, element, parent = len(keep), len(blocks.tag), blocks.element, blocks.parent
    heading, code, inside = IS_HEADING[blocks.tag], IS_CODE[blocks.tag], np.zeros(m, np.bool_)
    for e in range(1, m):  # parents come before their children
        heading[e] |= heading[parent[e]]
        code[e] |= code[parent[e]]
    total, kept = np.zeros(m, np.float32), np.zeros(m, np.float32)
    has_code, unframed = False, np.float32(0)
    for b in range(n):
        has_code |= code[element[b]] or blocks.marks[blocks.start[b]] & PRE != 0
        total[element[b]] += words[b]
        kept[element[b]] += words[b] if keep[b] else 0
        unframed += 0 if outside[b] else words[b]
    for e in range(m - 1, 0, -1):
        total[parent[e]] += total[e]
        kept[parent[e]] += kept[e]
    is_document = kept[0] >= DOCUMENT * unframed
    content = 0
    if not (has_code and is_document):
        for e in range(1, m):
            if kept[e] >= kept[0] * (1 if has_code else MOST):
                content = e
    if kept[content] < total[content] / 2:
        return
    inside[content] = True
    for e in range(content + 1, m):
        inside[e] |= inside[parent[e]]
    for b in range(n):
        first = blocks.marks[blocks.start[b]]
        if inside[element[b]] and not outside[b] and not first & HIDDEN:
            is_code = code[element[b]] or first & PRE != 0
            keep[b] |= is_code or (heading[element[b]] and (has_code or is_document))
