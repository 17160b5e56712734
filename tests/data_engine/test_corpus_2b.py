"""
configs/corpus_2b.py unchanged, with its ids served on loopback from real text at small scale: planned, run to its end, run offline.
"""

import csv
import dataclasses
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.memory import peak_memory
from data_engine.download import HuggingFace, Local
from data_engine.extract import ExtractConfig, extract
from data_engine.run import Settings
from data_engine.sources import budget
from data_engine.sources.python_docs import typeset
from phoenix.config import load
from tests.data_engine.sources.test_archives import make_tar
from tests.fixtures import ROOT, SHARED
from tests.servers import hub as hub_server
from tests.servers.aikosh import KEY, AIKoshServer
from tests.servers.hub import Hub

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "corpus").is_dir(), reason="needs the real texts of ../shared/corpus, or of $PHOENIX_SHARED"),
]
TOKENS = 240_000
SMALL = [f"--tokens={TOKENS}", "--vocab_size=2048", "--partition_bytes=400000", "--num_cpus=2", "--language.xlm_roberta=None"]
TOKEN = "hf_secret_of_the_test"


def pieces(archive, most, about=None):
    """English texts of 600 to 5,000 characters, with the uri of what they were cut from: about `most` bytes from an archive."""
    source = Local("s", str(SHARED / "corpus" / f"{archive}.tar.xz"))
    (job,) = source.jobs(1 << 40)
    found, size = [], 0
    for kept, _ in source.read(job):
        kept = kept.filter(pc.match_substring(kept["uri"], about)) if about else kept
        for start in range(0, len(kept), 15):
            for row in extract(kept.slice(start, 15), ExtractConfig())[0].to_pylist():
                held = ""
                for paragraph in [*re.split(r"\n\s*\n", row["text"]), None]:
                    if paragraph is None or len(held) + len(paragraph) > 5000:
                        if 600 <= len(held) <= 5000:
                            found.append((f"{row['uri']}-{len(found)}", held))
                            size += len(held)
                        held = ""
                    held += "\n\n" * bool(held) + (paragraph or "")
            if size > most:
                return found
    return found


def dealt(texts, n):
    return [texts[i::n] for i in range(n)]


def json_gz(rows):
    return gzip.compress("\n".join(map(json.dumps, rows)).encode(), mtime=0)


def parquet(rows):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def dolma(texts, licence):
    return [{"id": uri, "text": text, "source": "x", "metadata": {"license": licence}} for uri, text in texts]


def months(texts):
    """{member: bytes} of OpenWebText2's tar."""
    rows = [["\n".join(json.dumps({"text": t}) for _, t in part)] for part in dealt(texts, 9)]
    return {f"2005-{i:02d}.jsonl.zst": pa.Codec("zstd").compress(part[0].encode(), asbytes=True) for i, part in enumerate(rows, 1)}


@pytest.fixture(scope="module")
def repos():
    wiki, web = pieces("wikipedia", 700_000), pieces("webtext", 1_500_000, "bbc_news")
    books, tex = pieces("gutenberg", 250_000), pieces("arxiv_tex", 300_000)
    questions = pieces("stackexchange", 400_000)
    c4, owt = web[::3] + web[1::3], web[2::3]
    repos = {
        "wikimedia/wikipedia": {
            f"20231101.en/train-{i:05d}-of-00041.parquet": parquet([{"id": u, "url": u, "title": "t", "text": t} for u, t in part])
            for i, part in enumerate(dealt(wiki, 9))
        },
        "allenai/c4": {
            f"en/c4-train.{i:05d}-of-01024.json.gz": json_gz([{"text": t, "timestamp": "2019", "url": u} for u, t in part])
            for i, part in enumerate(dealt(c4, 12))
        },
        "segyges/OpenWebText2": {"openwebtext2.jsonl.zst.tar": make_tar(months(owt))},
        "common-pile/project_gutenberg_filtered": {
            f"project_gutenberg-dolma-{i:04d}.json.gz": json_gz(dolma(part, "Public Domain"))
            for i, part in enumerate(dealt(books, 6))
        },
        "common-pile/stackexchange_filtered": {
            f"stackexchange-dolma-{i:04d}.json.gz": json_gz(dolma(part, "CC-BY-SA-4.0"))
            for i, part in enumerate(dealt(questions, 7))
        },
        "common-pile/arxiv_papers_filtered": {
            f"arxiv-papers-{i:04d}.json.gz": json_gz(dolma(part, "CC-BY-4.0")) for i, part in enumerate(dealt(tex, 6))
        },
    }
    for files in repos.values():
        files["README.md"] = b"# a card"
    table, other = io.StringIO(), pieces("webtext", 80_000, "state_union")
    csv.writer(table).writerows([("id", "text"), *other[:15]])
    papers = {f"papers/{i}.pdf": typeset(t.encode("ascii", "ignore").decode()) for i, (_, t) in enumerate(other[15:20])}
    return repos, {"403283a7-2042-4b42-946b-b51babcc58b3": papers | {"tables/a.csv": table.getvalue().encode()}}


