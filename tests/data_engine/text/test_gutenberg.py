import itertools
import tarfile

import pyarrow as pa
import pymupdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.extract import ExtractConfig, extract
from data_engine.records import RAW
from data_engine.text.gutenberg import decode_book, join_lines, read_book, read_edition
from tests.fixtures import SHARED

PROSE = """It was the best of times, it was the worst of times, it was the age of
wisdom, it was the age of foolishness, it was the epoch of belief, it was
the epoch of incredulity--the season of Light and the season of Dark-
ness no less, as some of its noisiest authorities insisted."""
JOINED = PROSE.replace("Dark-\n", "Dark-").replace("\n", " ")
VERSE = "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame thy fearful symmetry?"
TABLE = "CHAPTER                        PAGE\n   I. The lonely cabin            1\n  II. A deathbed revelation      10"

MODERN = f"""The Project Gutenberg EBook of Two Cities, by Charles Dickens

This eBook is for the use of anyone anywhere at no cost.

Title: Two Cities
       A Story

Author: Charles Dickens

*** START OF THIS PROJECT GUTENBERG EBOOK TWO CITIES, COMPLETE
***




Produced by Judith Boss, and the Online Distributed
Proofreading Team at http://www.pgdp.net

Transcriber's Note:

  Small capitals are printed as CAPITALS.

  Errors have been corrected.




[Illustration]

TWO CITIES

{PROSE}

[Illustration: The mail [see page 3]]

{VERSE}

[Transcriber's Note: a map follows.]

{TABLE}[Pg 12]

Produced by nature, he said.



Transcriber's Notes:

Page 3, "teh" changed to "the".

End of the Project Gutenberg EBook of Two Cities,
by Charles Dickens

*** END OF THIS PROJECT GUTENBERG EBOOK TWO CITIES ***

***** This file should be named 98.txt *****
Licence."""

OLD = f"""Project Gutenberg's Etext of Two Cities, by Charles Dickens
#1 in our series by Charles Dickens

**Information prepared by the Project Gutenberg legal advisor**

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Why is this "Small Print!" statement here?  You know: lawyers.
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*



This Etext prepared by A Volunteer

{PROSE}



End of Project Gutenberg's Etext of Two Cities, by Charles Dickens
"""


def test_a_book_by_hand():
    title, text = read_book(MODERN)
    assert title == "Two Cities A Story"
    assert text.split("\n\n") == ["TWO CITIES", JOINED, "The mail [see page 3]", VERSE, TABLE, "Produced by nature, he said."]


def test_a_book_of_the_nineties():
    assert read_book(OLD) == ("Two Cities", JOINED)


def test_line_ends_do_not_matter():
    assert read_book(MODERN.replace("\n", "\r\n")) == read_book(MODERN)


def test_what_only_speaks_of_the_project_is_left_as_it_is():
    text = f"Project Gutenberg is a library.\r\n\r\nTranscriber's note: none.\n\n{PROSE}"
    assert read_book(text) == (None, text.replace("\r\n", "\n"))


def test_a_note_ends_where_the_next_chapter_begins():
    head = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
    for note in (
        "Transcriber's Note\n\nOne.\n\nTwo.\n\n\n\n",
        "Transcriber's Note: one.\n\n",
        "[Transcriber's Note: one\n\ntwo]\n\n",
    ):
        assert read_book(f"{head}{note}{VERSE}\n\n{VERSE}") == (None, f"{VERSE}\n\n{VERSE}")


def test_a_note_that_never_ends_costs_its_heading_only():
    body = "\n\n".join([VERSE] * 200)
    assert read_book(f"*** START OF THE PROJECT GUTENBERG EBOOK X ***\nTranscriber's Note\n\n{body}") == (None, body)


def test_a_book_in_another_encoding_says_which():
    head = "Project Gutenberg\nCharacter set encoding: {}\n"
    assert decode_book((head.format("ISO-8859-2") + "Žluťoučký").encode("iso-8859-2")).endswith("Žluťoučký")
    assert decode_book((head.format("nonsense") + "“é”").encode("windows-1252")).endswith("“é”")
    assert decode_book("é".encode("latin-1")) is None


