"""
HTML -> blocks of text, as a browser would set them apart, with the elements around them.

in:   a page as bytes in UTF-8          out: Blocks

One compiled pass over the bytes does the part of a browser's tokenizer and tree builder that matters to text: tags, comments,
character references, raw text, implied end tags, stray end tags. It keeps a stack of open elements and builds no tree, so that
time is linear in the bytes and memory in the tags of any page. Nesting beyond DEPTH elements is flattened, as browsers do.

Two departures from the standard save text that readers would miss. A comment, a title or a quote that never ends stops at the next
tag and not at the end of the page. Formatting that stays open is not carried into the next block.
"""

import functools
import html.entities
from typing import NamedTuple

import numpy as np
from numba import njit

from data_engine.kernels.hash_tables import find, hash_table

DEPTH = 512  # as in Blink; deeper elements become siblings

# gaps between two blocks; where several meet, the strongest counts
SPACE, CELL, LINE, PARAGRAPH = range(4)
GAPS = (b" ", b"\t", b"\n", b"\n\n")

# marks of a character, inherited from the elements around it
LINK, BOLD, PRE, HIDDEN, DROP = 1, 2, 4, 8, 16
LINES, MONO = 32, 64  # LINES: code, one block whatever elements its lines are in; MONO: <code> and the like, where <br> ends a line


def words(text):
    return text.split()


TAGS = words("""
? custom a address annotation area article aside audio b base blockquote body br button canvas caption center col colgroup
datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head
header hgroup hr html iframe img input label legend li link listing main math menu meta nav noembed noframes noscript object ol
optgroup option p param pre script search section select source strong style summary svg table tbody td template textarea tfoot
th thead title tr track ul video wbr xmp
code kbd mjx-container q samp span sub sup tt
""")
TAG = {name: number for number, name in enumerate(TAGS)}
UNKNOWN, CUSTOM = 0, 1
A, ANNOTATION, BODY, BR, BUTTON, CODE, DIV, H1, IMG, LI, MATH, MATHJAX, OL, P, PRE_TAG, Q, SCRIPT, SPAN = (
    TAG[name] for name in words("a annotation body br button code div h1 img li math mjx-container ol p pre q script span")
)
SUB, SUP, TABLE, TD, TEMPLATE, TEXTAREA, TH, TITLE, TR = (
    TAG[name] for name in words("sub sup table td template textarea th title tr")
)


def of_tags(**names):
    """uint32 (tags,): the bits whose lists of names hold the tag."""
    table = np.zeros(len(TAGS), np.uint32)
    for value, listed in names.items():
        for name in listed.split():
            table[TAG[name]] |= globals()[value]
    return table


BLOCK, VOID, RAW, UNREAD, INDENTED, STRONG, NEW_LINE, NEW_PARAGRAPH, MONOSPACED, IN_LINES, OF_LINES, EMPTY = (
    1 << i for i in range(12)
)
KIND = of_tags(
    BLOCK="""custom address article aside blockquote body button caption center dd details dialog dir div dl dt fieldset figcaption
        figure footer form h1 h2 h3 h4 h5 h6 header hgroup label legend li listing main menu nav ol optgroup option p pre search
        section select summary table tbody td tfoot th thead tr ul xmp noscript svg template object video audio canvas datalist""",
    VOID="area base br col embed frame hr html head img input link meta param source track wbr frameset colgroup",
    RAW="script style iframe noembed noframes textarea title",
    UNREAD="""audio canvas datalist embed iframe noembed noframes noscript script select style svg template textarea title
        video""",
    INDENTED="pre listing xmp",
    STRONG="b strong",
    NEW_LINE="button caption dd dt figcaption label legend li option tr br tbody tfoot thead",
    NEW_PARAGRAPH="""custom address article aside blockquote body center details dialog dir div dl fieldset figure footer form h1 h2
        h3 h4 h5 h6 header hgroup hr listing main menu nav ol p pre search section summary table ul xmp""",
    MONOSPACED="code kbd samp tt",
    IN_LINES="button div li ol table tbody td tfoot th thead tr ul",  # blocks elsewhere, but not in code
    OF_LINES="ol table tbody tfoot thead tr ul",  # the white space between their children is none of the code
    EMPTY="? custom code kbd q samp span sub sup tt",  # <path/> has no end tag
)
# A start tag closes open elements of the groups ITEM and IN_P. An end tag closes nothing beyond an element of the groups END_STOP.
IN_P, IN_LI, IN_DL, IN_OPTION, IN_ROW, IN_CELL, IN_ROWS, IN_TABLE, IN_LIST, IN_BLOCK, IN_LINK = (1 << i for i in range(11))
GROUP = of_tags(
    IN_P="p", IN_LI="li", IN_DL="dd dt", IN_OPTION="option", IN_ROW="tr", IN_CELL="td th caption", IN_ROWS="tbody tfoot thead",
    IN_TABLE="table", IN_LIST="ul ol menu dir dl select", IN_LINK="a",
)  # fmt: skip
GROUP[KIND & BLOCK > 0] |= IN_BLOCK
CLOSES_P = KIND & NEW_PARAGRAPH > 0
CLOSES_P[[TAG["custom"], TAG["body"]]] = False
CLOSES_P[[TAG["dd"], TAG["dt"], TAG["li"]]] = True
ITEM, ITEM_STOP, END_STOP = (np.zeros(len(TAGS), np.uint32) for _ in range(3))
END_STOP[:] = IN_CELL | IN_TABLE
END_STOP[KIND & BLOCK == 0] = IN_BLOCK
for _names, _item, _stop in (
    ("li", IN_LI, IN_LIST | IN_CELL | IN_TABLE),
    ("dd dt", IN_DL, IN_LIST | IN_CELL | IN_TABLE),
    ("option optgroup", IN_OPTION, IN_LIST),
    ("tr", IN_ROW, IN_TABLE),
    ("td th", IN_CELL, IN_ROW | IN_TABLE),
    ("tbody tfoot thead", IN_ROWS, IN_TABLE),
):
    for _name in words(_names):
        ITEM[TAG[_name]], ITEM_STOP[TAG[_name]] = _item, _stop
        END_STOP[TAG[_name]] = _stop & ~_item
ITEM[A], ITEM_STOP[A] = IN_LINK, IN_BLOCK
END_STOP[TAG["table"]] = 0


FNV_START, FNV_PRIME = 0xCBF29CE484222325 & (1 << 62) - 1, 0x100000001B3
HASH = (1 << 62) - 1  # 62 bits: numba 0.68 takes an int64 to differ from an equal negative constant


def fnv(name):
    """FNV-1a of bytes."""
    value = FNV_START
    for byte in name:
        value = (value ^ byte) * FNV_PRIME & HASH
    return value


CLASS, ID, ROLE, ITEMPROP, STYLE, ALT, HREF, TYPE, ENCODING, ALTTEXT, HIDDEN_NAME, ARIA_HIDDEN = (
    fnv(name.encode()) for name in words("class id role itemprop style alt href type encoding alttext hidden aria-hidden")
)
HAS_HREF, IS_HIDDEN, IS_TEX, IS_UNREAD = (1 << i for i in range(4))  # bits that attributes give to an element
START_NAME, REVERSED, VALUE, DISPLAY, LATEX, SHADOW = (
    fnv(name.encode()) for name in words("start reversed value display data-latex shadowrootmode")
)