@dataclasses.dataclass
class Made:
    out: Path
    plan: str
    log: str
    peak: int  # bytes of memory that the processes of the run held together
    hub: Hub
    env: dict
    repos: dict


@pytest.fixture(scope="module")
def made(repos, tmp_path_factory):
    """Planned, then run to its end through a fault of the server."""
    out = tmp_path_factory.mktemp("corpus") / "out"
    hub_server.COMMITS.update(re.findall(r'"([^"]+/[^"]+)",\s+"([0-9a-f]{40})"', (ROOT / "configs/corpus_2b.py").read_text()))
    with Hub(repos[0]) as hub, AIKoshServer(repos[1]) as platform:
        env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}  # Ray's workers are to have this env
        env |= {"HF_ENDPOINT": hub.url, "AIKOSH_API_BASE_URL": platform.url, "AIKOSH_API_KEY": KEY}
        env |= {"HF_TOKEN": TOKEN, "HF_HUB_CACHE": str(out.parent / "none"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "data_engine.run", "configs/corpus_2b.py", f"--out={out}", *SMALL]
        plan = subprocess.run([*command, "--plan"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100)
        assert plan.returncode == 0, plan.stdout + plan.stderr
        assert not out.exists(), "a plan writes nothing"

        hub.faults["stackexchange-dolma-0001.json.gz"] = ["429:1", "reset:900"]
        with (
            open(out.parent / "log", "w", encoding="utf-8") as log,
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log) as run,
        ):
            limit = threading.Timer(280, run.kill)
            limit.start()
            peak = peak_memory(run)
            limit.cancel()
        log = Path(out.parent / "log").read_text(encoding="utf-8")
        assert run.returncode == 0, log
        yield Made(out, plan.stdout, log, peak, hub, env, repos[0])


def test_the_achieved_mix_is_that_of_the_config_by_tokens(made):
    mix = json.loads((made.out / "shards" / "sources.json").read_text())
    assert len(mix["sources"]) == 7
    for source in mix["sources"]:
        assert abs(source["share"] - source["target_share"]) <= 0.005 or f"{source['name']} ran short" in made.log, source
    assert abs(mix["tokens"] - TOKENS) <= 0.005 * TOKENS


def test_documents_tokens_licence_and_revision_of_every_source_are_listed(made):
    mix = json.loads((made.out / "shards" / "sources.json").read_text())
    for source in mix["sources"]:
        assert source["documents"] > 0 and source["tokens"] > 0 and source["licences"] and "unknown" not in source["licences"]
        assert re.fullmatch("[0-9a-f-]{36,40}", source["revision"]), source
    page = (made.out / "report.html").read_text()
    for source in mix["sources"]:
        assert source["revision"][:12] in page and source["origin"].removeprefix("https://") in page
    for path in (made.out / "raw").glob("*.parquet"):
        table = pq.read_table(path, columns=["revision", "fetched_at", "licence", "uri"])
        assert all(table["revision"].to_pylist()) and table["fetched_at"].null_count == 0


def test_every_file_was_fetched_whole_and_its_yield_recorded(made):
    assert not list((made.out / "work" / "downloads").rglob("*.part"))
    for path in (made.out / "work" / "downloads").glob("*/listing.json"):
        listing = json.loads(path.read_text())
        assert listing["measured"]["found"] > 0 and listing["measured"]["files"] <= len(listing["files"]), path


def test_the_plan_told_what_the_run_then_used(made):
    told = {line.split()[0]: line.split() for line in made.plan.splitlines() if line.split()}
    mix = {source["name"]: source for source in json.loads((made.out / "shards" / "sources.json").read_text())["sources"]}
    report = json.loads((made.out / "report.json").read_text())
    used, planned = {}, {}
    for name in mix:
        files = int(told[name][3])
        have = [
            p
            for p in (made.out / "work" / "downloads" / name).iterdir()
            if p.name != "listing.json" and not p.name.endswith(".cut")
        ]
        assert files == len(have), name
        used[name, "fetch"], planned[name, "fetch"] = sum(p.stat().st_size for p in have) / 1e6, float(told[name][6])
    documents = [row for rows in report["sources"].values() for row in rows if row["step"] == "remove_duplicates"]
    used["documents"] = sum(row["out"] for row in documents)
    planned["documents"] = sum(float(told[name][7].replace(",", "")) for name in mix)
    used["tokens"], planned["tokens"] = (
        json.loads((made.out / "shards" / "sources.json").read_text())["tokens"] / 1e6,
        sum(float(told[name][9]) for name in mix),
    )
    for stage, size in re.findall(r"(\w+) ([\d.,]+)[,)]", re.search(r"disk .*?\((.*\))", made.plan)[1]):
        folder = made.out / stage if stage != "downloads" else made.out / "work" / "downloads"
        used[stage, "disk"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
        planned[stage, "disk"] = float(size.replace(",", ""))
    used["work", "disk"] -= used["downloads", "disk"]
    used["memory"], planned["memory"] = made.peak / 1e9, float(re.search(r"^memory +about ([\d.]+) GB", made.plan, re.M)[1])
    off = {key: (planned[key], used[key]) for key in planned if abs(planned[key] - used[key]) > 0.25 * used[key]}
    assert not off, off
    assert len(planned) == 7 + 2 + 5 + 1


def test_no_token_is_in_any_log_or_file(made):
    secrets = [TOKEN, KEY]
    for path in made.out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [s for s in secrets if s.encode() in data], path
    assert not [s for s in secrets if s in made.log + made.plan]
    assert "Signature" not in made.log


def test_the_raw_records_are_those_of_the_same_files_on_disk(made, tmp_path):
    columns = ["id", "uri", "media_type", "content", "licence", "meta"]
    config = load(Settings, [str(ROOT / "configs" / "corpus_2b.py")])
    for source in config.sources:
        if not isinstance(source, HuggingFace):
            continue
        tables = [pq.read_table(path, columns=columns) for path in sorted((made.out / "raw").glob(f"{source.name}-*.parquet"))]
        found = pa.concat_tables([t.replace_schema_metadata(None) for t in tables]).sort_by("id")
        listing = json.loads((made.out / "work" / "downloads" / source.name / "listing.json").read_text())
        taken = json.loads((made.out / "shards" / "sources.json").read_text())["sources"]
        count = next(row["files"]["taken"] for row in taken if row["name"] == source.name)
        order = budget.in_order([file for file in listing["files"] if not file[0].endswith(".md")], config.seed)
        folder = tmp_path / source.name
        for path, *_ in order[:count]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            archive, _, member = path.partition("!/")
            data = made.repos[source.repo][archive]
            if member:
                with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                    data = tar.extractfile(member).read()
            (folder / path).write_bytes(data)
        local = Local(source.name, str(folder), text=source.text, id=source.id, licence=source.licence)
        kept = [records.select(columns) for job in local.jobs(1 << 20) for records, _ in local.read(job)]
        assert found.equals(pa.concat_tables(kept).sort_by("id")), source.name


def test_offline_the_finished_corpus_is_there_without_a_question(made):
    before = len(made.hub.requests)
    command = [sys.executable, "-m", "data_engine.run", "configs/corpus_2b.py", f"--out={made.out}", *SMALL, "--offline"]
    done = subprocess.run(command, cwd=ROOT, env=made.env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "all was done before" in done.stdout, done.stdout + done.stderr
    assert len(made.hub.requests) == before
