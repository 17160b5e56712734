import bz2
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.download import Local, PythonDocs
from data_engine.records import LEDGER, RAW, record_id
from data_engine.sources import fetch, local, readers
from data_engine.sources import source as sources
from data_engine.sources.source import Job, group
from phoenix.config import UserError
from tests.fixtures import ROOT


def read(source, partition_bytes=64 << 20):
    """All records and all ledger rows of a source, its jobs passed through JSON as the engine may do it."""
    kept, lost = [RAW.empty_table()], [LEDGER.empty_table()]
    source.check()
    for job in source.jobs(partition_bytes):
        for records, dropped in source.read(Job(job.name, tuple(json.loads(json.dumps(job.spec))), job.state)):
            assert records.schema == RAW and dropped.schema == LEDGER
            kept.append(records)
            lost.append(dropped)
    return pa.concat_tables(kept).to_pylist(), pa.concat_tables(lost).to_pylist()


def lines(*records):
    return "\n".join(json.dumps(r) for r in records).encode() + b"\n"


def test_import_is_light():
    heavy = {"ray", "torch", "transformers", "bs4", "pymupdf", "lxml", "ftfy", "huggingface_hub", "httpx2"}
    code = f"import sys, data_engine.download, data_engine.extract; print(*({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "\n"


DOCS = b"""<doc id="12" url="" title="Anarchism &amp; more">
Anarchism & more

It is.

Two lines.
</doc>

<doc id="13" url="" title="Empty">
Empty

</doc>
<doc id="14" revid="9" url="" title="T">
no title line
</doc>
"""


def test_every_record_is_kept_or_in_the_ledger(tmp_path):
    good = {"text": "a text"}
    files = {
        "a/good.txt": (b"plain", 1, {}),
        "a/good.html.gz": (gzip.compress(b"<p>page"), 1, {}),
        "a/page.HTM": (b"<p>page", 1, {}),
        "good.pdf": (b"%PDF", 1, {}),
        "good.jsonl": (b"\xef\xbb\xbf" + lines(good, good) + b"\n  \n" + lines(good), 3, {}),
        "good.jsonl.gz": (gzip.compress(lines(good, good)), 2, {}),
        "good.jsonl.zst": (pa.Codec("zstd").compress(lines(good), asbytes=True), 1, {}),
        "no_end_of_line.jsonl": (lines(good).strip(), 1, {}),
        "empty.txt": (b"", 0, {"empty": 1}),
        "empty.txt.gz": (gzip.compress(b""), 0, {"empty": 1}),
        "empty.jsonl.gz": (gzip.compress(b""), 0, {"empty": 1}),
        "zero.parquet": (b"", 0, {"empty": 1}),
        "broken.parquet": (b"PAR1 but nothing that follows", 0, {"broken_parquet": 1}),
        "half.jsonl": (lines(good, good)[:-8], 1, {"bad_json": 1}),
        "deep.jsonl": (lines(good) + b"[" * 100_000, 1, {"bad_json": 1}),
        "latin.jsonl": (lines(good) + b'{"text": "caf\xe9"}\n', 2, {}),
        "surrogate.jsonl": (b'{"text": "\\ud800"}', 1, {}),
        "no_text.jsonl": (lines(good, {"title": "x"}, {"text": None}, {"text": ["x"]}, 7), 1, {"no_text": 4}),
        "no_letter.jsonl": (lines({"text": ""}), 0, {"empty": 1}),
        "cut.jsonl.gz": (gzip.compress(lines(good))[:-8], 1, {"broken": 1}),
        "cut.txt.gz": (gzip.compress(b"half a book")[:-8], 0, {"broken": 1}),
        "no_gzip.txt.gz": (b"no gzip", 0, {"broken": 1}),
        "table.csv": (b"title,text\na,one\nb,\nc,three,more\nd,caf\xe9\n", 2, {"empty": 1, "broken": 1}),
        "names.csv": (b"title,text\n", 0, {"empty": 1}),
        "table.rtf": (b"a,b", 0, {"unknown_type": 1}),
        "README": (b"x", 0, {"unknown_type": 1}),
        "x.parquet.gz": (b"x", 0, {"unknown_type": 1}),
        "paper.tex": (b"\\section{A}", 1, {}),
        "paper.tex.gz": (gzip.compress(b"\\section{A}"), 1, {}),
        "other.xml": (b"<rss><item /></rss>", 0, {"unknown_type": 1}),
        "wiki/AA/wiki_00": (DOCS, 2, {"empty": 1}),
        "wiki/wiki_1": (DOCS, 0, {"unknown_type": 1}),
        ".hidden.txt": (b"x", 0, {}),
        ".git/x.txt": (b"x", 0, {}),
    }
    for name, (content, _, _) in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    kept, lost = read(Local("s", str(tmp_path)))
    for name, (_, records, reasons) in files.items():
        assert sum(r["uri"].partition("#")[0] == name for r in kept) == records, name
        assert Counter(r["reason"] for r in lost if r["uri"].partition("#")[0] == name) == reasons, name
    assert len(kept) + len(lost) == sum(n + sum(r.values()) for _, n, r in files.values())
    assert {r["stage"] for r in lost} == {"raw"} and all(len(r["detail"]) <= 200 for r in lost)
    kinds = {r["uri"]: r["media_type"] for r in kept if "#" not in r["uri"]}
    page, text, tex = "text/html", "text/plain", "application/x-tex"
    assert kinds == {
        **{"a/good.txt": text, "a/good.html.gz": page, "a/page.HTM": page, "good.pdf": "application/pdf"},
        **{"paper.tex": tex, "paper.tex.gz": tex},
    }
    assert all(r["id"] == record_id("s", r["uri"], r["content"]) for r in kept)


