"""PDF text: order, headers, paragraphs, hyphens on generated and real pages; garbled text; a child that survives any file."""

import functools
import json
import random
import re
import signal
import string
import subprocess
import sys
import tarfile
import threading
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pymupdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.extract import ExtractConfig
from data_engine.text import pdf_text
from data_engine.text.pdf_layout import Lines, reading_text
from data_engine.text.pdf_letters import drawn_ligatures, garbled, logical_order, plain_letters, without_garbage
from data_engine.text.pdf_text import read_pdf
from tests.fixtures import ROOT, SHARED

pytestmark = pytest.mark.slow  # the fast part of the suite has a minute, and these take ten seconds of it

CFG = ExtractConfig()
SIZE, LEADING = 10, 12
WORDS = ["river", "stone", "window", "garden", "summer", "letter", "market", "silver", "morning", "bridge", "candle", "forest"]
WORDS += ["mountain", "paper", "kitchen", "harbour", "winter", "ladder", "village", "island", "copper", "station", "teacher"]
WORDS += ["holiday", "meadow", "thunder", "blanket", "journey", "orchard", "feather", "lantern", "whistle", "the", "of", "and", "a"]


def prose(n, seed=0):
    """n words with a full stop now and then, no two texts of different seed alike."""
    rng = random.Random(seed)
    words = [rng.choice(WORDS) for _ in range(n)]
    return " ".join(word + "." if i % 11 == 10 else word for i, word in enumerate(words))


@functools.cache
def width_of(text):
    return pymupdf.get_text_length(text, "tiro", SIZE)


def wrapped(text, width, hanging=0):
    """The lines of a paragraph in a column of so many points, the first one longer by `hanging`, Times at 10."""
    lines, room = [], 0
    for word in text.split():
        room -= width_of(" ") + width_of(word)
        if room < 0:
            room = width + hanging * (not lines) - width_of(word)
            lines.append(word)
        else:
            lines[-1] += " " + word
    return lines


def column(lines, x, y):
    return [(x, y + LEADING * i, line) for i, line in enumerate(lines)]


def pdf(*pages, rotate=0, **options):
    """Pages of (x, y, text), drawn in that order."""
    document = pymupdf.open()
    for pieces in pages:
        page = document.new_page()
        page.insert_text((0, 0), " ", fontname="tiro")
        drawn = [(x, 842 - y, re.sub(r"([()])", r"\\\1", text)) for x, y, text in pieces]
        drawn = [f"BT /tiro {SIZE} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET" for x, y, text in drawn]
        document.update_stream(page.get_contents()[0], "\n".join(drawn).encode("cp1252"))
        page.set_rotation(rotate)
    return document.tobytes(**options)


def text_of(*pages, **options):
    answer = read_pdf(pdf(*pages, **options), CFG)
    assert "text" in answer, answer
    return answer["text"]


def lines_of(pieces, page=0):
    """Lines of (x, y, text), every letter half a size wide, a block each."""
    n = len(pieces)
    x, y = np.array([piece[0] for piece in pieces], float), np.array([piece[1] for piece in pieces], float)
    width = np.array([0.5 * SIZE * len(piece[2]) for piece in pieces])
    box = np.column_stack([x, y - 0.8 * SIZE, x + width, y + 0.2 * SIZE])
    numbers = np.full(n, page, np.int64)
    origin, size, vertical = np.column_stack([x, y]), np.full(n, float(SIZE)), np.zeros(n, bool)
    return Lines(numbers, np.arange(n), box, origin, size, vertical, [piece[2] for piece in pieces])


def in_order(text, *passages):
    """Every passage is there, each after the one before."""
    at = 0
    for passage in passages:
        found = text.find(passage, at)
        assert found >= 0, (passage, "comes too early" if passage in text else "is not there")
        at = found + len(passage)
    return True


# ---------------------------------------------------------------------------------------------------------------------------
# columns


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("drawn", ["in order", "last column first", "row by row", "shuffled"])
def test_columns_are_read_one_after_the_other(columns, drawn):
    width = {2: 230, 3: 145}[columns]
    texts = [prose(150, seed) for seed in range(columns)]
    parts = [column(wrapped(text, width), 50 + (width + 20) * i, 140) for i, text in enumerate(texts)]
    pieces = [piece for part in (parts[::-1] if drawn == "last column first" else parts) for piece in part]
    if drawn == "row by row":
        pieces.sort(key=lambda piece: piece[1])
    elif drawn == "shuffled":
        random.Random(1).shuffle(pieces)
    title = [
        (50, 80, "A title that goes over all the columns of the page, as titles do,"),
        (50, 92, "and has a second line of words"),
    ]
    text = text_of(title + pieces)
    assert in_order(" ".join(text.split()), "second line of words", *texts)


def test_a_band_across_the_page_parts_the_columns():
    a, b, c, d = (prose(60, seed) for seed in range(4))
    band = "This heading lies across both columns and goes from the left margin to the right one"
    upper = column(wrapped(a, 230), 50, 80) + column(wrapped(b, 230), 300, 80)
    lower = column(wrapped(c, 230), 50, 420) + column(wrapped(d, 230), 300, 420)
    assert in_order(" ".join(text_of([*lower, (50, 300, band), *upper]).split()), a, b, band, c, d)


def test_a_table_keeps_its_rows():
    rows = [(f"Item number {i} of list", f"{i * 7} pieces in store", f"{i * 3}.50 euro each") for i in range(20)]
    pieces = [(x, 100 + 14 * i, cell) for i, row in enumerate(rows) for x, cell in zip((50, 230, 400), row, strict=True)]
    assert text_of(pieces) == "\n".join("\t".join(row) for row in rows)


