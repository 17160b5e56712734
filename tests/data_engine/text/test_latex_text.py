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
        (r"\unknown{kept} \also[x]{too}", "kept [x]too"),
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


@given(st.lists(TEX, max_size=30).map("".join))
def test_no_source_raises_or_shows_its_marks(source):
    found = read_latex(source.encode(), None)
    assert "reason" in found or not set("\x02\x03\x04") & set(found["text"] + (found["title"] or ""))


@given(st.lists(st.sampled_from(["a", "bc,", "d e.", "é"]), min_size=1).map(" ".join))
def test_text_without_commands_is_itself(text):
    assert text_of(text) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["{", "$", "\\item[", "\\verb1 ", "\\begin{verbatim}", "\\section{", "\\cite[", "\\begin{a}", "\\newcommand{"]
)
def test_hostile_sources_end(piece):
    """They would take many minutes in quadratic time."""
    read_latex((piece * (300_000 // len(piece))).encode(), None)


def test_a_percent_sign_in_an_address_begins_no_comment():
    source = r"See \href{http://a.b/c%20d}{the site}. More \url{http://x/%7e} words % comment" + "\nend"
    assert read_latex(source.encode(), None)["text"] == "See the site. More http://x/%7e words end"
