"""Archives are streams under limits: every member is a record or a ledger row, none becomes a path, none becomes too much."""

import bz2
import functools
import gzip
import io
import json
import lzma
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.download import Local
from data_engine.sources import archives, readers
from data_engine.sources.archives import Bomb, Limits, decompressed
from data_engine.sources.fetch import FetchError
from data_engine.sources.readers import read_file
from data_engine.sources.source import Chunk
from tests.data_engine.sources.test_download import lines, read
from tests.servers.cluster import BUCKET

PARQUET = io.BytesIO()
pq.write_table(pa.table({"text": ["in parquet"]}), PARQUET)
MEMBERS = {
    "a.txt": b"plain",
    "deep/er/b.html": b"<p>page",
    "c.jsonl": lines({"text": "one"}, {"text": "two"}),
    "c.jsonl.gz": gzip.compress(lines({"text": "three"})),
    "table.parquet": PARQUET.getvalue(),
    "empty.txt": b"",
    "image.png": b"\x89PNG",
    "../../escape.txt": b"a name that would climb",
    "/absolute.txt": b"a name from the root",
}
KEPT = {
    **{"a.txt": b"plain", "deep/er/b.html": b"<p>page", "c.jsonl#0": b"one", "c.jsonl#1": b"two", "c.jsonl.gz#0": b"three"},
    **{
        "table.parquet#0": b"in parquet",
        "../../escape.txt": MEMBERS["../../escape.txt"],
        "/absolute.txt": MEMBERS["/absolute.txt"],
    },
}


def make_zip(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def make_tar(members, extra=()):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for header in extra:
            archive.addfile(header)
    return file.getvalue()


def lz4(data):
    return pa.Codec("lz4").compress(data, asbytes=True)


def zst(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


FORMS = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda m: gzip.compress(make_tar(m)),
    "a.tgz": lambda m: gzip.compress(make_tar(m)),
    "a.tar.xz": lambda m: lzma.compress(make_tar(m)),
    "a.tar.bz2": lambda m: bz2.compress(make_tar(m)),
    "a.tar.zst": lambda m: zst(make_tar(m)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_member_is_a_record_or_in_the_ledger(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(FORMS[name](MEMBERS))
    kept, lost = read(Local("s", str(tmp_path / "in")))
    assert {r["uri"].removeprefix(f"{name}!/"): r["content"] for r in kept} == KEPT
    assert {r["uri"]: r["reason"] for r in lost} == {f"{name}!/empty.txt": "empty", f"{name}!/image.png": "unknown_type"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["in", name]), "nothing was unpacked onto the disk"


def test_archives_in_archives_are_read_to_a_depth(tmp_path):
    data = make_zip({"x.txt": b"x"})
    for i in range(4):
        data = make_tar({f"{i}.zip" if i == 0 else f"{i}.tar": data, f"{i}.txt": b"y"})
    (tmp_path / "a.tar").write_bytes(data)
    kept, lost = read(Local("s", str(tmp_path)))
    assert sorted(r["uri"].rpartition("/")[2] for r in kept) == ["1.txt", "2.txt", "3.txt"]
    assert [r["reason"] for r in lost] == ["quarantined"] and "an archive in 3 others" in lost[0]["detail"]
    (tmp_path / "a.tar").write_bytes(make_tar({"in.zip": make_zip({"x.txt": b"x"})}))
    assert [r["uri"] for r in read(Local("s", str(tmp_path)))[0]] == ["a.tar!/in.zip!/x.txt"]


def test_links_devices_and_locked_members_are_ledger_rows(tmp_path):
    extra = []
    for name, kind in (
        ("link.txt", tarfile.SYMTYPE),
        ("hard.txt", tarfile.LNKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("folder", tarfile.DIRTYPE),
    ):
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, "/etc/passwd"
        extra.append(header)
    (tmp_path / "a.tar").write_bytes(make_tar({"a.txt": b"a"}, extra))
    locked = bytearray(make_zip({"secret.txt": b"secret"}))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.find(mark) + at] |= 1
    (tmp_path / "b.zip").write_bytes(locked)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["uri"] for r in kept] == ["a.tar!/a.txt"]
    wanted = {**{f"a.tar!/{n}": "unreadable" for n in ("link.txt", "hard.txt", "pipe")}, "b.zip!/secret.txt": "encrypted"}
    assert {r["uri"]: r["reason"] for r in lost} == wanted


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)


ZEROS = bytes(6 << 20)  # six times what `strict` allows


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl.gz", gzip.compress(lines({"text": "before"}) + ZEROS)),
        ("a.jsonl.xz", lzma.compress(lines({"text": "before"}) + ZEROS)),
        ("a.jsonl.zst", zst(lines({"text": "before"}) + ZEROS)),
        ("a.zip", make_zip({"z.txt": ZEROS})),
        ("a.tar.gz", gzip.compress(make_tar({"a.txt": b"before", "z.jsonl": ZEROS}))),
        ("a.tar", make_tar({"z.jsonl.gz": gzip.compress(ZEROS)})),
        ("deep.zip", make_zip({"a.zip": make_zip({"z.txt": ZEROS})})),
        ("many.zip", make_zip({f"{i}.txt": b"x" for i in range(60)})),
        ("many.tar", make_tar({f"{i}.txt": b"%d" % i for i in range(60)})),
    ],
)
def test_a_bomb_is_quarantined(tmp_path, strict, name, data):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "z_after.txt").write_bytes(b"after")
    kept, lost = read(Local("s", str(tmp_path)))
    assert [(r["uri"], r["reason"]) for r in lost if r["reason"] != "bad_json"] == [(name, "quarantined")]
    assert "z_after.txt" in {r["uri"] for r in kept}, "the files behind it are read"