def test_a_file_that_ends_too_early_keeps_what_came_before(tmp_path):
    texts = [os.urandom(500).hex() for _ in range(4000)]
    data = lines(*({"text": text} for text in texts))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data, 1)[:-1000])
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"].decode() for r in kept] == texts[: len(kept)] and len(kept) > 2000
    assert [r["reason"] for r in lost] == ["broken"] and lost[0]["detail"].startswith(f"after line {len(kept)}, ")


def test_a_record_brings_its_uri_licence_and_meta(tmp_path):
    record = {"text": "t", "id": 7, "url": "u", "n": 1.5, "none": None, "tags": ["x"], "metadata": {"license": "CC0", "by": "me"}}
    (tmp_path / "a.jsonl").write_bytes(lines(record, {"text": "t", "licence": "MIT"}))
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "b.parquet")
    (first, second, third), lost = read(Local("s", str(tmp_path), licence="theirs"))
    assert not lost
    assert [r["licence"] for r in (first, second, third)] == ["CC0", "MIT", "CC0"]
    assert [r["uri"] for r in (first, second, third)] == ["7", "a.jsonl#1", "7"]
    assert json.loads(first["meta"]) == {"metadata.by": "me", "metadata.license": "CC0", "n": 1.5, "url": "u"}
    assert {**first, "fetched_at": 0} == {**third, "fetched_at": 0}
    assert read(Local("s", str(tmp_path), id="url"))[0][0]["uri"] == "u"
    assert read(Local("s", str(tmp_path), id=None))[0][0]["uri"] == "a.jsonl#0"


def test_wikiextractor_files(tmp_path):
    (tmp_path / "wiki_00").write_bytes(DOCS.replace(b'url=""', b'url="https://en.wikipedia.org/wiki?curid=1"', 1))
    (tmp_path / "wiki_01.bz2").write_bytes(bz2.compress(lines({"id": "7", "title": "J", "text": "json"})))
    (tmp_path / "wiki_02").write_bytes(b"stray\n" + DOCS[:60])
    (tmp_path / "wiki_03").write_bytes(DOCS.replace(b"</doc>\n", b"", 1))
    kept, lost = read(Local("s", str(tmp_path)))
    assert [(r["uri"], r["content"], json.loads(r["meta"])["title"]) for r in kept] == [
        ("https://en.wikipedia.org/wiki?curid=1", b"It is.\n\nTwo lines.", "Anarchism & more"),
        ("wiki_00#14", b"no title line", "T"),
        ("7", b"json", "J"),
        ("wiki_03#14", b"no title line", "T"),
    ]
    assert {r["media_type"] for r in kept} == {"text/plain"}
    assert [(r["uri"], r["reason"]) for r in lost] == [
        *(("wiki_00#13", "empty"), ("wiki_02#0", "broken"), ("wiki_02#12", "broken")),
        *(("wiki_03#12", "broken"), ("wiki_03#13", "empty")),
    ]


def test_an_article_of_absurd_length_costs_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_RECORD", 1000)
    long = b'<doc id="1" url="" title="A">\nA\n' + b"x" * 600 + b"\n" + b"y" * 600 + b"\n</doc>\n"
    (tmp_path / "wiki_00").write_bytes(long + long.replace(b"\ny", b"y") + DOCS)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["reason"] for r in lost] == ["too_large", "too_large", "empty"] and len(kept) == 2


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_text_of_any_kind_is_read(tmp_path, kind):
    texts = ["one", None, "", "four"] * 50
    column = pa.array(texts).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(texts).cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", row_group_size=30)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"one", b"four"] * 50
    assert [int(r["uri"].partition("#")[2]) for r in kept] == [i for i in range(200) if i % 4 in (0, 3)]
    assert Counter(r["reason"] for r in lost) == {"no_text": 50, "empty": 50}