def test_one_column_stays_one():
    paragraphs = [prose(90, seed) for seed in range(5)]
    pieces, y = [], 80
    for paragraph in paragraphs:
        pieces += column(wrapped(paragraph, 480), 60, y)
        y = pieces[-1][1] + 2 * LEADING
    assert text_of(pieces) == "\n\n".join(paragraphs)


def test_blocks_drawn_in_any_order_are_read_from_the_top():
    paragraphs = [prose(40, seed) for seed in range(6)]
    blocks = [column(wrapped(paragraph, 400), 60, 80 + 90 * i) for i, paragraph in enumerate(paragraphs)]
    for seed in range(4):
        random.Random(seed).shuffle(blocks)
        assert text_of([piece for block in blocks for piece in block]) == "\n\n".join(paragraphs)


def test_right_to_left_pages_begin_with_the_right_column():
    rng = random.Random(0)
    words = ["".join(rng.choice("אבגדהוזחטיכלמנסעפצקרשת") for _ in range(rng.randint(2, 7))) for _ in range(200)]
    right, left = " ".join(words[:100]), " ".join(words[100:])

    def rows(text, edge):
        lines = [""]
        for word in text.split():
            lines += [word] if len(lines[-1]) + len(word) >= 40 else []
            lines[-1] = lines[-1] if lines[-1] is word else f"{lines[-1]} {word}".strip()
        return [(edge - 0.5 * SIZE * len(line), 80 + LEADING * i, line) for i, line in enumerate(lines)]

    pieces = sorted(rows(left, 270) + rows(right, 500), key=lambda piece: piece[1])
    assert reading_text(lines_of(pieces)).split() == words


# ---------------------------------------------------------------------------------------------------------------------------
# running headers, footers, page numbers


def report(n, header=lambda page: [], footer=lambda page: []):
    """Pages of prose between rows at 40 and at 780 points."""
    body = [column(wrapped(prose(300, 100 + page), 480), 60, 90 + 7 * (page % 3)) for page in range(n)]
    head = [[(60, 40, line) for line in header(page)] for page in range(n)]
    foot = [[(290, 780, line) for line in footer(page)] for page in range(n)]
    return [h + b + f for h, b, f in zip(head, body, foot, strict=True)], " ".join(prose(300, 100 + page) for page in range(n))


ROMANS = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]


@pytest.mark.parametrize(
    ("header", "footer"),
    [
        (lambda page: ["Annual Report of the Harbour"], lambda page: [str(page + 7)]),
        (lambda page: ["Left Hand Title" if page % 2 else "Right Hand Title"], lambda page: [f"- {page + 1} -"]),
        (lambda page: [], lambda page: [f"Page {page + 1} of 8"]),
        (lambda page: [], lambda page: [ROMANS[page]]),
        (lambda page: [f"{page + 198} The Harbour and its Boats"], lambda page: []),
        (lambda page: [f"{page // 3 + 1}. Section with a Name of its Own"], lambda page: []),
        (lambda page: [f"Downloaded on 22 November 2026 from site {page // 8}"], lambda page: [f"© The Authors {page + 1}"]),
    ],
)
def test_running_headers_footers_and_page_numbers_go(header, footer):
    pages, body = report(8, header, footer)
    assert text_of(*pages).split() == body.split()


def test_two_pages_are_enough_to_know_them():
    pages, body = report(2, lambda page: ["Journal of Harbours"], lambda page: [str(page + 3)])
    assert text_of(*pages).split() == body.split()


def test_a_form_that_two_pages_repeat_is_not_all_taken_for_a_header():
    head = ["Harbour Ltd", "Invoice 4711", "Payment within thirty days"]
    pages, _ = report(2)
    text = text_of(*([(60, 30 + 14 * i, line) for i, line in enumerate(head)] + page for page in pages))
    assert text.count("Invoice 4711") == text.count("Payment within thirty days") == 2


@pytest.mark.parametrize(
    "line", ["Table {n}", "Figure {n}: boats in the harbour", "{n}.{n} Boats in the harbour", "Chapter on {word} and the like"]
)
def test_headings_at_the_top_of_pages_stay(line):
    pages, _ = report(8, lambda page: [line.format(n=page + 1, word=WORDS[page])])
    text = text_of(*pages)
    assert in_order(text, *(line.format(n=page + 1, word=WORDS[page]) for page in range(8)))


def test_a_single_page_loses_nothing():
    pages, body = report(1, lambda page: ["Journal of Harbours"], lambda page: ["3"])
    assert text_of(*pages).split() == ["Journal", "of", "Harbours", *body.split(), "3"]


def test_pages_that_are_all_alike_stay():
    page = column(wrapped(prose(200), 480), 60, 80)
    assert text_of(page, page, page).split() == prose(200).split() * 3


def test_the_head_of_a_table_on_every_page_stays():
    head = [(60, 60, "Name"), (200, 60, "Town"), (320, 60, "Boats"), (420, 60, "Price")]
    pages = []
    for page in range(4):
        rows = [(60, f"{WORDS[page]} {i}") for i in range(9)]
        pages.append(head + [(x, 80 + 14 * i, cell) for i, (x, cell) in enumerate(rows)])
    assert text_of(*pages).count("Name\tTown\tBoats\tPrice") == 4


# ---------------------------------------------------------------------------------------------------------------------------
# paragraphs and hyphens