def test_a_parquet_file_that_counts_one_text_many_times_is_quarantined(tmp_path, strict, monkeypatch):
    """A few hundred bytes whose one text stands in 4,096 rows: it is cut where the limit is, and never held as a whole."""
    monkeypatch.setattr(readers, "CHUNK", 100_000)
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 4096, pa.int32()), pa.array(["y" * 40_000])).cast(pa.string())
    tables = {"a": {"text": values}, "b": {"title": values}, "c": {"metadata": pa.StructArray.from_arrays([values], ["x"])}}
    for name, columns in tables.items():
        pq.write_table(pa.table({"text": ["t"] * 4096} | columns), tmp_path / f"{name}.parquet", compression="zstd")
    kept, lost = read(Local("s", str(tmp_path)))
    assert {r["uri"]: r["reason"] for r in lost} == {f"{name}.parquet": "quarantined" for name in "abc"}
    counts = Counter(r["uri"].partition("#")[0] for r in kept)
    assert all(20 <= counts[f"{name}.parquet"] <= 30 for name in "abc"), "what came before the limit is kept"


def test_a_zip_that_counts_one_piece_many_times_is_quarantined(tmp_path, strict):
    """Entries of the directory that overlap: a few KB that would become gigabytes without one layer of it looking odd."""
    whole = make_zip({"a.txt": bytes(900_000)})
    start = whole.find(b"PK\1\2")
    entry, end = whole[start : whole.find(b"PK\5\6")], bytearray(whole[whole.find(b"PK\5\6") :])
    struct.pack_into("<HHL", end, 8, 40, 40, 40 * len(entry))
    (tmp_path / "a.zip").write_bytes(whole[:start] + entry * 40 + end)
    kept, lost = read(Local("s", str(tmp_path)))
    assert not kept and [r["reason"] for r in lost] == ["quarantined"]


