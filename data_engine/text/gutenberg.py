"""
Project Gutenberg's texts -> the book, without header, licence, credits and transcriber's notes, its hard line ends removed.

in:   the text of a file whose first HEAD bytes name Project Gutenberg, or of its HTML and PDF          out: (title, text)

Header and licence are cut at the Project's own marks: "*** START OF", "*** END OF" (since 2001), "*END*THE SMALL PRINT!" and
"End of Project Gutenberg's" (before). A text without such a mark is not cut at that end. Additions of the volunteers (credits,
notes, pointers to other formats) are removed where they stand in paragraphs of their own and begin with their usual words. A
note ends at the next gap of three empty lines, so that a chapter after it stays. Captions stay, their "[Illustration: ]" goes.

A paragraph is joined when its lines look filled: after nearly every line the first word of the next would not have fitted.
The lines of verse, tables and title pages do not look filled, and stay.
"""

import re
from itertools import pairwise

HEAD = 4096  # bytes at the start that name the Project in every file of it
HEADER = 60_000  # characters; a header ends before. The longest, with two licences, have 20,000

# the last asterisks can lie beyond the edge of a PDF's page
START = re.compile(r"^[^\S\n]*\*{3}[^\S\n]*START OF (?:THE|THIS) PROJECT GUTENBERG(?:[^*]{0,300}\*)?[^\n]*\n?", re.I | re.M)
END = re.compile(r"^[^\S\n]*\*{3}[^\S\n]*END OF (?:THE|THIS) PROJECT GUTENBERG", re.I | re.M)
# The first lines of header and licence, for HTML that has lost the marks
HEADER_LINES = re.compile(
    r"\s*(?:(?:the )?project gutenberg(?:['’]s)?(?: e-?(?:book|text))? |this e-?(?:book|text) is for the use of anyone"
    r"|(?:title|author|editor|translator|illustrator|contributor|release date|posting date|last updated|most recently updated"
    r"|language|original publication|character set encoding|credits) ?:)",
    re.I,
)
FOR_ANYONE = re.compile("for the use of anyone", re.I)
LICENCE = re.compile(
    r"^[^\S\n]*(?:START: FULL LICENSE|THE FULL PROJECT GUTENBERG(?:™|-tm)? LICENSE"
    r"|Updated editions will replace the previous one|Creating the works from (?:print|public domain))",
    re.I | re.M,
)
SMALL_PRINT = re.compile(r'^\*[^\n]*SMALL PRINT!?[^\n]*\*[^\n]*\n(?:\["Small Print"[^\n]*\n)?', re.I | re.M)
THE_END = re.compile(
    r"(?:\*{3,}[^\S\n]*)?(?:This is the )?End of (?:the |this )?(?:Project Gutenberg|Etext of The Complete Works|PG )", re.I
)

PARAGRAPH = re.compile(r"(\n(?:[^\S\n]*\n)+)")
CREDIT = re.compile(
    r"[(\[*_ ]*(?:(?:e-?(?:text|book)|html(?: version)?|this (?:e-?(?:text|book)|file|book|html edition)(?: was)?|text file) "
    r"(?:was )?(?:first )?(?:produced|prepared|created|scanned|transcribed|converted|typed|proofread)"
    r"|(?:produced|prepared|scanned|transcribed|proofread|typed|digitized|updated editions)(?: and \w+)? (?:by|from|for)\b"
    r"|(?:note: |\*)?project gutenberg (?:also )?has (?:an|the|other)"
    r"|note: (?:images|the original|project gutenberg)|images of the original pages are available|or$"
    r"|the camera-quality files for this|file was produced from (?:images|scans)|distributed proofread|credits?: "
    r"|this e-?(?:text|book) (?:is for the use of anyone|comes in (?:two|three|several) forms))",
    re.I,
)
NOTE = re.compile(r"[\[({|+=\-\s*#_●○]*(?:additional )?transcriber(?:['’]s|s['’]?)? notes?\b(?!\s+of\b)", re.I)
MAX_NOTE_LINES = 400  # a longer "note" is part of the book
ILLUSTRATION = re.compile(r"\[(?:Cover |Frontispiece )?Illustrations?\s*(?:[:.]\s*((?:[^\[\]]|\[[^\[\]]*\])*))?\]")
PAGE = re.compile(r"\[Pg \d+\] ?")
WORLD_LIBRARY = re.compile(r"<<THIS ELECTRONIC VERSION OF THE COMPLETE WORKS[^<>]{0,1000}>>")

TITLE = re.compile(r"^[^\S\n]*Title:[^\S\n]*([^\n]+(?:\n[^\S\n]+[^\s][^\n]*)*)", re.M)
OLD_TITLE = re.compile(r"^\W*(?:The )?Project Gutenberg(?:['’]s)? E-?(?:book|text)(?: of|,) ([^\n*]+(?:\n[^\n#*]+)?)", re.I | re.M)
SITE = re.compile(r"\s*[|–-]\s*Project Gutenberg\s*$", re.I)  # in titles of HTML
CHARSET = re.compile(rb"Character set encoding: *([\w-]+)", re.I)


def decode_book(content: bytes) -> str | None:
    """Bytes that are not UTF-8 -> text, in the encoding that the header names, else windows-1252; None for other texts."""
    if b"project gutenberg" not in content[:HEAD].lower():
        return None
    named = CHARSET.search(content, 0, HEADER)
    try:
        return content.decode(named[1].decode() if named else "windows-1252")
    except (UnicodeError, LookupError):  # unknown, or not an encoding of text
        return content.decode("windows-1252", "replace")