def test_a_hyphen_at_the_end_of_a_line_goes():
    lines = ["the morning in the harbour was exam-", "ined by the teacher of the village and", "by a few others"]
    assert (
        text_of(column(lines, 60, 80))
        == "the morning in the harbour was examined by the teacher of the village and by a few others"
    )


@pytest.mark.parametrize(
    ("first", "second", "wanted", "elsewhere"),
    [
        ("was well-", "known to all", "well-known", "A well-known thing is well-known, said he."),
        ("was well-", "known to all", "wellknown", "Nothing else here."),
        ("it is data-", "driven by now", "data-driven", "The data were driven home."),
        ("it is trans-", "ported by now", "transported", "They were transported, and trans fats, and ported programs."),
        ("a state-of-the-", "art machine", "state-of-the-art", ""),
        ("the Anglo-", "Saxon times", "Anglo-Saxon", ""),
        ("in an n-", "way merge", "n-way", ""),
        ("see http://a.example/long-", "path for it", "http://a.example/long-path", ""),
        ("the years 1939-", "1945 of war", "1939-1945", ""),
        ("was exam\xad", "ined by all", "examined", ""),
        ("the well\xad", "known and the so\xadcalled thing", "well-known", "The well\xadknown thing."),
        ("a thing -", "this one here", "thing - this", ""),
    ],
)
def test_hyphens_stay_where_the_word_has_one(first, second, wanted, elsewhere):
    lines = [first.rjust(30), second.ljust(30, "x")]
    pieces = [(50 + 5 * (30 - len(first)), 80, first), (50, 92, second)] + [(50, 300, elsewhere)] * bool(elsewhere)
    assert len(lines[0]) == 30
    text = reading_text(Lines(**{**vars(lines_of(pieces)), "block": np.array([0, 0, 1][: len(pieces)])}))
    assert wanted in text, text


def test_paragraphs_go_on_over_columns_and_pages():
    lines = wrapped(prose(900).replace(".", ""), 230)[:100]
    pages = [column(lines[i : i + 25], 50, 80) + column(lines[i + 25 : i + 50], 300, 80) for i in range(0, len(lines), 50)]
    assert text_of(*pages) == " ".join(lines)


def test_indented_paragraphs_are_told_apart():
    paragraphs = [prose(60, seed) for seed in range(4)]
    pieces, y = [], 80
    for paragraph in paragraphs:
        for i, line in enumerate(wrapped("xxx " + paragraph, 300)):
            pieces.append((80 if i == 0 else 60, y, line.removeprefix("xxx ")))
            y += LEADING
    assert text_of(pieces) == "\n\n".join(paragraphs)


def test_items_and_references_are_told_apart():
    items = [f"{mark} {prose(40, seed)}" for seed, mark in enumerate(["1.", "2.", "(c)", "[4]", "[Kn97]"])]
    pieces, y = [], 80
    for item in items:
        for i, line in enumerate(wrapped(item, 284, hanging=16)):
            pieces.append((60 if i == 0 else 76, y, line))
            y += LEADING
    assert [line for line in text_of(pieces).split("\n") if line] == items


def test_verses_code_and_addresses_keep_their_lines():
    lines = ["The river runs", "    below the stone,", "for i in boats:", "print(i)", "12 Harbour Lane", "Village"]
    body = column(wrapped(prose(60), 400), 60, 300)
    text = text_of([*column(lines, 60, 80), *body])
    assert text.split("\n")[: len(lines)] == [line.strip() for line in lines]


def test_a_table_of_contents_keeps_its_lines():
    lines = [f"{i} {WORDS[i]} and more " + ". " * (40 - i) + str(i + 3) for i in range(12)]
    assert text_of(column(lines, 60, 80)).count("\n") == 11