# Words in class, id, role and itemprop, in groups of one meaning: sites all over the web use the same few words.
GROUPS = dict(
    content="content contents main body text bodytext maincontent articlebody storybody copy prose primary",
    article="article articles story entry post posts hentry news blog single page document",
    nav="""nav menu menubar navigation navbar navi breadcrumb breadcrumbs crumbs topnav submenu dropdown tabs tab pager
        pagination paging""",
    side="sidebar side aside rail widget widgets right left secondary tertiary column col complementary",
    foot="footer foot bottom copyright legal colophon disclaimer contentinfo",
    head="header head masthead banner top logo branding topbar",
    ad="ad ads advert advertisement adsense advertising sponsor sponsored promo promos promotion dfp outbrain taboola affiliate",
    share="""share sharing shares social facebook twitter sharethis addthis addtoany follow like bookmark digg pinterest print
        tools icons""",
    comment="comment comments commentlist commentary disqus respond reply replies discussion responses talkback feedback",
    related="related recommended recommendations more popular trending latest also recent similar teaser teasers headlines",
    listing="list listing links link items item card cards grid carousel slider feed stream",
    author="author authors byline bio profile avatar writer contributor user username vcard",
    date="date time timestamp published meta postmeta metadata updated dateline info datetime",
    media="caption credit figure image images photo photos img gallery media video player slideshow thumbnail thumb wp",
    title="title headline heading hed subtitle subheading subheadline deck name",
    lead="summary lead lede intro excerpt standfirst description abstract dek",
    tags="tag tags category categories topics topic keywords label labels",
    form="search login signin signup subscribe subscription newsletter register form input email contact",
    popup="modal popup overlay cookie cookies consent gdpr tooltip dialog lightbox",
    hidden="hidden hide invisible sr only skip screenreader visuallyhidden noprint print noscript",
    code="code highlight source syntax pre codehilite highlighter",
    quote="quote pullquote blockquote reference references footnote footnotes citation cite reflist",
    wiki="infobox navbox toc editsection hatnote catlinks thumbcaption metadata ambox sistersitebox noexcerpt",
    forum="forum thread message messages postbody signature quoteheader smallfont",
    math="math tex latex mwe",
    mathjax="jax",
    katex="katex",
    html="html",
)
BIT = {group: 1 << position for position, group in enumerate(GROUPS)}
MATH_WORD, MATHJAX_WORD, KATEX_HTML = BIT["math"], BIT["mathjax"], BIT["katex"] | BIT["html"]
CODE_WORD, NOTE_WORD = BIT["code"], BIT["quote"]
# Lists of these kinds are no steps that an author numbered.
UNNUMBERED = sum(BIT[group] for group in words("article nav side share comment related tags forum"))

# Words of code listings. Their bits stand above those of GROUPS and are no features of a block. The words of one name decide
# together: "line" is a line, "line-number" and "blob-num" are gutters of line numbers, "blob-code" is a cell of code.
LISTINGS = dict(
    line="line lines codeline",
    ln="ln",
    blob="blob crayon",
    number="number numbers num nums no nos nr",
    gutter="gutter lineno linenos linenum linenums linenumber linenumbers linenr linenodiv lnt lnum",
    cell="",
    plain="unstyled none",
)
LINE_WORD, LN_WORD, BLOB_WORD, NUMBER_WORD, GUTTER, CODE_CELL, PLAIN = (1 << 56 + i for i in range(len(LISTINGS)))
NAMES_ONLY = (1 << 56) - 1


class Blocks(NamedTuple):
    """The text of a page in n blocks, and its m block elements. An element comes after its parent."""

    text: np.ndarray  # uint8: the blocks' characters, one after another, UTF-8
    marks: np.ndarray  # uint8, one a byte of text: LINK, BOLD, PRE, HIDDEN
    start: np.ndarray  # int64 (n,): into text
    end: np.ndarray  # int64 (n,)
    gap: np.ndarray  # int64 (n,): SPACE, CELL, LINE or PARAGRAPH before the block
    element: np.ndarray  # int64 (n,): the innermost block element around it
    words: np.ndarray  # int64 (n,): bits of GROUPS, from the class and id of the inline elements at its beginning
    number: np.ndarray  # int64 (n,): its number in an <ol>, times 8, plus its style (DECIMAL ...); 0 for none
    tag: np.ndarray  # int64 (m,)
    parent: np.ndarray  # int64 (m,); the first element, 0, is the page
    element_words: np.ndarray  # int64 (m,): bits of GROUPS, from its class, id, role and itemprop
    kind: np.ndarray  # int64 (m,): hash of tag, class and id without digits; equal for what the same template made
    title: tuple[int, int]  # start and end of the text of <title> in the page


# --- Tables of names -------------------------------------------------------------------------------------------------------


@functools.cache
def tag_table():
    """Names of HTML's elements and their TAG, names of MathML's and their kind."""
    html_names = dict.fromkeys(TAGS)
    return (
        hash_table([fnv(name.encode()) for name in html_names]),
        np.array([TAG[name] for name in html_names], np.uint8),
        hash_table([fnv(name.encode()) for name in MATHML]),
        np.array(list(MATHML.values()), np.uint8),
    )


@functools.cache
def name_table():
    """Words of GROUPS, and for each the bits of its groups."""
    bits = {}
    for group, members in GROUPS.items():
        for word in words(members):
            bits[word] = bits.get(word, 0) | BIT[group]
    for position, members in enumerate(LISTINGS.values()):
        for word in words(members):
            bits[word] = bits.get(word, 0) | 1 << 56 + position
    return hash_table([fnv(word.encode()) for word in bits]), np.array(list(bits.values()), np.int64)


@functools.cache
def entity_table():
    """Names of characters, with or without ";", and their UTF-8: a row of six bytes, padded with zeros."""
    names = html.entities.html5
    characters = [characters.encode().ljust(6, b"\0") for characters in names.values()]
    return hash_table([fnv(name.encode()) for name in names]), np.frombuffer(b"".join(characters), np.uint8).reshape(-1, 6)


# --- The pass --------------------------------------------------------------------------------------------------------------

START, END, GAP, ELEMENT, NAMES, NUMBER = range(6)  # columns of a block
# The state of the writer: bytes written; 1 while a block is open; the white space since its last character (0, 32 or 10); the gap
# before the next block; the number of closed blocks; line ends in the white space; no-break spaces at the beginning of the line,
# with the spaces between them; 1 behind a no-break space; in code, 1 behind a line's element and 2 behind <br>; NUMBER of the next
# block.
OUT, OPENED, BLANK, BETWEEN, COUNT, LINE_ENDS, INDENT, AFTER_NBSP, LINE_END, NEXT_NUMBER = range(10)
DECIMAL, LOWER_LETTER, UPPER_LETTER, LOWER_ROMAN, UPPER_ROMAN = range(1, 6)
NO_LINE, CONTAINER_OF_LINES, LINE_OF_CODE, VERSE = range(4)  # elements in code; <span class="line"> elsewhere


def parse(content: bytes) -> Blocks:
    """A page in UTF-8 -> its blocks."""
    tables = tag_table(), entity_table(), name_table()
    text, marks, block, element, title = parse_page(np.frombuffer(content, np.uint8), content.count(b"<"), *tables)
    start, end, gap, around, words, number = np.ascontiguousarray(block.T)
    tag, parent, element_words, kind = np.ascontiguousarray(element.T)
    return Blocks(text, marks, start, end, gap, around, words, number, tag, parent, element_words, kind, title)


