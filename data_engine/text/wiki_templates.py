"""
Templates of Wikipedia -> their text.

in:   the name and arguments of a template, as wikitext without further templates or links
out:  text, which may hold lines of a list, <sup> and <sub>; "" for templates that are not text; None for unknown ones

The names are those of the English Wikipedia, after a space for each "_" and in small letters.
"""

import functools
import re


def words(text):
    return text.split()


# --- Templates that are one of their arguments -----------------------------------------------------------------------------

# The first argument, or the second one; _ stands for a space.
FIRST = """
abbr abbrlink as_written big blockquote bold center centre circled code color_box cquote em flag flagcountry flagu font hms ill
italic interlanguage_link kbd keypress korean larger linktext math maybe midsize mono mvar nihongo no no_bold nobold nobr
nobreak noitalic nom not_a_typo nowrap nts num overline partial phonetic physicsparticle pull_quote quotation quote samp sc sic
small smallcaps smaller strong tooltip tt unichar underline uss var visible_anchor vanchor won yes citation_needed_span cnspan
chem2 key button code_inline inflection_link zh-hans zh-hant nbsp_text bdi rtl-lang ltr
"""
SECOND = "lang langx transl transliteration script color font_color colored_link wikt-lang verse_translation sort ruby rtl_lang"
LAST = "w wikt wlink interwiki"
WORDS = {  # template -> its text
    "ndash": "–", "mdash": "—", "spaced ndash": " – ", "snd": " – ", "spaced en dash": " – ", "endash": "–", "emdash": "—",
    "'": "'", "!": "|", "=": "=", "nbsp": " ", "space": " ", "·": " · ", "•": " • ", "dot": " · ", "dash": " – ",
    "circa": "c. ", "c.": "c. ", "pi": "π", "times": "×", "half": "1/2", "euro": "€", "gbp": "£", "pound": "£",
    "yes": "Yes", "no": "No", "n/a": "N/A", "won": "Won", "nom": "Nominated", "tba": "TBA", "thinsp": " ", "hairsp": " ",
    "ensp": " ", "emsp": " ", "pm": "±", "floruit": "fl. ", "fl.": "fl. ", "sdash": " – ", "bull": " • ", "middot": " · ",
    "ell": "…", "minus": "−", "shy": "", "zwsp": "", "zwj": "", "degree": "°", "prime": "′", "check mark": "✓",
    "cross mark": "✗", "ya": "yes", "dagger": "†", "double-dagger": "‡", "1/2": "1/2", "1/4": "1/4", "3/4": "3/4",
    "1/3": "1/3", "2/3": "2/3", "(": "{", ")": "}", "((": "{{", "))": "}}", "ddagger": "‡", "sharp": "♯", "flat": "♭",
    "natural": "♮", "number sign": "#", "asterisk": "*", "pipe": "|", "hash-tag": "#",
}  # fmt: skip
NAMED = {  # template -> the named arguments that it shows, each a paragraph
    "episode list": ("title", "shortsummary"), "episode list/sublist": ("title", "shortsummary"),
    "episode table": ("episodes",), "episode table/part": (), "rquote": ("quote",), "quote box": ("quote",),
    "quotebox": ("quote",),
}  # fmt: skip

# --- Templates that are no text --------------------------------------------------------------------------------------------