def test_chinese_lines_are_joined_without_spaces():
    document = pymupdf.open()
    page = document.new_page()
    text = "今天天气很好我们一起去河边散步然后回家吃饭" * 9
    for i in range(0, len(text), 30):
        page.insert_text((60, 80 + 14 * (i // 30)), text[i : i + 30], fontname="china-s", fontsize=10)
    assert read_pdf(document.tobytes(), CFG)["text"] == text


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("aligned", ["left", "right"])
@pytest.mark.parametrize(("first", "step"), [(1, 1), (0, 1), (55, 1), (5, 5)])
def test_numbers_of_lines_go(columns, aligned, first, step):
    width = 480 // columns - 30
    texts = [prose(900 // columns, seed) for seed in range(columns)]
    pieces = []
    for i, text in enumerate(texts):
        lines = column(wrapped(text, width)[:56], 70 + 250 * i, 80)
        beside = 40 if i == 0 else 545  # the numbers of the right column are in the right margin
        numbers = [(beside, y, f"{first + i * 60 + n}") for n, (_, y, _) in enumerate(lines)]
        if step > 1:
            numbers = [(x, y, f"{n + 1}") for n, (x, y, _) in enumerate(numbers) if (n + 1) % step == 0]
        if aligned == "right":
            numbers = [(x + 20 - width_of(n), y, n) for x, y, n in numbers]
        pieces += sorted(lines + numbers, key=lambda piece: (piece[1], piece[0]))
        texts[i] = " ".join(line for _, _, line in lines)
    pieces.sort(key=lambda piece: piece[1])
    assert " ".join(text_of(pieces).split()) == " ".join(texts)


def test_numbers_of_rows_stay():
    rows = [(str(i + 1), f"{WORDS[i].title()} and a long name of a boat", f"{i * 7} euro") for i in range(20)]
    pieces = [(x, 100 + 14 * i, cell) for i, row in enumerate(rows) for x, cell in zip((50, 100, 400), row, strict=True)]
    assert text_of(pieces).split() == " ".join(" ".join(row) for row in rows).split()


@pytest.mark.parametrize("shift", [(0.3, 0), (0.8, 0.8), (0, 0)])
@pytest.mark.parametrize("order", ["line by line", "page by page"])
def test_text_drawn_twice_is_kept_once(shift, order):
    lines = column(wrapped(prose(200), 400), 60, 80)
    copies = [(x + shift[0], y + shift[1], line) for x, y, line in lines]
    pieces = lines + copies if order == "page by page" else [piece for pair in zip(lines, copies, strict=True) for piece in pair]
    assert text_of(pieces) == prose(200)


@pytest.mark.parametrize("first", ["text", "ocr"])
def test_the_result_of_an_ocr_program_under_text_goes(first):
    document = pymupdf.open()
    page = document.new_page()
    lines = column(wrapped(prose(200), 400), 60, 80)
    for kind in ("text", "ocr") if first == "text" else ("ocr", "text"):
        for x, y, line in lines:
            if kind == "ocr":
                line = line.replace("o", "0").replace("m", "rn")
                page.insert_text((x + 0.8, y + 0.8), line, fontname="helv", fontsize=0.92 * SIZE, render_mode=3)
            else:
                page.insert_text((x, y), line, fontname="tiro", fontsize=SIZE)
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(200)


@pytest.mark.parametrize(("cap", "rest"), [("T", "he river"), ("A", "lthough it"), ("I", "t was"), ("A", " river")])
def test_a_drop_cap_is_the_first_letter_of_its_paragraph(cap, rest):
    document = pymupdf.open()
    page = document.new_page()
    text = f"{rest.strip()} {prose(120)}"
    beside, left = wrapped(text, 400)[:3], 68 + pymupdf.get_text_length(cap, "tiro", 36)
    lines = column(beside, left, 80) + column(wrapped(" ".join(text.split()[len(" ".join(beside).split()) :]), 425), 65, 80 + 36)
    page.insert_text((65, 104), cap, fontname="tiro", fontsize=36)
    for x, y, line in lines:
        page.insert_text((x, y), line, fontname="tiro", fontsize=SIZE)
    assert read_pdf(document.tobytes(), CFG)["text"] == cap + " " * (rest[0] == " ") + text


def test_exponents_are_marked():
    document = pymupdf.open()
    page = document.new_page()
    pieces = [
        "about 10",
        "^6",
        " cells on 3 m",
        "^2",
        " at 2.5 x 10",
        "^-12",
        " of H",
        "_2",
        "O and 1",
        "^1",
        "/2 cups. Later",
        "^13",
    ]
    x = 60
    for piece in pieces:
        raised, piece = piece[0], piece.lstrip("^_")
        size, rise = (7, -3.5 if raised == "^" else 2) if raised in "^_" else (SIZE, 0)
        page.insert_text((x, 80 + rise), piece, fontname="tiro", fontsize=size)
        x += pymupdf.get_text_length(piece, "tiro", size)
    for i, line in enumerate(wrapped(prose(60), 400)):
        page.insert_text((60, 120 + LEADING * i), line, fontname="tiro", fontsize=SIZE)
    text = read_pdf(document.tobytes(), CFG)["text"].split("\n")[0]
    assert text == "about 10^6 cells on 3 m2 at 2.5 x 10^-12 of H2O and 1 1/2 cups. Later13"


def test_hidden_small_text_goes():
    document = pymupdf.open()
    page = document.new_page()
    for i, line in enumerate(wrapped(prose(200), 400)):
        page.insert_text((60, 80 + LEADING * i), line, fontname="tiro", fontsize=SIZE)
    page.insert_text((60, 700), "buy cheap watches " * 3, fontsize=1, color=(1, 1, 1))
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(200)


@pytest.mark.parametrize(
    "lines",
    [
        ["Please wait...", "If this message is not eventually replaced with the proper contents of the document, your PDF viewer"],
        ["Bitte warten.", "Neue Fassungen sind unter http://www.adobe.com/go/reader_download_de zu haben."],
    ],
)
def test_a_page_for_other_viewers_is_no_text(lines):
    assert read_pdf(pdf(column(lines, 60, 80)), CFG)["reason"] == "no_text"
    assert "text" in read_pdf(pdf(column(lines + wrapped(prose(500), 400), 60, 80)), CFG)


# ---------------------------------------------------------------------------------------------------------------------------
# directions


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_turned_pages_read_the_same(rotate):
    document = pymupdf.open()
    page = document.new_page(width=600, height=600)
    lines = wrapped(prose(200), 400)
    matrix = pymupdf.Matrix(rotate)
    for i, line in enumerate(lines):
        page.insert_text((100, 120 + LEADING * i), line, fontsize=SIZE, fontname="tiro", morph=(pymupdf.Point(300, 300), matrix))
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(200)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_the_rotation_of_a_page_does_not_matter(rotate):
    lines = column(wrapped(prose(200), 400), 60, 80)
    assert text_of(lines, rotate=rotate) == prose(200)


def test_stamps_at_the_margin_and_watermarks_go():
    document = pymupdf.open()
    page = document.new_page()
    for x, y, line in column(wrapped(prose(300), 400), 80, 80):
        page.insert_text((x, y), line, fontsize=SIZE, fontname="tiro")
    page.insert_text((30, 600), "arXiv:2611.01234v1 [cs.CL] 22 Nov 2026", fontsize=20, rotate=90)
    page.insert_text((150, 600), "CONFIDENTIAL", fontsize=70, morph=(pymupdf.Point(150, 600), pymupdf.Matrix(45)))
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(300)


# ---------------------------------------------------------------------------------------------------------------------------
# laws of reading_text

PIECES = st.lists(
    st.tuples(
        st.integers(0, 2),  # page
        st.integers(0, 60).map(lambda x: 10 * x),
        st.integers(0, 80).map(lambda y: 10 * y),
        st.text(string.ascii_letters + "0123456789 .,-éאب中\xad•", min_size=1, max_size=40).filter(str.strip),
    ),
    max_size=40,
)


def from_pieces(pieces):
    pieces = sorted(pieces, key=lambda piece: piece[0])
    lines = lines_of([piece[1:] for piece in pieces])
    lines.page = np.array([piece[0] for piece in pieces], np.int64)
    return lines


@settings(max_examples=150)
@given(PIECES)
def test_no_letter_of_a_page_is_lost_or_invented(pieces):
    pieces = {(x - x % 250, y): text for _, x, y, text in pieces}  # one over another may be a copy
    pieces = [(0, *place, text) for place, text in pieces.items()]
    found = Counter(c for c in reading_text(from_pieces(pieces)) if c.isalnum())
    assert found == Counter(c for piece in pieces for c in piece[3] if c.isalnum())


@settings(max_examples=100)
@given(PIECES, st.integers(-500, 500), st.integers(-500, 500))
def test_a_page_that_is_moved_reads_the_same(pieces, dx, dy):
    moved = [(page, x + 30 * dx, y + 30 * dy, text) for page, x, y, text in pieces]
    assert reading_text(from_pieces(pieces)) == reading_text(from_pieces(moved))


def test_no_lines_are_no_text():
    assert reading_text(lines_of([])) == ""


# ---------------------------------------------------------------------------------------------------------------------------
# letters

NATURAL = [
    prose(2000),
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Пусть $x_i$ и $y_j$ таковы, что $f(x) = y$. " * 40,
    "今天天气很好，我们一起去河边散步。 f(x)=g(y) " * 100,
    "تعتبر البرمجة من الأدوات القوية التي تساعد في إيجاد حلول فعالة للمشكلات. " * 60,
    "Οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. " * 60,
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. " * 60,
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Žluťoučký kůň příšerně úpěl ďábelské ódy. " * 40,
    "Wszyscy ludzie rodzą się wolni i równi w swojej godności i w swoich prawach. Rano poszli nad rzekę, potem wrócili do domu na "
    "obiad i rozmawiali o tym, co robić dalej, kiedy nadejdzie zima. " * 30,
    "\n".join("\t".join(f"{i * j % 977}.{j}" for j in range(9)) for i in range(300)),
    "Let ∑ᵢ αᵢ xᵢ ≤ β, ∀ x ∈ ℝⁿ; then ∫ f(x) dx = lim ∑ f(xᵢ) Δxᵢ → 0. We write 𝑓 ∘ 𝑔 for it. " * 60,
    (ROOT / "data_engine" / "text" / "pdf_layout.py").read_text(),
]


def shifted(text):
    """Text of a font without a Unicode map: the numbers of its glyphs, ASCII less 29, are taken for characters."""
    return "".join(chr(ord(c) - 29) if "!" <= c <= "~" else c for c in text)


def permuted(text, seed):
    letters = list(string.ascii_lowercase)
    random.Random(seed).shuffle(letters)
    return text.lower().translate(str.maketrans(string.ascii_lowercase, "".join(letters)))


GARBAGE = [
    "".join(chr(0xE000 + ord(c)) for c in prose(500)),
    "�" * 300 + prose(20),
    shifted(NATURAL[0].lower()),
    NATURAL[1].encode("cp1251", "replace").decode("cp1252", "replace"),
    NATURAL[4].encode("cp1253", "replace").decode("latin-1"),
]


@pytest.mark.parametrize("text", NATURAL)
def test_text_is_no_garbage(text):
    assert garbled(text) == "" and garbled(text.upper()) == ""


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_recognised(text):
    assert garbled(text)


def test_letters_in_another_order_are_garbage():
    """About one order in 200 looks plausible."""
    assert sum(bool(garbled(permuted(NATURAL[-1], seed))) for seed in range(40)) >= 38


@pytest.mark.parametrize("text", ["", " ", "7", "x", "\ue000", "\ud800"])
def test_little_text_does_not_upset_it(text):
    assert isinstance(garbled(text), str)


def test_a_font_without_a_unicode_map_is_garbled():
    document = pymupdf.open()
    page = document.new_page()
    writer = pymupdf.TextWriter(page.rect)
    for i, line in enumerate(wrapped(prose(200), 400)):
        writer.append((60, 80 + LEADING * i), line, font=pymupdf.Font("cjk"), fontsize=SIZE)
    writer.write_text(page)
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(200)
    for font, *_ in page.get_fonts():
        document.xref_set_key(font, "ToUnicode", "null")
    answer = read_pdf(document.tobytes(), CFG)
    assert answer == {"reason": "garbled", "detail": "100% of the characters have no Unicode"}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("eﬃcient ﬁle ﬂow \ufb05", "efficient file flow st"),
        ("\ufee3\ufeae\ufea3\ufe92\ufe8e", "مرحبا"),
        ("L´aszl´o ¨uber na¨ıve pi˜nata Dvoˇr´ak", "László über naïve piñata Dvořák"),
        ("don´t 5´ ˆp", "don´t 5´ ˆp"),
        ("\uf0b7 item \uf0b7\n\uf0a7 two", "• item •\n• two"),
        ("a\ue123b\ufffdc\U000f0001", "abc"),
        ("plain", "plain"),
    ],
)
def test_plain_letters(found, wanted):
    assert plain_letters(found) == wanted


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("e\x0ecient, \x0crst \x0bat \x0dow \x0cle, o\x0ber, ba\x0fe", "efficient, first ffat flow file, offer, baffle"),
        ("e\x1ecient, \x1crst, o\x1ber", "efficient, first, offer"),
        ("1 \x0c 2", "1 \x0c 2"),
    ],
)
def test_ligatures_of_drawn_fonts(found, wanted):
    assert drawn_ligatures(found) == wanted


HINDI = (  # as the fonts Kruti Dev and DevLys spell it
    "Hkkjr ljdkj ds x`g ea=ky; us jkT; ds lHkh vf/kdkfj;ksa dh lwpuk ds fy, fuEufyf[kr vkns'k tkjh fd;k gSA fu/kkZfjr izi= esa "
    "vkosnu lwpuk esa nh xbZ vafre frfFk ls igys ftyk dk;kZy; esa tek djuk gksxk vkSj foHkkx ds deZpkjh fu;eksa ds vuqlkj ;kstuk "
    "ds vUrxZr lgk;rk ds gdnkj gSaA"
)


@pytest.mark.parametrize("order", ["eheheh", "hhheee", "eeeeeh" * 3])
def test_the_english_part_of_a_bilingual_file_stays(order):
    parts = {"e": prose(60), "h": HINDI}
    text = "\n\n".join(parts[kind] for kind in order)
    assert without_garbage(text) == ("\n\n".join([parts["e"]] * order.count("e")), "")


@pytest.mark.parametrize("text", NATURAL)
def test_good_text_stays_whole(text):
    assert without_garbage(text) == (text, "")


def test_letters_in_a_font_of_hindi_go():
    document = pymupdf.open()
    page = document.new_page()
    for i, line in enumerate(wrapped(prose(200), 400)):
        page.insert_text((60, 80 + LEADING * i), line, fontname="tiro", fontsize=SIZE)
    page.insert_text((60, 60), "ubZ fnYyh 2024", fontname="helv", fontsize=SIZE)
    font = next(font[0] for font in page.get_fonts() if font[3] == "Helvetica")
    document.xref_set_key(font, "BaseFont", "/ABCDEF+KrutiDev010")
    assert read_pdf(document.tobytes(), CFG)["text"] == prose(200)


def visual(*words):
    """The letters of a line in MuPDF's order, with their edges: 10 points each, from the right. A "+" makes a ligature of two."""
    chars, right = [], 500
    for word in words:
        if word.isascii():  # a Latin word
            chars += [(letter, right - 10 * (len(word) - i), right - 10 * (len(word) - i) + 10) for i, letter in enumerate(word)]
            right -= 10 * len(word)
            continue
        while word:
            if word[1:2] == "+":
                chars += [(word[2], right, right), (word[0], right - 10, right)]
            else:
                chars.append((word[0], right - 10, right))
            word, right = word[3 if word[1:2] == "+" else 1 :], right - 10
    return chars


def test_ligatures_and_spaces_between_letters_from_right_to_left():
    assert logical_order(visual("ا", "ل+أ", "م", "ن")) == "الأمن"
    assert logical_order(visual("كتب", " ", "R", " ", "في")) == "كتب R في"
    chars = visual("كتب", " ", "Python", " ", "في")
    space = chars.pop(3)
    chars.insert(9, space)  # before the other end of the word
    assert logical_order(chars) == "كتب Python في"
    assert logical_order(visual("من", " ", "2024", " ", "،", "إلى")) == "من 2024 ،إلى"


@given(st.text())
def test_plain_letters_is_idempotent_and_leaves_ascii(text):
    once = plain_letters(text)
    assert plain_letters(unicodedata.normalize("NFC", once)) == unicodedata.normalize("NFC", once)
    assert plain_letters(text.encode("ascii", "ignore").decode()) == text.encode("ascii", "ignore").decode()


# ---------------------------------------------------------------------------------------------------------------------------
# the child

GOOD = pdf(column(["A page of text"] * 20, 60, 80), [(60, 80, "and another")], deflate=True)


@functools.cache
def long():
    """300 pages: about a second of work."""
    page = column(["some words in a line of a page, again and again"] * 60, 60, 80)
    return pdf(*[page] * 300, deflate=True)


def bomb():
    """A small file with a page whose text takes gigabytes once it is laid out."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((50, 50), "x")
    document.update_stream(page.get_contents()[0], b"BT /helv 11 Tf (aaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj ET\n" * 300_000)
    return document.tobytes(deflate=True)


def reasons(*files, cfg=CFG):
    return [read_pdf(file, cfg).get("reason") for file in files]


def test_every_kind_of_file_has_its_outcome():
    secret = pdf([(60, 80, "secret")], encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")
    open_to_read = pdf([(60, 80, "no secret")], encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="", owner_pw="o")
    files = [GOOD, b"%PDF-1.7 and nothing more", b"", pdf([]), secret, open_to_read, GOOD[: len(GOOD) // 2], GOOD]
    found = reasons(*files)
    assert found[:6] + found[7:] == [None, "broken", "broken", "no_text", "encrypted", None, None]
    assert found[6] in (None, "broken", "no_text")


def test_the_title_is_that_of_the_metadata():
    document = pymupdf.open()
    document.new_page().insert_text((60, 80), "text")
    assert read_pdf(document.tobytes(), CFG)["title"] is None
    document.set_metadata({"title": "Über die Häfen"})
    assert read_pdf(document.tobytes(), CFG) == {"text": "text", "title": "Über die Häfen"}


def test_a_file_that_takes_too_long_costs_one_row():
    assert reasons(GOOD, long(), GOOD, cfg=ExtractConfig(pdf_seconds=0.2)) == [None, "timeout", None]
    assert reasons(long()) == [None]


def test_a_file_that_takes_too_much_memory_costs_one_row():
    assert reasons(GOOD, bomb(), GOOD, cfg=ExtractConfig(pdf_megabytes=230)) == [None, "too_large", None]


def test_a_child_that_was_killed_costs_nothing():
    read_pdf(GOOD, CFG)
    pdf_text._child.process.kill()
    assert reasons(GOOD) == [None]


@pytest.fixture
def dying_child(monkeypatch, tmp_path):
    """The child, but a file with MARK in it makes it run this first."""

    def start(mark, action):
        folder = tmp_path / "data_engine" / "text"
        folder.mkdir(parents=True)
        for name in ("pdf_child", "pdf_layout", "pdf_letters"):
            source = (ROOT / "data_engine" / "text" / f"{name}.py").read_text()
            if name == "pdf_child":
                source = source.replace("def read(data):\n", f"def read(data):\n    if {mark!r} in data:\n        {action}\n")
            (folder / f"{name}.py").write_text(source)
        (folder / "__init__.py").touch()
        (folder.parent / "__init__.py").touch()
        monkeypatch.setattr(pdf_text, "__file__", str(folder / "pdf_text.py"))
        pdf_text.close_child()

    yield start
    pdf_text.close_child()


def test_a_file_that_kills_its_child_costs_one_row(dying_child):
    dying_child(b"CRASH", "os.kill(os.getpid(), data[-1])")
    signals = [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT]
    good, *died, again = [read_pdf(file, CFG) for file in (GOOD, *(b"%PDF CRASH" + bytes([s]) for s in signals), GOOD)]
    assert died == [{"reason": "broken", "detail": f"the parser died: signal {s:d}"} for s in signals]
    assert good == again and "text" in good


def test_a_child_killed_in_the_middle_of_a_file_is_asked_again(dying_child, tmp_path):
    flag = str(tmp_path / "done")
    once = f"if not os.path.exists({flag!r}): open({flag!r}, 'w').close(), os.kill(os.getpid(), 9)"
    dying_child(b"%PDF-1.7", once)
    assert reasons(b"something else", GOOD) == ["broken", None]
    assert (tmp_path / "done").exists()


def test_a_hanging_child_is_killed(dying_child, monkeypatch):
    timer, seconds = threading.Timer, iter([0.5])
    monkeypatch.setattr(pdf_text.threading, "Timer", lambda usual, kill: timer(next(seconds, usual), kill))
    dying_child(b"HANG", "__import__('time').sleep(600)")
    assert reasons(b"%PDF HANG", GOOD) == ["timeout", None]


def test_one_child_serves_all_files_and_is_reaped():
    read_pdf(GOOD, CFG)
    process = pdf_text._child.process
    assert reasons(GOOD, b"broken", GOOD) == [None, "broken", None]
    assert pdf_text._child.process is process and process.poll() is None
    pdf_text.close_child()
    assert process.returncode == -signal.SIGKILL and not Path(f"/proc/{process.pid}").exists()


PARENT = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from data_engine.text import pdf_text
child = pdf_text._pdf_child(1024)
child.ask(b"", 60)
print(child.process.pid, flush=True)
data = open(sys.argv[2], "rb").read()
while sys.argv[3] == "busy":
    child.ask(data, 60)
time.sleep(600)
"""


def stat(pid):
    """State and CPU ticks of a process; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[11])


def wait_for(event, seconds=60):
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, f"not after {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("doing", ["idle", "busy"])
def test_the_child_dies_with_its_killed_parent(tmp_path, doing):
    (tmp_path / "long.pdf").write_bytes(long())
    command = [sys.executable, "-c", PARENT, str(ROOT), str(tmp_path / "long.pdf"), doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        before = stat(child)[1]
        if doing == "busy":
            wait_for(lambda: stat(child)[1] > before)
        parent.kill()
    wait_for(lambda: (stat(child) or "Z")[0] == "Z")  # gone, or waiting for the reaper of orphans


# ---------------------------------------------------------------------------------------------------------------------------
# real files; what is wanted was written from pictures of the pages


class Page(NamedTuple):
    file: str
    passages: str  # must be in the text in this order; " | " between them
    absent: str
    present: str


PAGES = [
    Page(
        "papers_we_love/distributed_systems__how-the-hidden-hand-shapes-the-market-for-software-reliability.pdf",
        "focus on the latter | Transactions were a response | Users rejected the | B. Reliable multicast | "
        "group computing model | moderate success in the harsh | Virtual synchrony has a sibling",
        "Submission to: 1st",
        "deliver a copy of the update | high levels of concurrency for reasons",
    ),
    Page(
        "papers_we_love/languages-theory__liquid_types.pdf",
        "Liquid Types | Abstract | 1. Introduction | strong static typing for free | The utility of these | "
        "In an exciting development | We present Logically | type checking and inference are decidable",
        "",
        "productivity and software reliability | elimination of expensive | previously annotated | Hindley-Milner type inference",
    ),
    Page(
        "mineru_demo/demo__pdfs__demo3.pdf",
        "Abstract | Understanding tables is | 1 Introduction | Recently, semi-structured | In a nutshell | "
        "Of all song lengths | Figure 1: Examples | tables or rows into word sequences",
        "arXiv:2203",
        "Screwed Up\t5:02 | Spain\t1\t2\t0 | Existing models for table | text encoding architecture",
    ),
    Page(
        "ybisk_nlp/papers__2012-CIKM.pdf",
        "1. Inducing document | 2. Selecting document | 3. Analysis at Web | The remainder of this | "
        "2. RELATED WORK | Open Directory Project | NCRP is a recursive | The nested version | "
        "In network-only data | http://www.dmoz.org",
        "",
        "In other words, given a document graph | community discovery is the process of finding",
    ),
    Page(
        "debian_docs/debian-reference.en.pdf",
        "1.2.7 Links | There are two methods | Hard link | Symbolic link or symlink | $ umask 002\n | $ ls -li foo\n"
        " | The hardlink can be | Caution | It is generally a good idea | Note",
        "13 / 233 | 200 / 233 | Debian Reference\n\n1.2.7",
        "with the effective access permissions dictated by",
    ),
    Page(
        "papers_we_love/operating_systems__jails-confining-the-omnipotent-root..pdf",
        "permitting local policy | 2. Traditional UNIX Security | The traditional UNIX access | "
        "In the case of discretionary | For the purposes of determining | Many limitations to this | "
        "The BSD family",
        "",
        "how discretionary access control | for the administrator, and far more | securelevel’’ mechanism",
    ),
    Page(
        "grobid_test/grobid-core__src__test__resources__test__ZFN-A-054-0304-0272.pdf",
        "Exact Solitary-wave | We perform a computerized | We find the conditions | is defined by | "
        "Thus, computerized symbolic | Lastly we present figures | Acknowledgement | This work was supported",
        "\nNotes",
        "generalized fifth-order shallow water-wave | obtain a new family of exact",
    ),
    Page(
        "pdfjs/test__pdfs__tracemonkey_a11y.pdf",
        "Trace-based | Abstract | Dynamic languages such as | 1. Introduction | Permission to make | "
        "is used for the application | We present a trace-based | Unlike method-based | Each compiled trace",
        "",
        "compilation technique for | expressive, accessible to non-experts",
    ),
    Page(
        "pdfjs/test__pdfs__issue1350.pdf",
        "Instructions | Write your name and full | Present valid | Instructions for merchant | Details | "
        "Limit 1 voucher per person | Cannot be combined | For Packages 2 and 3 | Before redeeming this voucher",
        "",
        "to reserve classes or challenge course time",
    ),
    Page(
        "debian_docs/fhs-3.0.en.pdf",
        "profile\tSystemwide | protocols\tIP protocol | 3.7.4. /etc/opt | Host-specific configuration | "
        "3.7.4.2. Requirements | Rationale | 3.7.5. /etc/X11 | 3.7.5.1. Purpose | 3.7.5.2. Specific Options",
        "The Root Filesystem\n\nFile\tDescription",
        "must be installed within the directory /etc/opt",
    ),
]


@pytest.fixture(scope="module")
def real_files():
    """The files of the labelled cases and of PAGES: name -> bytes; and the cases."""
    cases, files = SHARED / "cases.tar.xz", SHARED / "corpus" / "pdf.tar.xz"
    if not cases.exists() or not files.exists():
        pytest.skip(f"the labelled cases are not in {SHARED} (or $PHOENIX_SHARED)")
    with tarfile.open(cases) as archive:
        index = [json.loads(line) for line in archive.extractfile(next(m for m in archive if m.name.endswith("pdf.jsonl")))]
    names = {case["id"] for case in index} | {page.file for page in PAGES}
    contents = {}
    with tarfile.open(files) as archive:
        for member in archive:
            name = member.name.removeprefix("./").removeprefix("pdf/")
            if name in names:
                contents[name] = archive.extractfile(member).read()
                if len(contents) == len(names):
                    break
    assert contents.keys() == names
    return contents, {case["id"]: case for case in index}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.file.partition("/")[2][:30])
def test_real_pages_read_as_people_read_them(real_files, page):
    text = read_pdf(real_files[0][page.file], CFG)["text"]
    passages = page.passages.split(" | ")
    assert passages[0] in text and in_order(text[text.index(passages[0]) :], *passages)
    assert [passage for passage in filter(None, page.absent.split(" | ")) if passage in text] == []
    assert [passage for passage in page.present.split(" | ") if passage not in text] == []


def test_awkward_files_have_the_right_outcome(real_files):
    contents, cases = real_files
    awkward = {name: case for name, case in cases.items() if "expect" in case}
    assert len(awkward) == 43
    for name, case in awkward.items():
        answer = read_pdf(contents[name], CFG)
        assert answer.get("reason", "text") in case["expect"], name
        if "text" in answer:
            assert 2 * sum(c.isalnum() for c in answer["text"]) >= case.get("letters", 1), name


WORD_OR_CJK = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)


def word_f1(wanted, found):
    wanted, found = (Counter(WORD_OR_CJK.findall(unicodedata.normalize("NFKC", text).lower())) for text in (wanted, found))
    return 2 * sum((wanted & found).values()) / (sum(wanted.values()) + sum(found.values()))


@pytest.mark.parametrize(("source", "floor"), [("debian_docs", 0.988), ("docling", 0.965)])
def test_words_of_manuals_and_mixed_pages(real_files, source, floor):
    """PyMuPDF's plain text: 0.982 and 0.931; that of pypdfium2: 0.982 and 0.943."""
    contents, cases = real_files
    scores = [
        word_f1(case["truth"], read_pdf(contents[name], CFG)["text"]) for name, case in cases.items() if case["set"] == source
    ]
    assert len(scores) > 5 and sum(scores) / len(scores) >= floor
