import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.text.latex_text import read_latex

PAPER = r"""\documentclass[11pt]{amsart}
\usepackage[utf8]{inputenc}
\newcommand{\R}{\mathbb{R}}          % the reals
\newcommand{\norm}[2][2]{\lVert #2\rVert_{#1}}
\def\be{\begin{equation}}\def\ee{\end{equation}}
\DeclareMathOperator{\tr}{tr}
\newtheorem{thm}{Theorem}[section]
\newenvironment{note}[1]{\begin{quote}Note on #1: }{\end{quote}}
\let\oldphi\phi
\renewcommand{\phi}{\oldphi_0}
\title[Short]{On $\R$ and \'Etale caf\'e\thanks{Money}}
\author{A. Author}
\begin{document}
\maketitle
\begin{abstract}
We study $\R$.
\end{abstract}
\section{Introduction}\label{s}
Let $x\in\R$ and $\norm{x}\le 1$, see~\cite{a,b} and (\ref{eq}); 100\% of ``it''
is --- as \emph{Erd\H{o}s}, \O ystein and Fran\c{c}ois\footnote{At work.} say---true.

% a comment
\be\label{eq}
\tr A = \phi % why
\ee
Then
\begin{align*} a &= b \\ c &= d \end{align*}
\begin{thm}[Main] It holds. \end{thm}
\begin{proof} Clear. \end{proof}
\begin{itemize}
\item one
\item[(b)] two
\end{itemize}
\begin{figure}[ht]
\includegraphics[width=3cm]{x.png} junk
\caption{What \textbf{it} shows.}
\end{figure}
\begin{tabular}{l|r}
\hline a & 1 \\ \hline
b & $2$ \\
\end{tabular}
\begin{note}{this} hello \end{note}
\begin{verbatim}
  for x in  \R:  # 100%

      pass
\end{verbatim}
Use \verb|a_b  %| and \href{http://x}{a link}.\iffalse hidden \iftrue x \fi too \fi
\begin{thebibliography}{9} \bibitem{a} Gone. \end{thebibliography}
\end{document}
after the end"""

WANTED = r"""On $\mathbb{R}$ and Étale café

Abstract

We study $\mathbb{R}$.

Introduction

Let $x\in\mathbb{R}$ and $\lVert x\rVert_{2}\le 1$, see and; 100% of “it” is — as Erdős, Øystein and François (At work.) say—true.

$$\operatorname{tr} A = \phi_0$$

Then

$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$

Theorem (Main). It holds.

Proof. Clear.

- one
- (b) two

What it shows.

a	1
b	$2$

Note on this: hello

  for x in  \R:  # 100%

      pass

Use a_b  % and a link."""


def text_of(source):
    found = read_latex(source.encode(), None)
    return found.get("text", found)


def test_a_paper_by_hand():
    assert text_of(PAPER) == WANTED
    assert read_latex(PAPER.encode(), None)["title"] == "On $\\mathbb{R}$ and Étale café"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (r"\"o\'{e}\^\i \v{s}\c c\~n \ss{} \aa\o\l", "öéîšçñ ß åøł"),
        (r"a\\b\\[2pt]c~d", "a b c d"),
        (r"a\label{x} b\cite{y}, c\dots d\textbf{e} f", "a b, c…de f"),
        ("a\n\nb%\nc %\n\nd", "a\n\nbc\n\nd"),
        (r"$a$ \(b\) \[c\] $$d$$", "$a$ $b$\n\n$$c$$\n\n$$d$$"),
        (r"$x \text{if $y$}$ z", r"$x \text{if $y$}$ z"),
        (r"\newcommand{\a}{\alpha}$\a x$, $\a$", r"$\alpha x$, $\alpha$"),
        (r"\def\x#1#2{#2#1}\x ab\x{c}{d}", "badc"),
        (r"\newcommand\eq[1]{\ensuremath{#1=0}}\eq{x} $\eq{y}$", "$x=0$ ${y=0}$"),
        (r"\unknown{kept} \also[x]{too}", "kept too"),
        (r"\itemsep=0pt x \parskip = -1.5em", "x"),
        (r"see \cite[Thm.~1]{a} and [\cite{b}, p. 2].", "see and [p. 2]."),
        (r"{\bf bold} {\em it}", "bold it"),
        (r"\title{T}\begin{document}{\end{document}", "T"),
        (r"\section{a}} b {", "a\n\nb"),
        (r"$a" + "\n\nb", "$a$\n\nb"),
        (r"\begin{figure} x \begin{center} y \end{figure} shown", "shown"),
        ("", ""),
    ],
)
def test_constructs(source, wanted):
    assert text_of(source).strip() == wanted


