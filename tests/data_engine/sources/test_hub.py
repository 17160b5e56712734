"""HuggingFace against a Hub on loopback: whatever goes wrong, the records are those of the files on disk, or there are none."""

import ast
import dataclasses
import gzip
import io
import json
import logging
import pickle
import random
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine import plan, run
from data_engine.download import HuggingFace, Local, survey
from data_engine.engine import Engine
from data_engine.mix import MixConfig
from data_engine.sources import budget, fetch, hosts
from data_engine.sources.fetch import DownloadSettings, FetchError
from data_engine.sources.listing import is_available, load_listing
from data_engine.worker import read_source
from phoenix.config import UserError
from tests.corpus import texts
from tests.data_engine.sources.test_archives import make_tar
from tests.fixtures import ROOT
from tests.servers import hub as hub_server
from tests.servers.hub import COMMIT, Handler, Hub, wait_until


def files():
    """Files of several kinds and sizes, some in git and some in LFS."""
    some = texts()[:60]
    rows = [
        json.dumps({"id": f"d{i}", "text": text, "url": f"u{i}", "metadata": {"license": "CC0"}}) for i, text in enumerate(some)
    ]
    table = io.BytesIO()
    pq.write_table(pa.table({"text": list(some[40:]), "title": [f"t{i}" for i in range(20)]}), table)
    return {
        "en/a.json.gz": gzip.compress("\n".join(rows[:30]).encode(), mtime=0),
        "en/b.json.gz": gzip.compress("\n".join(rows[30:33]).encode(), mtime=0),
        "en/deep/c.parquet": table.getvalue(),
        "en/plain.txt": some[5].encode(),
        "README.md": b"# a card",
        "picture.png": b"a picture",
        "other/x.jsonl": rows[0].encode(),
    }


