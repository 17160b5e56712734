r"""
LaTeX source -> plain text.

in:   one .tex file, in UTF-8 or the encoding that inputenc names          out: {"text", "title"} or {"reason", "detail"}
kept  title, abstract, headings, paragraphs, lists as "- " lines, tables as lines of cells with tabs between, captions, theorems
      with their names, footnotes in brackets, verbatim text; formulas as LaTeX in $...$ and $$...$$
gone  preamble, authors, comments, figures' code, labels, references, citations, bibliography; files named by \input are not read
drops too_large     over MAX_BYTES; macros that grow beyond their limits: a bomb, or a loop

One pass over the tokens, split by TeX's own rules as far as possible without running TeX. The author's macros (\newcommand, \def,
\let, \newenvironment, \DeclareMathOperator, xparse's) are expanded, in formulas too, so that a formula can be read without the
preamble. Definitions with conditionals are not expanded. latex_names.py has the commands and environments that are known; an
unknown command goes, its last argument stays, and "unknown" in the result counts it.
"""

import re
import unicodedata
from collections import Counter
from typing import NamedTuple

from data_engine.text.latex_names import (
    ACCENTS,
    ALGORITHMS,
    BLOCKS,
    CHOICES,
    CITATION,
    CITATIONS,
    DEFINITIONS,
    DISPLAY,
    DISPLAY_ARGUMENTS,
    DROPPED,
    ENVIRONMENT_ARGUMENTS,
    HEADINGS,
    HIDDEN,
    LISTS,
    NOT_IN_FORMULA,
    OWN_PARAGRAPH,
    POWERS,
    POWERS_AHEAD,
    PREFIXES,
    REFERENCE,
    SIGNS,
    SKIPS,
    STATEMENTS,
    TABLES,
    TEXT,
    THEOREMS,
    TITLES,
    TYPED,
    UNITS,
    WORDS_OF_ALGORITHMS,
    XPARSE_DEFINITIONS,
    XPARSE_ENVIRONMENTS,
)

MAX_BYTES = 8_000_000  # the longest files of arXiv have 3 MB, and a token takes 60 bytes of memory
MAX_GROWTH = 10  # tokens that macros may add, for each token of the source
FREE_GROWTH = 100_000  # tokens that macros may add in any case: a short source can have many macros
MAX_OPTIONAL = 100  # tokens of an argument in [ ]
MAX_DELIMITED = 2000  # tokens of an argument that a delimiter ends
MAX_HEAD = 500  # tokens of the head of a longtable

TOKEN = re.compile(
    r"%[^\n]*\n?[ \t]*"  # a comment takes its line end and the next line's indent
    r"|\\(?:verb\*?|lstinline(?:\[[^\]\n]*\])?)(?P<delimiter>[^\w\s*{\[])[^\n]{0,300}?(?P=delimiter)"
    r"|\\(?:url|path|nolinkurl)[ \t]*\{(?P<address>[^{}\n#]{0,2000})\}"
    r"|\\begin[ \t]*\{(?P<raw>verbatim\*?|Verbatim|lstlisting|minted|alltt|comment|filecontents\*?)\}"
    r"|\\[A-Za-z@]+\*?|\\.|\n[ \t]*\n\s*|\$\$?|[{}\[\]&~#]|[^\\{}\[\]$%&~#\n]+|\n|.",
    re.S,
)
ADDRESS = re.compile(r"\\(?:url|href|nolinkurl|path)[ \t]*\{[^{}\n]{0,2000}\}")  # a "%" in it does not begin a comment
INPUT_ENCODING = re.compile(rb"\\usepackage\[([\w-]+)\]\{inputenc\}")
ENCODINGS = {
    b"latin1": "windows-1252",
    b"ansinew": "windows-1252",
    b"latin2": "iso-8859-2",
    b"koi8-r": "koi8-r",
    b"applemac": "mac-roman",
}
TIDY = tuple(
    (re.compile(rule), becomes)
    for rule, becomes in (
        (r" ?\([\s,;]*\)| ?\[[\s,;]*\]", ""),  # brackets that references and citations leave empty
        (r"  +", " "),
        (r" ?\n ?", "\n"),
        (r" ?\t ?", "\t"),
        (r" +(?=[.,;:)])", ""),
        (r"([,;])(?: ?[,;])+", r"\1"),
        (r",(?: ?,)*(?=[.)])", ""),
        (r"([(\[])[,;] ?", r"\1"),
        (r"\n{3,}", "\n\n"),
    )
)
DIMENSION = r"[-+]?(?:\d+\.?\d*|\.\d+)\s*(?:true\s*)?(?:pt|cm|mm|em|ex|in|bp|pc|sp|dd|cc|mu|fil{1,3})\b"
GLUE = rf"{DIMENSION}(?:\s*(?:plus|minus)\s*{DIMENSION})*"
LENGTH = re.compile(rf"\s*=?\s*{GLUE} ?")
ASSIGNED = re.compile(rf"\s*=\s*(?:{GLUE}|[-+]?\d+) ?")
FACTOR = re.compile(r"\s*=?\s*[-+]?[\d.]*")  # before a length in a control word
RULE = re.compile(rf"(?:\s*(?:height|width|depth)\s*{DIMENSION})+ ?")
BOX = re.compile(rf"\s*(?:to|spread)\s*{DIMENSION} ?")
FONT = re.compile(r"\s*=\s*\S+(?:\s+(?:scaled|at)\s*\S+)? ?")
BY = re.compile(rf"\s*(?:by)?\s*{GLUE} ?")
NO_XSPACE = re.compile(r"[.,'/?;:!~\-)\]}{]|\\[ /]|\\footnote|\n\n")  # xspace adds no space before these
NUMBER = re.compile(r"([^eEdD]*)[eEdD]([-+]?\d+)")
NOT_PLAIN = re.compile(
    r"\\(?:if|else|fi|csname|expandafter|futurelet|@ifnextchar|@ifstar|loop|def|newcommand|catcode|mathpalette|mathchar|mathchoice)"
)
KEPT = re.compile("\x02([0-9]+)\x03")  # placeholder of verbatim text and formulas while TIDY works on the text
ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
QUANTITIES = {  # commands of siunitx
    "SI": "number unit", "qty": "number unit", "num": "number", "si": "unit", "unit": "unit", "ang": "ang",
    "SIrange": "range unit", "qtyrange": "range unit", "numrange": "range",
    "SIlist": "list unit", "qtylist": "list unit", "numlist": "list",
}  # fmt: skip
# Commands of glossaries and acronyms: s short, l long, f both, p plural, "" both where it comes first
GLOSSARY = {
    "gls": "", "Gls": "", "glspl": "p", "Glspl": "p", "ac": "", "Ac": "", "acp": "p", "Acp": "p", "acs": "s", "acsp": "sp",
    "acl": "l", "aclp": "lp", "acf": "f", "acfp": "fp", "acrshort": "s", "acrshortpl": "sp", "acrlong": "l", "acrlongpl": "lp",
    "acrfull": "f", "acrfullpl": "fp", "glsentryshort": "s", "glsentrylong": "l", "glsentryname": "s", "glstext": "s",
}  # fmt: skip
# xparse's choices by a value -> the branches that they have
CHOICE_OF_VALUE = {f"If{kind}{branches}": branches for kind in ("Boolean", "Value", "NoValue") for branches in ("TF", "T", "F")}
PRIMITIVE = "\x04"  # prefix of a control word that must not be expanded
MATCHED = "\x01"  # suffix of the \\if, \\else and \\fi that belong together
TRUE, FALSE, NO_VALUE = "\x05", "\x06", "\x07"  # values of xparse's arguments
LINE, INDENT, DEDENT = "\x0e", "\x0f", "\x10"  # in an algorithm: the line ends; the next ones are one level deeper, less deep
INTERNAL = frozenset((TRUE, FALSE, NO_VALUE, LINE, INDENT, DEDENT))