def test_a_directory_or_header_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 1000)
    (tmp_path / "a.zip").write_bytes(make_zip({f"{i}.txt": b"x" for i in range(60)}))
    long = io.BytesIO()
    with tarfile.open(fileobj=long, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("a.txt")
        header.pax_headers = {"comment": "x" * (2 << 20)}
        archive.addfile(header, io.BytesIO(b""))
    (tmp_path / "b.tar").write_bytes(long.getvalue())
    kept, lost = read(Local("s", str(tmp_path)))
    assert not kept and {r["uri"]: r["reason"] for r in lost} == {"a.zip": "quarantined", "b.tar": "broken"}


@pytest.mark.parametrize("name", FORMS)
def test_damage_costs_what_is_damaged(tmp_path, name):
    """Cut short, or a byte changed anywhere: no exception, whole members stay, the rest is in the ledger."""
    texts = {f"{i}.txt": random.Random(i).randbytes(300).hex().encode() for i in range(20)}
    data, chance = FORMS[name](texts), random.Random(5)
    for trial in range(12):
        bad = bytearray(data)
        if trial < 5:
            del bad[chance.randrange(len(bad)) :]
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        (tmp_path / name).write_bytes(bad)
        kept, lost = read(Local("s", str(tmp_path)))
        sound = sum(r["content"] == texts.get(r["uri"].rpartition("/")[2]) for r in kept)
        assert sound <= 20 and (sound == 20 or lost or len(kept) > sound or name == "a.tar"), (trial, len(kept), lost)


def altered(data, *changes):
    """The bytes with (mark, offset from its first place, new bytes) put in."""
    data = bytearray(data)
    for mark, offset, new in changes:
        at = data.find(mark) + offset
        data[at : at + len(new)] = new
    return bytes(data)


def test_a_zip_that_breaks_the_rules_of_its_format_is_one_row(tmp_path):
    good, end = make_zip({"a.txt": b"a" * 50, "caf\u00e9.txt": b"b"}), b"PK\5\6"
    bad = {
        "name.zip": good.replace("é".encode(), b"\xe9\xe9"),  # no UTF-8 in a name that says to be
        "version.zip": altered(good, (b"PK\1\2", 6, b"\x63")),
        "method.zip": altered(good, (b"PK\1\2", 10, b"\x63"), (b"PK\3\4", 8, b"\x63")),
        "offset.zip": altered(good, (end, 12, b"\xff\xff\xff\x0f")),
        "place.zip": altered(good, (b"PK\1\2", 42, b"\xff\xff\xff\x7f")),
        "extra.zip": altered(good, (b"PK\1\2", 28, b"\x05\0\x09")),
    }
    for name, data in bad.items():
        assert data != good
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.zip").write_bytes(good)
    kept, lost = read(Local("s", str(tmp_path)))
    assert {r["uri"] for r in kept} >= {"good.zip!/a.txt", "good.zip!/café.txt"}
    assert {r["reason"] for r in lost} == {"broken"}
    assert Counter(r["uri"].partition("!")[0] for r in lost) == Counter(list(bad))


def test_a_mutated_zip_raises_nothing():
    good, chance = make_zip({"a.txt": b"hello" * 100, "d/\u00fc.jsonl": b'{"text":"x"}\n' * 9}), random.Random(3)
    source = Local("s", "/nowhere")
    for _ in range(1500):
        bad = bytearray(good)
        for _ in range(chance.choice((1, 2, 4))):
            bad[chance.randrange(len(bad))] = chance.choice((0, 255, chance.randrange(256)))
        chunk = Chunk("s")
        assert sum(len(k) + len(d) for k, d in read_file(source, io.BytesIO(bad), len(bad), "a.zip", "a.zip", chunk)) >= 0
        assert chunk.records or chunk.lost, bad


def test_the_rest_of_a_compressed_file_behind_its_first_stream_is_read(tmp_path):
    two = [lines({"text": "one"}), lines({"text": "two"})]
    packers = {"gz": gzip.compress, "xz": lambda d: lzma.compress(d) + bytes(8), "bz2": bz2.compress, "zst": zst}
    for kind, pack in packers.items():
        (tmp_path / f"a.jsonl.{kind}").write_bytes(b"".join(map(pack, two)))
    kept, lost = read(Local("s", str(tmp_path)))
    assert not lost and Counter(r["content"] for r in kept) == {b"one": 4, b"two": 4}


PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zst, "lz4": lz4}


CHANCE = random.Random(1)
TEXTS = [CHANCE.randbytes(30).hex() for _ in range(9_000)]


@functools.cache
def packed_texts(kind):
    return PACKERS[kind](lines(*({"text": text} for text in TEXTS)))


HARMS = [(kind, harm) for kind in PACKERS for harm in ("garbage behind it", "cut short")]
HARMS += [(kind, "a byte changed") for kind in ("gz", "xz", "bz2")]  # the others hold no checksum


