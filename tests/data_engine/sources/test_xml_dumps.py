import bz2
import io
import json
import time
import tracemalloc
from html import escape

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.download import Local
from data_engine.sources import encodings, xml_dumps
from data_engine.sources.xml_dumps import Lost, licence_on, read_dump, site_of
from tests.data_engine.sources.test_download import read

SITE = "<siteinfo><sitename>W</sitename><base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>"
REVISION = """<revision><id>99{id}</id><timestamp>2026-01-0{id}T00:00:00Z</timestamp><contributor><username>U</username><id>7</id>
</contributor><model>wikitext</model><text bytes="3">{text}</text></revision>"""
PAGE = "<page><title>{title}</title><ns>{ns}</ns><id>{id}</id>{more}" + REVISION + "</page>"


def page(number, title, text="text", ns=0, more=""):
    return PAGE.format(id=number, title=escape(title), text=escape(text), ns=ns, more=more)


def wiki(*pages, site=SITE):
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="en">{site}{"".join(pages)}</mediawiki>'


def dump(xml, folder=""):
    return list(read_dump(io.BytesIO(xml if isinstance(xml, bytes) else xml.encode()), "d.xml", folder))


def post(number, kind, **fields):
    fields = {"Score": 1, "CreationDate": "2020-01-01T00:00:00.0", "Body": f"<p>{number}</p>", **fields}
    return f'<row Id="{number}" PostTypeId="{kind}" ' + " ".join(f'{k}="{escape(str(v))}"' for k, v in fields.items()) + " />"


def posts(*rows):
    return '\ufeff<?xml version="1.0" encoding="utf-8"?><posts>' + "\n".join(rows) + "</posts>"


def test_each_page_is_a_record_or_lost():
    found = dump(
        wiki(
            page(1, "A & B", "'''A''' & <ref>x</ref>"),
            page(2, "Redirected", "#REDIRECT [[A]]", more='<redirect title="A" />'),
            page(3, "Talk:A", ns=1),
            page(4, "Empty", ""),
            page(5, "C++ (é)?"),
        )
    )
    records = [record for record in found if not isinstance(record, Lost)]
    assert [record.uri for record in records] == [
        "https://en.wikipedia.org/wiki/A_%26_B",
        "https://en.wikipedia.org/wiki/C%2B%2B_(%C3%A9)%3F",
    ]
    assert records[0].content == b"'''A''' & <ref>x</ref>" and records[0].media_type == "text/x-wiki"
    assert records[0].meta == {"id": "1", "timestamp": "2026-01-01T00:00:00Z", "title": "A & B"}
    assert {record.licence for record in records} == {"CC-BY-SA-4.0"}
    assert [(lost.uri.rpartition("/")[2], lost.reason) for lost in found if isinstance(lost, Lost)] == [
        ("Redirected", "redirect"),
        ("Talk:A", "not_article"),
        ("Empty", "empty"),
    ]


def test_the_last_revision_counts_and_other_wikis_say_no_licence():
    two = page(1, "A", "new").replace("<revision>", "<revision><text>old</text></revision><revision>", 1)
    (record,) = dump(wiki(two, site=""))
    assert record.content == b"new" and record.uri == "d.xml#1" and record.licence == ""


def test_a_question_comes_with_its_answers_wherever_they_stand():
    rows = [
        post(4, 2, ParentId=1, Score=-3),
        post(1, 1, Title="Q & A", Tags="<a><b-c>", AcceptedAnswerId=9, Score=7),
        post(300, 1, Title="Alone", Tags="|x|y|"),
        post(9, 2, ParentId=1, CreationDate="2012-01-01", Score=2),
    ]
    for order in (rows, rows[::-1]):
        first, second = sorted(dump(posts(*order), "ai.stackexchange"), key=lambda record: record.meta["id"])
        assert json.loads(first.content) == {
            **{"title": "Q & A", "tags": ["a", "b-c"], "score": 7, "body": "<p>1</p>"},
            "answers": [
                {"id": 4, "score": -3, "accepted": False, "body": "<p>4</p>"},
                {"id": 9, "score": 2, "accepted": True, "body": "<p>9</p>"},
            ],
        }
        assert first.uri == "https://ai.stackexchange.com/questions/1" and first.licence == "CC-BY-SA-3.0 AND CC-BY-SA-4.0"
        assert json.loads(second.content)["tags"] == ["x", "y"] and second.licence == "CC-BY-SA-4.0"
        assert first.media_type == "application/x-stackexchange+json" and first.meta["site"] == "ai.stackexchange.com"