DEFINITIONS = [
    (r"\newcommand{\m}{Net\xspace}\m is, \m, and \m.", "Net is, Net, and Net."),
    (r"\newcommand\ie{i.e.\xspace}\newcommand\x{\ie}\ie better \x{} (\ie) \ie~so", "i.e. better i.e. (i.e.) i.e. so"),
    (r"\newcommand*{\m}{Net}\renewcommand*\n{N}\providecommand*{\p}[1]{<#1>}\m{} \n{} \p{a}", "Net N <a>"),
    (r"\DeclareRobustCommand*{\m}[1][x]{(#1)}\m{} \m[y]", "(x) (y)"),
    (r"\NewDocumentCommand{\m}{m O{x} o}{#1,#2}\m{a} \m{b}[c]", "a,x b,c"),
    (r"\NewDocumentCommand\m{s m}{\IfBooleanTF{#1}{star}{plain} #2}\m*{a} \m{b}", "star a plain b"),
    (r"\RenewDocumentCommand\m{o +m}{#2\IfValueT{#1}{ [#1]}\IfNoValueT{#1}{!}}\m[a]{b} \m{c}", "b [a] c!"),
    (
        r"\DeclarePairedDelimiter{\abs}{\lvert}{\rvert}$\abs{x}+\abs*{y}+\abs[\big]{z}$",
        r"$\lvert x\rvert+\lvert y\rvert+\lvert z\rvert$",
    ),
    (r"\newcommand{\x}{\xi}$\x*2$", r"$\xi*2$"),
    (
        r"\def\bra#1|{\langle #1 \rangle}\def\be#1\ee{$$#1$$}\def\dot#1.{[#1]}$\bra x|$ \be a \ee\dot by. z",
        "$\\langle x \\rangle$\n\n$$a$$\n\n[by] z",
    ),
    (r"\protected\def\x{X}\long\def\y#1{(#1)}\global\def\z{Z}\x{} \y{a} \z{} end", "X (a) Z end"),
    (r"\newif\iflong\longtrue\iflong Long\else Short\fi. \longfalse\iflong a \iftrue b \fi\else c\fi", "Long. c"),
    (r"\newcommand\a{A}\ifx\a\b one\else two\fi \ifx\qq\rr three\fi", "two three"),
    (r"\ifthenelse{\equal{a}{b}}{yes}{no} text \ifdraft notes", "no text notes"),
]
NUMBERS = [
    (r"\SI{47}{\micro\henry}, \SI{500}{\kilo\hertz}, \SI{3}{\milli\metre\squared}", "47 μH, 500 kHz, 3 mm^2"),
    (r"\qty{25}{\coulomb\per\mole} \si{\metre\per\second\squared} \unit{kg.m/s^2} \si{\um}", "25 C/mol m/s^2 kg m/s^2 μm"),
    (r"\num{1.2e6} \num[round-precision=2]{12345} \SI{6.02e23}{\per\mole}", "1.2 × 10^6 12345 6.02 × 10^23 /mol"),
    (r"\SIrange{1}{5}{\kelvin} \qtyrange{10}{20}{\percent} \numrange{3}{4}", "1–5 K 10–20 % 3–4"),
    (r"\SIlist{1;2;3}{\volt} \numlist{4;5} \ang{45} \ang{12;3;4}", "1, 2, 3 V 4, 5 45° 12°3′4″"),
    (
        r"\SI[per-mode=symbol]{9.81}{\meter\per\second\tothe{2}} \SI{5(1)}{\celsius} \SI{20}{\degreeCelsius}",
        "9.81 m/s^2 5(1) °C 20 °C",
    ),
    (
        r"10\textsuperscript{6} cells, 1\textsuperscript{st}, x\textsuperscript{2}, 10\textsuperscript{-3}",
        "10^6 cells, 1st, x2, 10^-3",
    ),
    (r"\nicefrac{1}{2} cup, 1\sfrac{3}{4} l", "1/2 cup, 1 3/4 l"),
    (r"\ce{H2O} and \ce{CO2}, H\textsubscript{2}O", "H2O and CO2, H2O"),
]
TABLES = [
    (
        r"\begin{tabular}{lcc}\toprule \multirow{2}{*}{Method} & \multicolumn{2}{c}{Score} \\ \cmidrule(lr){2-3} & A &"
        r" B \\ \midrule"
        r" Ours & 1 & 2 \\ \addlinespace[2pt] \rowcolor{gray} Theirs & \cellcolor{red}3 & 4 \\ \specialrule{1pt}{0pt}{0pt}"
        r" \bottomrule\end{tabular}",
        "Method\tScore\n\tA\tB\nOurs\t1\t2\nTheirs\t3\t4",
    ),
    (
        r"\begin{deluxetable*}{lcc}\tablecaption{Stars}\tablewidth{0pt}\tablehead{\colhead{Name} &"
        r" \colhead{RA}}\startdata Vega & 1 \\"
        r" Deneb & 3 \\ \enddata\tablecomments{All.}\end{deluxetable*}",
        "Stars\n\nName\tRA\n\nVega\t1\nDeneb\t3\n\nAll.",
    ),
    (r"\begin{supertabular}{ll}a & b \\ c & d\end{supertabular}", "a\tb\nc\td"),
    (r"\begin{tblr}{colspec={lc},hlines}a & b \\ c & d\end{tblr}", "a\tb\nc\td"),
    (r"\begin{longtblr}[caption={T}]{lc}a & b \\ c & d\end{longtblr}", "a\tb\nc\td"),
    (r"\begin{NiceTabular}{lc}[hvlines]a & b \\ c & d\end{NiceTabular}", "a\tb\nc\td"),
    (
        r"\begin{tabulary}{\linewidth}{LC}a & b \\ c & d\end{tabulary} \begin{tabu} to \textwidth{XX}a & b \\ c & d\end{tabu}",
        "a\tb\nc\td\n\na\tb\nc\td",
    ),
    (
        r"\begin{longtable}{ll}\caption{T}\\ H & I \\ \endfirsthead H & I (continued) \\ \endhead more \\ \endfoot"
        r" \endlastfoot a & b \\"
        r"\end{longtable}",
        "T\n\nH\tI\na\tb",
    ),
]
FORMULAS = [
    (
        r"\begin{IEEEeqnarray}{rCl}a &=& b \IEEEyesnumber \\ c &=& d\end{IEEEeqnarray}",
        r"$$\begin{aligned} a &=& b \\ c &=& d \end{aligned}$$",
    ),
    (r"\begin{empheq}[box=\fbox]{align}a &= b\end{empheq}", r"$$\begin{aligned} a &= b \end{aligned}$$"),
    (
        r"\begin{xalignat}{2}a &= b\end{xalignat}\begin{flalign*}a\end{flalign*}\begin{multline}b\end{multline}",
        "$$\\begin{aligned} a &= b \\end{aligned}$$\n\n$$\\begin{aligned} a \\end{aligned}$$\n\n$$\\begin{gathered} b"
        " \\end{gathered}$$",
    ),
    (r"\begin{subequations}\begin{equation}a\end{equation}\end{subequations}", "$$a$$"),
]
ALGORITHMS = [
    (
        r"\begin{algorithm}[t]\caption{Sort}\begin{algorithmic}[1]\Require $n>0$\State $i \gets 1$\While{$i<n$}\State swap $a_i$"
        r"\Comment{why}\EndWhile\If{$x$}\State y\ElsIf{$q$} \State r \Else\State z\EndIf\State \Return"
        r" $a$\end{algorithmic}\end{algorithm}",
        "Sort\n\nRequire: $n>0$\n$i \\gets 1$\nwhile $i<n$ do\n  swap $a_i$ // why\nend while\nif $x$ then\n  y\nelse"
        " if $q$ then\n  r\nelse\n"
        "  z\nend if\nreturn $a$",
    ),
    (
        r"\begin{algorithmic}\REQUIRE in\FORALL{$i$}\STATE a\ENDFOR\REPEAT\STATE b\UNTIL{$c$}\RETURN d\end{algorithmic}",
        "Require: in\nfor all $i$ do\n  a\nend for\nrepeat\n  b\nuntil $c$\nreturn d",
    ),
    (
        r"\begin{algorithmic}\Function{Max}{$a,b$}\State \Call{Sort}{$a$}\EndFunction\Procedure{P}{}\EndProcedure\end{algorithmic}",
        "function Max($a,b$)\n  Sort($a$)\nend function\nprocedure P\nend procedure",
    ),
    (
        r"\begin{algorithm}\SetAlgoLined\KwIn{x}\KwResult{y}init\;\ForEach{$i$}{a\;\eIf{$c$}{b\;}{d\;}}\While{q}{e\tcp{f}\;}\Return{z"
        r"}"
        r"\caption{C}\end{algorithm}",
        "Input: x\nResult: y\ninit\nfor each $i$ do\n  a\n  if $c$ then\n    b\n  else\n    d\nwhile q do\n  e // f\nreturn z\n\nC",
    ),
]
REFERENCES = [
    (
        r"See \hyperref[sec:i]{the introduction} and \onlinecite{abc}, \citenum{d}, \autocite[p.~3]{k},"
        r" \cites{a}[p]{b}, \Citet*{z}.",
        "See the introduction and.",
    ),
    (r"In \figref{fig:x}, \secref{sec:y}, Fig.~\subref{x}, \vpageref{a}, \crefrange{a}{b}, \fullcite{k} end", "In, Fig., end"),
    (
        r"\newacronym{nn}{NN}{neural network}\gls{nn} and \glspl{nn}, \acrshort{nn} \acl{nn}",
        "neural network (NN) and NNs, NN neural network",
    ),
    (
        r"\newglossaryentry{set}{name={set},description={d}}a \gls{set}, \Gls{set}, \glspl{set} \gls{other}",
        "a set, Set, sets other",
    ),
    (
        r"\acrodef{gpu}[GPU]{graphics unit}\DeclareAcronym{cpu}{short=CPU,long=central unit}\ac{gpu} \ac{gpu} \ac{cpu} \acs{cpu}",
        "graphics unit (GPU) GPU central unit (CPU) CPU",
    ),
]
PLAIN_TEX = [
    (
        "\\magnification=1200\n\\hsize=6truein \\baselineskip=24pt plus 1pt minus 1pt\n\\input epsf\n\\centerline{\\bf A Title}\n"
        "\\beginsection 1. Introduction\n\nThis is plain \\TeX. f\\kern0pt g\\hskip 1em plus 1fil\\vskip"
        " 5mm\\vskip-\\baselineskip h\n\\bye x",
        "A Title\n\n1. Introduction\n\nThis is plain TeX. fg h",
    ),
    (
        r"\hbox to 3cm{a}\raise 2pt\hbox{b}\hrule height 1pt width 2cm c \advance\hsize by 1cm d \font\x=cmr10 scaled 1200 e",
        "abc d e",
    ),
]
FRONT_MATTER = [
    (
        r"\begin{CCSXML}<ccs2012>\end{CCSXML}\ccsdesc[500]{Computing}\copyrightyear{2020}\acmDOI{10.1/1}\setcopyright{none}"
        r"\acmConference[C '20]{Conf}{May}{Rome}\settopmatter{x=y}\authornote{n}\received{May} Body",
        "Body",
    ),
    (
        r"\icmltitlerunning{R}\twocolumn[\icmltitle{T}\begin{icmlauthorlist}\icmlauthor{A}{b}\end{icmlauthorlist}\icmlaffiliation{b}{B"
        r"}"
        r"\icmlkeywords{k}]\printAffiliationsAndNotice{} Body",
        "T\n\nBody",
    ),
    (
        r"\author{A \And B}\shorttitle{S}\shortauthors{A et al.}\correspondingauthor{X}\software{s \citep{a}}\facilities{HST}"
        r"\objectname{M31} \ion{H}{2}, \ion{Fe}{iii}, 5\farcs3 and 3\arcsec\ or 2\degr",
        "M31 H II, Fe III, 5″.3 and 3″ or 2°",
    ),
    (
        r"\title[Short]{Long}\author[A."
        r" B]{A$^{1}$\thanks{E}\\ $^{1}$I}\pubyear{2015}\begin{keywords}k\end{keywords}Body\bsp\label{l}",
        "Long\n\nBody",
    ),
    (
        r"\preprint{X}\pacs{12}\collaboration{C}\altaffiliation{A}\homepage{h}\begin{keyword}k\end{keyword}\cortext[c]{z}\journal{J}"
        r" Body",
        "Body",
    ),
    (r"\titlerunning{R}\authorrunning{A}\inst{1}\IEEEPARstart{T}{his} is \lettrine{T}{he} body", "This is The body"),
    (r"\abstract{context}{aims}{methods}{results}{end} Body", "Abstract\n\ncontext\n\naims\n\nmethods\n\nresults\n\nend\n\nBody"),
    (r"\begin{abstract}Abs.\end{abstract}\begin{acks}Thanks.\end{acks}", "Abstract\n\nAbs.\n\nThanks."),
]
UNKNOWN = [
    (r"\foo{a}{b} \bar[x]{c} \baz{d} {e} \qux\ f \tint[red!10]{g}{h}!", "b c d e f h!"),
    (r"\textbf{a}{b} {\bf{c}}{d} \emph{e}\textit{f} \mbox{g}{h}", "ab cd ef gh"),
    (r"On \texorpdfstring{$x^2$}{x2} and", "On $x^2$ and"),
    (
        r"\makebox[2cm][l]{a} \raisebox{1pt}{b} \resizebox{1cm}{!}{c} \textcolor[rgb]{1,0,0}{d}"
        r" \adjustbox{width=3cm}{e} \rotatebox{90}{f}",
        "a b c d e f",
    ),
    (r"\begin{tcolorbox}[title=Box]In\end{tcolorbox} \begin{restatable}{theorem}{one}R\end{restatable}", "In\n\nTheorem. R"),
    (r"Body\begin{figure}junk\caption{C}\end{figure}more", "Body\n\nC\n\nmore"),
    (
        r"\lstinline|a[1]| \lstinline{b} \mintinline{python}{c} \path{C:\x} \url{http://a.b/c_d%20e}",
        r"a[1] b c C:\x http://a.b/c_d%20e",
    ),
]
KINDS = [DEFINITIONS, NUMBERS, TABLES, FORMULAS, ALGORITHMS, REFERENCES, PLAIN_TEX, FRONT_MATTER, UNKNOWN]  # fmt: skip


