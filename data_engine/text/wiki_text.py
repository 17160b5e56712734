"""
Wikitext -> plain text.

in:   the source of a MediaWiki page in UTF-8
out:  {"text", "title", "unknown"} or {"reason", "detail"}; the title is None, for the source does not hold it; unknown counts the
      templates that wiki_templates.py does not have
kept  paragraphs, headings of sections that have text, lists as "- " lines, tables as lines of cells with tabs between, the
      labels of links, <nowiki>, <pre> and code verbatim, <math> as $LaTeX$, <poem> line by line, exponents as 10^6, templates that
      are part of a sentence or a list; of an unknown one inside a sentence its last short argument
gone  other templates (info boxes, citations, notices), references, files, categories, comments, sections of web links
drops redirect, disambiguation     a page that only points to others

One pass over the tokens with a stack, as in MediaWiki's own preprocessor. A construct that is never closed is text again, and so is
one beyond MAX_DEPTH levels: every level costs one more copy of its text, so the limit keeps time linear in the source.
"""

import html
import re
from collections import Counter

from data_engine.text.wiki_templates import template_text, unknown_text, verses

MAX_DEPTH = 60  # levels; MediaWiki's own limit for templates is 40
SECTIONS_WITHOUT_TEXT = frozenset(
    (
        *("references", "external links", "notes and references", "references and notes", "footnotes", "citations", "weblinks"),
        *("einzelnachweise", "références", "notes et références", "liens externes", "referencias", "enlaces externos"),
    )
)
FILE_OR_CATEGORY = frozenset(
    (
        *("file", "image", "media", "category", "datei", "bild", "kategorie", "fichier", "catégorie", "archivo", "imagen"),
        *("categoría", "immagine", "categoria", "bestand", "afbeelding", "categorie", "ficheiro", "imagem", "plik", "grafika"),
        *("fil", "bilde", "tiedosto", "luokka", "soubor", "файл", "изображение", "категория", "картинка", "파일", "분류"),
    )
)
REDIRECT = re.compile(r"\s*#[^\W\d_]+\s*:?\s*\[\[([^\]|\n]*)", re.I)
DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:disambig\w*|dab|disamb|hndis|geodis|hospitaldis|schooldis|numberdis|mathdab|begriffsklärung|homonymie|disambigua"
    r"|desambiguación|неоднозначност|многозначность|[\w -]{1,40} disambiguation)\s*[|}]",
    re.I,
)

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f]", re.S)
MAGIC = re.compile(r"__(?:NO|FORCE)?[A-Z]{3,20}__")
TOKEN = re.compile(
    r"\n(?===)"  # a heading
    r"|\n[ \t:]*\{\|[^\n]*"  # a table begins
    r"|\n[ \t]*\|\}(?!\})|\n[ \t]*\|-[^\n]*|\n[ \t]*\|\+|\n[ \t]*[|!]|\|\||!!"  # ends, has a row, a caption, a cell
    r"|\{\{|\}\}|\[\[|\]\]|\|"
    r"|<(ref|nowiki|pre|math|chem|ce|gallery|syntaxhighlight|source|code|timeline|score|imagemap|hiero|graph|mapframe|maplink"
    r"|inputbox|templatedata|templatestyles|references|indicator)\b([^<>]*)>",
    re.I,
)
VERBATIM = frozenset(("nowiki", "pre", "math", "chem", "ce", "syntaxhighlight", "source", "code"))
ATTRIBUTES = re.compile(r"""\s*(?:(?:[\w-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'|=]*)|nowrap)\s*){0,20}$""")

