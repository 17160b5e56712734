"""CSV, JSON and Parquet: one bad spot costs one record, and valid files of every dialect and encoding are read."""

import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.download import Local
from data_engine.sources import csv_rows, encodings, json_items, readers
from data_engine.sources.archives import Limits
from data_engine.sources.readers import read_file
from data_engine.sources.source import Chunk
from tests.data_engine.sources.test_download import read


def records(name, data, text="text"):
    """(texts, [(uri, reason)]) of a file."""
    chunk, source = Chunk("s"), Local("s", "/nowhere", text=text, id=None)
    tables = [*read_file(source, io.BytesIO(data), len(data), name, name, chunk), chunk.take()]
    kept = [row for table, _ in tables for row in table["content"].to_pylist()]
    lost = [(row["uri"], row["reason"]) for _, table in tables for row in table.to_pylist()]
    return [text.decode() for text in kept], lost


# --- CSV ---------------------------------------------------------------------------------------------------------------------

ROWS = [f'text, number {i}; "quoted" | here' for i in range(30)]


def csv_of(delimiter, quote='""', end="\n", newline=False):
    quoted = [text.replace('"', quote) + "\nnext line" * newline for text in ROWS]
    return "".join([f"id{delimiter}text{end}", *(f'{i}{delimiter}"{text}"{end}' for i, text in enumerate(quoted))])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ['""', '\\"'])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_csv_of_every_dialect_is_read(delimiter, quote, end, encoding):
    assert records("a.csv", csv_of(delimiter, quote, end).encode(encoding)) == (ROWS, [])


@pytest.mark.parametrize("quote", ['""', '\\"'])
def test_a_cell_of_several_lines_stays_one(quote):
    kept, lost = records("a.csv", csv_of(",", quote, newline=True).encode())
    assert kept == [f"{text}\nnext line" for text in ROWS] and not lost


def test_excels_line_with_the_delimiter_is_no_name():
    assert records("a.csv", ("sep=|\n" + csv_of("|")).encode()) == (ROWS, [])


def test_other_backslashes_of_a_cell_stay():
    data = b'text,n\n"C:\\dir and \\alpha say \\"so\\"",1\n"\\\\ and \\"that\\"",2\n'
    assert records("a.csv", data) == (['C:\\dir and \\alpha say "so"', '\\\\ and "that"'], [])


BAD_ROWS = {
    "a quote that is never closed": '4,"text 4\n',
    "a quote in front of a word": '4,"tex"t 4,"\n',
    "too many fields": "4,text 4,x,y\n",
    "a quote with doubled ones": '4,"te""xt 4\n',
}


@pytest.mark.parametrize("also", [None, 7])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_costs_itself(name, also):
    """Two of them, too, though the quote of the second closes that of the first."""
    lines = [f"{i},text {i}\n" for i in range(10)]
    bad = [4] + ([also] if also else [])
    for i in bad:
        lines[i] = BAD_ROWS[name].replace("4", str(i))
    kept, lost = records("a.csv", ("id,text\n" + "".join(lines)).encode())
    assert kept == [f"text {i}" for i in range(10) if i not in bad]
    assert lost == [(f"a.csv#{i}", "broken") for i in bad]


@pytest.mark.parametrize("place", ["text with\ra return", "x\r\ry"])
def test_a_carriage_return_in_a_field_is_part_of_it(place):
    data = "id,text\n" + "".join(f"{i},{place if i == 4 else 'text'}\n" for i in range(9))
    kept, lost = records("a.csv", data.encode())
    assert len(kept) == 9 and kept[4] == place and not lost


def test_a_letter_behind_a_closing_quote_is_no_loss():
    assert records("a.csv", b'id,text\n1,"one" and\n2,"two"\n3, "three"\n') == (["one and", "two", ' "three"'], [])


def test_a_text_of_many_lonely_quotes_takes_linear_time(monkeypatch):
    monkeypatch.setattr(csv_rows, "FREE_REPEATS", 1 << 20)
    for row in ('1,"a""\n', '1,"a\n', '"\n', '1,"\\\n', '"",\n', '""\n', ',"""\n'):
        began = time.process_time()
        records("a.csv", b"id,text\n" + row.encode() * 10_000)
        assert time.process_time() - began < 10, row


@given(st.lists(st.sampled_from(['"', '""', ",", ";", "\n", "\r", "\r\n", "a", "\\", "\0", "é"]), max_size=40))
def test_csv_of_any_form_raises_nothing_and_ends(pieces):
    kept, lost = records("a.csv", ("id,text\n" + "".join(pieces)).encode())
    assert kept or lost


# --- JSON --------------------------------------------------------------------------------------------------------------------

ITEMS = [{"text": f"text {i}", "n": [{"x": "}, {"}] * 3} for i in range(30)]
BAD_ITEMS = {
    "a missing comma": '{"text": "a" "n": 1}',
    "a quote too many": '{"text": "say "so"", "n": [{"x": 1}, {"x": 2}]}',
    "a missing bracket": '{"text": "a", "n": [1, 2}',
    "a missing quote": '{"text": "a, "n": 1}',
    "a word": '{"text": nothing}',
    "deeper than any": '{"text": "a", "n": ' + "[" * 5000 + "]" * 5000 + "}",
    "a number of many digits": '{"text": "a", "n": ' + "9" * 5000 + "}",
    "a bad escape": '{"text": "a\\q"}',
}


