import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.text import wiki_templates
from data_engine.text.wiki_text import read_wikitext, wiki_text

PAGE = """{{Short description|A town}}
{{Infobox town
| name = {{lang|kw|Bosvena}}
| image = [[File:a.jpg|thumb|a [[link]]]]
| list = {{ublist | {{flag|UK}} | two }}
}}
[[File:View.jpg|thumb|left|The ''view'' of [[Bodmin]]<ref>{{cite web|url=x}}</ref>]]
'''Bodmin''' ({{lang-kw|Bosvena}}; {{IPAc-en|b}}) is a [[town]]<ref name="a">{{cite book|title=T|page=[[1]]}}</ref> in
[[Cornwall|the county of ''Cornwall'']].<ref name="a" /> It lies {{convert|5|km|mi}} from [[Truro, Cornwall|]].<!-- a comment
of two lines -->

It has a [https://example.org web site], [https://example.org] and a formula <math>x^{2}
 + y</math>; 5&nbsp;&lt;&nbsp;6 &mdash; and <nowiki>[[no link]] {{no template}} ''x''</nowiki>.

== History ==
=== Early ===
* one
** two with {{small|text}}
# three
: indented

=== Nothing here ===
{{empty}}

== Table ==
{| class="wikitable" style="x"
|+ The caption
|-
! Name !! scope="col" | Value
|-
| style="a" | [[A|a]] || 1<br>2
|-
| colspan="2" |
{| class="x"
| inner
|}
|}
After.

<pre>
  def f():
      return {{x}}
</pre>

== References ==
{{reflist}}
* [http://x A book]
=== Its kind ===
Left out too.

== See also ==
* [[B]]
* {{portal}}

[[Category:Towns]]
[[fr:Bodmin]]
"""

WANTED = r"""Bodmin (Bosvena; /b/) is a town in the county of Cornwall. It lies 5 km from Truro, Cornwall.

It has a web site, and a formula $x^{2} + y$; 5 < 6 — and [[no link]] {{no template}} ''x''.

History

Early
- one
- two with text
- three
indented

Table

The caption
Name	Value
a	1 2
inner

After.

  def f():
      return {{x}}

See also
- B"""


