"""AIKosh against a platform on loopback, through the platform's own package."""

import csv
import dataclasses
import io
import logging
import uuid

import pytest

from data_engine.download import AIKosh, Local, survey
from data_engine.sources import aikosh, fetch
from data_engine.sources.fetch import DownloadSettings, FetchError
from data_engine.sources.listing import is_available
from data_engine.sources.python_docs import typeset
from phoenix.config import UserError
from tests.corpus import texts
from tests.servers.aikosh import KEY, VERSION, AIKoshServer, Questions

SET, ELSEWHERE = str(uuid.UUID(int=7)), str(uuid.UUID(int=8))


def files():
    some = texts()[:20]
    table = io.StringIO()
    csv.writer(table).writerows([("id", "text"), *enumerate(some)])
    return {
        "report.pdf": typeset(some[0].encode("ascii", "ignore").decode()),
        "tables/calls.csv": table.getvalue().encode(),
        "tables/old/a.txt": some[1].encode(),
        "tables/old/b.txt": some[2].encode(),
        "tables/old/c.txt": some[3].encode(),
        "image.png": b"\x89PNG",
    }


FILES = files()
READABLE = [path for path in FILES if not path.endswith(".png")]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 0.005)


@pytest.fixture
def platform(monkeypatch, request):
    """A server that lists sizes, unless a test's parameter says False."""
    with AIKoshServer({SET: FILES}, external={ELSEWHERE: "A portal"}, sizes=getattr(request, "param", True)) as server:
        monkeypatch.setenv("AIKOSH_API_BASE_URL", server.url)
        monkeypatch.setenv("AIKOSH_API_KEY", KEY)
        yield server


def source(tmp_path, dataset=SET, settings=None, **more):
    return AIKosh("s", dataset, downloads=DownloadSettings(str(tmp_path / "downloads"), **(settings or {})), **more)


def rows(source):
    kept, lost = [], []
    for job in source.jobs(1 << 20):
        for records, dropped in source.read(job):
            kept += records.drop_columns(["fetched_at", "revision"]).to_pylist()
            lost += dropped.to_pylist()
    return sorted(kept, key=lambda r: r["id"]), sorted(lost, key=lambda r: r["uri"])


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return rows(Local("s", str(folder), id=None, licence="Government Open Data License - India"))


SIZES = pytest.mark.parametrize(
    "platform", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["sizes listed", "no sizes"], indirect=True
)


@SIZES
def test_the_records_are_those_of_the_files_on_disk(platform, tmp_path, on_disk):
    mine = source(tmp_path)
    mine.check()
    assert rows(mine) == on_disk and [(r["uri"], r["reason"]) for r in on_disk[1]] == [("image.png", "unknown_type")]
    assert mine.taken_revision == VERSION
    assert not platform.served["image.png"]
    before = len(platform.requests)
    assert rows(mine) == on_disk and len(platform.requests) == before, "nothing is asked or fetched twice"


SCHEDULES = {
    "the platform is busy": {
        **{"metadata": ["429:0.01", "503", "html"], "listing": ["500", "429:0"]},
        "address": ["429:0.01", "502", "html"],
    },
    "the store is busy and addresses expire": {path: ["429:0.01", "503", "500", "403", "403"] for path in READABLE},
    "lines break": {path: ["reset:1000", "reset:0", "short:3", "html"] for path in READABLE},
}


@SIZES
@pytest.mark.parametrize("name", SCHEDULES)
def test_under_every_fault_the_records_are_the_same(platform, tmp_path, on_disk, name):
    faults = {path: list(faults) for path, faults in SCHEDULES[name].items()}
    platform.faults |= {path: faults.pop(path) for path in ("metadata", "listing") if path in faults}
    survey([source(tmp_path)])
    platform.faults |= faults
    assert rows(source(tmp_path)) == on_disk
    assert not any(platform.faults.values()), "a fault was never met"


@SIZES
def test_a_break_goes_on_where_it_was(platform, tmp_path, on_disk):
    survey([source(tmp_path)])
    before = platform.served["report.pdf"]
    platform.faults["report.pdf"] = ["short:1500"]
    assert rows(source(tmp_path)) == on_disk
    assert platform.served["report.pdf"] - before == len(FILES["report.pdf"])


@pytest.fixture
def nameless(monkeypatch):
    """A platform that tells no version, before a store that answers as S3 does."""
    with AIKoshServer({SET: dict(FILES)}, version={"version": "1.0"}, tags=True) as server:
        monkeypatch.setenv("AIKOSH_API_BASE_URL", server.url)
        monkeypatch.setenv("AIKOSH_API_KEY", KEY)
        yield server