NO_TEXT = re.compile(
    r"(?:wiktionary|wikispecies|wikimedia|refbegin|refend|bots|legend|map caption|more footnotes|fs|bar|"
    r"about|age|anchor|arxiv|audio|authority control|better source|bibcode|birth date and age|by whom|cat|"
    r"category|chart|chembox|cit|citation|citation needed|clade|clarify|cleanup|clear|cn|col|collapse|columns|"
    r"commons|coord|css|dead link|death date and age|decrease|default sort|defaultsort|displaytitle|distinguish|"
    r"div|doi|drugbox|dubious|dynamic list|end|endflatlist|endplainlist|expand|fact|failed verification|"
    r"family tree|featured article|flag icon|flagicon|flatlist|for|full|further|gallery|gbooks|geobox|glossary|"
    r"gnis|good article|google books|graph|gutenberg|hatnote|hidden|image|imdb|increase|inflation|"
    r"internet archive|isbn|issn|italic title|jstor|lead|librivox|listen|location map|main|maplink|medical|"
    r"merge|more citations|multiple image|multiple issues|navseasoncats|nhle|nihongo foot|note|notelist|oclc|"
    r"official|open access|original research|osm|other uses|page needed|party color|pmid|portal|pov|pp|"
    r"primary source|protected|r|redirect|ref|references|refimprove|reflist|refn|registration|rp|s|section|"
    r"see also|self-published|short description|sister project|speciesbox|split|start|steady|stub|subscription|"
    r"succession|taxobox|toc|tone|unreferenced|unsigned|update|url|use|vague|verify|weasel|webarchive|when|"
    r"where|which|who|wikibooks|wikinews|wikiquote|wikisource|wikivoyage|worldcat)"
    r"(?:$|[\s\d/(-].*)|(?:cite|infobox|automatic taxobox|sfn|harv|efn|navbox).*"
    r"|.*(?:stub|sidebar|footer|navbox|infobox)$",
    re.S,
)
VARIABLE = re.compile(r"#|(?:[A-Z]{4,}[A-Z0-9]*|int|ns|lc|uc|lcfirst|ucfirst|plural|grammar|msg|raw|subst|safesubst)\s*(?::|$)")

# --- Templates that write something of their own ---------------------------------------------------------------------------

CURRENCIES = {
    "usd": "US$", "us$": "US$", "us dollar": "US$", "gbp": "£", "£": "£", "pound sterling": "£", "eur": "€", "€": "€",
    "euro": "€", "inr": "₹", "indian rupee": "₹", "₹": "₹", "jpy": "¥", "¥": "¥", "cny": "CN¥", "krw": "₩", "aud": "A$",
    "au$": "A$", "cad": "C$", "ca$": "C$", "nzd": "NZ$", "nz$": "NZ$", "chf": "CHF ", "rub": "₽", "brl": "R$", "hkd": "HK$",
    "sgd": "S$", "ils": "₪", "try": "₺", "php": "₱", "ngn": "₦", "sek": "SEK ", "nok": "NOK ", "dkk": "DKK ", "pln": "PLN ",
    "thb": "฿", "bdt": "৳", "pkr": "Rs ", "lkr": "Rs ",
}  # fmt: skip
SHIPS = frozenset(
    words("""
    hms uss ss rms mv ms hmas hmcs hmnzs ins sms usat usns uscgc usrc orp pns js jds roks hdms hnlms hnoms hswms kms tss ps
    rfa rv ns css hmt hmhs mt mts gts sy rmv usav uscs hmsas hmis hmy fs arc ara bap
    """)
)
MONTHS = words("January February March April May June July August September October November December")
DATES = frozenset(("start date", "end date", "birth date", "death date", "film date", "dts", "date", "start-date", "release date"))
LISTS = frozenset(("ubl", "ublist", "unbulleted list", "bulleted list", "ordered list", "blist", "ul", "unbulleted", "olist"))
LISTS_IN_LINE = frozenset(("hlist", "horizontal list", "flowlist", "csv", "enum", "comma separated entries", "hlist-comma"))
WRAPPERS = frozenset(
    ("plainlist", "flatlist", "columns-list", "columns list", "col-list", "plain list", "collapsible list", "startplainlist")
)
PRONUNCIATION = frozenset(("us", "uk", "lang", "pron", "also", "audio", "local", "us also", "uk also", "pronounced", "tr"))


def verses(text):
    """Lines of verse -> lines that paragraphs keeps apart."""
    stanzas = re.split(r"\n[ \t]*\n\s*", text.strip())
    return "\n\n" + "\n\n".join(re.sub(r"[ \t]*\n[:\s]*", "<br>", stanza.lstrip(": ")) for stanza in stanzas) + "\n\n"