def test_a_second_question_of_a_number_is_no_answer():
    kept, lost = sorted(dump(posts(post(1, 1, Title="Q"), post(1, 1, Title="R"), post(2, 2, ParentId=1))), key=len, reverse=True)
    assert len(json.loads(kept.content)["answers"]) == 1 and (lost.uri, lost.reason) == ("d.xml#1", "repeated")


def test_other_posts_are_lost_one_by_one():
    found = dump(posts(post(1, 4), post(2, 5), post(3, 2, ParentId=8), post(4, 2), post("x", 1), post(5, 1, Title="Q"), "<row />"))
    assert [lost.reason for lost in found if isinstance(lost, Lost)].count("not_question") == 5
    assert [lost.reason for lost in found if isinstance(lost, Lost)].count("orphan") == 1
    assert len(found) == 7


@pytest.mark.parametrize(
    ("folder", "site"),
    [
        ("ai.stackexchange", "ai.stackexchange.com"),
        ("stackoverflow.com-Posts", "stackoverflow.com"),
        ("meta.mathoverflow", "meta.mathoverflow.net"),
        ("es.stackoverflow.com", "es.stackoverflow.com"),
        ("data", None),
        ("mystackexchange", None),
    ],
)
def test_a_folder_names_the_site(folder, site):
    assert site_of(folder) == site


def test_the_licence_follows_the_day():
    days = ("2011-04-07T23:59:59.9", "2011-04-08T00:00:00.0", "2018-05-01", "2018-05-02")
    assert [licence_on(day)[-3:] for day in days] == ["2.5", "3.0", "3.0", "4.0"]
    (record,) = dump(posts(post(1, 1, Title="Q", CreationDate=days[0], ContentLicense="CC BY-SA 3.0")))
    assert record.licence == "CC-BY-SA-3.0"


@pytest.mark.parametrize(
    "xml", [wiki(*(page(i, f"P{i}") for i in range(1, 9))), posts(*(post(i, 1, Title="Q") for i in range(1, 9)))]
)
def test_a_file_cut_short_keeps_what_came_before(xml):
    found = dump(xml[: len(xml) * 2 // 3])
    assert isinstance(found[-1], Lost) and found[-1].reason == "broken"
    assert 2 <= len(found) - 1 < 8 and not any(isinstance(record, Lost) for record in found[:-1])


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("", "broken"),
        ("no xml", "broken"),
        ("<comments><row /></comments>", "unknown_type"),
        ("<posts></posts>", "empty"),
        (wiki(), "empty"),
        ("<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>" + wiki(page(1, "A", "x")).replace(">x<", ">&b;<"), "broken"),
        (wiki(page(1, "A", "x")).replace(">x<", ">a <b>bold</b> word<"), "broken"),
        (wiki(page(1, "A", "x" * 11_000_000)), "broken"),
    ],
)
def test_files_of_another_kind(xml, reason):
    (lost,) = dump(xml)
    assert lost.reason == reason


@given(
    st.lists(
        st.sampled_from(["<page>", "</page>", "<title>", "</title>", "<text>", "</text>", "<ns>", "x", "&lt;", "<id/>", "<base/>"])
    )
)
def test_no_xml_raises(pieces):
    dump("<mediawiki>" + "".join(pieces) + "</mediawiki>")
    dump("<posts>" + "".join(pieces) + "</posts>")


class InPieces(io.BytesIO):
    def __init__(self, data, size):
        super().__init__(data)
        self.size = size

    def read(self, n=-1):
        return super().read(self.size)


ILLEGAL = ["\x08", "\x00", "\x1f", "&#x0E;", "&#14;", "&#0;", "&#x1f;", "&#0000008;", "&#x000B;"]
REPLACED = ["&#xD800;", "&#56320;", "&#xFFFE;", "&#65535;", "&#x110000;", "&#99999999999999999999;", "\uffff"]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("spot", [*ILLEGAL, *REPLACED])
def test_a_character_that_xml_forbids_costs_itself(spot, size, monkeypatch):
    monkeypatch.setattr(encodings, "BLOCK", size)
    left = "" if spot in ILLEGAL else "\ufffd"
    xml = wiki(*(page(i, f"P{i}", f"text {i} SPOT!") for i in range(1, 9))).replace("5 SPOT", f"5 {spot}").replace("SPOT", "é\t\n")
    found = list(read_dump(InPieces(xml.encode(), size), "d.xml", ""))
    wanted = ["text {} {}!".format(i, left if i == 5 else "é\t\n") for i in range(1, 9)]
    assert [record.content.decode() for record in found] == wanted
    rows = [post(i, 1, Title="Q", Body=f"{i} SPOT.") for i in range(1, 9)]
    xml = posts(*rows).replace("5 SPOT", f"5 {spot}").replace("SPOT", "&#xA;é")
    found = list(read_dump(InPieces(xml.encode(), size), "d.xml", ""))
    bodies = {record.meta["id"]: json.loads(record.content)["body"] for record in found}
    assert bodies == {i: "{} {}.".format(i, left if i == 5 else "\né") for i in range(1, 9)}