def test_without_a_version_a_break_goes_on_where_it_was_while_the_etag_stays(nameless, tmp_path, on_disk):
    survey([source(tmp_path)])
    before = nameless.served["report.pdf"]
    nameless.faults["report.pdf"] = ["short:1500"] + ["500"] * 8
    with pytest.raises(FetchError, match="500"):
        rows(source(tmp_path))
    (note,) = (tmp_path / "downloads").rglob("*.etag")
    nameless.faults["report.pdf"] = ["short:100"]
    assert rows(source(tmp_path)) == on_disk, "another run goes on with the part of the last one"
    assert nameless.served["report.pdf"] - before == len(FILES["report.pdf"])
    assert not note.exists() and not source(tmp_path).taken_revision


def test_without_a_version_a_file_that_another_one_replaced_is_fetched_whole(nameless, tmp_path, on_disk):
    survey([source(tmp_path)])
    nameless.sets[SET]["report.pdf"] = FILES["report.pdf"][::-1]
    nameless.faults["report.pdf"] = ["short:1500"] + ["500"] * 8
    with pytest.raises(FetchError, match="500"):
        rows(source(tmp_path))
    nameless.sets[SET]["report.pdf"] = FILES["report.pdf"]
    assert rows(source(tmp_path)) == on_disk


def test_bytes_that_have_not_the_md5_of_the_store_are_fetched_again(nameless, tmp_path, on_disk):
    survey([source(tmp_path)])
    nameless.faults |= {path: ["wrong"] for path in READABLE}
    assert rows(source(tmp_path)) == on_disk and not any(nameless.faults.values())


MD5 = "0cc175b9c0f1b6a831c399e269772661"


@pytest.mark.parametrize(
    ("status", "headers", "found"),
    [
        (206, {"etag": f'"{MD5}"', "x-amz-request-id": "1"}, MD5),
        (200, {"etag": f'"{MD5}"', "x-amz-request-id": "1", "x-amz-server-side-encryption": "AES256"}, MD5),
        (200, {"etag": f'"{MD5}"', "x-amz-request-id": "1", "x-amz-server-side-encryption": "aws:kms"}, None),
        (200, {"etag": f'"{MD5}-4"', "x-amz-request-id": "1"}, None),
        (200, {"etag": f'"{MD5}"'}, None),
        (206, {"x-goog-hash": "crc32c=AAAAAA==,md5=DMF1ucDxtqgxw5niaXcmYQ=="}, MD5),
        (200, {"content-md5": "DMF1ucDxtqgxw5niaXcmYQ=="}, MD5),
        (206, {"content-md5": "DMF1ucDxtqgxw5niaXcmYQ=="}, None),
        (206, {"x-ms-blob-content-md5": "DMF1ucDxtqgxw5niaXcmYQ=="}, MD5),
        (200, {}, None),
    ],
)
def test_the_md5_that_an_answer_tells(status, headers, found):
    assert fetch._md5(headers, status) == found


def test_a_version_is_the_first_that_is_an_id():
    about = {"version": "1.0", "current": {"version": {"major": 1}, "inner": {"versionId": VERSION}}}
    assert aikosh._version(about) == VERSION and aikosh._version({"version": "1.0"}) is None


def test_a_size_of_0_is_one_that_is_not_known(platform, tmp_path, monkeypatch, on_disk):
    listing = Questions.listing

    def unsized(self, dataset, query):
        answer = listing(self, dataset, query)
        return answer | {"files": [entry | {"size": 0} for entry in answer["files"]]}

    monkeypatch.setattr(Questions, "listing", unsized)
    assert rows(source(tmp_path)) == on_disk


def test_a_file_that_two_pages_list_is_one(platform, tmp_path, monkeypatch, on_disk):
    listing = Questions.listing

    def twice(self, dataset, query):
        answer = listing(self, dataset, query)
        return answer | {"files": answer["files"] * 2}

    monkeypatch.setattr(Questions, "listing", twice)
    assert rows(source(tmp_path)) == on_disk


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("listing", ["a"], "AIKosh answers with something else"),
        ("metadata", "a", "AIKosh answers with something else"),
        ("listing", {"files": [{"fileName": "a.txt"}]}, "lists a file of .* without a path"),
        ("listing", {"files": ["a.txt"]}, "lists a file of .* without a path"),
    ],
)
def test_an_answer_of_another_form_is_one_sentence(platform, tmp_path, monkeypatch, name, answer, words):
    monkeypatch.setattr(Questions, name, lambda self, *_: answer)
    with pytest.raises(UserError, match=words) as caught:
        survey([source(tmp_path)])
    assert "\n" not in str(caught.value)


def test_a_platform_at_no_address_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("AIKOSH_API_BASE_URL", "http://[::1")
    with pytest.raises(UserError, match="AIKOSH_API_BASE_URL is no address"):
        source(tmp_path).check()