TAG = re.compile(
    r"</?(abbr|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|dd|del|dfn|div|dl|dt|em|font|h[1-6]|hr|i|includeonly|ins|kbd|li"
    r"|mark|noinclude|nowiki|ol|onlyinclude|p|poem|q|ref|references|rp|rt|ruby|s|samp|section|small|span|strike|strong|sub|sup|table"
    r"|tbody|td|th|thead|time|tr|tt|u|ul|var|wbr)(?:\s[^<>]*)?/?>",
    re.I,
)
TAG_BECOMES = {
    **dict.fromkeys(("br", "li", "dd", "dt"), "\x05"),
    **dict.fromkeys(("p", "div", "blockquote", "center", "poem", "h1", "h2", "h3", "h4", "h5", "h6"), "\n\n"),
    **dict.fromkeys(("hr", "ul", "ol", "dl", "table", "tr"), "\n\n"),
    **dict.fromkeys(("td", "th"), "\t"),
}
WEB_LINK = re.compile(r"\[(?:(?:https?|ftp|irc|news)://|//|mailto:)[^\s\[\]<>\"]*[ \t]*([^\[\]\n]*)\]", re.I)
KEPT = re.compile("\x02([0-9]+)\x03")  # placeholder of verbatim text while the rules work on its surroundings
HEADING = re.compile(r"(={1,6})[ \t]*([^\n]*?)[ \t]*\1[ \t]*$")
# dropped templates leave empty brackets, separators inside of brackets, spaces before a full stop
HOLLOW = re.compile(
    r" ?\([ \xa0,;:]*\)|(?<=\()[ \xa0]*[,;:][ \xa0,;:]*|(?<=[^\s,;])[ \xa0]*[,;][ \xa0,;]*(?=\))|(?<=\S) +(?=[.,;](?:\s|$))"
)


# --- Templates, links, tables, tags with a content of their own ---------------------------------------------------------------

TEXT, TEMPLATE, LINK, TABLE = range(4)
OPENED_BY = ("", "{{", "[[", "")
BREAK = re.compile(r"<br\s*/?>|\x04", re.I)
ROW, CAPTION = "\x06", "\x07"  # first piece of the cell after a row or caption token


def link_text(arguments):
    """['Berlin', 'the city'] -> 'the city'; "" for files, categories and links to other languages."""
    target = arguments[0].strip()
    prefix = target.partition(":")[0].strip().lower() if ":" in target else ""
    if prefix in FILE_OR_CATEGORY or (len(arguments) == 1 and re.fullmatch(r"[a-z]{2,3}(?:-[a-z]{2,10})*|simple", prefix)):
        return ""
    if len(arguments) > 1:
        label = arguments[-1]
        return label if label.strip() else re.sub(r"^[^:]*:| *\([^()]*\)$", "", target)
    return target.removeprefix(":")


def table_text(cells):
    """Cells, the first of a row marked by ROW -> a line a row, with tabs between cells; rows without text are left out."""
    rows = [[]]
    for cell in cells[1:]:  # the first piece stands before any cell
        if cell[:1] == ROW:
            rows.append([])
            cell = cell.lstrip(ROW + CAPTION)
            if not cell.strip():
                continue
        if "=" in cell and ATTRIBUTES.match(cell):
            cell = ""  # only attributes: the cell itself was a template
        rows[-1].append(" ".join(BREAK.sub(" ", cell).split()))
    lines = ["\x04" + "\t".join(row).rstrip() for row in rows if any(row)]
    return "\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def verbatim_text(name, attributes, text):
    """The content of a tag as it stands in the text: math as $LaTeX$, without character references."""
    if name in ("math", "chem", "ce"):
        text = re.sub(r"\s*\n\s*", " ", text.strip())  # an empty line would end the formula
        return f"$${text}$$" if "block" in attributes else f"${text}$"
    text = html.unescape(text) if name != "syntaxhighlight" and name != "source" else text
    return KEPT.sub("", text.strip("\n") if name != "nowiki" else text)


SPACES = re.compile(" *")
WORD_BEFORE = re.compile(r"[\w,;:.'\"’”)\]][ \xa0]\(?\Z")
WORD_AFTER = re.compile(r"[^\w\n]{0,5}[\w\[{]")


def template_in_place(arguments, parent, source, at, unknown):
    """The text of a template that ends at `at`; an unknown one counts, and shows an argument inside a sentence."""
    text = template_text(arguments)
    if text is not None:
        return text
    unknown[" ".join(arguments[0].lower().replace("_", " ").split())] += 1
    kind, pieces = parent
    before = "".join(pieces[-1][-3:])[-3:] if kind == TEXT else ""
    return unknown_text(arguments) if WORD_BEFORE.search(before) and WORD_AFTER.match(source, at) else ""


def unwind(stack, opened, until):
    """Makes unclosed constructs text again: the top of the stack, and the links below it down to one of the kind `until`."""
    while len(stack) > 1:
        kind, arguments = stack.pop()
        opened[kind] -= 1
        stack[-1][1][-1].append(OPENED_BY[kind] + "|".join("".join(pieces) for pieces in arguments))
        if until is None or stack[-1][0] == until or stack[-1][0] != LINK:
            return