def test_references_that_xml_allows_stay():
    xml = wiki(page(1, "A", "SPOT")).replace("SPOT", "&#9;&#xA;&#x1F600;&#128512;&#xD83D;&#xDE00;&amp;#x0E; &#x20AC;&#8364;")
    (record,) = dump(xml)
    assert record.content.decode() == "\t\n\U0001f600\U0001f600\U0001f600&#x0E; €€"


BAD_PAGES = {
    "a tag that is not closed": ("<b>", ""),
    "an end without a start": ("</b>", ""),
    "its own end is missing": ("</page>", "</pag>"),
    "an attribute without quotes": ("<text bytes=3>", ""),
    "deeper than any": ("<a>" * 1000 + "</a>" * 1000, ""),
    "longer than any": ("x" * 11_000_000, ""),
    "longer than a unit": ("x" * 20_000_000, ""),
    "an unknown entity": ("&nosuchthing;", ""),
}


@pytest.mark.parametrize("size", [700, 1 << 20])
@pytest.mark.parametrize("name", BAD_PAGES)
def test_a_bad_page_costs_itself(name, size, monkeypatch):
    """Whatever breaks a page or a row, all others are read, and it is one ledger row."""
    if size < 1000 and "longer" in name:
        pytest.skip("20,000 blocks")
    monkeypatch.setattr(encodings, "BLOCK", size)
    bad, instead = BAD_PAGES[name]
    pages = [page(i, f"P{i}", f"text {i}") for i in range(1, 10)]
    pages[4] = pages[4].replace(bad, instead) if instead else pages[4].replace("text 5", bad)
    found = dump(wiki(*pages))
    assert [record.meta["id"] for record in found if not isinstance(record, Lost)] == [str(i) for i in range(1, 10) if i != 5]
    assert [(lost.uri, lost.reason) for lost in found if isinstance(lost, Lost)] == [("d.xml#5", "broken")]
    rows = [post(i, 1, Title="Q", Body=f"b{i}.") for i in range(1, 10)]
    rows[4] = rows[4].replace("b5.", "b5. &nosuch;" if instead else bad.replace('"', "&quot;"))
    found = dump(posts(*rows))
    kept = sorted(record.meta["id"] for record in found if not isinstance(record, Lost))
    assert kept == [1, 2, 3, 4, 6, 7, 8, 9] and [lost.uri for lost in found if isinstance(lost, Lost)] == ["d.xml#5"]


def test_a_page_that_has_lost_its_beginning_costs_itself():
    pages = [page(i, f"P{i}", f"text {i}") for i in range(1, 7)]
    pages[3] = pages[3].replace("<page>", "<pbge>")
    found = dump(wiki(*pages))
    assert [record.meta["id"] for record in found if not isinstance(record, Lost)] == ["1", "2", "3", "5", "6"]
    assert [lost.uri for lost in found if isinstance(lost, Lost)] == ["d.xml#4"]


def test_what_is_meant_by_a_bare_ampersand_is_kept():
    (record,) = dump(wiki(page(1, "A", "SPOT")).replace("SPOT", "R&D, a & b&nbsp;c &eacute; &#xZZ; &lt;"))
    assert record.content.decode() == "R&D, a & b\u00a0c é &#xZZ; <"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "iso-8859-2", "windows-1251", "shift_jis", "iso-2022-jp"])
def test_the_encoding_that_a_file_declares_is_read(encoding):
    text = {"windows-1251": "Привет", "shift_jis": "日本語の文", "iso-2022-jp": "日本語の文"}.get(encoding, "Příliš žluťoučký")
    xml = f'<?xml version="1.0" encoding="{encoding.removesuffix("-le")}"?>' + wiki(*(page(i, "A", text * 50) for i in range(1, 5)))
    assert [record.content.decode() for record in dump(xml.encode(encoding))] == [text * 50] * 4