def test_a_file_cut_short_is_no_success_where_its_size_is_listed(tmp_path, monkeypatch):
    with AIKoshServer({SET: FILES}) as platform:
        monkeypatch.setenv("AIKOSH_API_BASE_URL", platform.url)
        monkeypatch.setenv("AIKOSH_API_KEY", KEY)
        survey([source(tmp_path)])
        platform.faults["report.pdf"] = ["other:900"] * 50
        with pytest.raises(FetchError, match=r"source s: report.pdf: the server sends a file of 900 bytes, its listing says"):
            rows(source(tmp_path))


def test_the_budget_decides_how_many_files_are_taken(tmp_path, monkeypatch):
    files = {f"{i:02d}.txt": text.encode() for i, text in enumerate(texts()[:40])}
    with AIKoshServer({SET: files | {"image.png": b"\x89PNG"}}) as platform:
        monkeypatch.setenv("AIKOSH_API_BASE_URL", platform.url)
        monkeypatch.setenv("AIKOSH_API_KEY", KEY)

        def taken(tokens):
            mine = source(tmp_path, settings={"tokens": tokens})
            return {remote.path for job in mine.jobs(1 << 20) for remote in mine.remotes(job)}

        assert len(taken(None)) == len(taken(10**9)) == 40
        first, more = taken(2_000), taken(9_000)
        assert 1 <= len(first) < len(more) < 35 and first < more
        mine = source(tmp_path, settings={"tokens": 9_000})
        assert mine.file_counts() == {"taken": len(more), "listed": 40}
        mine.record_yield(5_000)
        assert more < taken(9_000), "they were too few: the same and the next ones"
        assert [(r["uri"], r["reason"]) for r in rows(mine)[1]] == [("image.png", "unknown_type")]


def test_folders_that_stand_on_each_page_are_listed_once(platform, tmp_path, monkeypatch):
    listing = Questions.listing

    def repeated(self, dataset, query):
        return listing(self, dataset, query) | {"directories": listing(self, dataset, query | {"page": "1"})["directories"]}

    monkeypatch.setattr(Questions, "listing", repeated)
    platform.sets = {SET: FILES | {f"{i}.txt": b"x" for i in range(5)}}
    assert [path for path, _ in source(tmp_path).list_files()["files"]] == sorted(platform.sets[SET])


def test_a_set_that_lies_elsewhere_is_a_ledger_row_that_says_where(platform, tmp_path):
    kept, lost = rows(source(tmp_path, ELSEWHERE))
    assert not kept and [(r["uri"], r["reason"]) for r in lost] == [(f"aikosh:{ELSEWHERE}", "external")]
    assert "A portal" in lost[0]["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": str(uuid.UUID(int=9))}, "AIKosh has no data set"),
        ({"files": "*.zip"}, "no file '\\*.zip'"),
        ({"files": "*.csv", "text": "body"}, "calls.csv has no field 'body'; it has id, text"),
    ],
)
def test_what_is_not_there_is_one_sentence(platform, tmp_path, change, words):
    with pytest.raises(UserError, match=words) as caught:
        survey([dataclasses.replace(source(tmp_path), **change)])
    assert "\n" not in str(caught.value)


def test_a_key_that_is_missing_or_refused_is_one_sentence_without_the_key(platform, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("AIKOSH_API_KEY", "aik-wrong-key")
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError, match="refuses the key in AIKOSH_API_KEY") as caught:
        survey([source(tmp_path)])
    assert "aik-wrong-key" not in str(caught.value) + caplog.text + "".join(capfd.readouterr())
    monkeypatch.delenv("AIKOSH_API_KEY")
    with pytest.raises(UserError, match="AIKOSH_API_KEY is not set"):
        survey([source(tmp_path)])


@pytest.mark.parametrize("key", ["secr\net", "s\u00e9cret", "sec ret"])
def test_a_key_that_no_header_can_hold_is_one_sentence_without_the_key(platform, tmp_path, monkeypatch, key):
    monkeypatch.setenv("AIKOSH_API_KEY", key)
    with pytest.raises(UserError, match="AIKOSH_API_KEY holds characters that no key has") as caught:
        survey([source(tmp_path)])
    assert "cr" not in str(caught.value).replace("characters", "") and not platform.requests


@pytest.mark.parametrize("change", [{"dataset": "soil-health"}, {"version": "1.0"}])
def test_an_id_is_a_uuid(tmp_path, change):
    with pytest.raises(UserError, match="is no id"):
        dataclasses.replace(source(tmp_path), **change).check()


def test_offline_takes_what_is_here(platform, tmp_path, on_disk):
    offline = source(tmp_path, settings={"offline": True})
    with pytest.raises(UserError, match="run once without --offline"):
        survey([offline])
    survey([source(tmp_path)])
    assert not any(is_available(offline, job) for job in offline.jobs(1 << 20) if offline.remotes(job))
    assert rows(source(tmp_path)) == on_disk
    assert rows(offline)[0] == on_disk[0]