def close(stack, opened, source, at, unknown):
    """Closes the construct at the top of the stack; its text goes to the one around it."""
    kind, arguments = stack.pop()
    opened[kind] -= 1
    arguments = ["".join(pieces) for pieces in arguments]
    if kind == TEMPLATE:
        text = template_in_place(arguments, stack[-1], source, at, unknown)
    else:
        text = link_text(arguments) if kind == LINK else table_text(arguments)
    if text:
        stack[-1][1][-1].append(text)


def table_part(stack, opened, sign, line, source, at, unknown):
    """Handles a token inside a table: its end, a row, a cell, or the end of a cell's attributes."""
    arguments = stack[-1][1]
    if line and sign == "|}":
        close(stack, opened, source, at, unknown)
    elif line and sign == "|-":
        arguments.append([ROW])
    elif line and sign == "|+":
        arguments.append([ROW + CAPTION])
    elif line or sign in ("||", "!!"):
        arguments.append([])
    elif len(arguments[-1]) < 9 and ATTRIBUTES.match("".join(arguments[-1]).lstrip(ROW + CAPTION)):  # attributes are few pieces
        arguments[-1][:] = [ROW] if arguments[-1][:1] == [ROW + CAPTION] else []
    else:
        arguments[-1].append("|")


def skip_tag(source, token, at, unclosed, pieces, verbatim):
    """The end of a tag and its content; the placeholder of verbatim content is added to the pieces."""
    name = token[1].lower()
    if token[2].rstrip().endswith("/") or name in unclosed:
        return at
    end = re.compile(rf"</{name}\s*>", re.I).search(source, at)
    if not end:
        unclosed.add(name)
        return at
    if name in VERBATIM:
        pieces.append(f"\x02{len(verbatim)}\x03")
        verbatim.append(verbatim_text(name, token[2], source[at : end.start()]))
        if name in ("pre", "syntaxhighlight", "source") and "inline" not in token[2]:
            pieces[-1] = f"\n\n\x04{pieces[-1]}\n\n"
    return end.end()


def expand(source, verbatim, unknown):
    """
    Templates, links and tables -> their text.

    verbatim  list to which verbatim text is appended; the text gets its placeholder
    unknown   Counter of templates
    """
    stack = [(TEXT, [[]])]  # open constructs: kind, and arguments or cells as lists of pieces
    unclosed = set()  # names of tags that are not closed in the rest of the source
    opened = [1, 0, 0, 0]  # number of constructs of each kind in the stack
    at = 0
    source = "\n" + source
    while token := TOKEN.search(source, at):
        kind, arguments = stack[-1]
        arguments[-1].append(source[at : token.start()])
        at = token.end()
        mark = token[0]
        if token[1]:
            at = skip_tag(source, token, at, unclosed, arguments[-1], verbatim)
            continue
        if mark == "\n":  # a heading ends open tables and links
            while stack[-1][0] in (LINK, TABLE):
                close(stack, opened, source, at, unknown) if stack[-1][0] == TABLE else unwind(stack, opened, None)
            stack[-1][1][-1].append(mark)
            continue
        line = mark[0] == "\n"
        if line and opened[TABLE] and kind == LINK:  # a cell begins, so the [[ was not a link
            unwind(stack, opened, TABLE)
            kind, arguments = stack[-1]
        sign = mark.lstrip("\n \t:")[:2]
        if sign == "{{" or sign == "[[" or sign == "{|":
            opening = TEMPLATE if sign == "{{" else LINK if sign == "[[" else TABLE
            if len(stack) > MAX_DEPTH:
                arguments[-1].append(mark)
            else:
                stack.append((opening, [[]]))
                opened[opening] += 1
        elif sign == "}}" or sign == "]]":
            closing = TEMPLATE if sign == "}}" else LINK
            if kind == LINK and closing == TEMPLATE and opened[TEMPLATE]:
                unwind(stack, opened, TEMPLATE)
                kind, arguments = stack[-1]
            if kind == closing:
                close(stack, opened, source, at, unknown)
                if closing == TEMPLATE and "".join(stack[-1][1][-1][-3:]).endswith("\n"):  # a space would make the line verbatim
                    at = SPACES.match(source, at).end()
            else:
                arguments[-1].append(sign)
        elif kind == TABLE:
            table_part(stack, opened, sign, line, source, at, unknown)
        elif kind == TEXT or "!" in sign:
            arguments[-1].append(mark)
        else:  # an argument ends
            arguments[-1].append("\n" if line else "")
            if sign == "||" and kind == TEMPLATE:
                arguments.append([])
            arguments.append([mark.lstrip("\n \t")[1:].removeprefix("|")])
    stack[-1][1][-1].append(source[at:])
    while len(stack) > 1:
        if stack[-1][0] == TABLE:
            close(stack, opened, source, at, unknown)
        else:
            unwind(stack, opened, None)
    return "".join(stack[0][1][0])


