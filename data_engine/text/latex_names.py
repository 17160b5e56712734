r"""
The commands and environments of LaTeX, plain TeX and their packages, by their effect on text.

A name in no table is unknown: latex_text.py shows its last argument and counts it. Names are written without the backslash, and
without the star of a starred form. CITATION and REFERENCE cover the many commands of packages and journals by their shape.
"""

import re


def words(text):
    return text.split()


# --- Commands --------------------------------------------------------------------------------------------------------------

HEADINGS = frozenset(words("part chapter section subsection subsubsection paragraph subparagraph caption abstract"))
TITLES = frozenset(words("title ArticleName icmltitle"))
OWN_PARAGRAPH = frozenset(words("centerline leftline rightline tablecaption tablecomments tablerefs cutinhead sidehead"))
DROPPED_NAMES = (  # commands that go with all their arguments in [ ] and 0, 1, 2, 3 or 4 in { }, by position in this tuple
    """maketitle tableofcontents listoffigures listoftables newpage clearpage cleardoublepage pagebreak noindent indent centering
    bigskip medskip smallskip appendix allowdisplaybreaks raggedright raggedbottom flushbottom sloppy fussy frenchspacing
    nonfrenchspacing onecolumn protect relax global long protected outer makeatletter makeatother begingroup endgroup bgroup egroup
    boldmath unboldmath normalfont selectfont bf it em tt sc sl rm sf cal bfseries mdseries itshape upshape slshape scshape ttfamily
    sffamily rmfamily tiny scriptsize footnotesize small normalsize large Large LARGE huge Huge hfil hfill hfilneg vfil vfill hss
    vss break nobreak leavevmode null strut newblock frontmatter mainmatter backmatter startdata enddata endhead endfirsthead
    endfoot endlastfoot hline toprule midrule bottomrule addlinespace morecmidrules hdashline bsp SetAlgoLined SetAlgoNoLine
    SetAlgoVlined DontPrintSemicolon LinesNumbered RestyleAlgo BlankLine printbibliography printglossaries printglossary
    makeglossaries makeindex printindex balance xspace endinput textheight textwidth linewidth columnwidth hsize vsize
    baselineskip parindent parskip tabcolsep qed qedhere qedsymbol sep MSC limits nolimits displaylimits checkmark
    ignorespaces unskip goodbreak samepage itemsep parsep topsep partopsep leftmargin medskipamount bigskipamount smallskipamount
    looseness tolerance hbadness hfuzz emergencystretch magnification hoffset voffset topmargin oddsidemargin arraystretch
    today""",
    """label cite nocite ref author address email ead urladdr curraddr date thanks thanksref dedicatory affiliation affil institute
    institution keywords subjclass vspace addvspace vadjust index bibliography bibliographystyle addbibresource pagestyle
    thispagestyle input include includeonly includegraphics usepackage RequirePackage documentclass documentstyle
    usetikzlibrary tikzset hypersetup geometry
    graphicspath enlargethispage cline theoremstyle selectlanguage phantom hphantom vphantom pdfbookmark markright linespread tag
    textcolor color newcounter href raisebox parbox scalebox colorbox captionsetup footnotemark pagenumbering stepcounter
    refstepcounter usefont orcid Address EmailD ArticleDates Keywords Classification ShortArticleName kwd lstset

    cmidrule rowcolor cellcolor columncolor rowcolors hhline arrayrulecolor tabletypesize tablewidth tablecolumns tablenum
    tablenotemark tablenotetext tabletail tablelasttail cdashline
    ccsdesc copyrightyear acmYear acmDOI acmISBN acmPrice acmJournal acmVolume acmNumber acmArticle acmMonth acmBooktitle
    acmSubmissionID settopmatter setcopyright authornote authornotemark received accepted revised published citestyle setcitestyle
    icmltitlerunning icmlkeywords icmlEqualContribution printAffiliationsAndNotice
    shorttitle shortauthors correspondingauthor software facilities facility submitjournal accepted journalinfo altaffiliation
    altaffilmark altaffiltext affiltext collaboration homepage preprint pacs pubyear volume titlerunning authorrunning inst
    cortext fntext tnotetext fnmark journal runningtitle runningauthor runninghead IEEEauthorblockN IEEEauthorblockA
    IEEEmembership IEEEspecialpapernotice IEEEpubid IEEEaftertitletext maketag hyphenation newtoggle newbool newlength newsavebox
    newwrite newread newdimen newskip newtoks usebox rotatebox adjustbox minipage setstretch tikz bibitem bibinfo bibnamefont
    bibfnamefont eprint natexlab mintinline DeclareGraphicsExtensions PassOptionsToPackage sisetup DeclareSIUnit setmainfont
    setcounterref tnote firstpageno editor endnotetext hspace ifthispageodd subjectclass dedication thisfancyput""",
    """setlength addtolength setcounter addtocounter markboth settowidth settoheight settodepth fontsize rule resizebox fcolorbox
    numberwithin multicolumn multirow crefname Crefname icmlauthor icmlaffiliation icmlcorrespondingauthor
    icmlsetsymbol setkeys defcitealias crefrange Crefrange cpagerefrange vpagerefrange SetKwInOut SetKwFunction SetKwInput SetKw
    SetKwData SetKwProg DeclareUnicodeCharacter newrefsegment toggletrue setbool ShortHeadings titleformat""",
    "addcontentsline definecolor specialrule acmConference newunicodechar DeclareMathSymbol",
    "DeclareFontFamily jmlrheading titlespacing DeclareFontShape",
)
DROPPED = {name: count for count, names in reversed([*enumerate(DROPPED_NAMES)]) for name in names.split()}
# Commands whose arguments in { } are all text. Those in [ ] go, and so do the ones that DROPPED counts.
TEXT = frozenset(
    words("""
    textbf textit emph texttt textsc textsf textrm textsl textup textmd textnormal text mbox makebox fbox framebox hbox vbox vtop
    underline uline uwave sout xout hl enquote url path nolinkurl textquote foreignlanguage colhead objectname object subtitle
    IEEEPARstart lettrine MakeUppercase MakeLowercase uppercase lowercase hyperref lstinline ce cf textsubscript textsuperscript
    ensuremath smash shortstack centered thead makecell
    """)
)
CITATION = re.compile(r"[A-Za-z]*[cC]ite(?!text)[A-Za-z]*")
CITATIONS = re.compile(r"[a-zA-Z]*cites")  # takes any number of citations
REFERENCE = re.compile(r"(?!href|hyperref)[A-Za-z]*[rR]ef")
SKIPS = frozenset(words("vskip hskip kern mkern mskip raise lower moveleft moveright"))  # plain TeX; a length follows