HEADER = """The Project Gutenberg eBook of Two Cities

This eBook is for the use of anyone anywhere in the United States at no cost, under the terms of the Project Gutenberg License.

Title: Two Cities

Author: Charles Dickens

Release date: June 1, 1998 [eBook #98]

Language: English"""
LICENCE = """Updated editions will replace the previous one—the old editions will be renamed.

START: FULL LICENSE

THE FULL PROJECT GUTENBERG LICENSE

To protect the Project Gutenberg mission, by using this work you agree to comply with all the terms of this license."""
CHAPTERS = "\n\n".join(["TWO CITIES", *[JOINED] * 12])


@pytest.mark.parametrize(
    "start", ["*** START OF THE PROJECT GUTENBERG EBOOK TWO CITIES ***", "*** START OF THIS PROJECT GUTENBERG EBOOK TWO *", ""]
)
@pytest.mark.parametrize("end", ["*** END OF THE PROJECT GUTENBERG EBOOK TWO CITIES ***", ""])
@pytest.mark.parametrize("title", ["Two Cities | Project Gutenberg", "The Project Gutenberg eBook of Two Cities, by Dickens", None])
def test_html_and_pdf_lose_header_and_licence_though_a_mark_is_lost(start, end, title):
    text = "\n\n".join(filter(None, [HEADER, start, CHAPTERS, end, LICENCE]))
    assert read_edition(text, title) == ("Two Cities", CHAPTERS)


@pytest.mark.parametrize(
    "text", [f"Project Gutenberg is a library.\n\n{CHAPTERS}", f"{CHAPTERS}\n\nTHE PROJECT GUTENBERG LIBRARY", CHAPTERS]
)
def test_other_pages_stay_as_they_are(text):
    assert read_edition(text, "A page") == ("A page", text)


def test_extract_reads_html_and_pdf_of_books():
    parts = [*HEADER.split("\n\n"), "*** START OF THE PROJECT GUTENBERG EBOOK TWO CITIES ***", *CHAPTERS.split("\n\n")]
    parts += ["*** END OF THE PROJECT GUTENBERG EBOOK TWO CITIES ***", *LICENCE.split("\n\n")]
    html = "<html><body>" + "".join(f"<p>{part}</p>" for part in parts) + "</body></html>"
    document = pymupdf.open()
    for at in range(0, len(parts), 9):
        document.new_page().insert_textbox((50, 50, 550, 800), "\n\n".join(parts[at : at + 9]), fontsize=9)
    contents = {"text/html": html.encode(), "application/pdf": document.tobytes()}
    rows = [{"id": kind, "source": "a", "uri": "u", "media_type": kind, "content": contents[kind]} for kind in contents]
    docs, *_ = extract(pa.Table.from_pylist(rows, schema=RAW), ExtractConfig())
    assert docs["title"].to_pylist() == ["Two Cities"] * 2
    for text in docs["text"].to_pylist():
        assert text.startswith("TWO CITIES") and text.endswith("insisted.") and "Gutenberg" not in text


words = st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=30, max_size=80)


@given(words, st.integers(60, 80))
def test_a_wrapped_paragraph_is_joined_to_what_it_was(words, width):
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    assert join_lines("\n".join(lines), width) == " ".join(words)


@given(st.text(alphabet="*[]\n TRANSCRIBER'sNote:EDOF_", max_size=300))
def test_no_text_raises(text):
    read_book(f"*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{text}")
    read_book(text)


@pytest.mark.slow
def test_real_books_keep_all_but_what_the_project_added():
    archive = SHARED / "corpus" / "gutenberg.tar.xz"
    if not archive.exists():
        pytest.skip(f"the books are not at {archive}: set PHOENIX_SHARED")
    books = left = 0
    with tarfile.open(archive) as tar:
        # old/pandp09.txt is the listing of a folder
        texts = (member for member in tar if member.name.endswith(".txt") and "old/pandp09" not in member.name)
        for member in itertools.islice(texts, 0, None, 6):
            content = tar.extractfile(member).read()
            try:
                text = content.decode()
            except UnicodeDecodeError:
                text = decode_book(content)
            _, book = read_book(text)
            books += 1
            left += any(
                mark in book for mark in ("START OF THE PROJECT", "START OF THIS PROJECT", "END OF THIS PROJECT", "SMALL PRINT")
            )
            added = len("".join(text.split())) - len("".join(book.split()))
            assert 0 < added < 0.2 * len(text) + 25_000, member.name
    assert books >= 35 and left == 0