class Macro(NamedTuple):
    parameters: list  # "m" in braces, "s" a star, tokens: the default of one in [ ], ("d", delimiter): up to a delimiter
    body: list


class Group(NamedTuple):
    """What happens at the end of an open { } or [ ]."""

    closing: str  # text to add
    hidden: bool  # text is hidden after it
    end: str = "}"
    start: int | None = None  # of an unknown command's argument in the pieces: if another one follows, this one goes
    again: bool = False  # a { that follows opens a group of the same kind


def parameters_of(count, default):
    """Number and default of \\newcommand -> parameters of a Macro."""
    return ["m"] * count if default is None else [default] + ["m"] * max(count - 1, 0)


def xparse_parameters(spec):
    """Tokens of "s m O{default}" -> parameters of a Macro; None for kinds that are not read here."""
    text, parameters = re.sub(r"[\s+!]", "", "".join(spec)), []
    for kind, default in re.findall(r"([smo]|O(?=\{))(?:\{([^{}]*)\})?|.", text):
        if not kind:
            return None
        parameters.append([NO_VALUE] if kind == "o" else tokens_of(default, []) if kind == "O" else kind)
    return parameters


class TooLarge(Exception):
    pass


def decode_latex(content):
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = INPUT_ENCODING.search(content)
        name = named[1].lower() if named else b""
        return content.decode(ENCODINGS.get(name, name.decode() if re.fullmatch(rb"cp\d+", name) else "windows-1252"), "replace")


def tokens_of(source, verbatim):
    """TeX source -> tokens. Verbatim text is appended to the list, and its placeholder is a token."""
    tokens, at, unclosed = [], 0, set()
    while match := TOKEN.match(source, at):
        at = match.end()
        token = match[0]
        if match["delimiter"]:
            tokens.append(f"\x02{len(verbatim)}\x03")
            verbatim.append(token[token.index(match["delimiter"]) + 1 : -1])
        elif match["address"] is not None:
            tokens.append(f"\x02{len(verbatim)}\x03")
            verbatim.append(re.sub(r"\\([%#&_~{}])", r"\1", match["address"]))
        elif match["raw"]:
            name = match["raw"]
            end = -1 if name in unclosed else source.find(f"\\end{{{name}}}", at)
            if end < 0:
                unclosed.add(name)
                continue
            if not name.startswith(("comment", "filecontents")):
                tokens += ["\n\n", f"\x02{len(verbatim)}\x03", "\n\n"]
                verbatim.append(re.sub(r"\A\s*(?:\[[^\]\n]*\])?(?:\{[\w#+-]*\})?[ \t]*\n", "", source[at:end]).rstrip())
            at = end + len(f"\\end{{{name}}}")
        elif token[0] != "%":
            tokens.append(token)
        elif token.count("\n") and source.startswith("\n", at):
            tokens.append("\n\n")  # a comment, then an empty line
    return tokens


