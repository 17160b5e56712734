import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import unicodedata
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine import pdf_text
from data_engine.extract import OUT, ExtractConfig, extract, normalise
from data_engine.records import LEDGER, RAW

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PHOENIX_SHARED", ROOT.parent / "shared"))
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
    docs, dropped = extract(raw((kind, content)), cfg)
    assert not len(dropped), dropped.to_pylist()
    return docs["text"][0].as_py()


def reasons(dropped):
    return {row["uri"]: row["reason"] for row in dropped.to_pylist()}


def pdf(*pages, **options):
    document = pymupdf.open()
    for text in pages:
        page = document.new_page()
        if text:
            page.insert_text((50, 50), text.split("\n"), fontsize=6)
    return document.tobytes(**options)


GOOD_PDF = pdf("A page of text\n" * 20, "and another")
LONG_PDF = pdf(*["some words in a line of a page, again and again\n" * 100] * 300, deflate=True)


def bomb():
    """A small file with a page whose text takes gigabytes once it is laid out."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((50, 50), "x")
    document.update_stream(page.get_contents()[0], b"BT /helv 11 Tf (aaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj ET\n" * 300_000)
    return document.tobytes(deflate=True)


MIXED = raw(
    (TEXT, b"plain text " * 30),
    (HTML, b"<title>T</title><p>" + b"text of a page " * 20),
    (TEXT, b"short"),
    (PDF, GOOD_PDF),
    (TEXT, b"caf\xe9 " * 80),
    (HTML, b"<p>short"),
    ("video/mp4", b"x" * 400),
    (TEXT, "últi​mo ".encode() * 40),
    (PDF, b"%PDF-1.7 and nothing more"),
    (HTML, b""),
    (PDF, b""),
    (PDF, pdf("")),
    (PDF, pdf("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")),
)


def test_every_row_is_accounted_for_in_order():
    docs, dropped = extract(MIXED, ExtractConfig())
    assert docs.schema == OUT and dropped.schema == LEDGER
    assert docs["uri"].to_pylist() == ["u0", "u1", "u3", "u7"]
    assert docs["title"].to_pylist() == [None, "T", None, None]
    assert reasons(dropped) == {
        **{"u2": "short", "u4": "invalid_utf8", "u5": "short", "u6": "unknown_type", "u8": "broken", "u9": "short"},
        **{"u10": "broken", "u11": "no_text", "u12": "encrypted"},
    }
    assert set(dropped["stage"].to_pylist()) == {"extract"}
    assert sorted(docs["id"].to_pylist() + dropped["id"].to_pylist()) == MIXED["id"].to_pylist()


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, len(MIXED))))
def test_cut_anywhere(cuts):
    whole = extract(MIXED, ExtractConfig())
    ends = sorted(cuts | {0, len(MIXED)})
    parts = [extract(MIXED.slice(a, b - a), ExtractConfig()) for a, b in pairwise(ends)]
    assert pa.concat_tables(docs for docs, _ in parts).equals(whole[0])
    assert pa.concat_tables(dropped for _, dropped in parts).equals(whole[1])


def test_chunked_input_is_the_same_as_whole():
    chunked = pa.concat_tables(MIXED.slice(i, 1) for i in range(len(MIXED)))
    assert [t.combine_chunks() for t in extract(chunked, ALL)] == [t.combine_chunks() for t in extract(MIXED, ALL)]


@pytest.mark.parametrize("pages", [RAW.empty_table(), raw((TEXT, b"short"))])
def test_empty_keeps_types(pages):
    docs, dropped = extract(pages, ExtractConfig())
    assert len(docs) == 0 and docs.schema == OUT and dropped.schema == LEDGER


def test_min_chars_counts_characters_not_bytes():
    pages = raw((TEXT, "é".encode() * 199), (TEXT, "é".encode() * 200), (TEXT, b"x" * 199 + b" " * 50))
    docs, dropped = extract(pages, ExtractConfig())
    assert docs["uri"].to_pylist() == ["u1"]
    assert dropped["detail"].to_pylist() == ["199 characters"] * 2


# ---------------------------------------------------------------------------------------------------------------------------
# the one form of text


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("a\r\nb \x00\n\n\n\nc", "a\nb\n\nc"),
        ("a\rb\fc\x85d\u2028e\vf", "a\nb\nc\nd\ne\nf"),
        ("\ufeffe\u0301\x07\x7f\x9f", "é"),
        ("e\x00\u0301", "é"),
        ("\n \n  indented\n\tby tab  \n", "  indented\n\tby tab"),
        ("", ""),
    ],
)
def test_normalise(found, wanted):
    assert normalise(pa.array([found], pa.large_string())).to_pylist() == [wanted]


PIECES = st.sampled_from(
    ["\r", "\n", "\t", " ", "\x00", "\x85", "\u2029", "e", "\u0301", "\u1100", "\u1161", "Å", "\U0001d15e", "x"]
)


@given(st.lists(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20), max_size=4))
def test_normalise_is_nfc_idempotent_and_without_control_characters(texts):
    once = normalise(pa.array(texts, pa.large_string()))
    assert normalise(once).equals(once)
    for text in once.to_pylist():
        assert unicodedata.is_normalized("NFC", text) and "\n\n\n" not in text and " \n" not in text
        assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text)


# ---------------------------------------------------------------------------------------------------------------------------
# HTML

PAGE = b"""<!doctype html><html><head><title> A\n title </title><style>p {}</style></head><body>
<nav><a href=/>Home</a></nav><header>Logo</header>
<h1>Head</h1><p>One <b>bold</b>
line.<p>Two<br>lines &amp; more.
<ul><li>x</li><li><p>y</p></li></ul>
<table><tr><th>a</th><th>b</th></tr><tr><td>1<td>2</table>
<pre>def f():
    return\t1