def test_a_page_by_hand():
    assert wiki_text(PAGE).strip("\n").replace("\xa0", " ") == WANTED


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a [[b", "a [[b"),
        ("a {{b|c", "a {{b|c"),
        ("a }} ]] |} b", "a }} ]] |} b"),
        ("{{a|[[b}} c", "c"),
        ("[[a|{{b]] c", "[[a|{{b]] c"),
        ("{|\n| a\n\n== H ==\nb", "a\n\nH\n\nb"),
        ("<ref>a b", "a b"),
        ("a<br>b<br />c", "a\nb\nc"),
        ("one\ntwo\n\nthree", "one two\n\nthree"),
        ("std::vector<int> a < b", "std::vector<int> a < b"),
        ("'''''a''''' it's", "a it's"),
        ("[[:Category:A]] [[w:B|b]] [[C (d)|]]", "Category:A b C"),
        ("{{nowrap|1=a=b [[c|d]]}} {{convert|2|-|3|ft}}", "a=b d 2–3 ft"),
        ("{{quote|text=said}}", "said"),
        ("__NOTOC__a", "a"),
        ("", ""),
    ],
)
def test_constructs(source, wanted):
    assert wiki_text(source).strip() == wanted


TEMPLATES = [
    ("of {{CO2}}, {{chem|N|2|O}}, {{chem2|CH4}} and {{H2O}} or {{chem|SO|4|2-}}", "of CO2, N2O, CH4 and H2O or SO42-"),
    (
        "The {{HMS|Ferry}} met the {{USS|River|AB-1}} and the {{ship|SS|Lower Town}} here",
        "The HMS Ferry met the USS River (AB-1) and the SS Lower Town here",
    ),
    (
        "{{ship||Mary|1850|2}}, {{SMS|Hertha|1897|6}} is a {{sclass|Ferry|destroyer|1}} or {{sclass2|Town|cruiser}}",
        "Mary, Hertha is a Ferry-class destroyer or Town-class cruiser",
    ),
    ("See {{Bibleverse|John|3:16}} and {{bibleverse||Mark|1:2|KJV}}.", "See John 3:16 and Mark 1:2."),
    (
        "is {{val|6.02214076|e=23|u=mol-1}}, {{val|1.2|0.3|ul=m}}, {{val|5|p=~|s=%}}, {{val|9.8|u=m/s2}}",
        "is 6.02214076 × 10^23 mol^-1, 1.2±0.3 m, ~5%, 9.8 m/s^2",
    ),
    (
        "1.5{{e|6}} kg, 10<sup>6</sup> cells in 2<sup>-10</sup>, {{10^|-9}}, 5{{sup|2}}, x<sup>2</sup>, 1<sup>st</sup>",
        "1.5 × 10^6 kg, 10^6 cells in 2^-10, 10^-9, 5^2, x2, 1st",
    ),
    ("1{{frac|1|2}} cups or 1<sup>1</sup>/<sub>2</sub>, {{frac|3|4}}, {{1/2}}", "1 1/2 cups or 1 1/2, 3/4, 1/2"),
    (
        "cost {{USD|100}}, {{GBP|60}}, {{EUR|5}}, {{US$|7}}, {{INR|9|year=2001}}, {{¥|8}} or {{currency|4|GBP}}",
        "cost US$100, £60, €5, US$7, ₹9, ¥8 or £4",
    ),
    ("he is {{height|ft=6|in=2}} or {{height|m=1.83}} tall", "he is 6 ft 2 in or 1.83 m tall"),
    (
        "({{langx|kw|Tre Wollas}}; {{IPA|kw|trɛ ˈwɔlas}}, {{IPA|/x/}}, {{IPAc-en|ˈ|b|ɒ|d|-|m|ɪ|n}}, {{lang-ru|Да}}) x",
        "(Tre Wollas; trɛ ˈwɔlas, /x/, /ˈbɒd-mɪn/, Да) x",
    ),
    (
        "means {{gloss|low town}} ({{lit|town below}}), {{literal translation|a b}}",
        "means 'low town' (lit. 'town below'), lit. 'a b'",
    ),
    (
        "{{sqrt|2}}, {{mono|a b}}, {{key press|Ctrl|C}}, {{visible anchor|X}}, {{citation needed span|text=said so|date=May}}",
        "√2, a b, Ctrl+C, X, said so",
    ),
    (
        "B{{music|flat}}, {{pm}}5, one{{thinsp}}two, {{angbr|x}}, {{tmath|x^2}}, {{ordinal|22}}, {{w|Page|label}}",
        "B♭, ±5, one two, ⟨x⟩, $x^2$, 22nd, label",
    ),
    (
        "some {{Mya|5}}, ({{reign|1820|1830}}), {{circa|1500}}, {{floruit|1600}} on {{start date|2001|5|6}} or {{dts|1999|12}}",
        "some 5 million years ago, (r. 1820–1830), c. 1500, fl. 1600 on 6 May 2001 or December 1999",
    ),
    ("a {{abbrlink|FOO|x}} {{PhysicsParticle|e}} b", "a FOO e b"),
]
LISTS = [
    ("a {{ubl|one|two [[x|y]]}}\nb", "a\n- one\n- two y\n\nb"),
    ("{{plainlist|\n* one\n* two\n}}", "- one\n- two"),
    ("{{columns-list|colwidth=20em|\n* one\n* two}}\n{{flatlist}}\n* a\n* b\n{{endflatlist}}", "- one\n- two\n- a\n- b"),
    ("Colours: {{hlist|red|green|blue}}.", "Colours: red, green, blue."),
    ("{{div col}}\n* a\n{{div col end}}", "- a"),
    (
        "{{glossary}}{{term|Ramp}}{{defn|The slope.}}{{term|term=Quay}}{{defn|1=The wall of stone.}}{{glossary end}} End",
        "Ramp\nThe slope.\nQuay\nThe wall of stone.\n\nEnd",
    ),
    (
        "{{Episode table|episodes=\n{{Episode list|EpisodeNumber=1|Title=Pilot|ShortSummary=They meet.\n\nThey part.}}\n"
        "{{Episode list/sublist|L|Title=Two|ShortSummary=More.}}}}",
        "Pilot\n\nThey meet.\n\nThey part.\n\nTwo\n\nMore.",
    ),
    (
        "<poem>\nThe ferry goes,\n: The river flows,\n\nAnd nobody knows.\n</poem> After",
        "The ferry goes,\nThe river flows,\n\nAnd nobody knows.\n\nAfter",
    ),
    ("{{poemquote|Roses red\nviolets blue|Author}}", "Roses red\nviolets blue"),
]


@pytest.mark.parametrize(("source", "wanted"), TEMPLATES + LISTS)
def test_templates_that_are_words(source, wanted):
    assert wiki_text(source).strip().replace("\xa0", " ").replace(" \n", "\n") == wanted


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("the {{mystery|long name|short}} of", "the short of"),
        ("the ({{mystery|x=1|word}}), of", "the (word), of"),
        ("ended.{{mystery|Smith|2001}} Then", "ended. Then"),
        ("ended {{mystery|a|b|c|d}} then", "ended then"),
        (
            "ended {{sfn|Smith|2001}} then {{citation needed|date=May}} and {{harvtxt|A|1}} so {{efn|a note}} on",
            "ended then and so on",
        ),
        ("ended {{mystery|" + "long " * 30 + "}} then", "ended then"),
        ("{{mystery|word}} begins", "begins"),
        ("ends {{mystery|word}}", "ends"),
        ("a {{#if:x|y}} b {{PAGENAME}} c", "a b c"),
    ],
)
def test_an_unknown_template_in_a_sentence_shows_its_last_short_argument(source, wanted):
    assert " ".join(wiki_text(source).split()) == wanted