@njit(cache=True)
def parse_page(data, n_tags, tags, entities, names):
    n, most = len(data), n_tags + 2
    size = n * 5 // 4 + 64  # &nGt; grows from 5 bytes to 6, a formula by its two $
    text, marks = np.empty(size, np.uint8), np.empty(size, np.uint8)
    block = np.empty((most, 6), np.int64)  # START ...
    pieces = text, marks, block
    state = np.zeros(10, np.int64)
    state[BETWEEN] = PARAGRAPH

    element = np.empty((most, 4), np.int64)  # tag, parent, names, kind
    element[0] = BODY, 0, 0, 0
    n_elements = 1
    stack_tag, stack_flags = np.zeros(DEPTH, np.uint8), np.zeros(DEPTH, np.uint8)
    stack_element, stack_words = np.zeros(DEPTH, np.int32), np.zeros(DEPTH, np.int64)
    stack_line, stack_out = np.zeros(DEPTH, np.uint8), np.zeros(DEPTH, np.int64)  # NO_LINE ..., bytes written before it
    # of an <ol>: the next NUMBER, and what to add for the one after it; 0 for other elements and lists without numbers
    stack_number, stack_step = np.zeros(DEPTH, np.int64), np.zeros(DEPTH, np.int64)
    stack_tag[0] = BODY
    depth = 1

    title_start = title_end = math_end = pre_end = 0
    budget = np.array([4 * n + 1000])  # bytes that may be read ahead for gutters and lists, so that time stays linear
    endless = np.zeros(256, np.bool_)  # True for tags of raw elements that have no end ahead; entry 0 is for comments
    character = np.zeros(6, np.uint8)
    at = 0
    while at < n:
        top = depth - 1
        kind_of_markup = markup(data, at)
        if kind_of_markup == NO_MARKUP:
            if stack_flags[top] & DROP:
                at += 1
                while at < n and data[at] != 60:
                    at += 1
            else:
                at = put_text(data, at, pieces, state, stack_flags[top], stack_element[top], stack_words[top], entities, character)
            continue
        if kind_of_markup == DECLARATION:
            at = after_declaration(data, at, endless)
            continue

        # a tag: its name, its attributes
        began, closing = at, data[at + 1] == 47
        at += 2 if closing else 1
        name, hyphen = np.int64(FNV_START), False
        while at < n and not (is_space(data[at]) or data[at] == 62 or data[at] == 47):
            byte = np.int64(data[at])
            name = (name ^ (byte | 32 if 65 <= byte <= 90 else byte)) * FNV_PRIME
            hyphen |= byte == 45
            at += 1
        found = find(tags[0], name & HASH)
        tag = np.int64(tags[1][found]) if found >= 0 else CUSTOM if hyphen else UNKNOWN
        name_end = at
        if closing:
            while at < n and data[at] != 62:
                at += 1
            at += 1
            own, hashed, attribute_flags, value_start, value_end = np.int64(0), np.int64(0), 0, 0, 0
        else:
            at, own, hashed, attribute_flags, value_start, value_end = attributes(data, at, tag, names)
        kind = np.int64(KIND[tag])
        if tag == BODY:
            if not closing and n_elements == 1:
                element[0, 2], element[0, 3] = own & NAMES_ONLY, hashed
            continue
        if closing and kind & VOID and tag != BR:
            continue

        # the elements that it closes, and the gap that these and it make
        in_lines = stack_flags[top] & LINES > 0
        keep = depth_after_end(stack_tag, depth, tag) if closing else depth_before_start(stack_tag, depth, tag)
        if closing and keep == depth and tag != P and tag != BR:
            continue
        if not closing and keep == DEPTH and not kind & (VOID | RAW):
            keep -= 1
        apart = kind & (BLOCK | NEW_LINE | NEW_PARAGRAPH)
        if in_lines and (closing or tag == BR or (kind & IN_LINES and stack_flags[keep - 1] & LINES)):
            apart = 0
        for i in range(depth - 1, keep - 1, -1):
            if stack_line[i] == LINE_OF_CODE:
                if state[OUT] == stack_out[i] or text[state[OUT] - 1] != 10:
                    state[LINE_END] = max(state[LINE_END], 1)
            elif stack_line[i] == VERSE and state[OPENED]:
                state[LINE_END] = 1
            elif stack_line[i] == NO_LINE:
                apart |= KIND[stack_tag[i]] & (BLOCK | NEW_LINE | NEW_PARAGRAPH)
            if stack_tag[i] == LI:
                state[NEXT_NUMBER] = 0
        depth = keep
        flags = stack_flags[depth - 1]
        if tag == BR and not flags & DROP:
            if flags & LINES:
                if state[LINE_END] == 2 and state[OPENED]:
                    state[LINE_END] = 1
                    put(pieces, state, BREAK, 1, flags, stack_element[depth - 1], stack_words[depth - 1])
                state[LINE_END] = 2
            elif flags & PRE:
                put(pieces, state, BREAK, 1, flags, stack_element[depth - 1], stack_words[depth - 1])
                apart = 0
            elif state[OPENED] and (state[BLANK] != 10 or flags & MONO):
                state[LINE_ENDS] = state[LINE_ENDS] + 1 if state[BLANK] == 10 else 1
                state[BLANK], state[INDENT], state[AFTER_NBSP] = 10, 0, 0
                apart = 0
            elif state[OPENED]:
                apart = BLOCK | NEW_PARAGRAPH
        if apart:
            close_block(pieces, state)
            state[BETWEEN] = max(
                state[BETWEEN],
                PARAGRAPH if apart & NEW_PARAGRAPH else LINE if apart & NEW_LINE else CELL if apart & BLOCK else SPACE,
            )
        if closing and not flags & DROP:
            if tag == Q:
                put_closing_quote(pieces, state, flags, stack_element[depth - 1], stack_words[depth - 1], stack_tag[:depth])
            elif (tag in (SUP, SUB)) and at < n and is_digit(data[at]) and ends_in_digit(pieces, state):
                state[BLANK] = 32
            elif tag == CODE and flags & LINES and stack_tag[depth - 1] == PRE_TAG and is_tag(data, at, CODE, tags):
                if state[LINE_END] and state[OPENED]:
                    put(pieces, state, BREAK, 1, flags, stack_element[depth - 1], stack_words[depth - 1])
                state[LINE_END] = 1  # <pre><code>a line</code><code>another</code></pre>
        if closing or (kind & VOID and tag != IMG):
            continue

        # the element that it opens
        around, inherited = stack_element[depth - 1], stack_words[depth - 1]
        if kind & RAW:
            stop = n if endless[tag] else raw_end(data, at, began + 1, name_end)
            if stop == n:
                endless[tag] = True
                if tag == TITLE:
                    continue  # its text becomes text of the page
            if tag == TITLE and title_end == 0 and not flags & DROP:
                title_start, title_end = at, stop
            if tag == SCRIPT and attribute_flags & IS_TEX and not flags & DROP:
                put_formula(data, at, stop, pieces, state, flags, around, inherited, entities, character)
            if tag == TEXTAREA and own & CODE_WORD and not flags & DROP:
                close_block(pieces, state)
                state[BETWEEN] = PARAGRAPH
                while at < stop:
                    at = put_text(data, at, pieces, state, flags | PRE, around, inherited, entities, character)
                close_block(pieces, state)
                state[BETWEEN] = PARAGRAPH
            at = stop  # the end tag there closes nothing
            continue
        if tag == MATHJAX and not flags & DROP:
            stop = n if endless[tag] else raw_end(data, at, began + 1, name_end)
            if stop == n:
                endless[tag] = True
            else:  # MathJax 3: the formula as it is drawn, and mostly its MathML
                shown = attribute(data, name_end, at, DISPLAY)
                display = shown[0] < shown[1] and data[shown[0]] | 32 == 116  # t of true
                if display:
                    state[BLANK], state[LINE_ENDS] = 10, 1
                put_mathjax(data, name_end, at, stop, pieces, state, flags, around, inherited, entities, character, tags, names)
                if display:
                    state[BLANK], state[LINE_ENDS] = 10, 1
                at = stop
                continue
        if tag == MATH and value_start == value_end and not flags & DROP and at >= math_end:
            math_end = raw_end(data, at, began + 1, name_end)
            value_start, value_end = tex_annotation(data, at, math_end, tags, names)
            if value_start == value_end and not flags & HIDDEN and math_end < n:
                put_mathml(data, at, math_end, pieces, state, flags, around, inherited, entities, character, tags)
                at = math_end
                continue
        is_formula = (tag == IMG and own & MATH_WORD) or (tag == MATH and not flags & HIDDEN)
        if is_formula and value_start < value_end and not flags & DROP:
            put_formula(data, value_start, value_end, pieces, state, flags, around, inherited, entities, character)
            attribute_flags |= IS_UNREAD
        if tag == IMG or (kind & EMPTY and data[at - 2] == 47):  # <path/> of SVG and the like
            continue
        if tag == MATH and flags & HIDDEN:
            attribute_flags |= IS_UNREAD  # a picture of it with its text follows
        line, number, step = NO_LINE, np.int64(0), np.int64(0)
        if not flags & DROP:
            if tag in (SUP, SUB):
                stop = put_fraction(data, at, tag, pieces, state, flags, around, inherited, tags)
                if stop > at:
                    at = stop
                    continue
                if not own & NOTE_WORD and ends_in_digit(pieces, state) and holds_number(data, at):
                    put(pieces, state, CARET if tag == SUP else UNDERSCORE, 1, flags, around, inherited)
                    while is_space(data[at]):
                        at += 1
            elif tag == Q:
                at = put_opening_quote(data, at, pieces, state, flags, around, inherited, entities, character, stack_tag[:depth])
            elif tag == A and attribute_flags & HAS_HREF and is_permalink(data, at, entities, character):
                attribute_flags |= IS_UNREAD
            elif tag == OL and not flags & (PRE | LINES) and not own & (UNNUMBERED | PLAIN):
                number, step = numbering(data, name_end, at, budget)
            elif tag == LI and not flags & (PRE | LINES):
                i = depth - 1
                while i > 0 and not GROUP[stack_tag[i]] & (IN_LIST | IN_CELL | IN_TABLE):
                    i -= 1
                if stack_step[i]:
                    start, stop = attribute(data, name_end, at, VALUE)
                    given, value = integer(data, start, stop)
                    if given:
                        stack_number[i] = 8 * value + stack_number[i] % 8
                    state[NEXT_NUMBER] = stack_number[i]
                    stack_number[i] += stack_step[i]
            if own & GUTTER and only_numbers(data, at, began + 1, name_end, entities, character, budget):
                attribute_flags |= IS_UNREAD
            if flags & LINES:
                is_line = tag in (LI, TR, DIV)
                if tag == SPAN:
                    is_line = own & LINE_WORD or shows_as_block(data, name_end, at)
                if is_line and not attribute_flags & IS_UNREAD:
                    line = LINE_OF_CODE
                    if state[OPENED] and (state[LINE_END] or text[state[OUT] - 1] != 10):
                        state[LINE_END] = 0
                        put(pieces, state, BREAK, 1, flags, around, inherited)
                    state[LINE_END] = 0
                elif kind & IN_LINES:
                    line = CONTAINER_OF_LINES
                if kind & OF_LINES:
                    flags &= ~PRE
                elif tag in (LI, TD, TH) or own & LINE_WORD:
                    flags |= PRE
                if tag == BUTTON:
                    attribute_flags |= IS_UNREAD
            elif tag == SPAN and own & LINE_WORD:
                line = VERSE
                if state[LINE_END]:
                    state[BLANK], state[LINE_ENDS] = 10, 1
            elif (tag == TABLE and has_code_cells(data, at, names)) or (
                (tag in (TD, DIV)) and own & CODE_WORD and line_follows(data, at, names)
            ):
                flags |= LINES
        if kind & STRONG:
            flags |= BOLD
        if kind & INDENTED:
            flags |= PRE
            if tag == PRE_TAG and at >= pre_end:
                pre_end = raw_end(data, at, began + 1, name_end)
            if tag == PRE_TAG and pre_end < n:  # a <pre> that never ends would make one block of the rest of the page
                flags |= LINES
        if kind & MONOSPACED:
            flags |= MONO
        is_shadow = tag == TEMPLATE and attribute(data, name_end, at, SHADOW)[0] > 0
        if (kind & UNREAD and not is_shadow) or attribute_flags & IS_UNREAD:
            flags |= DROP
        if attribute_flags & HAS_HREF and tag == A:
            flags |= LINK
        if attribute_flags & IS_HIDDEN:
            flags |= HIDDEN
        stack_tag[depth], stack_flags[depth] = tag, flags
        stack_element[depth], stack_words[depth] = around, inherited | own & NAMES_ONLY
        stack_line[depth], stack_out[depth], stack_number[depth], stack_step[depth] = line, state[OUT], number, step
        if kind & BLOCK and line == NO_LINE:
            stack_element[depth], stack_words[depth] = n_elements, 0
            element[n_elements, 0], element[n_elements, 1] = tag, around
            element[n_elements, 2], element[n_elements, 3] = own & NAMES_ONLY, hashed
            n_elements += 1
        depth += 1
    close_block(pieces, state)
    return text[: state[OUT]], marks[: state[OUT]], block[: state[COUNT]], element[:n_elements], (title_start, title_end)