DEFINITIONS = frozenset(words("newcommand renewcommand providecommand DeclareRobustCommand newrobustcmd DeclareMathCommand"))
XPARSE_DEFINITIONS = frozenset(
    f"{verb}{kind}DocumentCommand" for verb in ("New", "Renew", "Provide", "Declare") for kind in ("", "Expandable")
)
XPARSE_ENVIRONMENTS = frozenset(f"{verb}DocumentEnvironment" for verb in ("New", "Renew", "Provide", "Declare"))
# Choices between two arguments, and the number of arguments before these; the second one is taken.
CHOICES = {
    **dict.fromkeys(words("ifthenelse iftoggle ifbool ifdef ifundef ifcsdef ifcsundef ifdefempty ifblank ifstrempty"), 1),
    **dict.fromkeys(words("IfFileExists @ifundefined @ifpackageloaded @ifclassloaded"), 1),
    **dict.fromkeys(words("ifstrequal ifdefstring ifdefstrequal ifnumequal ifnumgreater ifnumless"), 2),
}

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
    "textasciicircum": "^", "textunderscore": "_", "textbullet": "•", "bullet": "•", "endgraf": "\n\n", "beginsection": "\n\n",
    "thinspace": " ", "enspace": " ", "enskip": " ", "hrulefill": " ", "dotfill": " ", "nodata": "…", "arcsec": "″", "arcmin": "′",
    "degr": "°", "arcdeg": "°", "farcs": "″.", "farcm": "′.", "fdg": "°.", "micron": "μm", "textmu": "μ", "texttimes": "×",
    "textpm": "±", "textonehalf": "½", "textonequarter": "¼", "textthreequarters": "¾", "textsterling": "£", "texteuro": "€",
    "textyen": "¥", "textcent": "¢", "textsection": "§", "textparagraph": "¶", "textperiodcentered": "·", "textnumero": "№",
    "textbraceleft": "{", "textbraceright": "}", "textquotesingle": "'", "textasciigrave": "`", "quotesinglbase": "‚",
    "quotedblbase": "„", "glqq": "„", "grqq": "“", "glq": "‚", "grq": "‘", "flqq": "«", "frqq": "»", "ordinal": "º",
    "textordfeminine": "ª", "textordmasculine": "º", "textexclamdown": "¡", "textquestiondown": "¿", "IJ": "Ĳ", "ij": "ĳ",
    "NG": "Ŋ", "ng": "ŋ", "BibTeX": "BibTeX", "eTeX": "eTeX", "XeTeX": "XeTeX", "LuaTeX": "LuaTeX", "KwTo": " to ", "dagger": "†",
}  # fmt: skip
TYPED = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"), ("!`", "¡"), ("?`", "¿"), ("`", "‘"))

# --- Environments ----------------------------------------------------------------------------------------------------------

TABLES = {  # environment of rows -> its arguments in { }
    "tabular": 1, "tabularx": 2, "tabulary": 2, "tabularew": 1, "longtable": 1, "longtabu": 1, "tabu": 1, "supertabular": 1,
    "mpsupertabular": 1, "xtabular": 1, "tblr": 1, "longtblr": 1, "talltblr": 1, "NiceTabular": 1, "NiceTabularX": 2,
    "deluxetable": 1, "ctabular": 1, "array": 1, "tabbing": 0, "xltabular": 2, "NiceArray": 1,
}  # fmt: skip
ENVIRONMENT_ARGUMENTS = {  # arguments in { } after \begin{name}; those in [ ] are always skipped
    **TABLES, "tabular*": 2, "NiceTabular*": 2, "minipage": 1, "multicols": 1, "wrapfigure": 2, "adjustwidth": 2, "spacing": 1,
    "thebibliography": 1, "wraptable": 2, "subfigure": 1, "subtable": 1, "list": 2, "adjustbox": 1, "paracol": 1,
    "textblock": 1, "changemargin": 2,
}  # fmt: skip
HIDDEN = frozenset(
    words("""figure figure* wrapfigure SCfigure teaserfigure tikzpicture picture pspicture tikzcd xy diagram pgfpicture bibdiv
    thebibliography comment CCSXML icmlauthorlist keyword keywords IEEEkeywords AMS MSCcodes""")
)
DISPLAY = {  # environment of a formula -> the environment inside $$ $$ that it becomes
    **dict.fromkeys(("equation", "displaymath", "math", "dmath"), ""),
    **dict.fromkeys(words("align flalign alignat xalignat xxalignat eqnarray split IEEEeqnarray dgroup"), "aligned"),
    **dict.fromkeys(("gather", "multline"), "gathered"),
}
DISPLAY_ARGUMENTS = frozenset(("alignat", "xalignat", "xxalignat", "IEEEeqnarray"))  # have one in { } that goes
NOT_IN_FORMULA = frozenset(
    words("""\\nonumber \\notag \\displaystyle \\allowdisplaybreaks \\ensuremath \\IEEEyesnumber \\IEEEyesnumber* \\IEEEnonumber
    \\IEEEnonumber* \\IEEEyessubnumber \\IEEEyessubnumber* \\IEEEnosubnumber \\xspace""")
)
THEOREMS = {"proof": "Proof", "proof*": "Proof"}
LISTS = frozenset(words("itemize enumerate description list compactitem inparaenum"))

# --- Algorithms ------------------------------------------------------------------------------------------------------------

ALGORITHMS = frozenset(words("algorithm algorithm2e procedure function algorithmic"))
# algorithmic and algpseudocode, in small letters: (text before and after each argument; levels before, levels after the line)
STATEMENTS = {
    "state": (("",), 0, 0), "statex": (("",), 0, 0), "require": (("Require: ",), 0, 0), "ensure": (("Ensure: ",), 0, 0),
    "input": (("Input: ",), 0, 0), "output": (("Output: ",), 0, 0), "print": (("print ",), 0, 0),
    "if": (("if ", " then"), 0, 1), "elsif": (("else if ", " then"), -1, 1), "elseif": (("else if ", " then"), -1, 1),
    "else": (("else",), -1, 1), "endif": (("end if",), -1, 0), "for": (("for ", " do"), 0, 1), "endfor": (("end for",), -1, 0),
    "forall": (("for all ", " do"), 0, 1), "while": (("while ", " do"), 0, 1), "endwhile": (("end while",), -1, 0),
    "repeat": (("repeat",), 0, 1), "until": (("until ", ""), -1, 0), "loop": (("loop",), 0, 1), "endloop": (("end loop",), -1, 0),
    "function": (("function ", "(", ")"), 0, 1), "endfunction": (("end function",), -1, 0),
    "procedure": (("procedure ", "(", ")"), 0, 1), "endprocedure": (("end procedure",), -1, 0),
}  # fmt: skip
# algorithm2e: text before each argument and after the last; the arguments that are blocks of lines
BLOCKS = {
    "If": (("if ", " then", ""), (1,)), "uIf": (("if ", " then", ""), (1,)), "ElseIf": (("else if ", " then", ""), (1,)),
    "uElseIf": (("else if ", " then", ""), (1,)), "Else": (("else", ""), (0,)), "uElse": (("else", ""), (0,)),
    "eIf": (("if ", " then", "else", ""), (1, 2)), "For": (("for ", " do", ""), (1,)), "ForEach": (("for each ", " do", ""), (1,)),
    "ForAll": (("for all ", " do", ""), (1,)), "While": (("while ", " do", ""), (1,)), "Switch": (("switch ", "", ""), (1,)),
    "Case": (("case ", "", ""), (1,)), "Other": (("otherwise", ""), (0,)), "lIf": (("if ", " then ", ""), ()),
    "lElse": (("else ", ""), ()), "lFor": (("for ", " do ", ""), ()), "lForEach": (("for each ", " do ", ""), ()),
    "KwIn": (("Input: ", ""), ()), "KwOut": (("Output: ", ""), ()), "KwData": (("Data: ", ""), ()),
    "KwResult": (("Result: ", ""), ()), "Input": (("Input: ", ""), ()), "Output": (("Output: ", ""), ()),
}  # fmt: skip
WORDS_OF_ALGORITHMS = {
    "TRUE": "true", "True": "true", "FALSE": "false", "False": "false", "AND": "and", "And": "and", "OR": "or", "Or": "or",
    "NOT": "not", "Not": "not", "TO": "to", "To": "to", "Break": "break", "Continue": "continue",
}  # fmt: skip

# --- Units of siunitx ------------------------------------------------------------------------------------------------------

PREFIXES = {
    "yocto": "y", "zepto": "z", "atto": "a", "femto": "f", "pico": "p", "nano": "n", "micro": "μ", "milli": "m", "centi": "c",
    "deci": "d", "deca": "da", "deka": "da", "hecto": "h", "kilo": "k", "mega": "M", "giga": "G", "tera": "T", "peta": "P",
    "exa": "E", "zetta": "Z", "yotta": "Y", "kibi": "Ki", "mebi": "Mi", "gibi": "Gi", "tebi": "Ti",
}  # fmt: skip
UNITS = {
    "metre": "m", "meter": "m", "second": "s", "gram": "g", "kilogram": "kg", "ampere": "A", "kelvin": "K", "mole": "mol",
    "candela": "cd", "becquerel": "Bq", "degreeCelsius": "°C", "celsius": "°C", "coulomb": "C", "farad": "F", "gray": "Gy",
    "hertz": "Hz", "henry": "H", "joule": "J", "katal": "kat", "lumen": "lm", "lux": "lx", "newton": "N", "ohm": "Ω",
    "pascal": "Pa", "radian": "rad", "siemens": "S", "sievert": "Sv", "steradian": "sr", "tesla": "T", "volt": "V", "watt": "W",
    "weber": "Wb", "astronomicalunit": "au", "bel": "B", "dalton": "Da", "day": "d", "decibel": "dB", "degree": "°",
    "electronvolt": "eV", "hectare": "ha", "hour": "h", "litre": "L", "liter": "L", "minute": "min", "arcminute": "′",
    "arcsecond": "″", "neper": "Np", "tonne": "t", "percent": "%", "bar": "bar", "mmHg": "mmHg", "angstrom": "Å", "barn": "b",
    "bit": "bit", "byte": "B", "parsec": "pc", "lightyear": "ly", "atomicmassunit": "u", "knot": "kn", "gauss": "G", "clight": "c",
    "hartree": "Eh", "bohr": "a0", "planckbar": "ħ", "electronmass": "me", "atm": "atm", "torr": "Torr",
}  # fmt: skip
_SHORT = words("m s g A K mol V W J N Hz H F eV Pa L l B C T")
UNITS |= {f"{p}{unit}": f"{'μ' if p == 'u' else p}{unit}" for unit in _SHORT for p in ("", *"fpnumcdkMGT")}
UNITS |= {"kWh": "kWh", "dB": "dB", "kohm": "kΩ", "Mohm": "MΩ", "mohm": "mΩ", "bpm": "bpm", "amu": "u"}
POWERS = {"squared": "^2", "cubed": "^3"}
POWERS_AHEAD = {"square": "^2", "cubic": "^3"}