def test_unknown_templates_are_counted():
    source = b"a {{foo bar|b}} {{Foo_bar}} {{lang|fr|c}} {{sfn|d}} {{cite web|e}} {{#if:f}} {{Infobox x|y={{baz}}}} d"
    assert read_wikitext(source, None)["unknown"] == {"foo bar": 2, "baz": 1}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("#REDIRECT [[Toronto]]", "redirect"),
        ("\n#WEITERLEITUNG: [[Berlin|x]]", "redirect"),
        ("'''A''' may be:\n* [[B]]\n{{disambiguation}}", "disambiguation"),
        ("{{Human name disambiguation|x}}", "disambiguation"),
        ("{{About|x|other uses|A (disambiguation)}} text", None),
        ("# a list, no redirect [[x]]", None),
    ],
)
def test_pages_that_only_point_elsewhere(source, reason):
    assert read_wikitext(source.encode(), None).get("reason") == reason


MARKUP = st.sampled_from(
    [
        "{{",
        "}}",
        "[[",
        "]]",
        "{|",
        "|}",
        "\n",
        "|",
        "|-",
        "!",
        "==",
        "<ref>",
        "</ref>",
        "<nowiki>",
        "''",
        "<!--",
        "-->",
        "a",
        "*",
        "\x02",
    ]
)


NAMES = sorted({*wiki_templates.WORDS, *wiki_templates.shown_arguments(), *wiki_templates.CURRENCIES, *wiki_templates.DATES})
NAMES += [
    "frac",
    "chem",
    "val",
    "e",
    "10^",
    "sup",
    "currency",
    "height",
    "ship",
    "sclass",
    "ipa",
    "ipac-en",
    "sqrt",
    "music",
    "pm",
    "ordinal",
    "mya",
    "ubl",
    "hlist",
    "plainlist",
    "term",
]
VALUES = st.text("a1²٣<>/=-. \n", max_size=5)


@given(st.sampled_from(NAMES), st.lists(VALUES, max_size=4))
def test_no_arguments_of_a_template_raise(name, values):
    assert isinstance(wiki_templates.template_text([name, *values]), str | None)
    wiki_text("a {{" + "|".join([name, *values]) + "}} b")


@given(st.lists(MARKUP, max_size=30).map("".join))
def test_no_markup_raises_or_loses_its_marks(source):
    assert not set("\x02\x03\x04\x05\x06\x07") & set(wiki_text(source))


@given(st.lists(st.sampled_from(["a", "bc", "d e.", "é"]), min_size=1).map(" ".join))
def test_text_without_markup_is_itself(text):
    assert wiki_text(text).strip() == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["{{", "[[", "{{a|", "\n{|\n|", "<ref>", "|x", "a\n", "{{lang|a|", "[[a]]", "(,", "\n|a=b", "[http://a "]
)
def test_hostile_pages_end(piece):
    """They would take many minutes in quadratic time."""
    source = piece * (300_000 // len(piece))
    assert len(wiki_text(source)) <= len(source)


def test_json_is_no_wikitext_but_harmless():
    assert wiki_text(json.dumps({"a": [1]})) == '{"a": [1]}'