# --- Lines -------------------------------------------------------------------------------------------------------------------


def paragraphs(lines):
    """Lines of wikitext -> lines of text, an empty one between paragraphs; headings without text are left out."""
    out, headings, skipped = [], [], 0  # paragraphs as lists of pieces; open headings; level of the section that is left out
    before = ""  # kind of the line before: "text" of a paragraph, "row" of a table, "item", "" for anything else
    for line in lines:
        heading = line[:1] == "=" and HEADING.match(line.rstrip())
        if heading:
            level, title = len(heading[1]), heading[2].strip()
            headings = [(depth, name) for depth, name in headings if depth < level] + [(level, title)]
            if not skipped or level <= skipped:
                skipped = level if title.lower() in SECTIONS_WITHOUT_TEXT else 0
        if heading or skipped or line.startswith("----") or not line.strip(" \t\x05"):
            before = ""
            continue
        item = re.match(r"[*#:;]+", line)
        kind = "item" if item else "row" if line[0] == "\x04" else "" if line[0] == " " else "text"
        text = line[item.end() :].strip() if item else line[1:] if kind == "row" else line.strip() if kind else line
        if item and not re.search(r"[\w\x02]", text):
            continue  # all of it was a template
        for _, title in headings:
            if title:
                out.append(["\n", title])
        headings = [(level, "") for level, _ in headings]  # they are written, but stay open
        if kind == "text" == before:
            out[-1].append(" " + text)
        elif item:
            out.append(["- " if "*" in item[0] or "#" in item[0] else "", text])
        else:
            out.append(["" if kind == "row" == before else "\n", text])
        before = kind
    out = ["".join(pieces) for pieces in out]
    return [part for line in out for part in line.strip("\x05").split("\x05")]


# --- All of it ---------------------------------------------------------------------------------------------------------------


POEM = re.compile(r"<(/?)poem\b[^<>]*>", re.I)
FRACTION = re.compile(r"(\d?)<sup>(\d{1,4})</sup>\s*[/⁄]\s*<sub>(\d{1,4})</sub>")
EXPONENT = re.compile(r"(?<=\d)<sup>\s*([-−+]?\d+)\s*</sup>", re.I)


def keep_verses(source):
    """The lines of each <poem> stay lines."""
    parts = POEM.split(source)  # text, "" or "/", text, ...
    for i in range(2, len(parts) - 1, 2):
        if parts[i - 1] == "" and parts[i + 1] == "/":
            parts[i] = verses(parts[i])
            parts[i + 2] = parts[i + 2].lstrip(" ")
    return "".join(parts[::2])


def wiki_text(source: str, unknown: Counter | None = None) -> str:
    """ "'''A''' [[b|c]]<ref>d</ref>" -> "A c". unknown: counts unknown templates."""
    verbatim = []
    text = expand(keep_verses(MAGIC.sub("", COMMENT.sub("", source))), verbatim, Counter() if unknown is None else unknown)
    text = FRACTION.sub(lambda found: f"{found[1]} {found[2]}/{found[3]}" if found[1] else f"{found[2]}/{found[3]}", text)
    text = EXPONENT.sub(r"^\1", text)
    text = re.sub("'{2,}", "", text)
    text = WEB_LINK.sub(lambda link: link[1], text)
    text = TAG.sub(lambda tag: TAG_BECOMES.get(tag[1].lower(), ""), text)
    text = html.unescape(text)
    text = HOLLOW.sub("", text)
    lines = paragraphs(re.sub("(?<=[^ \n]) {2,}", " ", text).split("\n"))
    return KEPT.sub(lambda mark: verbatim[int(mark[1])], "\n".join(lines).strip("\n"))


def read_wikitext(content: bytes, cfg) -> dict:
    """cfg is not used."""
    source = content.decode("utf-8", "replace")
    redirect = REDIRECT.match(source)
    if redirect:
        return {"reason": "redirect", "detail": f"to {redirect[1]}"}
    if DISAMBIGUATION.search(source):
        return {"reason": "disambiguation", "detail": "the page has a template that says so"}
    unknown = Counter()
    return {"text": wiki_text(source, unknown), "title": None, "unknown": dict(unknown)}