</pre><script>no()</script><!-- no --><aside>Ad</aside><form><input></form><footer>Legal</footer></body></html>"""


def test_a_page_by_hand():
    wanted = "Head\n\nOne bold line.\n\nTwo\nlines & more.\n\nx\n\ny\n\na\tb\n1\t2\n\ndef f():\n    return\t1"
    assert text_of(HTML, PAGE) == wanted
    assert extract(raw((HTML, PAGE)), ALL)[0]["title"].to_pylist() == ["A title"]


def test_a_page_that_is_one_form_keeps_its_text():
    assert text_of(HTML, b"<form><p>" + b"words " * 100 + b"</form>", ExtractConfig()).startswith("words words")


SENTENCE = "Žluťoučký“kůň”café日本語"


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", None),
        ("utf-8", "iso-8859-1"),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("windows-1250", "windows-1250"),
        ("iso-2022-jp", "iso-2022-jp"),
    ],
)
def test_encodings_declared_sniffed_and_wrong(encoding, declared):
    meta = f'<meta charset="{declared}">' if declared else ""
    text = SENTENCE.encode(encoding, "ignore").decode(encoding)
    page = f"<html><head>{meta}</head><body><p>{text}</p>".encode(encoding)
    assert text_of(HTML, page) == text


def test_undeclared_windows_1252_is_read():
    text = (
        "The café’s menu, “naïve” as ever, costs 5 € a day, and nobody here has had a word to say about it. "
        + "Plain words follow. " * 20
    )
    assert text_of(HTML, f"<p>{text}</p>".encode("windows-1252")) == text.strip()


def test_deep_nesting_does_not_crash():
    assert "deep text" in text_of(HTML, b"<div>" * 20_000 + b"deep text")


def test_absurd_pages_are_dropped_unparsed():
    began = time.process_time()
    pages = raw((HTML, b"<p>" + b"word " * 10_000_000), (HTML, b"<b>" * 600_000))
    assert reasons(extract(pages, ExtractConfig())[1]) == {"u0": "too_large", "u1": "too_large"}
    assert time.process_time() - began < 2


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"<p>",
                b"</div>",
                b"<table>",
                b"<td",
                b"<!--",
                b"<![CDATA[",
                b"\xff",
                b"&#x0;",
                b"&#xD800;",
                b"\0",
                b"text",
                b"<pre>\r\n ",
            ]
        )
    )
)
def test_no_page_raises(parts):
    docs, dropped = extract(raw((HTML, b"".join(parts))), ALL)
    assert len(docs) + len(dropped) == 1


# ---------------------------------------------------------------------------------------------------------------------------
# PDF: the child


def test_a_page_of_pdf():
    docs, _ = extract(raw((PDF, GOOD_PDF)), ALL)
    assert docs["text"].to_pylist()[0].split() == ("A page of text " * 20 + "and another").split()


def test_a_file_that_takes_too_long_costs_one_row():
    pages = raw((PDF, GOOD_PDF), (PDF, LONG_PDF), (PDF, GOOD_PDF))
    docs, dropped = extract(pages, ExtractConfig(min_chars=1, pdf_seconds=0.03))
    assert docs["uri"].to_pylist() == ["u0", "u2"] and reasons(dropped) == {"u1": "timeout"}
    assert reasons(extract(pages, ALL)[1]) == {}


def test_a_file_that_takes_too_much_memory_costs_one_row():
    pages = raw((PDF, GOOD_PDF), (PDF, bomb()), (PDF, GOOD_PDF))
    docs, dropped = extract(pages, ExtractConfig(min_chars=1, pdf_megabytes=260))
    assert docs["uri"].to_pylist() == ["u0", "u2"] and reasons(dropped) == {"u1": "too_large"}


def test_a_child_that_was_killed_costs_nothing():
    extract(raw((PDF, GOOD_PDF)), ALL)
    pdf_text._child.process.kill()
    assert len(extract(raw((PDF, GOOD_PDF)), ALL)[0]) == 1


def test_a_file_that_kills_its_child_costs_one_row(monkeypatch, tmp_path):
    child = tmp_path / "pdf_child.py"
    crash = """