@pytest.mark.parametrize("at", [0, 10, 29])
@pytest.mark.parametrize("block", [50, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item_of_an_array_costs_itself(name, indent, block, at, monkeypatch):
    monkeypatch.setattr(encodings, "BLOCK", block)
    monkeypatch.setattr(encodings, "HEAD", 10)
    items = [json.dumps(item, indent=indent) for item in ITEMS]
    items[at] = BAD_ITEMS[name]
    kept, lost = records("a.json", ("[" + ",\n".join(items) + "]").encode())
    assert kept == [f"text {i}" for i in range(30) if i != at] and lost == [(f"a.json#{at}", "bad_json")]


def test_an_array_may_be_longer_than_a_record(monkeypatch):
    monkeypatch.setattr(encodings, "BLOCK", 1000)
    monkeypatch.setattr(encodings, "HEAD", 10)
    monkeypatch.setattr(readers, "MAX_RECORD", 2000)
    data = json.dumps([*ITEMS, {"text": "x" * 3000}, *ITEMS]).encode()
    kept, lost = records("a.json", data)
    assert len(data) > 4000 and kept == [item["text"] for item in ITEMS] * 2 and lost == [("a.json#30", "too_large")]


def test_of_an_array_that_is_cut_all_whole_items_are_read():
    whole = json.dumps(ITEMS)
    for cut in range(1, len(whole), 7):
        kept, lost = records("a.json", whole[:cut].encode())
        assert kept == [item["text"] for item in ITEMS][: len(kept)] and len(lost) == 1 and lost[0][1] == "bad_json"


FORMS = {
    "lines": "\n".join(map(json.dumps, ITEMS)),
    "objects over several lines": "\n".join(json.dumps(item, indent=2) for item in ITEMS),
    "behind each other": "".join(map(json.dumps, ITEMS)),
    "behind each other with blanks": " ".join(map(json.dumps, ITEMS)),
    "json-seq": "".join(f"\x1e{json.dumps(item)}\n" for item in ITEMS),
    "an array": json.dumps(ITEMS),
    "an array over several lines": json.dumps(ITEMS, indent=2),
    "two arrays": json.dumps(ITEMS[:10]) + "\n" + json.dumps(ITEMS[10:]),
    "carriage returns": "\r".join(map(json.dumps, ITEMS)),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", FORMS)
def test_json_of_every_form_is_read(name, encoding):
    assert records("a.json", FORMS[name].encode(encoding)) == ([item["text"] for item in ITEMS], [])


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonlines", ".NDJSON"])
@pytest.mark.parametrize("name", ["lines", "behind each other", "json-seq"])
def test_json_lines_have_several_names(name, suffix):
    kept, lost = records(f"a{suffix}", FORMS[name].encode())
    assert kept == [item["text"] for item in ITEMS] and not lost


def test_half_an_emoji_becomes_one_replacement_character(tmp_path):
    rows = ['{"text": "a \\ud83d b", "id": "\\ude00x", "title": "t\\uD83D", "metadata": {"license": "\\udc00"}}']
    rows += ['{"text": "whole \\ud83d\\ude00 \\uD83D\\uDE00"}', '{"text": "\\\\ud83d"}', '{"text": "\\ud83d\\ud83d\\ude00\\ude00"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "b.json").write_text("[" + ",".join(rows) + "]")
    kept, lost = read(Local("s", str(tmp_path)))
    wanted = ["a \ufffd b", "whole \U0001f600 \U0001f600", "\\ud83d", "\ufffd\U0001f600\ufffd"]
    assert [r["content"].decode() for r in kept] == wanted * 2 and not lost
    assert kept[0]["uri"] == "\ufffdx" and kept[0]["licence"] == "\ufffd" and json.loads(kept[0]["meta"])["title"] == "t\ufffd"


@given(
    st.lists(st.sampled_from(["[", "]", "{", "}", '"', ",", ":", "1", '"a"', "\\", " ", "\n", '{"text":"a"}', "null"]), max_size=30)
)
def test_json_of_any_form_raises_nothing_and_ends(pieces):
    for name in ("a.json", "a.jsonl"):
        kept, lost = records(name, "".join(pieces).encode() or b" ")
        assert kept or lost
    list(json_items.items(lambda: "", "[" + "".join(pieces)))


@pytest.mark.parametrize("piece", ['{"text": "a" "b"}, ', '{"a": "b"c"}, ', '{"', "[", '"', "[}, ", "{}, {", '{"a": [}, '])
def test_an_array_of_bad_items_takes_linear_time(piece):
    began = time.process_time()
    records("a.json", b"[" + piece.encode() * (60_000 // len(piece)))
    assert time.process_time() - began < 20


# --- Encodings ---------------------------------------------------------------------------------------------------------------

TOLSTOY = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "
LANGUAGES = {
    "windows-1252": "Nous étions à l’étude, quand le proviseur entra, suivi d’un garçon de classe. Ceux qui se levèrent. ",
    "windows-1250": "Dlouho žádná bouře neřádila tak strašně nad krajem. Lidé se báli vyjít z domů a čekali, až déšť přestane. ",
    **{"windows-1251": TOLSTOY, "koi8-r": TOLSTOY},
    "shift_jis": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。",
    "gb18030": "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？",
    "big5": "學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？人不知而不慍，不亦君子乎？",
    "euc-kr": "모든 행복한 가정은 서로 닮았고, 불행한 가정은 모두 저마다의 이유로 불행하다. ",
    "windows-1253": "Όλες οι ευτυχισμένες οικογένειες μοιάζουν μεταξύ τους. ",
}


@pytest.mark.parametrize("encoding", [*LANGUAGES, "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.jsonl"])
def test_text_in_any_encoding_is_read(name, encoding):
    text = LANGUAGES.get(encoding, "".join(LANGUAGES.values()))
    lines = [f"{text}{i}" for i in range(40)]
    if name == "a.csv":
        data, wanted = "text\n" + "".join(f'"{line}"\n' for line in lines), lines
    elif name == "a.jsonl":
        data, wanted = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in lines), lines
    else:
        data, wanted = "\n".join(lines), ["\n".join(lines)]
    kept, lost = records(name, data.encode(encoding))
    assert [text.removeprefix("\ufeff") for text in kept] == wanted and not lost


@pytest.mark.parametrize("stray", [b"\xe9", b"\x93", b"\xa3", b"\xff"])
def test_one_stray_byte_costs_itself(stray):
    wanted = stray.decode("windows-1252")
    text = "A sentence of plain words. " * 500
    assert records("a.txt", text.encode() + b"caf" + stray) == ([text + "caf" + wanted], [])
    long = "A naïve “sentence” of words. " * 500
    assert records("a.txt", long.encode() + b"caf" + stray) == ([long + "caf" + wanted], [])
    rows = "text\n" + f"{long}\n" * 3
    kept, lost = records("a.csv", rows.encode() + b"caf" + stray + b"\n")
    assert kept == [long] * 3 + ["caf" + wanted] and not lost


@given(st.lists(st.sampled_from([b"a", b"\n", "é".encode(), "日".encode(), "\U0001f600".encode()])), st.integers(1, 9))
def test_valid_utf8_is_the_same_wherever_the_stream_is_cut(pieces, size):
    data = b"".join(pieces)

    class Pieces(io.BytesIO):
        def read(self, n=-1):
            return super().read(size)

    stream, found = encodings.Utf8Stream(Pieces(b"x" * 5000 + data)), b""
    while block := stream.read():
        found += block
    assert found == b"x" * 5000 + data


# --- Parquet -----------------------------------------------------------------------------------------------------------------

TEXT_ENCODINGS = ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "dictionary"]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize("page", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding", TEXT_ENCODINGS)
def test_parquet_of_every_encoding_is_read(encoding, page, compression):
    texts = [f"text {i % 700}" for i in range(2000)]
    columns = {"text": texts, "url": texts, "b": [t.encode() for t in texts], "n": range(2000), "f": [i / 3 for i in range(2000)]}
    table = pa.table({**columns, "flag": [i % 3 == 0 for i in range(2000)]})
    others = {"n": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT", "flag": "RLE"}
    for beside in TEXT_ENCODINGS:  # one such column beside the text was enough
        named = {"text": encoding, "url": beside, "b": beside}
        settings = {name: e for name, e in named.items() if e != "dictionary"}
        file = io.BytesIO()
        pq.write_table(
            table, file, column_encoding=settings | others, use_dictionary=[n for n, e in named.items() if e == "dictionary"],
            data_page_version=page, compression=compression, row_group_size=600, data_page_size=2000,
        )  # fmt: skip
        assert records("a.parquet", file.getvalue()) == (texts, [])


def test_a_delta_that_repeats_one_text_many_times_is_quarantined(monkeypatch):
    monkeypatch.setattr(readers, "MAX_BATCH", 1 << 22)
    file = io.BytesIO()
    table = pa.table({"text": ["y" * 400_000] * 400})
    pq.write_table(table, file, column_encoding={"text": "DELTA_BYTE_ARRAY"}, use_dictionary=False, compression="zstd")
    kept, lost = records("a.parquet", file.getvalue())
    assert lost == [("a.parquet", "quarantined")] and len(file.getvalue()) < 100_000
    assert 100 < len(kept) <= Limits(1).bytes // 400_000


def test_a_damaged_row_group_costs_its_own_rows():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [f"{i} " * 500 for i in range(150)]}), file, row_group_size=50, compression="zstd")
    data = bytearray(file.getvalue())
    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 60] = b"\xff" * 60
    kept, lost = records("a.parquet", bytes(data))
    assert [text.split()[0] for text in kept] == [str(i) for i in range(150) if not 50 <= i < 100]
    assert lost == [("a.parquet#50", "broken_parquet")]