def test_tags_of_a_page_inside_cdata_are_text():
    text = "<![CDATA[see </page><page><title>x</title></page> there]]>"
    found = dump(wiki(page(1, "A", "T"), page(2, "B", "SPOT").replace("SPOT", text), page(3, "C", "T")))
    assert [record.content.decode() for record in found] == ["T", "see </page><page><title>x</title></page> there", "T"]


def test_of_a_page_with_a_long_history_the_last_revision_is_read(monkeypatch):
    monkeypatch.setattr(encodings, "BLOCK", 10_000)
    monkeypatch.setattr(xml_dumps, "MAX_UNIT", 100_000)
    old = f"<revision><id>1</id><text>{'old ' * 50}</text></revision>" * 9000
    long = page(1, "A", "last").replace("<revision>", old + "<revision>", 1)
    found = dump(wiki(page(2, "B"), long, page(3, "C")))
    assert [(record.meta["id"], record.content) for record in found] == [("2", b"text"), ("1", b"last"), ("3", b"text")]


def test_two_dumps_behind_each_other_are_read():
    both = wiki(page(1, "A"), page(2, "B")) + wiki(page(3, "C"))
    assert [record.meta["id"] for record in dump(both)] == ["1", "2", "3"]


@pytest.mark.slow
def test_the_memory_does_not_grow_with_the_file():
    class Endless:
        sent, head = 0, wiki().partition("</mediawiki")[0]

        def read(self, n):
            self.sent += 1
            block = "".join(page(i % 9, "A", "x" * 1000) for i in range(800))
            return b"" if self.sent > 60 else (self.head * (self.sent == 1) + block).encode()

    tracemalloc.start()
    count = sum(1 for _ in read_dump(Endless(), "d.xml", ""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60 * 800 + 1 and peak < 40e6


def test_a_row_with_absurdly_many_attributes_takes_no_time():
    began = time.process_time()
    many = post(1, 1, Title="Q").replace("<row", "<row " + " ".join(f'a{i}="v"' for i in range(160_000)))
    (record,) = dump(posts(many))
    assert record.meta["id"] == 1 and time.process_time() - began < 5  # seconds; 118 when every attribute was looked up


def test_questions_are_spilled_and_joined_again(monkeypatch):
    monkeypatch.setattr(xml_dumps, "IN_MEMORY", 50)
    monkeypatch.setattr(xml_dumps, "BUCKETS", 3)
    rows = [post(i, 1 + i % 2, **({"Title": "Q"} if i % 2 == 0 else {"ParentId": i - 1})) for i in range(2, 60)]
    found = dump(posts(*rows))
    assert sorted(record.meta["id"] for record in found) == list(range(2, 60, 2))
    assert all([a["id"] for a in json.loads(record.content)["answers"]] == [record.meta["id"] + 1] for record in found)


def test_dumps_are_read_through_local_packed_or_not(tmp_path):
    parts = [wiki(page(1, "A", "a" * 50)), wiki(page(2, "B", "b"))]
    (tmp_path / "ai.stackexchange").mkdir()
    (tmp_path / "ai.stackexchange" / "Posts.xml").write_text(posts(post(1, 1, Title="Q")))
    (tmp_path / "w-pages-articles1.xml-p1p41242.bz2").write_bytes(bz2.compress(parts[0].encode()))
    (tmp_path / "u.xml.zst").write_bytes(pa.Codec("zstd").compress(parts[1].encode("utf-16"), asbytes=True))
    cut = parts[0].encode()
    (tmp_path / "multistream.xml.bz2").write_bytes(bz2.compress(cut[:300]) + bz2.compress(cut[300:]))
    (tmp_path / "cut.xml.bz2").write_bytes(bz2.compress(cut)[:-9])
    kept, lost = read(Local("s", str(tmp_path), licence="theirs"))
    assert sorted((record["uri"], record["licence"]) for record in kept) == [
        ("https://ai.stackexchange.com/questions/1", "CC-BY-SA-4.0"),
        *[("https://en.wikipedia.org/wiki/A", "CC-BY-SA-4.0")] * 3,  # that of the file cut short came before the cut
        ("https://en.wikipedia.org/wiki/B", "CC-BY-SA-4.0"),
    ]
    assert [(row["uri"], row["reason"]) for row in lost] == [("cut.xml.bz2", "broken")]
    assert json.loads(kept[0]["meta"])["title"] == "Q"