def convert_text(values):
    """['5', 'km', 'mi'] -> '5 km', ['2', '-', '3', 'ft'] -> '2–3 ft'."""
    if len(values) >= 4 and values[1] in ("-", "–", "to", "and", "by", "x", "×", "or"):
        return f"{values[0]}{'–' if values[1] == '-' else f' {values[1]} '}{values[2]} {values[3]}"
    return " ".join(values[:2])


def fraction_text(values):
    if len(values) == 1:
        return f"1/{values[0]}"
    whole, fraction = " ".join(values[:-2]), values[-2:]
    if all(value.isdecimal() for value in fraction):  # the rule for <sup> parts it from a digit before it
        fraction = f"<sup>{fraction[0]}</sup>/<sub>{fraction[1]}</sub>"
    else:
        fraction = "/".join(fraction)
    return f"{whole} {fraction}" if whole else fraction


def number_text(values, named):
    """{{val|1.2|0.3|e=5|u=m/s2}} -> '1.2±0.3 × 10^5 m/s^2'."""
    text = named.get("p", "") + (values[0] if values else "")
    if len(values) == 2:
        text += f"±{values[1]}"
    elif len(values) > 2:
        text += f"+{values[1]}−{values[2]}"
    if "e" in named:
        text += f" × 10^{named['e']}"
    for key, before in (("u", " "), ("ul", " "), ("up", "/"), ("upl", "/")):
        if named.get(key):
            text += before + re.sub(r"(?<=[A-Za-z])([-−]?\d+)", r"^\1", named[key])
    return text + named.get("s", "")


def ship_text(prefix, values):
    name, number, form = [*values, "", "", ""][:3]
    if form == "6" or not prefix:
        return name
    return f"{prefix} {name}" + (f" ({number})" if number and form != "2" else "")


def date_text(values):
    numbers = [int(value) for value in values[:3] if value.isdecimal()]
    if len(numbers) < 2 or not 0 < numbers[1] <= 12:
        return " ".join(values[:3]) if not numbers else str(numbers[0])
    return " ".join([*map(str, numbers[2:]), MONTHS[numbers[1] - 1], str(numbers[0])])


def ordinal_text(number):
    ending = {1: "st", 2: "nd", 3: "rd"}.get(int(number) % 10 if int(number) % 100 not in (11, 12, 13) else 0, "th")
    return number + ending


def height_text(named):
    units = [(named[unit], unit) for unit in ("m", "cm", "ft", "in") if named.get(unit)]
    return " ".join(f"{value} {unit}" for value, unit in units)


def split_arguments(arguments):
    """Positional values in their order, and named ones by their name in small letters."""
    numbered, named, position = {}, {}, 0
    for argument in arguments:
        found = re.match(r"\s*(\d{1,2}|[A-Za-z][\w -]{0,40}?)\s*=", argument)
        if not found:
            position += 1
            numbered[position] = argument.strip()
        elif found[1].isdigit():
            numbered[int(found[1])] = argument[found.end() :].strip()
        else:
            named[found[1].lower()] = argument[found.end() :].strip()
    return [numbered.get(i, "") for i in range(1, max(numbered, default=0) + 1)], named


@functools.cache
def shown_arguments():
    """Name of a template -> the number of the argument that it shows, from 0; -1 is the last one."""
    shown = {}
    for position, names in ((0, FIRST), (1, SECOND), (-1, LAST)):
        shown |= dict.fromkeys((name.replace("_", " ") for name in names.split()), position)
    return shown


