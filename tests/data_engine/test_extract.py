import json
from itertools import pairwise

import pyarrow as pa
import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.extract import OUT, ExtractConfig, extract
from data_engine.records import LEDGER, RAW

TEXT, HTML, PDF = "text/plain", "text/html", "application/pdf"
ALL = ExtractConfig(min_chars=1)


def raw(*records):
    """RAW of (media type, content) pairs."""
    rows = [
        {"id": f"{i:032x}", "source": "s", "uri": f"u{i}", "media_type": kind, "content": content, "licence": "MIT", "meta": "{}"}
        for i, (kind, content) in enumerate(records)
    ]
    return pa.Table.from_pylist(rows, schema=RAW)


def text_of(kind, content, cfg=ALL):
    docs, dropped, *_ = extract(raw((kind, content)), cfg)
    assert not len(dropped), dropped.to_pylist()
    return docs["text"][0].as_py()


def reasons(dropped):
    return {row["uri"]: row["reason"] for row in dropped.to_pylist()}


def pdf(text):
    document = pymupdf.open()
    document.new_page().insert_text((50, 50), text.split("\n"), fontsize=6)
    return document.tobytes()


MIXED = raw(
    (TEXT, b"plain text " * 30),
    (HTML, b"<title>T</title><p>" + b"text of a page " * 20),
    (TEXT, b"short"),
    (PDF, pdf("A page of text\n" * 20)),
    (TEXT, b"caf\xe9 " * 80),
    (HTML, b"<p>short"),
    ("video/mp4", b"x" * 400),
    (TEXT, "últi​mo ".encode() * 40),
    (PDF, b"%PDF-1.7 and nothing more"),
    (HTML, b""),
)


def test_every_row_is_accounted_for_in_order():
    docs, dropped, *_ = extract(MIXED, ExtractConfig())
    assert docs.schema == OUT and dropped.schema == LEDGER
    assert docs["uri"].to_pylist() == ["u0", "u1", "u3", "u7"]
    assert docs["title"].to_pylist() == [None, "T", None, None]
    assert reasons(dropped) == {
        "u2": "short",
        "u4": "invalid_utf8",
        "u5": "short",
        "u6": "unknown_type",
        "u8": "broken",
        "u9": "short",
    }
    assert set(dropped["stage"].to_pylist()) == {"extract"}
    assert sorted(docs["id"].to_pylist() + dropped["id"].to_pylist()) == MIXED["id"].to_pylist()


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, len(MIXED))))
def test_cut_anywhere(cuts):
    whole = extract(MIXED, ExtractConfig())
    ends = sorted(cuts | {0, len(MIXED)})
    parts = [extract(MIXED.slice(a, b - a), ExtractConfig()) for a, b in pairwise(ends)]
    assert pa.concat_tables(docs for docs, *_ in parts).equals(whole[0])
    assert pa.concat_tables(dropped for _, dropped, *_ in parts).equals(whole[1])


def test_chunked_input_is_the_same_as_whole():
    chunked = pa.concat_tables(MIXED.slice(i, 1) for i in range(len(MIXED)))
    assert [t.combine_chunks() for t in extract(chunked, ALL)[:2]] == [t.combine_chunks() for t in extract(MIXED, ALL)[:2]]


@pytest.mark.parametrize("pages", [RAW.empty_table(), raw((TEXT, b"short"))])
def test_empty_keeps_types(pages):
    docs, dropped, *_ = extract(pages, ExtractConfig())
    assert len(docs) == 0 and docs.schema == OUT and dropped.schema == LEDGER


def test_min_chars_counts_characters_not_bytes():
    pages = raw((TEXT, "é".encode() * 199), (TEXT, "é".encode() * 200), (TEXT, b"x" * 199 + b" " * 50))
    docs, dropped, *_ = extract(pages, ExtractConfig())
    assert docs["uri"].to_pylist() == ["u1"]
    assert dropped["detail"].to_pylist() == ["199 characters"] * 2