@pytest.mark.parametrize(("source", "wanted"), [case for kind in KINDS for case in kind])
def test_packages_and_classes_of_other_fields(source, wanted):
    assert text_of(source).strip() == wanted


def test_unknown_commands_are_counted():
    assert read_latex(rb"\textbf{a} \foo{b} \foo \bar[x]{c}{d} $\inmath$", None)["unknown"] == {"foo": 2, "bar": 1}


def test_macros_that_do_not_end_cost_the_file_and_no_time():
    bomb = "".join(rf"\def\{chr(97 + i)}{{\{chr(98 + i)}\{chr(98 + i)}}}" for i in range(25)) + r"\a"
    for source in (bomb, r"\def\a{\a}\a", r"\def\a{\b}\def\b{x\a}$\a$", r"\newcommand{\a}[1]{\a{#1#1}}\a{xy}"):
        assert read_latex(source.encode(), None)["reason"] == "too_large"
    assert read_latex(b"x" * 8_000_001, None)["reason"] == "too_large"


def test_an_old_primitive_can_be_renamed_and_redefined():
    assert text_of(r"\let\old\section\renewcommand{\section}{\old}\section{H} t") == "H\n\nt"


def test_encodings():
    assert read_latex("é ж".encode(), None)["text"] == "é ж"
    assert read_latex(r"\usepackage[koi8-r]{inputenc}\begin{document}привет".encode("koi8-r"), None)["text"] == "привет"
    assert read_latex("caf\u00e9".encode("latin-1"), None)["text"] == "café"