NO_MARKUP, DECLARATION, TAG_START = range(3)
BREAK = np.array([10, 0, 0, 0, 0, 0], np.uint8)
DOLLAR = np.array([36, 0, 0, 0, 0, 0], np.uint8)
CARET, UNDERSCORE, SLASH, OPENING, CLOSING, COMMA = (np.array([byte, 0, 0, 0, 0, 0], np.uint8) for byte in b"^_/(),")
ROOT = np.array([0xE2, 0x88, 0x9A, 0, 0, 0], np.uint8)


@njit(cache=True)
def is_space(byte):
    return byte == 32 or 9 <= byte <= 13


@njit(cache=True)
def is_letter(byte):
    return 65 <= (byte & 0xDF) <= 90


@njit(cache=True)
def markup(data, at):
    """NO_MARKUP, DECLARATION or TAG_START: what begins at `at`."""
    if data[at] != 60 or at + 1 >= len(data):
        return NO_MARKUP
    byte = data[at + 1]
    if is_letter(byte):
        return TAG_START
    if byte == 33 or byte == 63:
        return DECLARATION
    if byte == 47:
        return TAG_START if at + 2 < len(data) and is_letter(data[at + 2]) else DECLARATION
    return NO_MARKUP


@njit(cache=True)
def after_declaration(data, at, endless):
    """The position after a comment, doctype, processing instruction or CDATA section."""
    n = len(data)
    if at + 3 < n and data[at + 1] == 33 and data[at + 2] == 45 and data[at + 3] == 45 and not endless[0]:
        stop = at + 4
        if stop < n and data[stop] == 62:  # <!-->
            return stop + 1
        dashes = 1 if stop + 1 < n and data[stop] == 45 and data[stop + 1] == 62 else 0  # <!--->
        while stop < n:
            byte = data[stop]
            if byte == 45:
                dashes += 1
            else:
                if byte == 62 and (dashes >= 2 or (dashes == 1 and stop == at + 5)):
                    return stop + 1
                if not (byte == 33 and dashes >= 2 and stop + 1 < n and data[stop + 1] == 62):  # --!>
                    dashes = 0
            stop += 1
        endless[0] = True
    while at < n and data[at] != 62:
        at += 1
    return at + 1


@njit(cache=True)
def depth_after_end(stack_tag, depth, tag):
    """The number of elements that an end tag leaves open; one without its start tag closes nothing."""
    i = depth - 1
    while i > 0:
        if stack_tag[i] == tag:
            return i
        if GROUP[stack_tag[i]] & END_STOP[tag]:
            break
        i -= 1
    return depth


@njit(cache=True)
def depth_before_start(stack_tag, depth, tag):
    """The number of elements that a start tag leaves open: <li> ends <li>, <div> ends <p>."""
    keep = depth
    if ITEM[tag]:
        i = depth - 1
        while i > 0 and not GROUP[stack_tag[i]] & (ITEM[tag] | ITEM_STOP[tag]):
            i -= 1
        if i > 0 and GROUP[stack_tag[i]] & ITEM[tag]:
            keep = i
    if CLOSES_P[tag]:
        i = keep - 1
        while i > 0 and not GROUP[stack_tag[i]] & (IN_P | IN_CELL | IN_TABLE):
            i -= 1
        if i > 0 and GROUP[stack_tag[i]] & IN_P:
            keep = i
    return keep


@njit(cache=True)
def attributes(data, at, tag, names):
    """
    The end of a tag's name -> the end of the tag, bits of GROUPS in class, id, role and itemprop, a hash of tag, class and id,
    flags (HAS_HREF ...), start and end of its alt or alttext.
    """
    n, name_end, tag_end = len(data), at, -1
    bits, hashed, flags = np.int64(0), np.int64(tag + 1) * FNV_PRIME, 0
    alt_start = alt_end = 0
    aria_hidden = False
    while at < n:
        while at < n and (is_space(data[at]) or data[at] == 47):
            at += 1
        if at >= n:
            break
        if data[at] == 62:
            tag_end = at + 1
            break
        name = np.int64(FNV_START)
        first = at
        while at < n and not (is_space(data[at]) or data[at] == 62 or data[at] == 47 or (data[at] == 61 and at > first)):
            byte = np.int64(data[at])
            name = (name ^ (byte | 32 if 65 <= byte <= 90 else byte)) * FNV_PRIME
            at += 1
        name &= HASH
        while at < n and is_space(data[at]):
            at += 1
        start = stop = at
        if at < n and data[at] == 61:
            at += 1
            while at < n and is_space(data[at]):
                at += 1
            if at >= n:
                break
            quote = data[at]
            if quote == 34 or quote == 39:
                at += 1
                start = at
                while at < n and data[at] != quote:
                    at += 1
                stop = at
                if at >= n:
                    break
                at += 1
            else:
                start = at
                while at < n and not (is_space(data[at]) or data[at] == 62):
                    at += 1
                stop = at
        if name in (CLASS, ID, ROLE, ITEMPROP):
            more, hashed = name_words(data, start, stop, hashed, names)
            bits |= more
        elif name == STYLE:
            if hides(data, start, stop):
                flags |= IS_HIDDEN
        elif name == HREF:
            flags |= HAS_HREF
        elif name in (ALT, ALTTEXT):
            alt_start, alt_end = start, stop
        elif name in (TYPE, ENCODING):
            if is_tex(data, start, stop):
                flags |= IS_TEX
        elif name == HIDDEN_NAME:
            flags |= IS_HIDDEN
        elif name == ARIA_HIDDEN:
            aria_hidden = stop > start and data[start] == 116  # t of true
    if tag_end < 0:  # the page ends inside it, or inside a quote of it: the next > ends it
        at = name_end
        while at < n and data[at] != 62:
            at += 1
        tag_end = at + 1
    if (bits & KATEX_HTML == KATEX_HTML and aria_hidden) or bits & MATHJAX_WORD:
        flags |= IS_UNREAD  # the formula as it is drawn; the page has its LaTeX too
    return tag_end, bits, hashed, flags, alt_start, alt_end