@pytest.mark.parametrize(("kind", "harm"), HARMS)
def test_records_before_damage_are_kept(tmp_path, kind, harm):
    texts, packed = TEXTS, bytearray(packed_texts(kind))
    if harm == "garbage behind it":
        packed += b"garbage" * 9
        least = len(texts) - 60 * (kind in ("zst", "lz4"))  # their library keeps up to 4 kB to itself
    elif harm == "cut short":
        del packed[-9:]
        least = len(texts) - 900_000 // 76 if kind == "bz2" else len(texts) - 1_500  # bz2 packs 900 kB in one piece
    else:
        packed[len(packed) * 3 // 4] ^= 0x55
        least = 0 if kind == "bz2" else 5_000
    (tmp_path / f"a.jsonl.{kind}").write_bytes(packed)
    kept, lost = read(Local("s", str(tmp_path)))
    assert len(kept) >= least and [r["content"].decode() for r in kept[:least]] == texts[:least]
    assert "broken" in {r["reason"] for r in lost}


def test_of_gzip_every_byte_before_the_damage_comes_out():
    whole = random.Random(1).randbytes(60_000).hex().encode()
    packed = bytearray(gzip.compress(whole))
    packed[-6] ^= 1  # in the checksum, which is read together with the last of the data
    out, stream = b"", decompressed(io.BytesIO(packed), "gzip", Limits(len(packed)))
    with pytest.raises(OSError, match="error: Error -3"):
        while block := stream.read(50_000):
            out += block
    slow, wanted = zlib.decompressobj(31), b""
    with pytest.raises(zlib.error):
        for byte in packed:
            wanted += slow.decompress(bytes([byte]))
    assert out == wanted == whole


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_zeros_behind_a_stream_are_no_damage(tmp_path, kind):
    (tmp_path / f"a.txt.{kind}").write_bytes(PACKERS[kind](b"a book" * 50_000) + bytes(70_000))
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"a book" * 50_000] and not lost


def test_a_text_larger_than_a_block_comes_whole_from_every_packing(tmp_path):
    text = random.Random(1).randbytes(300_000).hex().encode()
    for kind, pack in PACKERS.items():
        (tmp_path / f"a.txt.{kind}").write_bytes(pack(text))
    kept, lost = read(Local("s", str(tmp_path)))
    assert not lost and [r["content"] == text for r in kept] == [True] * len(PACKERS)


def test_xz_takes_bounded_memory():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 29}]
    data = lzma.compress(b"x" * 1000, format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(OSError, match="LZMAError"):
        decompressed(io.BytesIO(data), "xz", Limits(len(data))).read(10)


@pytest.mark.parametrize("log", [28, 31])
def test_a_zstd_window_is_as_large_as_memory_allows(tmp_path, monkeypatch, log):
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    options = {zstd.CompressionParameter.window_log: log, zstd.CompressionParameter.enable_long_distance_matching: 1}
    packer = zstd.ZstdCompressor(options=options)
    data = packer.compress(lines({"text": "a text"})) + packer.flush()
    (tmp_path / "a.jsonl.zst").write_bytes(data)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"a text"] and not lost
    monkeypatch.setattr(archives, "memory", lambda: 1 << log)
    with pytest.raises(FetchError, match=f"a.jsonl.zst: its zstd window takes {1 << log:,} bytes of memory, more than half"):
        read(Local("s", str(tmp_path)))


def test_a_zstd_frame_that_is_skipped_is_no_damage(tmp_path):
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<L", 5) + b"abcde"
    (tmp_path / "a.jsonl.zst").write_bytes(skipped + zst(lines({"text": "one"})) + skipped + zst(lines({"text": "two"})) + skipped)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"one", b"two"] and not lost


def test_what_is_unpacked_counts_whatever_lies_in_what():
    limits = Limits(1)
    limits.unpack(archives.FREE_BYTES)
    with pytest.raises(Bomb, match="1 bytes become more than"):
        limits.unpack(1)


# ---------------------------------------------------------------------------------------------------------------------------
# other formats


def test_json_is_lines_or_one_array_or_one_object(tmp_path):
    files = {
        "lines.json": lines({"text": "a"}, {"text": "b"}),
        "array.json": json.dumps([{"text": "c"}, {"body": "?"}, 7], indent=1).encode(),
        "object.json": json.dumps({"text": "d", "k": {"x": 1}}, indent=2).encode(),
        "one.json": b'{"text": "e"}',
        "none.json": b"[]",
        "bom.json": b"\xef\xbb\xbf" + json.dumps([{"text": "h"}, {"text": "i"}], indent=1).encode(),
        "cut.json": b'{"text": "f"}\n{"text": "g',
        "garbage.json": b"[1, 2",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(files["lines.json"]))
    kept, lost = read(Local("s", str(tmp_path)))
    found = Counter(r["uri"].partition("#")[0] for r in kept)
    assert found == {
        "lines.json": 2,
        "array.json": 1,
        "object.json": 1,
        "one.json": 1,
        "cut.json": 1,
        "packed.json.gz": 2,
        "bom.json": 2,
    }
    reasons = sorted((r["uri"].partition("#")[0], r["reason"]) for r in lost)
    wanted = [("array.json", "no_text")] * 2 + [("cut.json", "bad_json"), ("garbage.json", "bad_json"), ("none.json", "empty")]
    wanted += [("garbage.json", "no_text")] * 2
    assert reasons == sorted(wanted)


