"""Real files of every kind in ../shared/corpus: each record of them is accounted for, and the Hub gives them byte for byte."""

import bz2
import csv
import gzip
import io
import json
import tarfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import etree

from data_engine.download import HuggingFace, Local, survey
from data_engine.sources import fetch
from data_engine.sources.fetch import DownloadSettings
from data_engine.sources.readers import KINDS, kind_of
from tests.data_engine.sources.test_hub import rows
from tests.fixtures import SHARED
from tests.servers.hub import COMMIT, Hub

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "corpus").is_dir(), reason="needs the real files of ../shared/corpus, or of $PHOENIX_SHARED"),
]
SCANNED = 30 << 20  # bytes read from each archive
LARGEST = 600_000  # bytes of the largest file
EACH = 2  # files of a kind and packing from an archive


@pytest.fixture(scope="module")
def files():
    """{path: bytes}: from each archive the first files of every kind that a reader reads, and an archive of some of them."""
    found = {}
    for path in sorted((SHARED / "corpus").glob("*.tar.xz")):
        kinds = Counter()
        with tarfile.open(path, "r|xz") as archive:
            for member in archive:
                kind = kind_of(member.name)
                if member.offset > SCANNED:
                    break
                if member.isreg() and kind[0] and 0 < member.size <= LARGEST and kinds[kind] < EACH:
                    kinds[kind] += 1
                    found[member.name.removeprefix("./")] = archive.extractfile(member).read()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(found)[::9]:
            header = tarfile.TarInfo(name)
            header.size = len(found[name])
            archive.addfile(header, io.BytesIO(found[name]))
    return found | {"packed/some.tar": packed.getvalue()}


def written(files, folder):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def few(files, tmp_path_factory):
    """({path: bytes} of one file of each kind and packing, large enough for each fault; their records)."""
    some = {kind_of(path): path for path, data in files.items() if len(data) > 2_500}
    some = {path: files[path] for path in sorted(some.values())}
    return some, rows(Local("s", str(written(some, tmp_path_factory.mktemp("few"))), id=None))


def unpacked(data, packing):
    if packing in (None, "gzip", "bz2"):
        return {None: bytes, "gzip": gzip.decompress, "bz2": bz2.decompress}[packing](data)
    return pa.CompressedInputStream(pa.BufferReader(data), packing).read()


def counted(path, data):
    """Records in a file, counted without our readers."""
    kind, packing = kind_of(path)
    if kind == ".parquet":
        return pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
    if kind == ".tar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return sum(counted(member.name, archive.extractfile(member).read()) for member in archive)
    data = unpacked(data, packing)
    if kind == "wiki":
        return data.count(b"<doc id=")
    if kind in (".warc", ".wet", ".wat"):
        return sum(line.rstrip(b"\r") in (b"WARC/1.0", b"WARC/1.1") for line in data.split(b"\n"))
    if kind in (".csv", ".tsv"):
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        return sum(bool(row) for row in csv.reader(text, delimiter="\t" if kind == ".tsv" else ",")) - 1
    if kind == ".xml":
        root = etree.fromstring(data)
        if root.tag != "posts":
            return 1  # the file as a whole is refused
        questions = {row.get("Id") for row in root if row.get("PostTypeId") == "1"}
        answers = [row.get("ParentId") for row in root if row.get("PostTypeId") == "2"]
        others = len(root) - len(questions) - len(answers)
        return len(questions) + sum(parent not in questions for parent in answers) + others
    if kind == ".json" and data.lstrip()[:1] == b"[":
        return len(json.loads(data))
    if kind in (".json", ".jsonl"):
        return sum(bool(line.strip()) for line in data.split(b"\n"))
    return 1


def test_each_record_of_every_kind_is_accounted_for(files, tmp_path):
    folder = written(files, tmp_path)
    kinds = {kind_of(path)[0] for path in files}
    wanted = {*KINDS, ".parquet"} - {".rst", ".ipynb", "arxiv"}  # test_documents.py makes these
    assert kinds >= wanted, f"of some kinds there is no file: {wanted - kinds}"
    total = 0
    for path, data in files.items():
        kept, lost = rows(Local("s", str(folder / path), id=None))
        assert len(kept) + len(lost) == counted(path, data), (path, len(kept), Counter(row["reason"] for row in lost))
        total += len(kept) + len(lost)
    kept, lost = rows(Local("s", str(folder), id=None))
    assert len(kept) + len(lost) == total > 10_000 and len(kept) > 2_000
    assert not {row["reason"] for row in lost} & {"broken_parquet", "invalid_utf8", "quarantined", "unreadable"}


SCHEDULES = {
    "a busy server and broken lines": ["429:0.01", "503", "reset:2000", "short:1000", "html", "short:1"],
    "wrong bytes and ignored ranges": ["wrong", "other:100", "reset:700", "no_range"],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_hub_gives_real_files_byte_for_byte_under_every_fault(few, tmp_path, monkeypatch, name):
    files, wanted = few
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 0.002)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    with Hub({"owner/real": files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        mine = HuggingFace("s", "owner/real", COMMIT, downloads=DownloadSettings(str(tmp_path / "downloads")))
        survey([mine])
        hub.faults |= {path: list(SCHEDULES[name]) for path in files}
        found = rows(mine)
        assert not any(hub.faults.values()), "a fault was never met"
        for job in mine.jobs(1 << 20):
            for remote in mine.remotes(job):
                assert remote.file(mine.downloads).read_bytes() == files[remote.path]
    assert found[0] == wanted[0] and sorted(map(str, found[1])) == sorted(map(str, wanted[1]))