@njit(cache=True)
def name_words(data, start, stop, hashed, names):
    """Bits and hash of "post-content articleBody2": post, content, article, body."""
    table, bits_of = names
    bits, name, at = np.int64(0), np.int64(0), start
    while at < stop:
        word, length, was_small = np.int64(FNV_START), 0, False
        while at < stop and is_letter(data[at]):
            small = data[at] >= 97
            if was_small and not small:
                break
            was_small = small
            word = (word ^ np.int64(data[at] | 32)) * FNV_PRIME
            length += 1
            at += 1
        if length:
            hashed = (hashed ^ word) * FNV_PRIME
            found = find(table, word & HASH)
            if found >= 0:
                name |= bits_of[found]
        else:
            if is_space(data[at]):
                bits |= listing_words(name)
                name = np.int64(0)
            at += 1
    return bits | listing_words(name), hashed


@njit(cache=True)
def listing_words(name):
    """The bits of the words of one name, with GUTTER or CODE_CELL where they make one together."""
    if name <= NAMES_ONLY:
        return name
    of_line = name & (LINE_WORD | LN_WORD | BLOB_WORD)
    if (of_line and name & NUMBER_WORD) or name == LN_WORD:
        name |= GUTTER
    elif of_line and name & CODE_WORD and not name & GUTTER:
        name |= CODE_CELL
    return name & ~np.int64(LN_WORD | BLOB_WORD | NUMBER_WORD)


@njit(cache=True)
def hides(data, start, stop):
    """True for a style with display: none or visibility: hidden."""
    for at in range(start, stop - 11):
        if data[at] | 32 == 100 and data[at + 6] | 32 == 121 and data[at + 3] | 32 == 112:  # d..p..y
            colon = at + 7
            while colon < stop - 3 and (is_space(data[colon]) or data[colon] == 58):
                colon += 1
            if data[colon] | 32 == 110 and data[colon + 3] | 32 == 101:  # n..e
                return True
        elif data[at] | 32 == 118 and data[at + 9] | 32 == 121 and data[at + 3] | 32 == 105:  # v..i.....y
            colon = at + 10
            while colon < stop - 5 and (is_space(data[colon]) or data[colon] == 58):
                colon += 1
            if data[colon] | 32 == 104 and data[min(colon + 5, stop - 1)] | 32 == 110:  # h....n
                return True
    return False


@njit(cache=True)
def is_tex(data, start, stop):
    """True for a media type of TeX: math/tex, application/x-tex, LaTeX."""
    for at in range(start, stop - 2):
        if (
            data[at] | 32 == 116
            and data[at + 1] | 32 == 101
            and data[at + 2] | 32 == 120
            and (at + 3 >= stop or data[at + 3] | 32 != 116)
        ):
            return True
    return False


@njit(cache=True)
def raw_end(data, at, name_start, name_end):
    """The start of the next </name, or the end of the page."""
    n, size = len(data), name_end - name_start
    while at < n:
        if data[at] == 60 and at + 1 < n and data[at + 1] == 47 and at + 2 + size <= n:
            i = 0
            while i < size and data[at + 2 + i] | 32 == data[name_start + i] | 32:
                i += 1
            if i == size:
                return at
        at += 1
    return n


@njit(cache=True)
def tex_annotation(data, at, stop, tags, names):
    """Start and end of the LaTeX in the annotation of a formula in MathML; (0, 0) where there is none."""
    while at < stop:
        if data[at] == 60 and at + 11 < stop and data[at + 1] | 32 == 97 and data[at + 5] | 32 == 116 and data[at + 10] | 32 == 110:
            start, _, _, flags, _, _ = attributes(data, at + 11, ANNOTATION, names)
            if flags & IS_TEX:
                end = start
                while end < stop and data[end] != 60:
                    end += 1
                return start, max(start, end)
        at += 1
    return 0, 0


# --- Writing the text ------------------------------------------------------------------------------------------------------


@njit(cache=True)
def put(pieces, state, character, size, flags, around, inherited):
    """Adds a character and the white space before it; opens a block where none is open."""
    text, marks, block = pieces
    out = state[OUT]
    new_lines, spaces = 0, 0
    if not state[OPENED]:
        state[OPENED] = 1
        new = block[state[COUNT]]
        new[START], new[GAP], new[ELEMENT], new[NAMES] = out, state[BETWEEN], around, inherited
        new[NUMBER] = state[NEXT_NUMBER]
        state[BETWEEN], state[NEXT_NUMBER] = SPACE, 0
        spaces = state[INDENT]
    elif state[BLANK] == 10:
        new_lines, spaces = max(1, state[LINE_ENDS]), state[INDENT] if state[INDENT] > 1 else 0
    elif state[BLANK]:
        spaces = 1
    if state[LINE_END]:
        if flags & LINES and out > block[state[COUNT], START] and (state[LINE_END] == 2 or character[0] != 10):
            new_lines = 1
        state[LINE_END] = 0
    if new_lines + spaces:
        for i in range(new_lines + spaces):
            text[out], marks[out] = 10 if i < new_lines else 32, flags
            out += 1
    state[BLANK] = state[LINE_ENDS] = state[INDENT] = state[AFTER_NBSP] = 0
    for i in range(size):
        text[out], marks[out] = character[i], flags
        out += 1
    state[OUT] = out


@njit(cache=True)
def close_block(pieces, state):
    """Ends the open block without the space at its end; an empty block leaves its gap to the next one."""
    text, _, block = pieces
    state[LINE_END] = state[INDENT] = state[AFTER_NBSP] = 0
    if not state[OPENED]:
        return
    last, out = block[state[COUNT]], state[OUT]
    while out > last[START] and is_space(text[out - 1]):
        out -= 1
    if out > last[START]:
        last[END] = out
        state[COUNT] += 1
    else:
        state[BETWEEN] = max(state[BETWEEN], last[GAP])
        state[NEXT_NUMBER] = last[NUMBER]
    state[OUT] = out
    state[OPENED] = state[BLANK] = state[LINE_ENDS] = 0


@njit(cache=True)
def put_text(data, at, pieces, state, flags, around, inherited, entities, character):
    """Adds the text from `at` to the next markup; returns the position of that."""
    n, first = len(data), at
    while at < n:
        byte, size, no_break = data[at], 1, False
        if byte == 60 and at > first:
            break
        if byte == 38:
            at, size = reference(data, at, n, entities, character)
            byte = character[0]
            if size == 2 and byte == 0xC2 and character[1] == 0xA0:
                byte, size, no_break = np.uint8(32), 1, True
        elif byte == 0xC2 and at + 1 < n and data[at + 1] == 0xA0:
            byte, no_break = np.uint8(32), True
            at += 2
        else:
            at += 1
        character[0] = byte
        if size == 1 and is_space(byte):
            if not flags & PRE:
                if state[BLANK] == 10 or (not state[OPENED] and flags & MONO):  # at the beginning of a line
                    if no_break or state[AFTER_NBSP]:
                        state[INDENT] += 1
                    state[AFTER_NBSP] = no_break
                elif not flags & LINES:
                    state[BLANK] = 32
                continue
            if byte == 13:
                if at < n and data[at] == 10:
                    continue
                character[0] = 10
            if character[0] == 10 and not state[OPENED]:
                continue
        elif (size == 1 and byte == 0) or size == 0:
            continue
        put(pieces, state, character, size, flags, around, inherited)
    return at


