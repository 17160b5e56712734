r"""
LaTeX source -> plain text.

in:   one .tex file, in UTF-8 or the encoding that inputenc names          out: {"text", "title"} or {"reason", "detail"}
kept  title, abstract, headings, paragraphs, lists as "- " lines, tables as lines of cells with tabs between, captions, theorems
      with their names, footnotes in brackets, verbatim text; formulas as LaTeX in $...$ and $$...$$
gone  preamble, authors, comments, figures' code, labels, references, citations, bibliography; files named by \input are not read
drops too_large     over MAX_BYTES; macros that grow beyond their limits: a bomb, or a loop

One pass over the tokens, split by TeX's own rules as far as possible without running TeX. The author's macros (\newcommand, \def
with plain parameters, \let, \newenvironment, \DeclareMathOperator) are expanded, in formulas too, so that a formula can be read
without the preamble. Definitions with conditionals are not expanded. An unknown command goes, its argument stays.
"""

import re
import unicodedata
from typing import NamedTuple

MAX_BYTES = 8_000_000  # the longest files of arXiv have 3 MB, and a token takes 60 bytes of memory
MAX_GROWTH = 10  # tokens that macros may add, for each token of the source
FREE_GROWTH = 100_000  # tokens that macros may add in any case: a short source can have many macros
MAX_OPTIONAL = 100  # tokens of an argument in [ ]