def own_text(name, values, named):
    """The text of templates that do more than show an argument; None for others."""
    first = values[0] if values else ""
    if name in CURRENCIES and values:
        return CURRENCIES[name] + first
    if name in SHIPS and values:
        return ship_text(name.upper(), values)
    if name == "e" and first:
        return f" × 10^{first}"
    if name in ("10^", "10e") and first:
        return f"10^{first}"
    if name in ("sup", "sub"):
        return f"<{name}>{first}</{name}>"
    if name in ("frac", "fraction", "sfrac") and values:
        return fraction_text(values)
    if name in ("convert", "cvt"):
        return convert_text(values)
    if name == "chem":
        return "".join(values)
    if name == "val":
        return number_text(values, named)
    if name == "currency":
        return CURRENCIES.get((values[1] if len(values) > 1 else "usd").lower(), "") + first
    if name == "height":
        return height_text(named)
    if name == "ship":
        return ship_text(first, values[1:])
    if name in ("sclass", "sclass2", "sclass-") and len(values) > 1:
        return f"{first}-class {values[1]}"
    if name in ("bibleverse", "bible verse", "bibleref", "bibleref2"):
        return " ".join([value for value in values if value][:2])
    if name in ("ipa", "audio-ipa", "ipa link"):
        return values[1] if len(values) > 1 and re.fullmatch(r"[a-z]{2,3}(-\w+)*", first) else first
    if name.startswith("ipac-"):
        return f"/{''.join(value for value in values if value.lower() not in PRONUNCIATION)}/".replace("_", " ")
    if name.startswith("ipa-") or name.startswith("lang-"):
        return first
    if name in ("gloss", "glossary link"):
        return f"'{first}'"
    if name in ("lit", "lit.", "literal translation", "literally"):
        return f"lit. '{first}'"
    if name in ("sqrt", "radic"):
        return f"√{first}"
    if name == "key press":
        return "+".join(values)
    if name == "music":
        return WORDS.get(first, first)
    if name == "angbr":
        return f"⟨{first}⟩"
    if name == "tmath":
        return f"${first}$"
    if name == "pm":
        return f"±{first}"
    if name == "ordinal" and first.isdecimal():
        return ordinal_text(first)
    if name in ("mya", "myr"):
        return f"{'–'.join(values[:2])} million years ago"
    if name in ("reign", "r."):
        return "r. " + "–".join(values[:2])
    if name in ("circa", "c.", "ca."):
        return "c. " + " – ".join(values)
    if name in ("floruit", "fl."):
        return "fl. " + "–".join(values[:2])
    if name == "as of":
        return "As of " + " ".join(values)
    if name == "sortname":
        return " ".join(values[:2])
    if name in DATES:
        return date_text(values)
    if name in LISTS:
        return "\n\n" + "\n".join(f"* {' '.join(value.split())}" for value in values if value) + "\n\n"
    if name in LISTS_IN_LINE:
        return ", ".join(value for value in values if value)
    if name in WRAPPERS and (values or named.get("content")):
        return f"\n{max([*values, named.get('content', '')], key=len)}\n"  # columns-list may have the number of columns before
    if name == "term":
        return f"\n;{first or named.get('term', '')}\n"
    if name == "defn":
        return f"\n:{first or named.get('defn', '')}\n"
    if name == "poemquote":
        return verses(first or named.get("text", ""))
    return None


def template_text(arguments):
    """['lang', 'fr', 'mot'] -> 'mot'; "" for templates that are no text; None for unknown ones."""
    written = arguments[0].strip()
    name = " ".join(written.lower().replace("_", " ").split())
    if name.startswith("formatnum:"):
        return name[10:]
    if len(arguments) == 1 and (name in WORDS or re.fullmatch(r"(?=.*\d)(?:[A-Z][a-z]?\d{0,2}){2,8}", written)):
        return WORDS.get(name, written)  # CO2, H2SO4
    if not name or VARIABLE.match(written):
        return ""
    values, named = split_arguments(arguments[1:])
    text = own_text(name, values, named)
    if text is not None:
        return text
    if name in NAMED:
        return "".join(f"\n\n{named[key]}\n\n" for key in NAMED[name] if named.get(key))
    position = shown_arguments().get(name)
    if position is not None:
        values = values or [value for key, value in named.items() if key in ("text", "quote", "content", "sign")]
        if not values or len(values) <= position:
            return ""
        return f"\n\n{values[position]}\n\n" if "quot" in name else values[position]
    return "" if name in WORDS or NO_TEXT.fullmatch(name) else None


def unknown_text(arguments):
    """The last short positional argument of an unknown template, "" where it has none, or several."""
    values, _ = split_arguments(arguments[1:])
    if not 0 < len(values) <= 2:
        return ""
    text = values[-1]
    return text if len(text) <= 40 and "\n" not in text and "http" not in text and re.search(r"\w", text) else ""