def header_end(text):
    """The start of the book, after the last mark of a header; 0 where there is none."""
    marks = [mark.end() for rule in (START, SMALL_PRINT) for mark in rule.finditer(text, 0, HEADER)]
    return max(marks, default=0)


def unmarked_header_end(text):
    """The end of the paragraphs at the start that are those of a header."""
    end = 0
    for paragraph in re.finditer(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+\s*", text[:HEADER]):
        if not HEADER_LINES.match(paragraph[0]):
            break
        end = paragraph.end()
    return end


def footer_start(text):
    """The start of the licence, or of the line that ends the book; the length of the text where there is none."""
    end = len(text)
    for mark in END.finditer(text):
        end = mark.start()
    return end


def find_title(header):
    found = TITLE.search(header)
    if not found:
        found = OLD_TITLE.search(header)
    return re.split(r",? by ", " ".join(found[1].split()))[0] if found else None


def note_end(paragraphs, gaps, first):
    """The last paragraph of the note that begins with paragraph `first`."""
    opened, rest = paragraphs[first].lstrip()[:1], NOTE.sub("", paragraphs[first]).strip(" :.\n#=|+-*_")
    if rest and opened != "[" and not paragraphs[first].rstrip().endswith(":"):
        return first  # the paragraph is the whole note, not its heading
    lines = depth = 0
    for i in range(first, len(paragraphs)):
        lines += paragraphs[i].count("\n") + 1 + gaps[i]
        if lines > MAX_NOTE_LINES:
            break
        if opened == "[":
            depth += paragraphs[i].count("[") - paragraphs[i].count("]")
            if depth <= 0:
                return i
        elif gaps[i] >= 3 or i == len(paragraphs) - 1:
            return i
    return first


def without_additions(paragraphs, gaps, credits):
    """A bool for each paragraph: True for those of the book. gaps: empty lines after each."""
    keep = [bool(paragraph.strip()) for paragraph in paragraphs]
    i = 0
    while credits and i < len(paragraphs) and (not keep[i] or CREDIT.match(paragraphs[i].lstrip())):
        keep[i] = False
        i += 1
    i = 0
    while i < len(paragraphs):
        if THE_END.match(paragraphs[i].lstrip()) and paragraphs[i].count("\n") < 4:
            keep[i] = False
        elif NOTE.match(paragraphs[i]):
            last = note_end(paragraphs, gaps, i)
            keep[i : last + 1] = [False] * (last + 1 - i)
            i = last
        i += 1
    return keep


def line_width(text):
    """The width to which lines of prose are filled: the 90th percentile of their lengths, at least 60, at most 90."""
    lengths = sorted(len(line) for line in text.split("\n") if line.strip())
    return min(90, max(60, lengths[len(lengths) * 9 // 10])) if lengths else 60


def is_filled(lines, width):
    """True if the first word of the next line did not fit on nearly any line."""
    indents = [len(line) - len(line.lstrip()) for line in lines[1:]]
    if max(indents) - min(indents) > 1 or 3 * sum("   " in line.strip() for line in lines) > len(lines):
        return False  # verse and tables
    width = max(max(map(len, lines)), width - 8 + 2 * min(indents))
    filled = sum(len(line) + len(after.split(None, 1)[0]) + 8 > width for line, after in pairwise(lines))
    return 10 * filled >= 9 * (len(lines) - 1)


def join_lines(paragraph, width):
    """The paragraph on one line where its lines are filled, else as it is."""
    lines = [line.rstrip() for line in paragraph.split("\n")]
    if len(lines) < 2 or not is_filled(lines, width):
        return "\n".join(lines)
    text = lines[0].strip()
    for line in lines[1:]:
        line = line.strip()
        text += line if text.endswith("-") or line.startswith("--") else " " + line
    return text


def read_book(text: str) -> tuple[str | None, str]:
    """Title (None where the header names none) and text of the book."""
    text = re.sub("\r\n?", "\n", text)
    start, stop = header_end(text), footer_start(text)
    if not start and stop == len(text):
        return None, text  # it only mentions the Project
    title = find_title(text[:start]) if start else None
    body = text[start : max(start, stop)]
    for mark in (WORLD_LIBRARY, PAGE):
        body = mark.sub("", body)
    body = ILLUSTRATION.sub(lambda mark: mark[1] or "", body)
    pieces = PARAGRAPH.split(body.strip("\n"))
    paragraphs, gaps = pieces[::2], [gap.count("\n") - 1 for gap in pieces[1::2]] + [0]
    keep = without_additions(paragraphs, gaps, credits=start > 0)
    width = line_width(text)
    return title, "\n\n".join(join_lines(paragraph, width) for paragraph, k in zip(paragraphs, keep, strict=True) if k)


def read_edition(text: str, title: str | None) -> tuple[str | None, str]:
    """Title and text of an HTML or PDF file; only those of the Project change."""
    if "project gutenberg" not in text[:HEAD].lower() and "PROJECT GUTENBERG" not in text:
        return title, text
    end = unmarked_header_end(text)
    if not header_end(text) and FOR_ANYONE.search(text, 0, end):
        text = f"{text[:end].rstrip()}\n\n*** START OF THIS PROJECT GUTENBERG EBOOK ***\n\n{text[end:]}"
    if footer_start(text) == len(text) and (licence := LICENCE.search(text, len(text) // 2)):
        text = text[: licence.start()] + "*** END OF THIS PROJECT GUTENBERG EBOOK ***"
    found, text = read_book(text)
    return found or (title and (find_title(title) or SITE.sub("", title))), text
