import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

WANTED = r"""Bodmin (Bosvena) is a town in the county of Cornwall. It lies 5 km from Truro, Cornwall.

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