# ---------------------------------------------------------------------------------------------------------------------------
# titles and kinds of text


@pytest.mark.parametrize(
    ("meta", "title"),
    [
        ({"title": "A"}, "A"),
        ({"title": 'say "it" \\ é\n twice', "url": "x"}, 'say "it" \\ é twice'),
        ({"metadata.title": "inner"}, "inner"),
        ({"x.title": "no", "note": '"title": "no"', "subtitle": "no"}, None),
        ({"title": " \t"}, None),
        ({"title": 7}, None),
        ({}, None),
    ],
)
def test_a_title_comes_from_the_record_where_the_text_tells_none(meta, title):
    pages = raw((TEXT, b"text"), (HTML, b"<title>own</title><p>text"))
    at = pages.schema.get_field_index("meta")
    docs, _, *_ = extract(pages.set_column(at, "meta", pa.array([json.dumps(meta, sort_keys=True)] * 2)), ALL)
    assert docs["title"].to_pylist() == [title, "own"]


def test_each_kind_of_text_has_its_reader():
    question = json.dumps({"title": "Q", "score": 1, "body": "<p>b", "answers": []}).encode()
    book = b"Title: B\n\n*** START OF THE PROJECT GUTENBERG EBOOK B ***\n\nbook\n\n*** END OF THE PROJECT GUTENBERG EBOOK B ***\nx"
    old = "Project Gutenberg\nCharacter set encoding: ISO-8859-1\n\n*** START OF THIS PROJECT GUTENBERG EBOOK B ***\né"
    pages = raw(
        ("text/x-wiki", b"'''A''' [[b]]<ref>c</ref>"),
        ("application/x-tex", b"\\section{A} $x$ % b"),
        ("application/x-stackexchange+json", question),
        (TEXT, book),
        (TEXT, b"it says Project Gutenberg, and is as it was"),
        (TEXT, old.encode("latin-1")),
        ("text/x-wiki", b"#REDIRECT [[B]]"),
    )
    docs, dropped, *_ = extract(pages, ALL)
    assert docs["text"].to_pylist() == ["A b", "A\n\n$x$", "Q\n\nb", "book", "it says Project Gutenberg, and is as it was", "é"]
    assert docs["title"].to_pylist() == [None, None, "Q", "B", None, None]
    assert reasons(dropped) == {"u6": "redirect"}


def test_meta_that_is_no_json_costs_no_text():
    pages = raw((TEXT, b"text"), (TEXT, b"more"), (TEXT, b"again"))
    meta = pa.array(['{"title": "\\u12"', "no JSON", '{"title": "cut'])
    docs, dropped, *_ = extract(pages.set_column(pages.schema.get_field_index("meta"), "meta", meta), ALL)
    assert docs["text"].to_pylist() == ["text", "more", "again"] and docs["title"].to_pylist() == [None] * 3
    assert len(dropped) == 0


def test_text_in_utf_16_is_read_by_its_mark():
    docs, dropped, *_ = extract(raw((TEXT, "Grüße".encode("utf-16")), (TEXT, b"\xe9 without a mark")), ALL)
    assert docs["text"].to_pylist() == ["Grüße"] and reasons(dropped) == {"u1": "invalid_utf8"}


def test_names_that_no_rule_knows_are_counted_for_the_receipt():
    papers = raw(
        (
            "application/x-tex",
            rb"\begin{document}" + b"A \\fluxcap{word} stays, and \\fluxcap{so} does this. " * 9 + rb"\end{document}",
        ),
        ("text/x-wiki", b"Between {{unheard of|words}} stand. " * 9),
    )
    *_, notes = extract(papers, ALL)
    assert notes["unknown"] == [["application/x-tex", "fluxcap", 18], ["text/x-wiki", "unheard of", 9]]
    assert extract(raw((TEXT, b"plain")), ALL)[3] == {}