@njit(cache=True)
def put_formula(data, at, stop, pieces, state, flags, around, inherited, entities, character):
    """Adds $LaTeX$."""
    while at < stop and (is_space(data[at]) or data[at] == 36):
        at += 1
    while stop > at and (is_space(data[stop - 1]) or data[stop - 1] == 36):
        stop -= 1
    if at == stop:
        return
    put(pieces, state, DOLLAR, 1, flags, around, inherited)
    while at < stop:
        if data[at] == 38:
            at, size = reference(data, at, stop, entities, character)
        else:
            character[0], size = data[at], 1
            at += 1
        put(pieces, state, character, size, flags, around, inherited)
    put(pieces, state, DOLLAR, 1, flags, around, inherited)


# --- Quotes, exponents, fractions, lists -----------------------------------------------------------------------------------


@njit(cache=True)
def is_digit(byte):
    return 48 <= byte <= 57


@njit(cache=True)
def ends_in_digit(pieces, state):
    """True where the last character of the open block is a digit with no space behind it."""
    return state[OPENED] and not state[BLANK] and not state[LINE_END] and is_digit(pieces[0][state[OUT] - 1])


@njit(cache=True)
def is_tag(data, at, tag, tags):
    """True where a start tag of this name begins at `at`."""
    if at + 1 >= len(data) or data[at] != 60:
        return False
    at += 1
    name = np.int64(FNV_START)
    stop = min(len(data), at + 32)
    while at < stop and not (is_space(data[at]) or data[at] == 62 or data[at] == 47):
        name = (name ^ np.int64(data[at] | 32 if is_letter(data[at]) else data[at])) * FNV_PRIME
        at += 1
    found = find(tags[0], name & HASH)
    return found >= 0 and tags[1][found] == tag


@njit(cache=True)
def attribute(data, at, end, wanted):
    """
    Start and end of the value of the attribute whose name has the hash `wanted`; (0, 0) where the tag has none.

    at, end  the end of the tag's name and of the tag
    """
    while at < end:
        while at < end and (is_space(data[at]) or data[at] == 47):
            at += 1
        name, first = np.int64(FNV_START), at
        while at < end and not (is_space(data[at]) or data[at] == 62 or data[at] == 47 or (data[at] == 61 and at > first)):
            name = (name ^ np.int64(data[at] | 32 if is_letter(data[at]) else data[at])) * FNV_PRIME
            at += 1
        if at == first:
            break
        while at < end and is_space(data[at]):
            at += 1
        start = stop = at
        if at < end and data[at] == 61:
            at += 1
            while at < end and is_space(data[at]):
                at += 1
            start = at
            if at < end and (data[at] == 34 or data[at] == 39):
                start = at + 1
                while at + 1 < end and data[at + 1] != data[start - 1]:
                    at += 1
                stop = at + 1
                at += 2
            else:
                while at < end and not (is_space(data[at]) or data[at] == 62):
                    at += 1
                stop = at
        if name & HASH == wanted:
            return start, stop
    return 0, 0


@njit(cache=True)
def integer(data, at, stop):
    """True and the integer that a value begins with; False and 0 for another value."""
    while at < stop and is_space(data[at]):
        at += 1
    negative = at < stop and data[at] == 45
    at += negative
    value, digits = np.int64(0), 0
    while at < stop and is_digit(data[at]) and digits < 9:
        value = 10 * value + data[at] - 48
        digits += 1
        at += 1
    return digits > 0, -value if negative else value


@njit(cache=True)
def has_word(data, at, stop, word):
    """True where the letters stand in data[at:stop], in capitals or not."""
    for first in range(at, stop - len(word) + 1):
        i = 0
        while i < len(word) and data[first + i] | 32 == word[i]:
            i += 1
        if i == len(word):
            return True
    return False


NONE, ALPHA, LATIN, ROMAN, UPPER, BLOCK_WORD, GRID = (
    np.frombuffer(word, np.uint8) for word in (b"none", b"alpha", b"latin", b"roman", b"upper", b"block", b"grid")
)


@njit(cache=True)
def numbering(data, name_end, end, budget):
    """NUMBER of the first item of an <ol>, and what to add for the next; (0, 0) for a list that shows no numbers."""
    style = DECIMAL
    start, stop = attribute(data, name_end, end, TYPE)
    if start < stop:
        byte = data[start]
        if byte | 32 == 97:
            style = LOWER_LETTER if byte == 97 else UPPER_LETTER
        elif byte | 32 == 105:
            style = LOWER_ROMAN if byte == 105 else UPPER_ROMAN
    start, stop = attribute(data, name_end, end, STYLE)
    if start < stop:
        if has_word(data, start, stop, NONE):
            return 0, 0
        upper = has_word(data, start, stop, UPPER)
        if has_word(data, start, stop, ALPHA) or has_word(data, start, stop, LATIN):
            style = UPPER_LETTER if upper else LOWER_LETTER
        elif has_word(data, start, stop, ROMAN):
            style = UPPER_ROMAN if upper else LOWER_ROMAN
    start, stop = attribute(data, name_end, end, START_NAME)
    given, value = integer(data, start, stop)
    backwards = attribute(data, name_end, end, REVERSED)[1] > 0
    if not given:
        value = count_items(data, end, budget) if backwards else 1
    return 8 * value + style, -8 if backwards else 8


@njit(cache=True)
def count_items(data, at, budget):
    """The number of <li> from `at` to the end of the list, without those of lists inside of it."""
    n, level, items, first = len(data), 0, 0, at
    while at + 3 < n and at - first < budget[0]:
        if data[at] == 60:
            closing = data[at + 1] == 47
            i = at + 1 + closing
            if i + 2 < n and data[i + 1] | 32 == 108 and data[i] | 32 in (111, 117) and not is_letter(data[i + 2]):  # ol ul
                level += -1 if closing else 1
                if level < 0:
                    break
            elif (
                not closing and level == 0 and data[i] | 32 == 108 and data[i + 1] | 32 == 105 and not is_letter(data[i + 2])
            ):  # li
                items += 1
        at += 1
    budget[0] -= at - first
    return items


@njit(cache=True)
def number_at(data, at):
    """Digits with a sign at `at`, in elements that are no links -> their start, end, and the end of white space and tags behind."""
    n = min(len(data), at + NEAR)
    start = stop = at
    for part in range(2):  # what is before the digits, what is behind them
        while at + 1 < n:
            if is_space(data[at]):
                at += 1
            elif data[at] == 60 and is_letter(data[at + 1]) and not part:
                if data[at + 1] | 32 == 97 and not is_letter(data[at + 2 if at + 2 < n else at]):
                    return 0, 0, 0
                while at < n and data[at] != 62:
                    at += 1
                at += 1
            elif data[at] == 60 and data[at + 1] == 47 and part:
                if at + 4 < n and data[at + 2] | 32 == 115 and data[at + 3] | 32 == 117:  # </su
                    return start, stop, at
                while at < n and data[at] != 62:
                    at += 1
                at += 1
            else:
                break
        if part:
            break
        start = at
        if at < n and (data[at] == 43 or data[at] == 45):
            at += 1
        elif at + 2 < n and data[at] == 0xE2 and data[at + 1] == 0x88 and data[at + 2] == 0x92:  # U+2212
            at += 3
        elif at + 7 < n and data[at] == 38 and has_word(data, at + 1, at + 7, MINUS):
            at += 7
        first = at
        while at < n and is_digit(data[at]):
            at += 1
        if at == first:
            return 0, 0, 0
        stop = at
    return 0, 0, 0


NEAR = 200  # bytes that are read ahead for a number; a formula for parentheses has ten times as many
MINUS, FRASL = np.frombuffer(b"minus", np.uint8), np.frombuffer(b"frasl", np.uint8)


@njit(cache=True)
def holds_number(data, at):
    """True where a <sup> or <sub> whose content begins at `at` holds a number alone, and no link: a footnote's mark is a link."""
    return number_at(data, at)[2] > 0