def test_csv_rows_are_records(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,text,licence\n7,"two\nlines, quoted ""so""",CC0\n8,plain,\n')
    (tmp_path / "b.tsv").write_bytes(b"text\tn\nx, y\t1\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text\n" + b'"never closed\n' * 3))
    (tmp_path / "d.csv").write_bytes(b"title,body\na,b\n")
    kept, lost = read(Local("s", str(tmp_path), licence="MIT"))
    assert [(r["uri"], r["content"], r["licence"]) for r in kept if "c.csv" not in r["uri"]] == [
        ("7", b'two\nlines, quoted "so"', "CC0"),
        ("8", b"plain", "MIT"),
        ("b.tsv#0", b"x, y", "MIT"),
    ]
    assert [(r["uri"], r["reason"]) for r in lost if "c.csv" not in r["uri"]] == [("d.csv#0", "no_text")]


def test_a_csv_quote_that_is_never_closed_is_a_row_in_the_ledger(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'text,n\none,1\nsays "so",2\n"two,3\nthree,4\nfour,5\n')
    (tmp_path / "b.csv").write_bytes(b'text\n"the last row\nhas no end of line"')
    (tmp_path / "c.csv").write_bytes(b'"text,n\none,1\n')
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"one", b'says "so"', b"three", b"four", b"the last row\nhas no end of line"]
    assert [(r["uri"], r["reason"]) for r in lost] == [("a.csv#2", "broken"), ("c.csv", "broken")]
    assert lost[0]["detail"] == "row 3: a quote that is never closed (unexpected end of data)"


def test_an_endless_csv_cell_costs_its_first_line(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_RECORD", 1000)
    (tmp_path / "a.csv").write_bytes(b'text\nfirst\n"' + b"long\n" * 1000)
    kept, lost = read(Local("s", str(tmp_path)))
    assert [r["content"] for r in kept] == [b"first"] + [b"long"] * 999
    assert [(r["uri"], r["reason"]) for r in lost] == [("a.csv#1", "broken")]


# ---------------------------------------------------------------------------------------------------------------------------
# stores


def test_a_store_is_read_as_a_folder_is(tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    files = {
        "a.jsonl": lines({"text": "one"}),
        "deep/b.txt.gz": gzip.compress(b"two"),
        "c.parquet": PARQUET.getvalue(),
        ".h/x.txt": b"-",
    }
    files["d.zip"] = make_zip({"in.txt": b"three"})
    for name, data in files.items():
        store.pipe(f"/box/{name}", data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    def content(source):
        return sorted((r["id"], r["uri"], r["content"]) for r in read(source)[0])

    assert (
        content(Local("s", "memory://box")) == content(Local("s", str(tmp_path))) and len(content(Local("s", "memory://box"))) == 4
    )
    assert [r["uri"] for r in read(Local("s", "memory://box/deep/b.txt.gz"))[0]] == ["b.txt.gz"]
    before = {job.name: job.state for job in Local("s", "memory://box").jobs(1 << 20)}
    store.pipe("/box/a.jsonl", lines({"text": "another"}))
    assert {job.name: job.state for job in Local("s", "memory://box").jobs(1 << 20)} != before
    store.rm("/box", recursive=True)


def test_a_full_disk_is_no_damage_of_the_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    (tmp_path / "a.tar").write_bytes(make_tar({"in.zip": make_zip({"x.txt": b"x"})}))
    monkeypatch.setattr(readers.tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left"):
        read(Local("s", str(tmp_path)))


@pytest.mark.slow
def test_s3_is_read_as_a_folder_is(bucket, monkeypatch, tmp_path):
    import pyarrow.fs

    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    store, root = pyarrow.fs.FileSystem.from_uri(f"s3://{BUCKET}/inputs")
    files = {"a.jsonl": lines({"text": "one"}), "deep/c.parquet": PARQUET.getvalue(), "d.zip": make_zip({"in.txt": b"three"})}
    for name, data in files.items():
        with store.open_output_stream(f"{root}/{name}") as file:
            file.write(data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = [
        sorted((r["id"], r["uri"], r["content"]) for r in read(Local("s", p))[0]) for p in (f"s3://{BUCKET}/inputs", str(tmp_path))
    ]
    assert found[0] == found[1] and len(found[0]) == 3
    assert "secret" not in Local("s", "s3://key:secret@inputs/x?endpoint_override=secret").origin