TOKEN = re.compile(
    r"%[^\n]*\n?[ \t]*"  # a comment takes its line end and the next line's indent
    r"|\\verb\*?(?P<delimiter>[^\w\s*])[^\n]{0,300}?(?P=delimiter)"
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

HEADINGS = frozenset(
    ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph", "caption", "abstract")
)
TITLES = frozenset(("title", "ArticleName", "icmltitle"))
DROPPED_NAMES = (  # commands that go with all their arguments in [ ] and 0, 1, 2 or 3 in { }, by position in this tuple
    "maketitle tableofcontents newpage clearpage noindent centering bigskip medskip smallskip hline appendix allowdisplaybreaks",
    """label cite citep citet citealp citealt citeauthor citeyear citeyearpar parencite textcite footcite nocite ref eqref pageref
    cref Cref autoref vref nameref thmref author address email ead urladdr curraddr date thanks thanksref dedicatory affiliation
    affil institute institution keywords subjclass vspace hspace vskip hskip index bibliography bibliographystyle addbibresource
    pagestyle thispagestyle input include includeonly includegraphics usepackage RequirePackage documentclass documentstyle
    usetikzlibrary tikzset hypersetup geometry graphicspath enlargethispage cline theoremstyle selectlanguage phantom hphantom
    vphantom pdfbookmark markright linespread tag textcolor color newcounter href raisebox parbox scalebox colorbox captionsetup
    footnotemark pagenumbering stepcounter refstepcounter usefont orcid Address EmailD ArticleDates Keywords Classification
    ShortArticleName kwd lstset""",
    "setlength addtolength setcounter addtocounter markboth settowidth fontsize rule resizebox fcolorbox numberwithin multicolumn",
    "addcontentsline definecolor DeclareFontFamily",
)
DROPPED = {name: count for count, names in enumerate(DROPPED_NAMES) for name in names.split()}
ENVIRONMENT_ARGUMENTS = {  # arguments in { } after \begin{name}; those in [ ] are always skipped
    "tabular": 1, "tabular*": 2, "tabularx": 2, "longtable": 1, "minipage": 1, "multicols": 1, "wrapfigure": 2, "adjustwidth": 2,
    "spacing": 1, "array": 1, "thebibliography": 1, "wraptable": 2, "subfigure": 1, "list": 2,
}  # fmt: skip
HIDDEN_NAMES = "figure figure* wrapfigure SCfigure tikzpicture picture pspicture tikzcd xy diagram thebibliography bibdiv comment"
HIDDEN = frozenset(HIDDEN_NAMES.split())
DISPLAY = {  # environment of a formula -> the environment inside $$ $$ that it becomes
    **dict.fromkeys(("equation", "displaymath", "math", "dmath"), ""),
    **dict.fromkeys(("align", "flalign", "alignat", "eqnarray", "split"), "aligned"),
    **dict.fromkeys(("gather", "multline"), "gathered"),
}
THEOREMS = {"proof": "Proof", "proof*": "Proof"}
LISTS = frozenset(("itemize", "enumerate", "description", "list", "compactitem", "inparaenum"))

ACCENTS = {  # command -> combining mark
    "`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", "=": "\u0304", "u": "\u0306", ".": "\u0307", "\"": "\u0308",
    "r": "\u030a", "H": "\u030b", "v": "\u030c", "d": "\u0323", "c": "\u0327", "k": "\u0328", "b": "\u0331", "t": "\u0361",
}  # fmt: skip
SIGNS = {  # command -> its text
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å", "AA": "Å",
    "i": "ı", "j": "ȷ", "dag": "†", "ddag": "‡", "S": "§", "P": "¶", "copyright": "©", "pounds": "£", "dots": "…",
    "ldots": "…", "euro": "€", "textellipsis": "…", "textendash": "–", "textemdash": "—", "textbackslash": "\\",
    "TeX": "TeX", "LaTeX": "LaTeX", "LaTeXe": "LaTeX", "textquoteleft": "‘", "textquoteright": "’", "textquotedblleft": "“",
    "textquotedblright": "”", "textregistered": "®", "texttrademark": "™", "textdegree": "°", "guillemotleft": "«",
    "guillemotright": "»", "quad": " ", "qquad": " ", "space": " ", "%": "%", "$": "$", "&": "&", "#": "#", "_": "_",
    "{": "{", "}": "}", " ": " ", "\n": " ", ",": " ", ";": " ", ":": " ", "newline": "\n", "linebreak": "\n",
    "par": "\n\n", "and": ", ", "slash": "/", "lq": "‘", "rq": "’", "No": "№", "textasciitilde": "~", "DH": "Ð", "dh": "ð",
    "TH": "Þ", "th": "þ", "DJ": "Đ", "dj": "đ", "nobreakspace": " ", "textbar": "|", "textless": "<", "textgreater": ">",
    "textasciicircum": "^", "textunderscore": "_", "textbullet": "•", "bullet": "•", "endgraf": "\n\n",
}  # fmt: skip
TYPED = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"), ("!`", "¡"), ("?`", "¿"), ("`", "‘"))
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
LENGTH = re.compile(r"\s*=\s*-?[0-9.]+\s*(?:pt|cm|mm|em|ex|in|bp|sp|truecm)\b")
NOT_PLAIN = re.compile(r"\\(?:if|else|fi|csname|expandafter|futurelet|@ifnextchar|@ifstar|loop|def|newcommand|catcode)")
KEPT = re.compile("\x02([0-9]+)\x03")  # placeholder of verbatim text and formulas while TIDY works on the text
PRIMITIVE = "\x04"  # prefix of a control word that must not be expanded


class Macro(NamedTuple):
    parameters: int
    default: list | None  # tokens of the first parameter where it is optional
    body: list


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


class Reader:
    """The state of the pass: tokens still to be read, known macros, open groups and environments, pieces of text."""

    def __init__(self, source):
        self.verbatim, self.pieces, self.macros, self.environments = [], [], {}, {}
        source = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "", source.replace("\r\n", "\n").replace("\r", "\n"))
        source = ADDRESS.sub(lambda found: re.sub(r"(?<!\\)%", r"\\%", found[0]), source)
        tokens = tokens_of(source, self.verbatim)
        self.budget = MAX_GROWTH * len(tokens) + FREE_GROWTH
        self.title, self.theorems = None, dict(THEOREMS)
        self.open = []  # open environments: (name, hidden before it)
        self.groups = []  # open { }: (text that its end adds, hidden after it)
        self.after_word = False  # after a control word, where white space is not text
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
        self.todo.extend(reversed(tokens))

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

    def expand(self, macro):
        """Puts the body of a macro, with its arguments filled in, before the tokens still to be read."""
        given = []
        for number in range(macro.parameters):
            found = self.optional() if number == 0 and macro.default is not None else self.argument()
            given.append(macro.default if found is None else found)
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

    # --- the author's definitions

    def define(self, name):
        """Reads the definition that follows \\newcommand and the like; False where `name` is not one of them."""
        if name in ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand"):
            target = "".join(self.argument()).strip()
            count = "".join(self.optional() or ["0"]).strip()
            default = self.optional()
            self.set_macro(target, int(count) if count in "0123456789" and count else 0, default, self.argument())
        elif name in ("def", "gdef", "edef", "xdef"):
            self.skip_space()
            target = self.todo.pop() if self.todo else ""
            parameters = ""
            while self.todo and self.todo[-1] != "{" and len(parameters) < 40:
                parameters += self.todo.pop()
            plain = re.fullmatch(r"(?:#[1-9])*\s*", parameters)
            body = self.argument()
            if plain:
                self.set_macro(target, parameters.count("#"), None, body)
        elif name == "let":
            target = "".join(self.argument())
            if self.todo and self.todo[-1].lstrip().startswith("="):
                rest = self.todo.pop().lstrip()[1:]
                self.todo += [rest] if rest else []
            value = self.argument()
            known = self.macros.get("".join(value))
            if known:
                self.macros[target] = known
            elif target.startswith("\\") and value and value[0][0] == "\\":
                self.macros[target] = Macro(0, None, [PRIMITIVE + value[0]])  # the meaning of now, even if it is redefined later
        elif name in ("DeclareMathOperator", "DeclareMathOperator*"):
            target = "".join(self.argument()).strip()
            self.set_macro(target, 0, None, ["\\operatorname", "{", *self.argument(), "}"])
        elif name in ("newenvironment", "renewenvironment", "newenvironment*"):
            target = "".join(self.argument())
            count = "".join(self.optional() or ["0"]).strip()
            default, begin, end = self.optional(), self.argument(), self.argument()
            if not NOT_PLAIN.search("".join(begin)):
                self.environments[target] = Macro(int(count) if count.isdecimal() else 0, default, begin), end
        elif name in ("newtheorem", "newtheorem*"):
            target = "".join(self.argument())
            self.optional()
            self.theorems[target] = "".join(self.argument())
            self.optional()
        else:
            return False
        return True

    def set_macro(self, target, parameters, default, body):
        if re.fullmatch(r"\\(?:[A-Za-z@]+\*?|.)", target, re.S) and not NOT_PLAIN.search("".join(body)):
            self.macros[target] = Macro(parameters, default, body)

    # --- text

    def run(self, tokens, hidden):
        self.todo, self.hidden = tokens[::-1], hidden
        self.open.clear()
        self.groups.clear()
        while self.todo:
            token = self.todo.pop()
            if token in self.macros:
                self.expand(self.macros[token])
                continue
            token = token.removeprefix(PRIMITIVE)
            if token[:1] == "\\" and len(token) > 1:
                if self.command(token[1:]) == "stop":
                    return
                continue
            elif token == "{":
                self.groups.append(("", self.hidden))
            elif token == "}":
                if self.groups:
                    closing, hidden = self.groups.pop()
                    self.add(closing)
                    self.hidden = hidden
            elif token in ("$", "$$"):
                self.formula(token, token)
            elif token == "&":
                self.add("\t")
            elif token == "~":
                self.add(" ")
            elif token != "#":
                self.words(token)
            self.after_word = False

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

    def command(self, name):
        self.after_word = name[0].isalpha()
        plain = name.removesuffix("*")
        if name in ("(", "["):
            self.formula("$" if name == "(" else "$$", "\\)" if name == "(" else "\\]")
        elif name == "\\" or plain in ("tabularnewline", "cr"):
            if name == "\\":
                self.optional()
            self.add("\n" if self.in_table() else " ")
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
            self.add("\n\nAbstract\n\n" if plain == "abstract" else "\n\n")
            self.enter("\n\n", hidden=self.hidden and not (plain == "caption" and self.open))
        elif plain in ("footnote", "footnotetext"):
            self.optional()
            self.add(" (")
            self.enter(")")
        elif plain == "item":
            label = self.optional()
            self.add("\n- ")
            if label:
                self.push([*label, " "])
        elif plain == "ensuremath":
            self.push(["$", *self.argument(), "$"])
        elif plain in ("iffalse", "ifnum0=1"):
            self.skip_conditional()
        elif name in ACCENTS:
            self.accent(ACCENTS[name])
        elif plain in SIGNS:
            self.add(SIGNS[plain])
        elif plain in DROPPED:
            for _ in range(DROPPED[plain] and 4):
                if self.optional() is None:
                    break
            for _ in range(DROPPED[plain]):
                self.argument()
                self.after_word = False
        elif plain == "bye":
            return "stop"
        elif self.todo and (length := LENGTH.match(self.todo[-1])):
            self.todo[-1] = self.todo[-1][length.end() :] or " "  # \itemsep=0pt
        return None

    def enter(self, closing, hidden=None):
        """Opens the group that follows; its end adds `closing`."""
        self.skip_space()
        if self.todo and self.todo[-1] == "{":
            self.todo.pop()
            self.groups.append((closing, self.hidden))
            self.hidden = self.hidden if hidden is None else hidden
        else:
            self.add(closing)

    def accent(self, mark):
        letters = "".join(self.argument())
        self.after_word = letters[:1] == "\\"
        letters = {"\\i": "i", "\\j": "j"}.get(letters.strip(), letters)
        self.add(unicodedata.normalize("NFC", letters[:1] + mark + letters[1:]) if letters[:1] not in ("", "\\") else "")

    def skip_conditional(self):
        depth = 1
        while self.todo and depth:
            token = self.todo.pop()
            depth += token.startswith("\\if") - (token == "\\fi")

    def in_table(self):
        return any(name.startswith(("tab", "longtab")) for name, _ in self.open[-3:])

    # --- environments

    def begin(self, name):
        plain = name.removesuffix("*")
        if plain in DISPLAY:
            if plain == "alignat":
                self.argument()
            self.formula("$$" if plain != "math" else "$", f"\\end{{{name}}}", DISPLAY[plain])
            return
        self.open.append((name, self.hidden))
        if name in self.environments:
            self.expand(self.environments[name][0])
            return
        if name in self.theorems:
            note = self.optional()
            self.add(f"\n\n{self.theorems[name]}")
            self.push([*([" ", "(", *note, ")"] if note else []), ".", " "])
            return
        self.optional()
        for _ in range(ENVIRONMENT_ARGUMENTS.get(name, 0)):
            self.argument()
        self.hidden = self.hidden or name in HIDDEN
        self.add("\n\nAbstract\n\n" if plain == "abstract" else "" if name in LISTS else "\n\n")

    def end(self, name):
        if name == "document":
            return "stop"
        for i in range(len(self.open) - 1, max(-1, len(self.open) - 9), -1):
            if self.open[i][0] == name:
                self.hidden = self.open[i][1]
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
            if token in self.macros:
                self.expand(self.macros[token])
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
            elif token in ("\\nonumber", "\\notag", "\\displaystyle", "\\allowdisplaybreaks", "\\ensuremath"):
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
    return {"text": f"{title}\n\n{text}" if title else text, "title": title}