@njit(cache=True)
def put_fraction(data, at, tag, pieces, state, flags, around, inherited, tags):
    """<sup>1</sup>/<sub>2</sub> with its content at `at`: adds 1/2 and returns its end, else `at`. 1<sup>.. becomes 1 1/2."""
    n = min(len(data), at + 2 * NEAR)
    top, top_end, i = number_at(data, at)
    if tag != SUP or i == 0:
        return at
    while i < n and data[i] != 62:
        i += 1
    i += 1
    while i < n and is_space(data[i]):
        i += 1
    if i < n and data[i] == 47:
        i += 1
    elif (
        i + 2 < n
        and data[i] == 0xE2
        and ((data[i + 1] == 0x81 and data[i + 2] == 0x84) or (data[i + 1] == 0x88 and data[i + 2] == 0x95))
    ):
        i += 3  # U+2044, U+2215
    elif i + 7 < n and data[i] == 38 and (has_word(data, i + 1, i + 7, FRASL) or (data[i + 1] == 35 and data[i + 6] == 59)):
        i += 7  # &frasl; &#8260;
    else:
        return at
    while i < n and is_space(data[i]):
        i += 1
    if not is_tag(data, i, SUB, tags):
        return at
    while i < n and data[i] != 62:
        i += 1
    bottom, bottom_end, i = number_at(data, i + 1)
    if i == 0:
        return at
    if ends_in_digit(pieces, state):
        state[BLANK] = 32
    character = np.zeros(6, np.uint8)
    for start, stop in ((top, top_end), (bottom, bottom_end)):
        if start == bottom:
            put(pieces, state, SLASH, 1, flags, around, inherited)
        while start < stop:
            character[0] = data[start]
            put(pieces, state, character, 1, flags, around, inherited)
            start += 1
    while i < n and data[i] != 62:
        i += 1
    return i + 1


# 201C 201D 2018 2019
QUOTES = np.array([[0xE2, 0x80, byte, 0, 0, 0] for byte in (0x9C, 0x9D, 0x98, 0x99)], np.uint8)


@njit(cache=True)
def is_quote(first, second, third):
    """True for the bytes of a double quote, straight, curly or pointed, or of a single one that is curly."""
    if first == 0xE2:
        return second == 0x80 and 0x98 <= third <= 0x9F
    return first == 34 or (first == 0xC2 and second in (0xAB, 0xBB))


@njit(cache=True)
def quote_level(stack_tag):
    level = 0
    for tag in stack_tag:
        level += tag == Q
    return 2 * (level % 2)


@njit(cache=True)
def put_opening_quote(data, at, pieces, state, flags, around, inherited, entities, character, stack_tag):
    """Adds the quote that a browser shows for <q>, if the text has none; returns the position of the text."""
    n = len(data)
    while at < n and is_space(data[at]):
        at += 1
    if at + 3 >= n:
        return at
    character[:3] = data[at : at + 3]
    if data[at] == 38:
        reference(data, at, n, entities, character)
    if not is_quote(character[0], character[1], character[2]):
        put(pieces, state, QUOTES[quote_level(stack_tag)], 3, flags, around, inherited)
    return at


@njit(cache=True)
def put_closing_quote(pieces, state, flags, around, inherited, stack_tag):
    """Adds the quote that a browser shows for </q>, before the white space there, if the text has none."""
    text, out = pieces[0], state[OUT]
    if not state[OPENED] or out < 3:
        return
    level = quote_level(stack_tag)
    one = text[out - 1] if text[out - 1] < 128 else np.uint8(0)
    curly = (
        text[out - 3] == 0xE2 and is_quote(text[out - 3], text[out - 2], text[out - 1]) and text[out - 1] != QUOTES[3 - level, 2]
    )
    if one == 34 or curly or (text[out - 2] == 0xC2 and text[out - 1] == 0xBB):
        return
    blank = state[BLANK]
    state[BLANK] = 0
    put(pieces, state, QUOTES[level + 1], 3, flags, around, inherited)
    state[BLANK] = blank


@njit(cache=True)
def is_permalink(data, at, entities, character):
    """True for a link with nothing but a pilcrow, section or number sign in it, as behind the headings of documentation."""
    n = len(data)
    if at + 3 >= n:
        return False
    if data[at] == 38:
        at, size = reference(data, at, n, entities, character)
    else:
        character[:2] = data[at : at + 2]
        size = 2 if data[at] == 0xC2 else 1
        at += size
    sign = (size == 1 and character[0] == 35) or (size == 2 and character[0] == 0xC2 and character[1] in (0xA7, 0xB6))
    return sign and at + 3 < n and data[at] == 60 and data[at + 1] == 47 and data[at + 2] | 32 == 97 and data[at + 3] == 62


# --- Code ------------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def only_numbers(data, at, name_start, name_end, entities, character, budget):
    """True where an element, from the end of its start tag to its end tag, holds nothing but digits, signs and white space."""
    n, level, first, size, found = len(data), 0, at, name_end - name_start, False
    while at < n and at - first < budget[0]:
        byte = data[at]
        if byte == 60 and at + 1 < n:
            closing = data[at + 1] == 47
            i, start = 0, at + 1 + closing
            while i < size and start + i < n and data[start + i] | 32 == data[name_start + i] | 32:
                i += 1
            if i == size and start + i < n and not is_letter(data[start + i]):
                if level == 0 and (closing or data[start] | 32 == 116):  # <td> ends <td>
                    found = True
                    break
                level += -1 if closing else 1
            while at < n and data[at] != 62:
                at += 1
        elif byte == 38:
            at, size = reference(data, at, n, entities, character)
            if not (size == 2 and character[0] == 0xC2 and character[1] == 0xA0):
                break
            continue
        elif not (is_digit(byte) or is_space(byte) or byte in (46, 58, 124, 0xC2, 0xA0)):
            break
        at += 1
    budget[0] -= at - first
    return found


@njit(cache=True)
def shows_as_block(data, name_end, end):
    """True for a style with display: block or grid."""
    start, stop = attribute(data, name_end, end, STYLE)
    return start < stop and (has_word(data, start, stop, BLOCK_WORD) or has_word(data, start, stop, GRID))


AHEAD = 2000  # bytes in which a table of code has its first cell


@njit(cache=True)
def has_code_cells(data, at, names):
    """True where one of the first cells of a table that begins before `at` is one of code: blob-code, hljs-ln-code."""
    stop = min(len(data) - 3, at + AHEAD)
    cells = 0
    while at < stop and cells < 4:
        if data[at] == 60:
            if data[at + 1] == 47 and data[at + 2] | 32 == 116 and data[at + 3] | 32 == 97:  # </ta
                return False
            if data[at + 1] | 32 == 116 and data[at + 2] | 32 in (100, 104) and (is_space(data[at + 3]) or data[at + 3] == 62):
                cells += 1
                if attributes(data, at + 3, TD, names)[1] & CODE_CELL:
                    return True
        at += 1
    return False


@njit(cache=True)
def line_follows(data, at, names):
    """True where one of the first two tags inside of an element of code begins a line."""
    n = len(data)
    for _ in range(2):
        while at < n and is_space(data[at]):
            at += 1
        if at + 5 >= n or data[at] != 60 or not is_letter(data[at + 1]):
            return False
        name = at + 1
        at = name
        while at < n and is_letter(data[at]):
            at += 1
        is_div = at - name == 3 and data[name] | 32 == 100
        if not is_div and not (at - name == 4 and data[name] | 32 == 115):  # div, span or code
            return False
        at, own, _, _, _, _ = attributes(data, at, DIV, names)
        if own & LINE_WORD:
            return True
    return False


# --- MathML ----------------------------------------------------------------------------------------------------------------

MATHML = {
    "msup": 1, "msub": 2, "msubsup": 3, "mfrac": 4, "msqrt": 5, "mroot": 6, "munder": 2, "munderover": 3, "mfenced": 7, "mi": 8,
    "mn": 8, "mo": 8, "mtext": 9, "annotation": 10, "annotation-xml": 10, "mtd": 11, "mtr": 11,
}  # fmt: skip
IN_SUP, IN_SUB, IN_SUBSUP, IN_FRACTION, IN_ROOT, IN_NTH_ROOT, FENCED, TOKEN, WORDS, ANNOTATIONS, MATHML_CELL = range(1, 12)
MATHML_DEPTH = 64


@njit(cache=True)
def mathml_tag(data, at, stop, tags):
    """The kind of the element whose tag begins at `at`, 0 for others, and the end of the tag."""
    at += 2 if data[at + 1] == 47 else 1
    first = end = at
    while end < stop and (is_letter(data[end]) or data[end] == 45 or data[end] == 58):
        end += 1
        if data[end - 1] == 58:  # mml:mi
            first = end
    name = np.int64(FNV_START)
    for i in range(first, end):
        name = (name ^ np.int64(data[i] | 32)) * FNV_PRIME
    at = end
    found = find(tags[2], name & HASH)
    kind = tags[3][found] if found >= 0 else 0
    while at < stop and data[at] != 62:
        at += 1
    return kind, at + 1