def match_conditionals(tokens):
    """Marks the \\if, \\else and \\fi that belong together: \\ifdraft may be a command, and \\newif\\ifdraft has no \\fi."""
    opened = []  # positions of an \\if and its \\else
    for at, token in enumerate(tokens):
        if token.startswith("\\if"):
            opened.append([at])
        elif token == "\\else" and opened:
            opened[-1].append(at)
        elif token == "\\fi" and opened:
            for position in (*opened.pop(), at):
                tokens[position] += MATCHED


class Reader:
    """The state of the pass: tokens still to be read, known macros, open groups and environments, pieces of text."""

    def __init__(self, source):
        self.verbatim, self.pieces, self.macros, self.environments = [], [], {}, {}
        self.flags, self.glossary, self.used = {}, {}, set()  # of \newif; key -> (short, long) tokens; keys that were shown
        self.unknown = Counter()
        source = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "", source.replace("\r\n", "\n").replace("\r", "\n"))
        source = ADDRESS.sub(lambda found: re.sub(r"(?<!\\)%", r"\\%", found[0]), source)
        tokens = tokens_of(source, self.verbatim)
        match_conditionals(tokens)
        self.budget = MAX_GROWTH * len(tokens) + FREE_GROWTH
        self.title, self.theorems = None, dict(THEOREMS)
        self.open = []  # open environments: (name, hidden before it)
        self.groups = []  # open { } and [ ]
        self.after_word = False  # after a control word, where white space is not text
        self.indent, self.line = 0, (0, 0)  # of an algorithm: levels; pieces before the open line, and before its text
        for i in range(len(tokens) - 3):
            if tokens[i] == "\\begin" and tokens[i + 1 : i + 4] == ["{", "document", "}"]:
                self.run(tokens[:i], hidden=True)  # on its own: an unclosed brace must not swallow the document
                tokens = tokens[i + 4 :]
                break
        self.run(tokens, hidden=False)

    # --- tokens

    def push(self, tokens):
        self.budget -= len(tokens)
        if self.budget < 0:
            raise TooLarge(f"its macros add more than {MAX_GROWTH} tokens for each of the source")
        self.todo.extend(filter(None, reversed(tokens)))

    def skip_space(self):
        while self.todo and self.todo[-1].isspace() and self.todo[-1].count("\n") < 2:
            self.todo.pop()

    def argument(self):
        """The tokens of the next argument: a group without its braces, or one token."""
        self.skip_space()
        if not self.todo:
            return []
        token = self.todo.pop()
        if token != "{":
            token = token.lstrip() or token
            if token[0] not in "\\$\x02" and len(token) > 1:  # one character of a run of text
                self.todo.append(token[1:])
                token = token[0]
            return [token] if token != "}" else []
        found, depth = [], 1
        while self.todo:
            token = self.todo.pop()
            depth += (token == "{") - (token == "}")
            if not depth:
                break
            found.append(token)
        return found

    def optional(self):
        """The tokens of an argument in [ ]; None where there is none."""
        self.skip_space()
        if not self.todo or self.todo[-1] != "[":
            return None
        found, depth = [], 0
        for token in reversed(self.todo[-MAX_OPTIONAL - 1 : -1]):
            depth += (token == "{") - (token == "}")
            if depth < 0:
                return None
            if token == "]" and depth == 0:
                del self.todo[-len(found) - 2 :]
                return found
            found.append(token)
        return None

    def delimited(self, delimiter):
        """The tokens up to the delimiter, which goes."""
        self.skip_space()
        if self.todo:
            self.todo[-1] = self.todo[-1].lstrip(" ") or " "
        found, depth = [], 0
        while self.todo and len(found) < MAX_DELIMITED:
            token = self.todo.pop()
            if not depth and token[0] != "\\" and delimiter in token:
                before, _, after = token.partition(delimiter)
                self.todo += [after] if after else []
                return found + [before] * bool(before)
            if not depth and token == delimiter:
                return found
            depth += (token == "{") - (token == "}")
            found.append(token)
        self.push(found)
        return []

    def expand(self, macro, star=False):
        """Puts the body of a macro, with its arguments filled in, before the tokens still to be read."""
        given = []
        for parameter in macro.parameters:
            if parameter == "m":
                given.append(self.argument())
            elif parameter == "s":
                given.append([TRUE if star else FALSE])
            elif isinstance(parameter, tuple):
                given.append(self.delimited(parameter[1]))
            else:
                ahead = self.todo[-2:] if self.todo and self.todo[-1].isspace() else self.todo[-1:]
                found = self.optional() if ahead and ahead[0] == "[" else None  # the space before other text stays
                given.append(parameter if found is None else found)
        body, at, size = [], 0, 0
        while at < len(macro.body):
            token = macro.body[at]
            at += 1
            digit = macro.body[at][:1] if token == "#" and at < len(macro.body) else ""
            if digit.isdecimal() and 0 < int(digit) <= len(given):
                size += len(given[int(digit) - 1])
                if size > self.budget:
                    raise TooLarge("the arguments of a macro grow beyond the limit")
                body += given[int(digit) - 1]
                if macro.body[at][1:]:
                    body.append(macro.body[at][1:])
                at += 1
            else:
                body.append(token)
        self.push(body)

    def expanded(self, token):
        """True if the token was a macro, a conditional or a choice, which is done with then."""
        if token in self.macros:
            self.expand(self.macros[token])
        elif token[:1] == "\\" and token[-1] == "*" and token[:-1] in self.macros:
            macro = self.macros[token[:-1]]
            starred = macro.parameters[:1] == ["s"]
            if not starred:
                self.todo.append("*")
            self.expand(macro, starred)
        elif token[-1:] == MATCHED:
            self.conditional(token[1:-1])
        elif token[:3] == "\\If" and token[1:] in CHOICE_OF_VALUE:
            value, wanted = self.argument(), CHOICE_OF_VALUE[token[1:]]
            is_true = value != [NO_VALUE] if "Value" in token else value == [TRUE]
            branches = [self.argument() if kind in wanted else [] for kind in "TF"]
            self.push(branches[0] if is_true != ("IfNo" in token) else branches[1])
        elif token[1:] in CHOICES:
            for _ in range(CHOICES[token[1:]] + 1):
                self.argument()
            self.skip_space()
        else:
            return False
        return True

    def conditional(self, name):
        """\\if...: reads on where its condition is true, else after its \\else or \\fi. An unknown condition is false."""
        if name == "fi":
            return
        if name == "else":
            self.skip_branch(stop_at_else=False)
            return
        is_true = name == "iftrue" or self.flags.get(name[2:], False)
        if name == "ifx":
            first, second = self.token_ahead(), self.token_ahead()
            known = [self.macros.get(token, token[1:] in SIGNS or token[1:] in ACCENTS) for token in (first, second)]
            is_true = first == second or (first[:1] == second[:1] == "\\" and known[0] == known[1])
        if not is_true:
            self.skip_branch(stop_at_else=True)

    def token_ahead(self):
        self.skip_space()
        return self.todo.pop() if self.todo else ""

    def skip_branch(self, stop_at_else):
        """Drops what stands up to the matching \\fi, or \\else."""
        depth = 0
        while self.todo:
            token = self.todo.pop()
            if token[-1:] != MATCHED:
                continue
            if not depth and (token.startswith("\\fi") or (stop_at_else and token.startswith("\\else"))):
                return
            depth += token.startswith("\\if") - token.startswith("\\fi")

    # --- the author's definitions

    def define(self, name):
        """Reads the definition that follows \\newcommand and the like; False where `name` is not one of them."""
        plain = name.removesuffix("*")
        if plain in DEFINITIONS:
            target = "".join(self.argument()).strip()
            count = "".join(self.optional() or ["0"]).strip()
            default = self.optional()
            self.set_macro(target, parameters_of(int(count) if count in "0123456789" and count else 0, default), self.argument())
        elif name in XPARSE_DEFINITIONS:
            target, parameters = "".join(self.argument()).strip(), xparse_parameters(self.argument())
            body = self.argument()
            if parameters is not None:
                self.set_macro(target, parameters, body)
        elif name in XPARSE_ENVIRONMENTS:
            target, parameters = "".join(self.argument()), xparse_parameters(self.argument())
            begin, end = self.argument(), self.argument()
            if parameters is not None and not NOT_PLAIN.search("".join(begin)):
                self.environments[target] = Macro(parameters, begin), end
        elif name in ("def", "gdef", "edef", "xdef"):
            self.skip_space()
            target = self.todo.pop() if self.todo else ""
            text = ""
            while self.todo and self.todo[-1] != "{" and len(text) < 40:
                text += self.todo.pop()
            body = self.argument()
            if re.fullmatch(r"\s*(?:#[1-9][^#]*)*", text):
                ends = [end.strip() for end in re.findall(r"#[1-9]([^#]*)", text)]
                self.set_macro(target, [("d", end) if end else "m" for end in ends], body)
        elif name == "let":
            target = "".join(self.argument())
            if self.todo and self.todo[-1].lstrip().startswith("="):
                rest = self.todo.pop().lstrip()[1:]
                self.todo += [rest] if rest else []
            value = self.argument()
            known = self.macros.get("".join(value))
            if value in (["\\iftrue"], ["\\iffalse"]):
                self.flags[target[3:]] = value == ["\\iftrue"]
            elif known:
                self.macros[target] = known
            elif target.startswith("\\") and value and value[0][0] == "\\":
                self.macros[target] = Macro([], [PRIMITIVE + value[0]])  # the meaning of now, even if it is redefined later
        elif name == "newif":
            self.flags["".join(self.argument())[3:]] = False
        elif name[-4:] == "true" and name[:-4] in self.flags:
            self.flags[name[:-4]] = True
        elif name[-5:] == "false" and name[:-5] in self.flags:
            self.flags[name[:-5]] = False
        elif plain == "DeclareMathOperator":
            target = "".join(self.argument()).strip()
            self.set_macro(target, [], ["\\operatorname", "{", *self.argument(), "}"])
        elif name in ("DeclarePairedDelimiter", "DeclarePairedDelimiterX"):
            target, left, right = "".join(self.argument()).strip(), self.argument(), self.argument()
            self.set_macro(target, ["s", [], "m"], [*left, "#", "3", *right])
        elif name in ("newenvironment", "renewenvironment", "newenvironment*"):
            target = "".join(self.argument())
            count = "".join(self.optional() or ["0"]).strip()
            default, begin, end = self.optional(), self.argument(), self.argument()
            if not NOT_PLAIN.search("".join(begin)):
                self.environments[target] = Macro(parameters_of(int(count) if count.isdecimal() else 0, default), begin), end
        elif plain == "newtheorem":
            target = "".join(self.argument())
            self.optional()
            self.theorems[target] = "".join(self.argument())
            self.optional()
        elif name in ("newacronym", "acrodef", "newacro", "acro"):
            if name == "newacronym":
                self.optional()
            key = "".join(self.argument())
            short = self.argument() if name == "newacronym" else self.optional() or [key]
            self.glossary[key] = short, self.argument()
        elif name in ("newglossaryentry", "DeclareAcronym"):
            key, text = "".join(self.argument()), "".join(self.argument())
            short, long = (
                re.search(rf"\b{field}\s*=\s*(?:\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}|([^,{{}}]*))", text)
                for field in (("short", "long") if name == "DeclareAcronym" else ("name", "name"))
            )
            if short and long:
                self.glossary[key] = [tokens_of((found[1] or found[2] or "").strip(), self.verbatim) for found in (short, long)]
        else:
            return False
        return True

    def set_macro(self, target, parameters, body):
        if re.fullmatch(r"\\(?:[A-Za-z@]+\*?|.)", target, re.S) and not NOT_PLAIN.search("".join(body)):
            self.macros[target] = Macro(parameters, body)

    # --- text

    def run(self, tokens, hidden):
        self.todo, self.hidden = tokens[::-1], hidden
        self.open.clear()
        self.groups.clear()
        while self.todo:
            token = self.todo.pop()
            if token[0] == "\\" and self.expanded(token):
                continue
            token = token.removeprefix(PRIMITIVE)
            if token[0] == "\\" and len(token) > 1:
                if self.command(token[1:]) == "stop":
                    return
                continue
            elif token == "{":
                self.groups.append(Group("", self.hidden))
            elif token in ("}", "]") and self.groups and self.groups[-1].end == token:
                self.close_group()
            elif token == "}":
                pass
            elif token in ("$", "$$"):
                self.formula(token, token)
            elif token == "&":
                self.add("\t")
            elif token == "~":
                self.add(" ")
            elif token in INTERNAL:
                self.lay_out(token)
                continue
            elif token != "#":
                self.words(token)
            self.after_word = False

    def close_group(self):
        group = self.groups.pop()
        self.add(group.closing)
        self.hidden = group.hidden
        if self.todo and self.todo[-1] == "{" and (group.again or group.start is not None):
            self.todo.pop()
            if group.start is not None:
                del self.pieces[group.start :]
            self.groups.append(group)

    def words(self, text):
        if text.isspace():
            self.add("\n\n" if text.count("\n") > 1 else "" if self.after_word else " ")
            return
        if self.after_word:
            text = text.lstrip()
        for typed, printed in TYPED:
            if typed in text:
                text = text.replace(typed, printed)
        self.add(re.sub(r"\s+", " ", text))

    def add(self, text):
        if text and not self.hidden:
            self.pieces.append(text)

    def keep(self, text):
        """Adds text that TIDY must not change."""
        self.add(f"\x02{len(self.verbatim)}\x03")
        self.verbatim.append(text)

    def command(self, name):
        self.after_word = name[0].isalpha()
        plain = name.removesuffix("*")
        if name in ("(", "["):
            self.formula("$" if name == "(" else "$$", "\\)" if name == "(" else "\\]")
        elif name == ";" and self.in_environment(ALGORITHMS):
            self.lay_out(LINE)
        elif name == "\\" or plain in ("tabularnewline", "cr"):
            if name == "\\":
                self.optional()
            self.add("\n" if self.in_environment(TABLES, "tabular*", "NiceTabular*") else " ")
        elif plain == "begin":
            self.after_word = False
            self.begin("".join(self.argument()).strip())
        elif plain == "end":
            self.after_word = False
            return self.end("".join(self.argument()).strip())
        elif self.define(name):
            pass
        elif plain in TITLES:
            self.optional()
            self.title = self.title or self.argument()
        elif plain in HEADINGS:
            self.optional()
            before, self.hidden = self.hidden, self.hidden and not (plain == "caption" and self.open)
            self.add("\n\nAbstract\n\n" if plain == "abstract" else "\n\n")
            hidden, self.hidden = self.hidden, before
            self.enter("\n\n", hidden, again=plain == "abstract")
        elif plain in OWN_PARAGRAPH or plain in ("tablehead", "tablefirsthead"):
            self.add("\n\n")
            self.enter("\n\n")
        elif plain in ("footnote", "footnotetext"):
            self.optional()
            self.add(" (")
            self.enter(")")
        elif plain == "item":
            label = self.optional()
            self.add("\n- ")
            if label:
                self.push([*label, " "])
        elif plain == "texorpdfstring":  # for LaTeX, for the PDF's outline
            self.push([*self.argument(), *[""] * len(self.argument())])
        elif plain == "ensuremath":
            self.push(["$", *self.argument(), "$"])
        elif name in ACCENTS:
            self.accent(ACCENTS[name])
        elif self.in_environment(ALGORITHMS) and self.statement(name):
            pass
        elif plain in SIGNS:
            self.add(SIGNS[plain])
        elif plain in QUANTITIES:
            self.quantity(QUANTITIES[plain])
            self.after_word = False
        elif plain == "xspace":
            ahead = "".join(self.todo[-1:-3:-1])
            self.add("" if not ahead.strip(" ") or NO_XSPACE.match(ahead.lstrip()) else " ")
        elif name in ("textsuperscript", "nicefrac", "sfrac", "ion"):
            self.digits(name)
        elif plain in GLOSSARY:
            self.entry(plain)
        elif plain in SKIPS or plain in ("hspace", "advance", "hrule", "vrule", "hbox", "vbox", "vtop", "font"):
            self.length(plain)
        elif plain == "input" and self.todo and self.todo[-1] != "{":
            self.todo[-1] = re.sub(r"\A\s*\S+", "", self.todo[-1]) or " "
        elif plain == "twocolumn":
            self.skip_space()
            if self.todo and self.todo[-1] == "[":
                self.todo.pop()
                self.groups.append(Group("\n\n", self.hidden, "]"))
        elif plain in ("endfirsthead", "endhead") and self.in_environment(TABLES):
            self.skip_head(*(("\\endhead",) if plain == "endfirsthead" else ("\\endfoot", "\\endlastfoot")))
        elif plain in DROPPED:
            self.drop_arguments(plain)
        elif CITATIONS.fullmatch(plain):
            while self.todo and self.todo[-1] in ("[", "{") and (self.optional() is not None or self.argument() is not None):
                self.after_word = False
        elif CITATION.fullmatch(plain) or REFERENCE.fullmatch(plain):
            while self.optional() is not None:
                pass
            self.argument()
            self.after_word = False
        elif plain == "bye":
            return "stop"
        elif name[0].isalpha():
            self.other(plain)
        return None

    def drop_arguments(self, name):
        count = DROPPED[name]
        for _ in range(count):
            for _ in range(4):
                if self.optional() is None:
                    break
            self.parenthesis()
            self.argument()
            self.after_word = False
        if name in ("multirow", "addlinespace", "toprule", "midrule", "bottomrule", "appendix") or name.startswith("Set"):
            self.optional()
        if self.todo and (assigned := ASSIGNED.match(self.todo[-1])):
            self.todo[-1] = self.todo[-1][assigned.end() :] or " "

    def parenthesis(self):
        """Drops the (lr) of \\cmidrule(lr){2-3}."""
        if self.todo and (found := re.match(r"\([lr]{1,2}\)", self.todo[-1])):
            self.todo[-1] = self.todo[-1][found.end() :]
            if not self.todo[-1]:
                self.todo.pop()

    def other(self, name):
        """A command of formatting, or an unknown one: the last of its adjacent arguments in { } stays."""
        known = name in TEXT
        if not known and not self.hidden:
            self.unknown[name] += 1
        if self.todo and (assigned := ASSIGNED.match(self.todo[-1])):
            self.todo[-1] = self.todo[-1][assigned.end() :] or " "  # \itemsep=0pt
            return
        while self.todo and self.todo[-1] == "[":
            found = self.optional()
            if found is None:
                break
            if not self.todo or self.todo[-1] not in "{[":
                self.push(["[", *found, "]"])
                self.after_word = False
                break
        if self.todo and self.todo[-1] == "{" and not known:
            self.todo.pop()
            self.after_word = False
            self.groups.append(Group("", self.hidden, start=len(self.pieces)))

    def enter(self, closing, hidden=None, again=False):
        """Opens the group that follows; its end adds `closing`."""
        self.skip_space()
        if self.todo and self.todo[-1] == "{":
            self.todo.pop()
            self.groups.append(Group(closing, self.hidden, again=again))
            self.hidden = self.hidden if hidden is None else hidden
        else:
            self.add(closing)

    def accent(self, mark):
        letters = "".join(self.argument())
        self.after_word = letters[:1] == "\\"
        letters = {"\\i": "i", "\\j": "j"}.get(letters.strip(), letters)
        self.add(unicodedata.normalize("NFC", letters[:1] + mark + letters[1:]) if letters[:1] not in ("", "\\") else "")

    def in_environment(self, names, *more):
        return any(name.removesuffix("*") in names or name in more for name, _ in self.open[-4:])

    def length(self, name):
        """Drops the length of plain TeX that follows \\vskip, \\hrule and the like."""
        if name == "hspace":
            self.add("" if "".join(self.argument()).startswith("-") else " ")
            self.after_word = False
            return
        if name == "hskip" and self.todo and not self.todo[-1].lstrip().startswith("-"):
            self.add(" ")
        if name in ("advance", "font") and self.todo:
            self.skip_space()
            self.todo.pop()
        rule = {"advance": BY, "hrule": RULE, "vrule": RULE, "hbox": BOX, "vbox": BOX, "vtop": BOX, "font": FONT}.get(name, LENGTH)
        if self.todo and (found := rule.match(self.todo[-1])):
            self.todo[-1] = self.todo[-1][found.end() :]
            if not self.todo[-1]:
                self.todo.pop()
        elif name in SKIPS and len(self.todo) > 1:  # \vskip-\baselineskip
            if FACTOR.fullmatch(self.todo[-1]) and self.todo[-2][0] == "\\":
                del self.todo[-2:]
            elif self.todo[-1][0] == "\\" and self.todo[-1][1:] in DROPPED:
                self.todo.pop()

    def digits(self, name):
        """10\\textsuperscript{6} -> 10^6, 1\\nicefrac{1}{2} -> 1 1/2, \\ion{H}{2} -> H II."""
        after_digit = bool(self.pieces) and self.pieces[-1][-1:].isdigit()
        self.after_word = False
        if name == "ion":
            element, charge = "".join(self.argument()), "".join(self.argument()).strip()
            self.add(f"{element} {ROMAN[int(charge)] if re.fullmatch('[1-9]', charge) else charge.upper()}")
        elif name == "textsuperscript":
            found = self.argument()
            self.push(["^" if after_digit and re.fullmatch(r"[-+−]?\d+", "".join(found)) else "", *found])
        else:
            self.optional()
            self.push([" " if after_digit else "", *self.argument(), "/", *self.argument()])

    def entry(self, name):
        """An entry of the glossary or list of acronyms: in full where it comes first."""
        self.optional()
        key = "".join(self.argument())
        self.after_word = False
        short, long = self.glossary.get(key, ([key], [key]))
        form = GLOSSARY[name]
        plural = ["s"] if "p" in form else []
        if "s" in form or ("f" not in form and "l" not in form and (key in self.used or short == long)):
            found = [*short, *plural]
        elif "l" in form:
            found = [*long, *plural]
        else:
            found = [*long, *plural, " ", "(", *short, *plural, ")"]
        if form in ("", "p", "f", "fp"):
            self.used.add(key)
        if name[0] == "G" or name[0] == "A":
            found[0] = found[0][:1].upper() + found[0][1:]
        self.push(found)

    def skip_head(self, *ends):
        """Drops what stands before the last of these commands: a longtable's head on its other pages, and its foot."""
        ahead = self.todo[-MAX_HEAD:]
        stop = next((i for i in range(len(ahead) - 1, -1, -1) if ahead[i] == "\\end"), -1)
        last = next((i for i in range(stop + 1, len(ahead)) if ahead[i] in ends), None)
        if last is not None:
            del self.todo[len(self.todo) - len(ahead) + last + 1 :]

    # --- numbers and units of siunitx

    def number(self):
        text = "".join(self.argument()).replace("~", "").replace("\\,", "").strip()
        found = NUMBER.fullmatch(text.replace(" ", ""))
        if found:
            return f"{found[1]} × 10^{found[2].lstrip('+')}" if found[1] else f"10^{found[2].lstrip('+')}"
        return re.sub(r"\s*\\pm\s*|\s*\+-\s*", " ± ", text)

    def unit(self):
        """\\metre\\per\\second\\squared -> m/s^2."""
        out, per, power = "", False, ""
        for token in self.argument():
            name = token[1:].removesuffix("*") if token[0] == "\\" else ""
            if name == "per":
                per = True
            elif name in PREFIXES:
                out += ("/" if per else " ") * (bool(out) or per) + PREFIXES[name] + "\x00"
                per = False
            elif name in POWERS_AHEAD:
                power = POWERS_AHEAD[name]
            elif name in POWERS:
                out += POWERS[name]
            elif name in ("tothe", "raiseto", "of"):
                out += "^" if name != "of" else " "
            elif name and not name.isalpha():
                out += " "
            elif name:
                joined = out.endswith("\x00")
                out = out.removesuffix("\x00") if joined else out + ("/" if per else " ") * (bool(out) or per)
                own = self.macros.get(token)
                out += UNITS.get(name) or ("".join(own.body) if own else name)
                out += power
                per, power = False, ""
            elif token not in "{}$":
                out += token.replace(".", " ").replace("~", " ")
        return " ".join(out.replace("\x00", "").split()).replace("^ ", "^").replace(" ^", "^")

    def quantity(self, kind):
        self.optional()
        if kind == "unit":
            self.add(self.unit())
            return
        if kind == "ang":
            parts = "".join(self.argument()).split(";")
            self.add("".join(part + sign for part, sign in zip(parts, "°′″", strict=False) if part))
            return
        if kind.startswith("list"):
            text = ", ".join(part.strip() for part in "".join(self.argument()).split(";"))
        elif kind.startswith("range"):
            text = f"{self.number()}–{self.number()}"
        else:
            text = self.number()
        if kind.endswith("unit"):
            self.optional()
            unit = self.unit()
            text += unit if unit in ("°", "′", "″") else f" {unit}" if unit else ""
        self.add(text)

    # --- algorithms

    def statement(self, name):
        """A line, a block or a keyword of an algorithm; False for other commands."""
        small = name.lower()
        if name in WORDS_OF_ALGORITHMS:
            self.add(f" {WORDS_OF_ALGORITHMS[name]} ")
        elif small in ("comment", "tcp", "tcc", "tcp*", "tcc*"):
            self.add(" // ")
            self.enter("")
        elif small in ("return", "kwret"):
            if name.isupper():
                self.lay_out(LINE)
            self.add("return ")
        elif small == "call":
            self.push(["{", *self.argument(), "}", "(", "{", *self.argument(), "}", ")"])
        elif self.in_environment(("algorithmic",)) and small in STATEMENTS:
            texts, before, after = STATEMENTS[small]
            tokens = [DEDENT] * -before + [LINE, texts[0]]
            for text in texts[1:]:
                tokens += ["{", *self.argument(), "}", text]
            self.push(tokens + [INDENT] * after)
        elif name in BLOCKS:
            texts, blocks = BLOCKS[name]
            self.optional()
            tokens = [LINE]
            for number, text in enumerate(texts[:-1]):
                tokens += [LINE, text] if number in blocks and number - 1 in blocks else [text]
                found = self.argument()
                tokens += [INDENT, LINE, *found, DEDENT] if number in blocks else ["{", *found, "}"]
            self.push([*tokens, LINE])
        else:
            return False
        return True

    def lay_out(self, token):
        if token == INDENT:
            self.indent += 1
        elif token == DEDENT:
            self.indent = max(0, self.indent - 1)
        elif token == LINE:
            self.drop_empty_line()
            begin = len(self.pieces)
            self.add("\n")
            if self.indent:
                self.keep("  " * min(self.indent, 20))
            self.line = begin, len(self.pieces)
            self.after_word = True

    def drop_empty_line(self):
        begin, start = self.line
        if not "".join(self.pieces[start:]).strip():
            del self.pieces[begin:]

    # --- environments

    def begin(self, name):
        plain = name.removesuffix("*")
        if plain in DISPLAY or plain == "empheq":
            inner = plain
            if plain in ("empheq", "IEEEeqnarray"):
                self.optional()
            if plain == "empheq":
                inner = "".join(self.argument()).partition("=")[0].strip().removesuffix("*")
            elif plain in DISPLAY_ARGUMENTS:
                self.argument()
            self.formula("$$" if plain != "math" else "$", f"\\end{{{name}}}", DISPLAY.get(inner, "aligned"))
            return
        self.open.append((name, self.hidden))
        if name in self.environments:
            self.expand(self.environments[name][0])
            return
        if name in self.theorems or plain == "restatable":
            note = self.optional()
            if plain == "restatable":  # [note]{theorem}{its macro}
                name = "".join(self.argument())
                self.argument()
            self.add(f"\n\n{self.theorems.get(name, name.capitalize())}")
            self.push([*([" ", "(", *note, ")"] if note else []), ".", " "])
            return
        self.optional()
        if plain in ("tabu", "longtabu") and self.todo and not self.hidden:
            for _ in range(4):  # to \\textwidth
                if self.todo and self.todo[-1] != "{":
                    self.todo.pop()
        for _ in range(ENVIRONMENT_ARGUMENTS.get(name, ENVIRONMENT_ARGUMENTS.get(plain, 0))):
            self.argument()
        if plain.startswith("Nice"):
            self.optional()
        self.hidden = self.hidden or name in HIDDEN
        if plain in ALGORITHMS:
            self.indent, self.line = 0, (len(self.pieces), len(self.pieces))
        self.add("\n\nAbstract\n\n" if plain == "abstract" else "" if name in LISTS else "\n\n")

    def end(self, name):
        if name == "document":
            return "stop"
        for i in range(len(self.open) - 1, max(-1, len(self.open) - 9), -1):
            if self.open[i][0] == name:
                self.hidden = self.open[i][1]
                if name.removesuffix("*") in ALGORITHMS:
                    self.drop_empty_line()
                del self.open[i:]  # others inside were left open
                if name in self.environments:
                    self.push(self.environments[name][1])
                break
        self.add("\n\n")
        return None

    # --- formulas

    def formula(self, sign, ending, environment=""):
        """Reads a formula up to `ending`, expands its macros, drops its labels. An empty line ends a stray $."""
        found, depth = [], 0
        while self.todo:
            token = self.todo.pop()
            if token[0] == "\\" and self.expanded(token):
                continue
            token = token.removeprefix(PRIMITIVE)
            if token == ending and depth <= 0:
                break
            if token == "\\end":
                name = "".join(self.argument())
                if ending == f"\\end{{{name}}}":
                    break
                token = f"\\end{{{name}}}"
            elif token[0:1] == "\n" and token.count("\n") > 1:
                if ending == "$":
                    self.todo.append(token)
                    break
                token = " "
            elif token in ("\\label", "\\tag", "\\tag*"):
                self.argument()
                continue
            elif token in NOT_IN_FORMULA or token in INTERNAL:
                continue
            depth += (token == "{") - (token == "}")
            if found and found[-1][:1] == "\\" and found[-1][-1:].isalpha() and token[:1].isalpha():
                found.append(" ")
            found.append(token)
        text = " ".join("".join(found).split())
        if text:
            text = f"\\begin{{{environment}}} {text} \\end{{{environment}}}" if environment else text
            self.add(("\n\n\x02%d\x03\n\n" if sign == "$$" else "\x02%d\x03") % len(self.verbatim))
            self.verbatim.append(KEPT.sub(lambda mark: self.verbatim[int(mark[1])], sign + text + sign))
        self.after_word = False

    # --- the end

    def text(self):
        text = "".join(self.pieces)
        for rule, becomes in TIDY:
            text = rule.sub(becomes, text)
        return KEPT.sub(lambda mark: self.verbatim[int(mark[1])], text.strip("\n "))

    def title_text(self):
        """The title as one line; None where there is none."""
        if not self.title:
            return None
        inner = Reader("")
        inner.macros, inner.budget, inner.verbatim = self.macros, self.budget, self.verbatim
        inner.flags, inner.glossary = self.flags, self.glossary
        inner.run(self.title, hidden=False)
        return " ".join(inner.text().split()) or None


def read_latex(content: bytes, cfg) -> dict:
    """Time and memory are linear in the bytes. cfg is not used."""
    if len(content) > MAX_BYTES:
        return {"reason": "too_large", "detail": f"{len(content)} bytes"}
    try:
        reader = Reader(decode_latex(content))
        title = reader.title_text()
    except TooLarge as error:
        return {"reason": "too_large", "detail": str(error)}
    text = reader.text()
    return {"text": f"{title}\n\n{text}" if title else text, "title": title, "unknown": dict(reader.unknown)}