sound = read
def read(data):
    return os.kill(os.getpid(), signal.SIGSEGV) if b"CRASH" in data else sound(data)

"""
    head, tail = (Path(pdf_text.__file__).with_name("pdf_child.py")).read_text().split('\nif __name__ == "__main__":')
    child.write_text(head + crash + '\nif __name__ == "__main__":' + tail)
    monkeypatch.setattr(pdf_text, "__file__", str(tmp_path / "pdf_text.py"))
    pdf_text.close_child()
    pages = raw((PDF, GOOD_PDF), (PDF, b"%PDF CRASH"), (PDF, GOOD_PDF), (PDF, b"%PDF CRASH"))
    docs, dropped = extract(pages, ALL)
    pdf_text.close_child()
    assert docs["uri"].to_pylist() == ["u0", "u2"] and reasons(dropped) == {"u1": "broken", "u3": "broken"}
    assert set(dropped["detail"].to_pylist()) == {"the parser died: signal 11"}


def test_one_child_serves_all_files_and_is_reaped():
    extract(raw((PDF, GOOD_PDF)), ALL)
    process = pdf_text._child.process
    extract(raw((PDF, GOOD_PDF), (PDF, b"broken"), (PDF, GOOD_PDF)), ALL)
    assert pdf_text._child.process is process and process.poll() is None
    pdf_text.close_child()
    assert process.returncode == -signal.SIGKILL and not Path(f"/proc/{process.pid}").exists()


PARENT = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from data_engine import pdf_text
child = pdf_text._pdf_child(1024)
print(child.process.pid, flush=True)
data = open(sys.argv[2], "rb").read()
while True:
    child.ask(data, 60)
    if sys.argv[3] == "idle":
        time.sleep(60)
"""


@pytest.mark.parametrize("doing", ["idle", "busy"])
def test_the_child_dies_with_its_killed_parent(tmp_path, doing):
    (tmp_path / "long.pdf").write_bytes(LONG_PDF)
    command = [sys.executable, "-c", PARENT, str(ROOT), str(tmp_path / "long.pdf"), doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return  # gone, or waiting for the reaper of orphans
        time.sleep(0.05)
    raise AssertionError(f"process {child} is still there")


@pytest.mark.slow
def test_awkward_files_have_the_right_outcome():
    cases, files = SHARED / "cases.tar.xz", SHARED / "corpus" / "pdf.tar.xz"
    if not cases.exists() or not files.exists():
        pytest.skip(f"the labelled cases are not in {SHARED} (or $PHOENIX_SHARED)")
    with tarfile.open(cases) as archive:
        index = map(json.loads, archive.extractfile("./pdf.jsonl" if "./pdf.jsonl" in archive.getnames() else "pdf.jsonl"))
        wanted = {case["id"]: case for case in index if "expect" in case}
    contents = {}
    with tarfile.open(files) as archive:
        for member in archive:
            name = member.name.removeprefix("./").removeprefix("pdf/")
            if name in wanted:
                contents[name] = archive.extractfile(member).read()
    assert contents.keys() == wanted.keys() and len(wanted) == 43
    pages = raw(*((PDF, content) for content in contents.values()))
    docs, dropped = extract(pages, ALL)
    found = {uri: ("text", text) for uri, text in zip(docs["uri"].to_pylist(), docs["text"].to_pylist(), strict=True)}
    found |= {uri: (reason, "") for uri, reason in reasons(dropped).items()}
    for number, name in enumerate(contents):
        outcome, text = found[f"u{number}"]
        assert outcome in wanted[name]["expect"], name
        if outcome == "text":
            assert 2 * sum(c.isalnum() for c in text) >= wanted[name].get("letters", 1), name