@njit(cache=True)
def is_group(data, at, stop, tags):
    """True where the MathML element whose content begins at `at` holds more than one token."""
    level, tokens, stop = 0, 0, min(stop, at + 10 * NEAR)
    while at < stop and level >= 0 and tokens < 2:
        if data[at] == 60 and at + 1 < stop:
            closing = data[at + 1] == 47
            kind, after = mathml_tag(data, at, stop, tags)
            if data[after - 2] != 47:
                level += -1 if closing else 1
            tokens += not closing and kind in (TOKEN, WORDS)
            at = after
        else:
            at += 1
    return tokens > 1


@njit(cache=True)
def put_mathml(data, at, stop, pieces, state, flags, around, inherited, entities, character, tags):
    """Adds a formula without LaTeX in one line: r^2, x_(i+1), 1/2, √x."""
    kinds, children = np.zeros(MATHML_DEPTH, np.int64), np.zeros(MATHML_DEPTH, np.int64)
    closers = np.zeros(MATHML_DEPTH, np.int64)
    depth = 0
    while at < stop:
        if data[at] == 60 and at + 1 < stop:
            if not (is_letter(data[at + 1]) or data[at + 1] == 47):
                while at < stop and data[at] != 62:
                    at += 1
                at += 1
                continue
            began, closing = at, data[at + 1] == 47
            kind, after = mathml_tag(data, at, stop, tags)
            empty, at = data[after - 2] == 47, after
            if closing:
                if depth:
                    for _ in range(closers[depth]):
                        put(pieces, state, CLOSING, 1, flags, around, inherited)
                    depth -= 1
                    if kind == MATHML_CELL and state[OPENED]:
                        state[BLANK] = 32
                continue
            parent, child, closer = kinds[depth], children[depth], 0
            children[depth] += 1
            if parent == FENCED and child:
                put(pieces, state, COMMA, 1, flags, around, inherited)
            is_script = 0 < child < 3 and parent in (IN_SUP, IN_SUB, IN_SUBSUP, IN_NTH_ROOT)
            if parent == IN_FRACTION and child == 1:
                put(pieces, state, SLASH, 1, flags, around, inherited)
            elif is_script:
                is_upper = parent in (IN_SUP, IN_NTH_ROOT) or child == 2
                put(pieces, state, CARET if is_upper else UNDERSCORE, 1, flags, around, inherited)
            if kind == IN_FRACTION and ends_in_digit(pieces, state):
                state[BLANK] = 32
            if parent == IN_NTH_ROOT and child == 1:  # the third root of x is x^(1/3)
                put(pieces, state, OPENING, 1, flags, around, inherited)
                character[0] = 49
                put(pieces, state, character, 1, flags, around, inherited)
                put(pieces, state, SLASH, 1, flags, around, inherited)
                closer = 1
            elif kind == FENCED or (
                kind < TOKEN
                and kind != IN_ROOT
                and (is_script or parent in (IN_FRACTION, IN_NTH_ROOT))
                and is_group(data, at, stop, tags)
            ):
                put(pieces, state, OPENING, 1, flags, around, inherited)
                closer = 1
            if kind == IN_ROOT:
                put(pieces, state, ROOT, 3, flags, around, inherited)
                if is_group(data, at, stop, tags):
                    put(pieces, state, OPENING, 1, flags, around, inherited)
                    closer = 1
            if empty or depth + 1 == MATHML_DEPTH:
                for _ in range(closer):
                    put(pieces, state, CLOSING, 1, flags, around, inherited)
                continue
            depth += 1
            kinds[depth], children[depth], closers[depth] = kind, 0, closer
            if kind == ANNOTATIONS:
                at = raw_end(data[:stop], at, began + 1, began + 11)
            continue
        if data[at] == 38:
            at, size = reference(data, at, stop, entities, character)
        else:
            character[0], size = data[at], 1
            at += 1
            while at < stop and data[at] & 0xC0 == 0x80 and size < 4:
                character[size] = data[at]
                size += 1
                at += 1
        if size == 1 and is_space(character[0]):
            if kinds[depth] == WORDS:
                state[BLANK] = 32
        elif size and not (
            size == 3 and character[0] == 0xE2 and character[1] == 0x81 and 0xA1 <= character[2] <= 0xA4
        ):  # invisible
            put(pieces, state, character, size, flags, around, inherited)


@njit(cache=True)
def put_mathjax(data, name_end, at, stop, pieces, state, flags, around, inherited, entities, character, tags, names):
    """Adds what is in <mjx-container>: its LaTeX, else its MathML, else what it says of itself."""
    i = name_end
    while i < stop:  # LaTeX is an attribute of the container or of an element in it
        if (
            data[i] == 108
            and i + 6 < stop
            and data[i + 1] == 97
            and data[i + 2] == 116
            and data[i + 3] == 101
            and data[i + 4] == 120
        ):
            start = i - 5
            while start > 0 and data[start] != 60:
                start -= 1
            while start < i and not is_space(data[start]):
                start += 1
            first, last = attribute(data, start, stop, LATEX)
            if first < last:
                put_formula(data, first, last, pieces, state, flags, around, inherited, entities, character)
                return
            break
        i += 1
    while at + 5 < stop:
        if data[at] == 60 and is_tag(data, at, MATH, tags):
            while at < stop and data[at] != 62:
                at += 1
            first, last = tex_annotation(data, at, stop, tags, names)
            if first < last:
                put_formula(data, first, last, pieces, state, flags, around, inherited, entities, character)
            else:
                put_mathml(data, at + 1, stop, pieces, state, flags, around, inherited, entities, character, tags)
            return
        at += 1


WINDOWS_1252 = np.array(
    [ord(bytes([i]).decode("windows-1252", "replace")) for i in range(128, 160)]
)  # browsers read &#150; as the byte 150


@njit(cache=True)
def reference(data, at, stop, entities, character):
    """Writes the &amp; &#38; or &#x26; at `at` to character; returns its end, and the bytes written. A bare & stays."""
    i = at + 1
    if i < stop and data[i] == 35:
        i += 1
        base = 10
        if i < stop and data[i] | 32 == 120:
            base = 16
            i += 1
        digits, value = i, 0
        while i < stop:
            byte = data[i]
            if 48 <= byte <= 57:
                digit = np.int64(byte) - 48
            elif base == 16 and 97 <= byte | 32 <= 102:
                digit = np.int64(byte | 32) - 87
            else:
                break
            value = min(value * base + digit, 0x110000)
            i += 1
        if i > digits:
            if i < stop and data[i] == 59:
                i += 1
            if 128 <= value < 160:
                value = WINDOWS_1252[value - 128]
            return i, put_character(value, character)
    else:
        name, known, known_end = np.int64(FNV_START), np.int64(-1), 0
        while i < stop and i - at < 33 and (is_letter(data[i]) or 48 <= data[i] <= 57 or data[i] == 59):
            name = (name ^ np.int64(data[i])) * FNV_PRIME
            i += 1
            found = find(entities[0], name & HASH)
            if found >= 0:
                known, known_end = found, i
            if data[i - 1] == 59:
                break
        if known >= 0:
            size = 0
            while size < 6 and entities[1][known, size]:
                character[size] = entities[1][known, size]
                size += 1
            return known_end, size
    character[0] = 38
    return at + 1, 1


@njit(cache=True)
def put_character(value, character):
    """Writes a code point as UTF-8, U+FFFD for an invalid one; returns the bytes written."""
    if value == 0 or value > 0x10FFFF or 0xD800 <= value < 0xE000:
        value = 0xFFFD
    if value < 0x80:
        character[0] = value
        return 1
    if value < 0x800:
        character[0], character[1] = 0xC0 | value >> 6, 0x80 | value & 63
        return 2
    if value < 0x10000:
        character[0], character[1], character[2] = 0xE0 | value >> 12, 0x80 | value >> 6 & 63, 0x80 | value & 63
        return 3
    character[0], character[1] = 0xF0 | value >> 18, 0x80 | value >> 12 & 63
    character[2], character[3] = 0x80 | value >> 6 & 63, 0x80 | value & 63
    return 4