def test_parquet_without_a_column_of_text_loses_no_row_unseen(tmp_path):
    pq.write_table(pa.table({"text": [1, 2, 3]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["x", "y"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    kept, lost = read(Local("s", str(tmp_path)))
    assert not kept and Counter(r["reason"] for r in lost) == {"no_text": 5, "empty": 1}


def test_a_damaged_row_group_keeps_those_before_it(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{i} " * 500 for i in range(100)]}), path, row_group_size=50, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(data)
    kept, lost = read(Local("s", str(path)))
    assert len(kept) == 50 and [(r["uri"], r["reason"]) for r in lost] == [("a.parquet#50", "broken_parquet")]
    assert lost[0]["detail"].startswith("rows 50 to 99 are not read: ")


class ShortReads(io.BytesIO):
    def __init__(self, data, sizes):
        super().__init__(data)
        self.sizes = sizes

    def read(self, n=-1):
        return super().read(self.sizes[self.tell() % len(self.sizes)])


@given(st.lists(st.sampled_from([b"", b"a", b"bc\r", b"d" * 11])), st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_lines_are_the_same_wherever_the_stream_is_cut(parts, sizes, ended):
    data = b"\n".join(parts) + b"\n" * ended
    wanted = [line for line in data.split(b"\n")]
    if not wanted[-1]:
        wanted.pop()
    assert list(readers._lines(ShortReads(data, sizes))) == list(enumerate(wanted))


def test_an_absurd_length_costs_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_RECORD", 1000)
    good = {"text": "x" * 900}
    (tmp_path / "a.jsonl").write_bytes(lines(good) + b"x" * 3_000_000 + b"\n" + lines(good, {"text": "y" * 1100}))
    (tmp_path / "b.txt").write_bytes(b"x" * 1001)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    pq.write_table(pa.table({"text": ["x" * 1001, "x"]}), tmp_path / "c.parquet")
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["uri"] for r in kept] == ["a.jsonl#0", "a.jsonl#2", "c.parquet#1"]
    assert {r["uri"]: r["reason"] for r in lost} == dict.fromkeys(
        ["a.jsonl#1", "a.jsonl#3", "b.txt", "bomb.txt.gz", "c.parquet#0"], "too_large"
    )


def test_chunks_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 10_000)
    monkeypatch.setattr(sources, "CHUNK", 10_000)
    texts = ["x" * 900 for _ in range(100)]
    (tmp_path / "a.jsonl").write_bytes(lines(*({"text": t} for t in texts)))
    pq.write_table(pa.table({"text": texts}), tmp_path / "b.parquet", compression="none", use_dictionary=False)
    source = Local("s", str(tmp_path))
    sizes = [sum(map(len, records["content"].to_pylist())) for job in source.jobs(1 << 20) for records, _ in source.read(job)]
    assert sum(sizes) == 180_000 and max(sizes) <= 10_900


def test_odd_files_do_not_stop_the_run(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(b"a")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "to_itself.txt").symlink_to(tmp_path / "to_itself.txt")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "wb") as file:
        file.write(b"b")
    kept, lost = read(Local("s", str(tmp_path)))
    assert sorted(r["uri"] for r in kept) == ["caf\\xe9.txt", "sub/a.txt"]
    assert {r["uri"]: r["reason"] for r in lost} == dict.fromkeys(["to_itself.txt", "dangling.txt", "pipe.txt"], "unreadable")


def test_a_file_that_may_not_be_read_is_in_the_ledger(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "b.txt").write_bytes(b"b")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "c.txt").write_bytes(b"c")
    allowed_access, allowed_list = os.access, os.listdir  # root may read everything, so that modes of files prove nothing here

    def list_folder(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return allowed_list(path)

    monkeypatch.setattr(os, "access", lambda path, mode: "b.txt" not in str(path) and allowed_access(path, mode))
    monkeypatch.setattr(os, "listdir", list_folder)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["uri"] for r in kept] == ["a.txt"]
    assert {r["uri"]: r["reason"] for r in lost} == {"b.txt": "unreadable", "locked": "unreadable"}


@pytest.mark.parametrize(
    "change", ["folder away", "file away", "right missing", "right given", "written", "a folder now", "touched"]
)
def test_what_is_not_as_it_was_listed_ends_the_run_and_costs_no_record(tmp_path, monkeypatch, change):
    """A disk that is away for seconds must not become a ledger row under the key of the file: the next run reads it."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"a")
    (folder / "b.txt").write_bytes(b"b")
    source, allowed, right = Local("s", str(folder)), os.access, []
    if change == "right given":
        monkeypatch.setattr(os, "access", lambda path, mode: bool(right) and allowed(path, mode))
    (job,) = source.jobs(1 << 20)
    right.append(True)
    if change == "folder away":
        folder.rename(tmp_path / "away")
    elif change == "file away":
        (folder / "b.txt").rename(tmp_path / "b.txt")
    elif change == "right missing":
        monkeypatch.setattr(os, "access", lambda path, mode: "b.txt" not in str(path) and allowed(path, mode))
    elif change == "written":
        (folder / "b.txt").write_bytes(b"more")
    elif change == "a folder now":
        (folder / "b.txt").unlink()
        (folder / "b.txt").mkdir()
    elif change == "touched":
        os.utime(folder / "b.txt", ns=(1, 1))
    with pytest.raises(fetch.FetchError, match=r"^source s: .\.txt: .*; when it can be read, the same command goes on$"):
        list(source.read(job))
    if change == "folder away":
        (tmp_path / "away").rename(folder)
    elif change == "file away":
        (tmp_path / "b.txt").rename(folder / "b.txt")
    elif change == "a folder now":
        (folder / "b.txt").rmdir()
        (folder / "b.txt").write_bytes(b"b")
    monkeypatch.undo()
    kept, lost = read(source)
    assert len(kept) == 2 and not lost


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_bytes(b"a")
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    assert read(Local("s", str(tmp_path / "x")))[0][0]["id"] == read(Local("s", str(tmp_path / "y")))[0][0]["id"]
    assert read(Local("s", str(tmp_path / "x" / "a.txt")))[0][0]["id"] == record_id("s", "a.txt", b"a")


def test_a_job_changes_with_its_files_and_settings_only(tmp_path):
    for i in range(300):
        (tmp_path / f"{i:04d}.txt").write_bytes(b"x" * 100)

    def jobs(**settings):
        return {job.name: job.state for job in Local("s", str(tmp_path), **settings).jobs(3000)}

    before = jobs()
    assert len(before) > 10 and jobs(share=0.5) == before
    assert jobs(text="body").keys() == before.keys() and not set(jobs(text="body").values()) & set(before.values())
    os.utime(tmp_path / "0100.txt", ns=(1, 1))
    changed = jobs()
    assert changed.keys() == before.keys() and sum(changed[name] != before[name] for name in before) == 1
    (tmp_path / "0100x.txt").write_bytes(b"x" * 100)
    assert len(set(jobs().items()) - set(changed.items())) <= 3


sizes = st.lists(st.integers(0, 120), max_size=200)


@given(sizes, st.integers(10, 300))
def test_groups_hold_every_file_once_and_are_bounded(sizes, target):
    files = [(f"file{i}", size) for i, size in enumerate(sizes)]
    groups = group(files, target)
    assert [file for g in groups for file in g] == files and all(groups)
    assert all(sum(size for _, size in g) <= target * 3 / 2 or len(g) == 1 for g in groups)


def test_an_added_file_changes_few_groups():
    files = [(f"folder/{i:05d}", 1 + i * 7919 % 100) for i in range(0, 20_000, 10)]
    before = {tuple(g) for g in group(files, 1000)}
    assert 60 < len(before) < 200
    changed = [
        len({tuple(g) for g in group(sorted([*files, (f"folder/{i:05d}", 50)]), 1000)} - before) for i in range(5, 20_000, 397)
    ]
    assert sum(changed) / len(changed) < 4 and max(changed) < 20


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (Local("s", "no/such/place"), "does not exist"),
        (Local("s", "nowhere://bucket/x"), "cannot be opened"),
        (Local("s", "memory://no/such/place"), "does not exist"),
        (Local("s", "configs"), "no .jsonl"),
        (Local("a/b", "."), "a name is"),
        (PythonDocs("p", share=1.5), "share"),
        (PythonDocs(""), "a name is"),
    ],
)
def test_a_source_that_cannot_work_is_one_sentence(source, word, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=word) as caught:
        source.check()
    assert "\n" not in str(caught.value)


def test_a_strange_column_beside_the_text_costs_no_record(tmp_path):
    """A date beyond Python's, text that is not UTF-8, two columns of one name, a column of views: the texts are all there."""
    no_utf8 = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    tables = {
        "date": pa.table({"text": ["date"], "when": pa.array([9 * 10**17], pa.timestamp("ms"))}),
        "utf8": pa.table({"text": ["utf8"], "x": no_utf8}),
        "twice": pa.Table.from_arrays([pa.array(["twice"]), pa.array([1]), pa.array([2])], names=["text", "k", "k"]),
        "view": pa.table({"text": pa.array(["view"], pa.string_view())}),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    source = Local("s", str(tmp_path))
    chunks = [chunk for job in source.jobs(1 << 20) for chunk in source.read(job)]
    assert sorted(c for kept, _ in chunks for c in kept["content"].to_pylist()) == sorted(n.encode() for n in tables)
    assert sum(len(lost) for _, lost in chunks) == 0


def test_a_file_of_blank_lines_is_one_ledger_row(tmp_path):
    (tmp_path / "blank.jsonl").write_text("\n \n\n")
    source = Local("s", str(tmp_path))
    lost = [row for job in source.jobs(1 << 20) for _, dropped in source.read(job) for row in dropped.to_pylist()]
    assert [(row["uri"], row["reason"]) for row in lost] == [("blank.jsonl", "empty")]


def test_an_empty_path_is_a_mistake():
    with pytest.raises(UserError, match="path is empty"):
        Local("s", "").check()


class Fails(io.BytesIO):
    """A file whose reads fail, `faults` of them."""

    faults = 0

    def read(self, n=-1):
        if Fails.faults:
            Fails.faults -= 1
            raise OSError(5, "Input/output error at https://key:word@host/file?Signature=abc")
        return super().read(n)


KINDS = ["a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.zip", "a.tar", "a.csv", "Posts.xml", "a.warc", "wiki_00"]


@pytest.mark.parametrize("name", KINDS)
def test_what_the_disk_refuses_to_give_is_no_damage_of_the_file(tmp_path, monkeypatch, name):
    """Reading is tried again, and the job fails where that does not help: whatever the kind, no record becomes a ledger row."""
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 0.0)
    file, packed, table = tmp_path / name, io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"text": ["one"]}), table)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in.parquet", table.getvalue())
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        header = tarfile.TarInfo("in.jsonl")
        header.size = len(lines({"text": "one"}))
        archive.addfile(header, io.BytesIO(lines({"text": "one"})))
    warc = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\none\r\n\r\n"
    data = {
        **{"a.txt": b"one", "a.jsonl": lines({"text": "one"}), "a.jsonl.gz": gzip.compress(lines({"text": "one"}))},
        **{"a.parquet": table.getvalue(), "a.zip": packed.getvalue(), "a.tar": tarred.getvalue(), "a.csv": b"text\none\n"},
        **{"Posts.xml": b'<posts><row Id="1" PostTypeId="1" Body="one"/></posts>', "a.warc": warc},
        "wiki_00": b'<doc id="1" url="" title="T">\none\n</doc>\n',
    }
    file.write_bytes(data[name])
    whole = read(Local("s", str(tmp_path)))
    assert len(whole[0]) == 1 and not whole[1]
    monkeypatch.setattr(local, "open", lambda *_: Fails(data[name]), raising=False)
    monkeypatch.setattr(Fails, "faults", 3)
    found = read(Local("s", str(tmp_path)))
    assert [r["id"] for r in found[0]] == [r["id"] for r in whole[0]] and not found[1] and not Fails.faults
    monkeypatch.setattr(Fails, "faults", fetch.QUESTION_TRIES)
    with pytest.raises(fetch.FetchError, match=f"source s: {name}: .*Input/output error at https://host/") as caught:
        read(Local("s", str(tmp_path)))
    assert "word" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_file_that_may_be_read_again_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"a")
    monkeypatch.setattr(os, "access", lambda *_: False)
    locked = [job.state for job in Local("s", str(tmp_path)).jobs(1000)]
    monkeypatch.undo()
    assert [job.state for job in Local("s", str(tmp_path)).jobs(1000)] != locked


@pytest.mark.parametrize(
    "path",
    [
        "s3://AKIAKEY:se cr/et@bucket/p",
        "s3://AKIAKEY:se%20cr@bucket:99x/p?secret_key=se%20cr&region=x",
        "s3://bucket/p?secret_key=se cr",
        "nosuch://AKIAKEY:se cr@bucket/p",
    ],
)
def test_the_keys_in_an_address_are_not_told(path):
    with pytest.raises(UserError) as caught:
        Local("s", path).check()
    assert not any(word in str(caught.value) + Local("s", path).origin for word in ("se cr", "cr/et", "se%20cr", "AKIAKEY"))
    assert "\n" not in str(caught.value)