FILES = files()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 0.005)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub(monkeypatch):
    with Hub({"owner/set": FILES}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def source(tmp_path, settings=None, **more):
    more = {"files": "en/*", "licence": "ODC-BY"} | more
    return HuggingFace(
        "s", "owner/set", COMMIT, downloads=DownloadSettings(str(tmp_path / "downloads"), **(settings or {})), **more
    )


def rows(source, jobs=None):
    """(kept, lost) of all jobs, without what tells how they came here."""
    kept, lost = [], []
    for job in jobs or source.jobs(1 << 20):
        for records, dropped in source.read(job):
            kept += records.drop_columns(["fetched_at", "revision"]).to_pylist()
            lost += dropped.to_pylist()
    return sorted(kept, key=lambda r: r["id"]), lost


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    for path, data in FILES.items():
        if path.startswith("en/"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    return rows(Local("s", str(folder), id=None, licence="ODC-BY"))


def test_the_records_are_those_of_the_files_on_disk(hub, tmp_path, on_disk):
    kept, lost = rows(source(tmp_path))
    assert (kept, lost) == on_disk and len(kept) == 54
    assert {r["licence"] for r in kept} == {"CC0", "ODC-BY"}
    (job, *_) = source(tmp_path).jobs(1 << 20)
    ((records, _), *_) = source(tmp_path).read(job)
    assert set(records["revision"].to_pylist()) == {COMMIT}


BIG, SMALL, TABLE, PLAIN = "en/a.json.gz", "en/b.json.gz", "en/deep/c.parquet", "en/plain.txt"
SCHEDULES = {
    "bursts of 429": {BIG: ["429:0.01"] * 4 + ["429"] * 2, TABLE: ["429:0"] * 3},
    "errors of the server": {BIG: ["500", "502", "503:0.01", "504"], PLAIN: ["503"] * 5},
    "resets": {BIG: ["reset:3000", "reset:0", "reset:500", "reset:1"], TABLE: ["reset:100"] * 3},
    "bodies cut short": {BIG: ["short:5000", "short:10"], TABLE: ["short:0"], PLAIN: ["short:7"]},
    "files cut short": {BIG: ["other:5000"], TABLE: ["other:11000", "other:100"], PLAIN: ["other:3"]},
    "wrong bytes": {BIG: ["wrong", "wrong"], TABLE: ["reset:500", "wrong"], PLAIN: ["wrong"]},
    "a page in place of the file": {BIG: ["html", "html"], TABLE: ["reset:2000", "html"], PLAIN: ["html"]},
    "ranges ignored": {BIG: ["reset:3000", "no_range"], TABLE: ["reset:100", "reset:9", "no_range"]},
    "signatures that expire": {BIG: ["403", "reset:2500", "401"], TABLE: ["403"]},
    "a slow drip": {BIG: ["drip:0.002"], TABLE: ["drip:0.001"]},
    "everything": {BIG: ["429:0.01", "reset:2000", "html", "wrong", "500", "short:9000", "other:4000", "drip:0.001"]},
}


@pytest.mark.parametrize("name", ["everything", *(pytest.param(s, marks=pytest.mark.slow) for s in SCHEDULES if s != "everything")])
def test_under_every_fault_the_records_are_the_same(hub, tmp_path, on_disk, name):
    survey([source(tmp_path)])
    hub.faults |= {path: list(faults) for path, faults in SCHEDULES[name].items()}
    assert rows(source(tmp_path)) == on_disk
    assert not any(hub.faults.values()), "a fault was never met"
    assert not list((tmp_path / "downloads").rglob("*.part"))


@pytest.mark.slow
def test_faults_by_chance(hub, tmp_path, on_disk):
    chance = random.Random(3)
    survey([source(tmp_path)])
    for path in (BIG, SMALL, TABLE, PLAIN):
        kinds = ["429:0.01", "500", "reset:%d", "short:%d", "wrong", "html", "no_range", "other:%d"]
        picked = [chance.choice(kinds) for _ in range(6)]
        hub.faults[path] = [kind % chance.randrange(12_000) if "%" in kind else kind for kind in picked]
    assert rows(source(tmp_path)) == on_disk


def test_the_listing_too_is_asked_again(hub, tmp_path, on_disk, monkeypatch):
    hub.faults["tree"] = ["html", "400"]  # huggingface_hub itself repeats its questions after 429 and 5xx
    with pytest.raises(UserError, match="the Hub answers 400"):
        survey([source(tmp_path)])
    assert rows(source(tmp_path)) == on_disk


def test_a_hanging_line_is_given_up_and_goes_on_where_it_was(hub, tmp_path, on_disk, monkeypatch):
    survey([source(tmp_path)])
    fetch.client.cache_clear()
    monkeypatch.setattr(fetch, "TIMEOUT_SECS", 0.2)
    before = hub.served[BIG]
    body = len(FILES[BIG])
    hub.faults[BIG] = ["short:4000", "hang:0.5"]
    assert rows(source(tmp_path)) == on_disk
    fetch.client.cache_clear()
    assert hub.served[BIG] - before == body


def test_what_is_there_is_not_fetched_again_in_bytes(hub, tmp_path, on_disk):
    survey([source(tmp_path)])
    looked = sum(hub.served.values())
    assert rows(source(tmp_path)) == on_disk
    taken = sum(len(data) for path, data in FILES.items() if path.startswith("en/"))
    assert sum(hub.served.values()) == looked + taken
    before = len(hub.requests)
    assert rows(source(tmp_path)) == on_disk
    assert len(hub.requests) == before


def test_after_a_break_only_what_is_missing_is_fetched(hub, tmp_path, on_disk, monkeypatch):
    survey([source(tmp_path)])
    before = hub.served[BIG]
    monkeypatch.setattr(fetch, "DOWNLOAD_TRIES", 1)
    hub.faults[BIG] = ["reset:7000"]
    with pytest.raises(FetchError, match=f"source s: {BIG}: "):
        rows(source(tmp_path))
    (part,) = (tmp_path / "downloads").rglob("*.part")
    there = part.stat().st_size
    assert 0 < there <= 7000
    assert rows(source(tmp_path)) == on_disk
    assert hub.served[BIG] - before == 7000 + len(FILES[BIG]) - there


FETCH_ONE = """
import sys
from data_engine.download import HuggingFace
from data_engine.sources.fetch import DownloadSettings
source = HuggingFace("s", "owner/set", sys.argv[1], files="big.txt", downloads=DownloadSettings(sys.argv[2]))
print(sum(len(kept) for job in source.jobs(1 << 20) for kept, _ in source.read(job)))
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_download_the_next_process_fetches_what_is_missing(tmp_path, monkeypatch):
    big = random.Random(1).randbytes(3_000_000)
    with Hub({"owner/set": {"big.txt": big}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        survey([source(tmp_path, files="big.txt")])
        hub.faults["big.txt"] = ["drip:0.002"]
        command = [sys.executable, "-c", FETCH_ONE, COMMIT, str(tmp_path / "downloads")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_until(lambda: any(p.stat().st_size > 500_000 for p in tmp_path.rglob("*.part")))
        process.kill()
        process.wait()
        wait_until(lambda: not hub.sending)
        (part,) = tmp_path.rglob("*.part")
        there = part.stat().st_size
        assert 500_000 < there < len(big)
        before = hub.served["big.txt"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "1\n", done.stderr
        assert hub.served["big.txt"] - before == len(big) - there
        assert next(tmp_path.rglob("big.txt*")).read_bytes() == big


@pytest.mark.parametrize(
    "fault", ["wrong", *(pytest.param(f, marks=pytest.mark.slow) for f in ("html", "reset:0", "reset:1", "500", "other:100"))]
)
def test_a_file_that_never_comes_whole_is_one_sentence_and_no_success(hub, tmp_path, fault):
    survey([source(tmp_path)])
    hub.faults[BIG] = [fault] * 50
    with pytest.raises(FetchError) as caught:
        rows(source(tmp_path))
    sentence = str(caught.value)
    assert sentence.startswith(f"source s: {BIG}: ") and "8 times in a row" in sentence
    assert "\n" not in sentence and "Signature" not in sentence
    assert len(hub.faults[BIG]) == 50 - fetch.DOWNLOAD_TRIES, "a byte an attempt is no progress"
    assert not [p for p in (tmp_path / "downloads" / "s").iterdir() if p.name.startswith("en-a") and p.suffix != ".part"]


@pytest.mark.slow
def test_a_rate_limit_is_respected(monkeypatch, tmp_path, on_disk):
    with Hub({"owner/set": FILES}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        survey([source(tmp_path)])
        hub.rate, begin = 0.12, len(hub.requests)
        mine = source(tmp_path)
        jobs = mine.jobs(1 << 20)
        found = []
        threads = [threading.Thread(target=lambda job=job: found.append(rows(mine, [job]))) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked = hub.requests[begin:]
    refused = sum(status == 429 for *_, status in asked)
    allowed = len(asked) - refused
    assert sorted((r for kept, _ in found for r in kept), key=lambda r: r["id"]) == on_disk[0]
    assert allowed <= 8 + refused and refused <= 8, (allowed, refused)  # four files, each behind a redirect


@pytest.mark.slow
def test_a_survey_learns_the_pace_of_a_host_from_its_first_refusal(monkeypatch, tmp_path):
    with Hub({"owner/set": FILES}, rate=0.12) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        survey([source(tmp_path)])
        refused = sum(status == 429 for *_, status in hub.requests)
        assert len(hub.requests) - refused >= 6 and refused <= 4, refused


@pytest.mark.parametrize(
    ("status", "after", "every"),
    [(429, "1.0", 1.05), (429, "0.01", 0.05), (429, "300", 0.05), (503, "2", 0.05), (429, None, 0.05)],
)
def test_the_pace_that_an_answer_asks_for(tmp_path, monkeypatch, status, after, every):
    downloads, headers = DownloadSettings(str(tmp_path)), {"retry-after": after} if after else {}
    now, slept = time.time(), []
    monkeypatch.setattr(hosts.time, "time", lambda: now)
    monkeypatch.setattr(hosts.time, "sleep", slept.append)
    wait = hosts.slow_down(downloads, "host", headers, status)
    assert wait == (None if after is None else float(after))
    with hosts.pace(downloads, "host") as state:
        assert state["every"] == pytest.approx(every)
    for _ in range(3):
        hosts.wait_turn(downloads, "host")
    first = wait or 0.0
    assert slept == pytest.approx([first, first + every, first + 2 * every], abs=1e-4), "the requests take turns"
    hosts.slow_down(downloads, "host", headers | {"ratelimit-policy": '"api";q=500;w=300'}, 429)
    with hosts.pace(downloads, "host") as state:
        assert state["every"] == pytest.approx(0.6)


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("back", [60, 3000, 86_400])
def test_a_clock_that_is_set_back_makes_no_wait_longer(tmp_path, monkeypatch, back, write):
    clock, slept = SimpleNamespace(now=2_000_000_000.0), []
    monkeypatch.setattr(hosts.time, "time", lambda: clock.now)
    monkeypatch.setattr(hosts.time, "sleep", slept.append)
    monkeypatch.setattr(hosts, "PLAN_PACES", {})
    downloads = DownloadSettings(str(tmp_path), write=write)
    hosts.slow_down(downloads, "host", {"retry-after": "20"}, 429)
    clock.now -= back
    hosts.wait_turn(downloads, "host")
    assert slept == [20]
    clock.now += back  # set right again: what it cost is at most the pace itself
    hosts.wait_turn(downloads, "host")
    assert len(slept) == 2 - (back > hosts.PACE_SECS) and max(slept) <= 41


@pytest.mark.parametrize("after", ["0", "0.5"])
def test_a_server_that_asks_for_no_wait_for_ever_gets_those_of_a_failure(hub, tmp_path, monkeypatch, after):
    mine = source(tmp_path)
    survey([mine])
    slept = []
    monkeypatch.setattr(fetch, "BACKOFF_SECS", 1.0)
    monkeypatch.setattr(hosts, "wait_turn", lambda downloads, host: None)
    monkeypatch.setattr(fetch.time, "sleep", slept.append)
    hub.faults[PLAIN] = [f"503:{after}"] * 50
    with pytest.raises(FetchError, match=r"en/plain\.txt: .* answers 503 .*\(8 times in a row\)"):
        rows(mine, [job for job in mine.jobs(1 << 20) if job.spec[1] == PLAIN])
    assert len(slept) == fetch.DOWNLOAD_TRIES - 1 and sum(slept) > 60


@pytest.mark.slow
def test_connections_to_a_host_are_bounded(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "PER_HOST", 2)
    survey([source(tmp_path)])
    for path in (BIG, SMALL, TABLE, PLAIN):
        hub.faults[path] = ["drip:0.05"]
    most, now, lock, opened = [0], [0], threading.Lock(), fetch._check_status

    def check(*args):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        try:
            return opened(*args)
        finally:
            time.sleep(0.02)
            with lock:
                now[0] -= 1

    monkeypatch.setattr(fetch, "_check_status", check)
    mine = source(tmp_path)
    threads = [threading.Thread(target=rows, args=(mine, [job])) for job in mine.jobs(1 << 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repo": "owner/gone"}, "owner/gone is not on the Hub, or is private and HF_TOKEN is not set"),
        ({"revision": "abcdef1"}, "has no commit abcdef1"),
        ({"files": "fr/*"}, "has no 'fr/\\*'"),
        ({"files": "*.zip"}, "no file '\\*.zip'"),
        ({"files": "en/a*", "text": "body"}, "has no field 'body'; it has id, metadata, text, url"),
        ({"files": "en/deep/*", "text": "body"}, "c.parquet has no field 'body'; it has text, title"),
    ],
)
def test_what_has_moved_is_one_sentence_before_anything_is_fetched(hub, tmp_path, change, words):
    moved = dataclasses.replace(source(tmp_path), **change)
    with pytest.raises(UserError, match=words) as caught:
        survey([moved])
    assert "\n" not in str(caught.value) and "source s: " in str(caught.value)


@pytest.mark.parametrize("sha", ["d" * 40, None])
def test_another_commit_than_the_pinned_one_is_not_taken(hub, tmp_path, monkeypatch, sha):
    plain = Handler.json

    def json(self, value, headers=None):
        return plain(self, value | {"sha": sha} if isinstance(value, dict) and "sha" in value else value, headers)

    monkeypatch.setattr(Handler, "json", json)
    with pytest.raises(UserError, match=r"owner/set was asked for at .*, the server answers with") as caught:
        survey([source(tmp_path)])
    assert "\n" not in str(caught.value) and not hub.served


def test_a_redirect_to_no_address_is_one_sentence(hub, tmp_path, monkeypatch):
    survey([source(tmp_path)])
    monkeypatch.setattr(Handler, "resolve", lambda self, *_: self.answer(302, b"", {"Location": "http://[bad/x"}))
    with pytest.raises(FetchError, match="redirects to what is no address"):
        rows(source(tmp_path))


def test_a_hub_at_no_address_and_a_name_that_none_can_have(tmp_path, monkeypatch):
    for repo in ("owner/a--b", "owner/a..b", "owner"):
        with pytest.raises(UserError, match="is no owner/name"):
            dataclasses.replace(source(tmp_path), repo=repo).check()
    monkeypatch.setenv("HF_ENDPOINT", "http://[::1")
    with pytest.raises(UserError, match="HF_ENDPOINT is no address"):
        source(tmp_path).check()


def test_an_address_that_waited_for_a_connection_is_asked_for_anew(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "FRESH_SECS", 0.0)
    waiting, asked, mine = [True], [], source(tmp_path, files=PLAIN)
    (job,) = mine.jobs(1 << 20)
    (remote,) = mine.remotes(job)

    def address():
        asked.append(waiting[0])
        return remote.address()

    slots = [hosts.lock_slot(mine.downloads, urlsplit(hub.url).netloc) for _ in range(hosts.PER_HOST)]
    thread = threading.Thread(
        target=fetch.download, args=(mine.downloads, dataclasses.replace(remote, address=address)), daemon=True
    )
    thread.start()
    wait_until(lambda: asked)
    waiting[0] = False
    for slot in slots:
        slot.close()
    thread.join(20)
    assert remote.file(mine.downloads).read_bytes() == FILES[PLAIN]
    assert asked == [True, False]


def test_every_source_that_moved_has_its_sentence(hub, tmp_path):
    gone = [dataclasses.replace(source(tmp_path), name=f"s{i}", repo=f"owner/gone{i}") for i in range(2)]
    with pytest.raises(UserError) as caught:
        survey([gone[0], source(tmp_path), gone[1]])
    assert str(caught.value).count("is not on the Hub") == 2 and len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("revision", "word"), [("dev", "a branch or a tag moves"), ("v1.0", "hex digits"), (COMMIT.upper(), "hex digits")]
)
def test_a_revision_is_a_commit(tmp_path, revision, word):
    with pytest.raises(UserError, match=word):
        dataclasses.replace(source(tmp_path), revision=revision).check()


MONTHS = {
    f"{year}-{month:02d}.jsonl.zst": pa.Codec("zstd").compress(
        "\n".join(json.dumps({"text": f"{year} {month} {text}"}) for text in texts()[month : month + 12]).encode(), asbytes=True
    )
    for year in (2005, 2006)
    for month in range(1, 13)
}
TAR = make_tar(MONTHS | {"sha256sums.txt": b"none"})


@pytest.fixture
def months(monkeypatch):
    with Hub({"owner/months": {"months.jsonl.zst.tar": TAR, "plain.jsonl": b"{}" * 999}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def of_months(tmp_path, tokens=None, **more):
    settings = DownloadSettings(str(tmp_path / "downloads"), tokens=tokens)
    more = {"files": "months.jsonl.zst.tar!/*.jsonl.zst", "downloads": settings} | more
    return HuggingFace("s", "owner/months", "main", **more)


def test_the_members_of_a_tar_are_files_of_their_own(months, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "months.jsonl.zst.tar").write_bytes(TAR)
    whole = [r for r in rows(Local("s", str(tmp_path / "disk"), id=None))[0] if "sha256sums" not in r["uri"]]
    survey([of_months(tmp_path)])
    assert months.served["months.jsonl.zst.tar"] < 26 * 5000 + 2 * budget.HEAD, "the headers, and the beginning of two months"
    months.served.clear()
    kept, lost = rows(of_months(tmp_path))
    assert kept == whole and len(kept) == 24 * 12 and not lost
    assert months.served["months.jsonl.zst.tar"] == sum(map(len, MONTHS.values())), "each month once, and nothing else"
    few = of_months(tmp_path / "few", tokens=3000)
    survey([few])
    months.served.clear()
    taken = {r["uri"].partition("#")[0] for r in rows(few)[0]}
    assert 1 <= len(taken) < 6 and months.served["months.jsonl.zst.tar"] == sum(
        len(MONTHS[name.partition("!/")[2]]) for name in taken
    )


@pytest.mark.parametrize("fault", ["reset:1000", "short:700", "429:0.01", "no_range", "html", "other:20000"])
def test_a_member_is_resumed_and_its_size_checked(months, tmp_path, fault):
    survey([of_months(tmp_path)])
    wanted = sum(map(len, MONTHS.values()))
    months.served.clear()
    months.faults["months.jsonl.zst.tar"] = [fault, fault]
    kept, _ = rows(of_months(tmp_path))
    assert len(kept) == 24 * 12 and not months.faults["months.jsonl.zst.tar"]
    if fault.startswith(("reset", "short")):
        assert months.served["months.jsonl.zst.tar"] <= wanted + 100, "what had come was kept"


def test_main_is_the_commit_of_the_first_survey(months, tmp_path, monkeypatch, capsys):
    survey([of_months(tmp_path)])
    assert f"main of owner/months is {COMMIT}" in capsys.readouterr().err
    assert load_listing(of_months(tmp_path).downloads, "s", of_months(tmp_path)._identity())["commit"] == COMMIT
    monkeypatch.setitem(hub_server.COMMITS, "owner/months", "f" * 40)  # it has moved
    with pytest.raises(FetchError, match="is not in owner/months at"):
        rows(of_months(tmp_path))
    hub_server.COMMITS.clear()
    assert len(rows(of_months(tmp_path))[0]) == 24 * 12 and not capsys.readouterr().err
    (job, *_) = of_months(tmp_path).jobs(1 << 20)
    assert {r for records, _ in of_months(tmp_path).read(job) for r in records["revision"].to_pylist()} == {COMMIT}


def test_what_is_no_tar_or_has_no_such_member_is_one_sentence(months, tmp_path):
    with pytest.raises(UserError, match="is no tar without compression"):
        survey([of_months(tmp_path, files="plain.jsonl!/*")])
    with pytest.raises(UserError, match=r"has no file 'months.jsonl.zst.tar!/\*.csv' that can be read"):
        survey([of_months(tmp_path, files="months.jsonl.zst.tar!/*.csv")])


def test_a_gated_set_says_which_token_is_missing_and_opens_with_it(hub, tmp_path, monkeypatch, on_disk):
    hub.gated.add("owner/set")
    with pytest.raises(UserError, match=r"is gated: accept its terms at .*owner/set; HF_TOKEN is not set"):
        survey([source(tmp_path)])
    monkeypatch.setenv("HF_TOKEN", "hf_bad_token")
    with pytest.raises(UserError, match=r"the token in HF_TOKEN .* has no access") as caught:
        survey([source(tmp_path)])
    assert "hf_bad_token" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert rows(source(tmp_path)) == on_disk


def test_the_token_stays_with_the_hub_and_out_of_every_message(hub, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    with caplog.at_level(logging.INFO):
        hub.faults[BIG] = ["500", "reset:100"]
        rows(source(tmp_path))
        hub.faults[SMALL] = ["wrong"] * 50
        (tmp_path / "downloads" / "s").joinpath(next(p.name for p in (tmp_path / "downloads" / "s").glob("en-b*"))).unlink()
        with pytest.raises(FetchError) as caught:
            rows(source(tmp_path))
    shown = {host for _, host, _, headers, _ in hub.requests if "authorization" in {name.lower() for name in headers}}
    assert shown == {"api"}
    written = b"".join(p.read_bytes() for p in (tmp_path / "downloads").rglob("*") if p.is_file())
    assert "Signature" not in caplog.text
    assert "hf_good" not in str(caught.value) + caplog.text + "".join(capfd.readouterr()) and b"hf_good" not in written


def test_offline_takes_what_is_here(hub, tmp_path, on_disk):
    offline = source(tmp_path, {"offline": True})
    with pytest.raises(UserError, match="run once without --offline"):
        survey([offline])
    survey([source(tmp_path)])
    assert readable(offline) == []
    (first, *_) = source(tmp_path).jobs(1 << 20)
    rows(source(tmp_path), [first])
    before = len(hub.requests)
    assert [job.name for job in readable(offline)] == [first.name]
    assert rows(offline, readable(offline))[0] == rows(source(tmp_path), [first])[0]
    assert len(hub.requests) == before


def test_two_sources_of_one_data_set_fetch_a_file_once(hub, tmp_path):
    one, two = source(tmp_path), dataclasses.replace(source(tmp_path, {"keep": False}), name="two")
    kept = rows(one)[0]
    hub.served.clear()
    survey([two])
    looked = sum(hub.served.values())
    jobs = two.jobs(1 << 20)
    assert [r["content"] for r in sorted(rows(two, jobs)[0], key=lambda r: r["uri"])] == [
        r["content"] for r in sorted(kept, key=lambda r: r["uri"])
    ]
    assert sum(hub.served.values()) == looked
    for job in jobs:
        two.committed(job)
    assert all(one.has(job) for job in one.jobs(1 << 20)) and not any(two.has(job) for job in jobs)


def readable(source):
    return [job for job in source.jobs(1 << 20) if is_available(source, job)]


@pytest.mark.parametrize("where", ["downloads", "the cache of huggingface_hub"])
def test_offline_a_finished_partition_needs_no_download(hub, tmp_path, monkeypatch, capsys, where):
    def run(engine, name, jobs, functions, progress):
        for job, load in jobs:
            read_source(pa.table({"job": [json.dumps(job)], "payload": [pickle.dumps(load)]}))

    def ingest(**settings):
        with Engine(str(tmp_path / "out")) as engine:
            return [(part.name, part.content) for part in engine.ingest([source(tmp_path, settings)])]

    monkeypatch.setattr(Engine, "_run", run)
    if where != "downloads":
        cache = tmp_path / "hub-cache"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        for path in FILES:
            file = cache / "datasets--owner--set" / "snapshots" / COMMIT / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(FILES[path])
    whole = ingest()
    assert len(whole) == 4 and (BIG in hub.served) == (where == "downloads")
    for file in [*(tmp_path / "downloads" / "s").glob("*-*"), *(tmp_path / "hub-cache").rglob("*.*")]:
        file.unlink()
    assert ingest(offline=True) == whole and "left out" not in capsys.readouterr().err
    next((tmp_path / "out" / "raw").glob("*plain*")).unlink()
    assert ingest(offline=True) == [part for part in whole if "plain" not in part[0]]
    assert "s: offline, 1 of 4 downloads are not here and are left out" in capsys.readouterr().err


def test_a_download_that_is_not_kept_goes_when_it_has_been_cut(hub, tmp_path):
    passing = source(tmp_path, {"keep": False})
    job = passing.jobs(1 << 20)[0]
    rows(passing, [job])
    (remote,) = passing.remotes(job)
    assert fetch.is_complete(remote.file(passing.downloads), remote)
    passing.committed(job)
    assert not remote.file(passing.downloads).exists() and fetch.was_fetched(passing.downloads, remote)
    assert readable(source(tmp_path, {"offline": True, "keep": False})) == []
    kept = source(tmp_path)
    rows(kept, [job])
    kept.committed(job)
    assert remote.file(kept.downloads).exists()


def test_the_cache_of_huggingface_hub_is_used(hub, tmp_path, monkeypatch):
    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    folder = cache / "datasets--owner--set" / "snapshots" / COMMIT / "en"
    folder.mkdir(parents=True)
    (folder / "a.json.gz").write_bytes(FILES[BIG])
    (folder / "b.json.gz").write_bytes(FILES[SMALL][:-1] + b"x")
    mine = source(tmp_path)
    jobs = [job for job in mine.jobs(1 << 20) if job.spec[1] in (BIG, SMALL)]
    hub.served.clear()
    assert len(rows(mine, jobs)[0]) == 33
    assert hub.served[BIG] == 0 and hub.served[SMALL] == len(FILES[SMALL]), "the damaged one alone is fetched"


def test_a_file_that_no_reader_reads_is_in_the_ledger(hub, tmp_path):
    kept, lost = rows(source(tmp_path, files="*"))
    assert [(r["uri"], r["reason"]) for r in lost] == [("picture.png", "unknown_type")]
    assert len(kept) == 55, "the card of the data set is no part of it"


def test_a_job_changes_with_the_content_of_its_file_and_not_with_the_commit(hub, tmp_path):
    before = {job.name: job.state for job in source(tmp_path).jobs(1 << 20)}
    hub.repos["owner/set"] = FILES | {PLAIN: b"another text"}
    after = {job.name: job.state for job in source(tmp_path / "fresh").jobs(1 << 20)}
    assert before.keys() == after.keys() and sum(before[name] != after[name] for name in before) == 1


IN_A_STORE = """
import sys
from data_engine.download import Local
for path in sys.argv[1:]:
    source = Local("s", path, id=None, licence="ODC-BY")
    source.check()
    print(sorted(i for job in source.jobs(1 << 20) for kept, _ in source.read(job) for i in kept["id"].to_pylist()))
"""


@pytest.mark.slow
def test_local_reads_the_hub_as_a_store(hub, on_disk):
    folder = f"hf://datasets/owner/set@{COMMIT}"
    command = [sys.executable, "-c", IN_A_STORE, folder, f"{folder}/en/b.json.gz"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    whole, one = map(ast.literal_eval, done.stdout.splitlines())
    assert {r["id"] for r in on_disk[0]} < set(whole) and len(one) == 3, done.stderr


def test_a_token_that_no_header_can_hold_is_one_sentence_without_the_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_s\u00e9cr\net")
    with pytest.raises(UserError, match="HF_TOKEN holds characters that no key has") as caught:
        survey([source(tmp_path)])
    assert "hf_" not in str(caught.value) and not hub.requests


def test_a_password_in_the_address_of_the_hub_is_told_nowhere(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//user:hunter2@"))
    survey([source(tmp_path)])
    there = [p for p in (tmp_path / "downloads").rglob("*") if p.is_file()]
    assert there and not [p for p in there if b"hunter2" in p.read_bytes() + p.name.encode()]


@pytest.mark.parametrize("fault", ["503", "short:5000"])
def test_a_fault_of_the_server_loses_nothing_of_a_store(hub, tmp_path, monkeypatch, fault):
    """The Hub read as a folder, by huggingface_hub's own file system: what passes is tried again, what stays ends the job."""
    import huggingface_hub.utils._http as http

    monkeypatch.setattr(http.time, "sleep", lambda _: None)
    for name, value in (("ENDPOINT", ""), ("HUGGINGFACE_CO_URL_TEMPLATE", "/{repo_id}/resolve/{revision}/{filename}")):
        monkeypatch.setattr(huggingface_hub.constants, name, hub.url + value)  # they were set at its first import
    huggingface_hub.HfFileSystem.clear_instance_cache()
    store = Local("s", f"hf://datasets/owner/set@{COMMIT}/en/a.json.gz")
    jobs = store.jobs(1 << 20)
    hub.faults[BIG] = [fault] * 3
    assert len(rows(store, jobs)[0]) == 30 and not hub.faults[BIG]
    hub.faults[BIG] = [fault] * 200
    with pytest.raises(FetchError, match=r"source s: a\.json\.gz: ") as caught:
        rows(store, jobs)
    assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("content", ["", '{"of"', "[]", "7"])
def test_a_listing_that_was_cut_short_is_asked_for_again(hub, tmp_path, content):
    survey([source(tmp_path)])
    listing = tmp_path / "downloads" / "s" / "listing.json"
    whole = listing.read_text()
    listing.write_text(content)
    survey([source(tmp_path)])
    assert listing.read_text() == whole


def test_a_folder_for_downloads_that_is_none_is_one_sentence(hub, tmp_path):
    (tmp_path / "file").touch()
    downloads = DownloadSettings(str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"source s: downloads cannot lie in .*file: (File exists|Not a directory)"):
        survey([dataclasses.replace(source(tmp_path), downloads=downloads)])


def test_a_look_passes_over_what_is_damaged_or_empty(monkeypatch, tmp_path):
    bad, empty = b"PAR1 no more PAR1", b'{"text": ""}\n' * 99
    good = json.dumps({"text": texts()[0]}).encode()
    sets = {
        "o/some": {
            **{f"{i}.parquet": bad for i in range(4)},
            **{f"{i}.jsonl": empty for i in range(4)},
            "g.jsonl": good,
            "0.txt": b"",
        },
        "o/bad": {f"{i}.parquet": bad for i in range(3)},
        "o/empty": {f"{i:02d}.jsonl": empty for i in range(20)},
        "o/none": {"a.txt": b"", "b.txt": b""},
    }
    with Hub(sets) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

        def look(repo, **more):
            return HuggingFace(repo[2:], repo, COMMIT, downloads=DownloadSettings(str(tmp_path), tokens=50), **more).list_files()[
                "looked"
            ]

        assert look("o/some")["documents"] >= 1
        for repo, said in (
            ("o/bad", r"\d.parquet is no Parquet file that can be read"),
            ("o/empty", r"no text in field 'text' was found at the beginning of \d+.jsonl, nor in 9 other files"),
            ("o/none", "a.txt in o/none has 0 bytes, as all of"),
        ):
            with pytest.raises(UserError, match=said):
                look(repo)
        with pytest.raises(UserError, match="has no field 'url' for id; it has text"):
            look("o/some", id="url")


def test_a_plan_looks_over_a_damaged_file(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more PAR1")
    ((size, looked),) = Local("s", str(tmp_path)).sampled()
    assert size == 17 and looked["documents"] == 0 and "no Parquet file" in looked["problem"]


# ---------------------------------------------------------------------------------------------------------------------------
# the budget


def many(n):
    some = texts()
    parts = [[json.dumps({"text": some[(7 * i + k) % len(some)]}) for k in range(5)] for i in range(n)]
    return {f"part-{i:03d}.jsonl": "\n".join(part).encode() for i, part in enumerate(parts)}


def test_the_budget_decides_how_many_files_are_taken(monkeypatch, tmp_path):
    with Hub({"owner/set": many(40)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        taken = {}
        for tokens in (None, 3_000, 20_000, 10**9):
            chosen = source(tmp_path, {"tokens": tokens}, files="*.jsonl")
            taken[tokens] = [remote.path for job in chosen.jobs(1 << 20) for remote in chosen.remotes(job)]
        assert len(taken[None]) == len(taken[10**9]) == 40
        assert 1 <= len(taken[3_000]) < len(taken[20_000]) < 30 and set(taken[3_000]) < set(taken[20_000])
        other = source(tmp_path, {"tokens": 20_000, "seed": 2}, files="*.jsonl")
        assert {r.path for j in other.jobs(1 << 20) for r in other.remotes(j)} != set(taken[20_000])
        for path in taken[20_000]:
            assert hub.served[path] <= len(many(40)[path])


def test_a_run_that_ran_short_takes_the_next_files_and_none_twice(monkeypatch, tmp_path):
    with Hub({"owner/set": many(40)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        mine = source(tmp_path, {"tokens": 20_000}, files="*.jsonl")

        def taken():
            return {job.name for job in mine.jobs(1 << 20)}

        first = taken()
        mine.record_yield(20_500)
        assert taken() == first, "enough: the same files"
        mine.record_yield(15_000)
        second = taken()
        assert first < second and len(second) < 2 * len(first)
        mine.record_yield(19_999)
        assert second < taken(), "still short: at least one more"
        smaller = dataclasses.replace(mine, downloads=dataclasses.replace(mine.downloads, tokens=5_000))
        assert {job.name for job in smaller.jobs(1 << 20)} < second


def test_a_run_that_found_next_to_nothing_does_not_fetch_all():
    files, looked = [(f"f{i}", 1000) for i in range(1000)], {"text": 1000, "bytes": 1000}
    downloads = DownloadSettings(tokens=1000, tokens_per_byte=0.2, cleaning="a")
    first = budget.count(files, downloads, looked, False, None)
    assert 5 <= first <= 8
    for found in (0, 1, 50):
        measured = budget.measured(downloads, found, files[:first])
        assert budget.count(files, downloads, looked, False, measured) == budget.GROWTH * first
        mended = dataclasses.replace(downloads, cleaning="b")
        assert budget.count(files, mended, looked, False, measured) == first, "of other settings nothing is known"


@pytest.mark.parametrize(("documents", "tokens", "words"), [(0, 0, "no document is left"), (1, 4000, "its share needs")])
def test_a_run_that_ends_for_lack_of_text_records_how_much_there_was(monkeypatch, tmp_path, documents, tokens, words):
    """run.py's line with stages that give this much."""
    stages = {"find_weights": None, "evaluation_grams": [], "find_duplicates": ([], []), "survivors": None}
    stages |= {"make_tokenizer": (None, None), "tokens_per_byte": {}, "encode_documents": ([], {}, {"s": tokens})}
    for name, result in stages.items():
        monkeypatch.setattr(run, name, lambda *_, result=result: result)
    parts = [SimpleNamespace(receipt={"rows": documents})]
    engine = SimpleNamespace(out="out", ingest=lambda _: [], map=lambda *_, **__: parts)
    mine = source(tmp_path, {"tokens": 5_000_000}, files="*.jsonl")
    cfg = run.Settings(sources=(mine,), tokens=5_000_000, mix=MixConfig(short="fail"))
    with Hub({"owner/set": many(40)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(UserError, match=words):
            run.pipeline(cfg, engine, {})
        measured = mine.list_files()["measured"]
    assert measured["needed"] == 5_000_000 and measured["found"] == tokens and measured["files"] == 40


def test_a_plan_counts_as_fetched_what_its_own_partitions_hold(hub, tmp_path):
    cfg = dataclasses.replace(run.Settings(), sources=(source(tmp_path, {"keep": False}),))
    (mine,), before = cfg.sources, plan.estimate(cfg.sources[0], cfg)
    assert before.fetch == before.stored == sum(len(data) for path, data in FILES.items() if path.startswith("en/"))
    for job in mine.jobs(cfg.partition_bytes):
        rows(mine, [job])
        mine.committed(job)
    made = {f"s-{job.name}-000.parquet" for job in mine.jobs(cfg.partition_bytes)}
    assert plan.estimate(mine, cfg, made).fetch == 0
    assert plan.estimate(mine, cfg).fetch == before.fetch, "another `out` has to fetch it again"


def test_files_are_taken_from_the_front_of_one_order():
    files = [(f"f{i}", 100) for i in range(50)]
    order = budget.in_order(files, 1)
    assert sorted(order) == sorted(files) and order != files and budget.in_order(files, 2) != order
    assert [f for f in budget.in_order([*files, ("new", 100)], 1) if f[0] != "new"] == order
    assert [budget.files_for(order, n, 0.5) for n in (1, 50, 51, 100, 10**6)] == [1, 1, 2, 2, 50]