TEX = st.sampled_from(
    (
        *(
            "{",
            "}",
            "$",
            "$$",
            "\\",
            "\\a",
            "\\(",
            "\\]",
            "[",
            "]",
            "%",
            "\n",
            "\n\n",
            "x ",
            "#1",
            "&",
            "~",
            "\\'",
            "\\item",
            "\\section",
        ),
        *(
            "\\begin{a}",
            "\\end{a}",
            "\\begin{figure}",
            "\\end{figure}",
            "\\def\\a",
            "\\newcommand",
            "\\let",
            "\\title",
            "\\verb|",
            "\\cite",
        ),
        *(
            "\\ifx",
            "\\else",
            "\\fi",
            "\\xspace",
            "\\foo",
            "\\SI",
            "\\milli",
            "\\gls",
            "\\cites",
            "\\twocolumn",
            "\\State",
            "\\If",
            "\\hskip",
        ),
        *(
            "\\begin{algorithmic}",
            "\\begin{algorithm}",
            "\\NewDocumentCommand",
            "m o",
            "\\IfValueTF",
            "\\endhead",
            "\\begin{empheq}",
            "*",
        ),
        *(
            "\\begin{align}",
            "\\end{align}",
            "\\begin{document}",
            "\\end{document}",
            "\\iffalse",
            "\\fi",
            "\x02",
            "\\begin{verbatim}",
        ),
    )
)


INTERNAL = set(map(chr, [*range(9), *range(14, 32)]))


@given(st.lists(TEX, max_size=30).map("".join))
def test_no_source_raises_or_shows_its_marks(source):
    found = read_latex(source.encode(), None)
    assert "reason" in found or not INTERNAL & set(found["text"] + (found["title"] or ""))


@given(st.lists(st.sampled_from(["a", "bc,", "d e.", "é"]), min_size=1).map(" ".join))
def test_text_without_commands_is_itself(text):
    assert text_of(text) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        *["{", "$", "\\item[", "\\verb1 ", "\\begin{verbatim}", "\\section{", "\\cite[", "\\begin{a}", "\\newcommand{"],
        *[
            "\\foo{",
            "\\foo[",
            "\\foo[a]",
            "\\ifx ",
            "\\ifx\\a\\b\\else",
            "\\ifa\\fi",
            "\\def\\a#1.{}\\a",
            "\\cites[",
            "\\twocolumn[",
        ],
        *["\\begin{longtable}{}\\endhead ", "\\begin{algorithm}\\If{", "\\hbox", "\\SI{", "\\foo{a}{"],
    ],
)
def test_hostile_sources_end(piece):
    """They would take many minutes in quadratic time."""
    read_latex((piece * (300_000 // len(piece))).encode(), None)


def test_a_percent_sign_in_an_address_begins_no_comment():
    source = r"See \href{http://a.b/c%20d}{the site}. More \url{http://x/%7e} words % comment" + "\nend"
    assert read_latex(source.encode(), None)["text"] == "See the site. More http://x/%7e words end"
