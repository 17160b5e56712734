"""The laws of the whole engine, on real runs: the same bytes on any number of cores and after any stop; nothing lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests import corpus
from tests.fixtures import ROOT, SHARED
from tests.runs import CONFIG, command, config, inspect, made, result, rows, run, run_alone, written

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nodes")]


def test_one_cpu_gives_the_bytes_of_two(corpora):
    run_alone(corpora / "one.py", corpora / "single", "--num_cpus=1")
    assert result(corpora / "single") == result(corpora / "straight")
    for name in ("raw", "documents", "dropped", "duplicates"):
        assert rows(corpora / "single", name) == rows(corpora / "straight", name)


def test_killed_and_resumed_gives_the_bytes_of_the_straight_run(corpora):
    """On a Ray of its own, which dies with the run; tests/data_engine/test_cluster.py kills what belongs to a cluster."""
    out, env = corpora / "killed", {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    moments = sorted(random.Random(7).sample(range(1, made(corpora / "straight") - 4), 2))
    for moment in moments:
        process = subprocess.Popen(
            command(corpora / "one.py", out), cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while made(out) < moment:
            assert process.poll() is None, "the run was over before it could be killed"
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run(corpora / "one.py", out)
    assert result(out) == result(corpora / "straight")
    assert rows(out, "documents") == rows(corpora / "straight", "documents")
    assert rows(out, "dropped") == rows(corpora / "straight", "dropped")
    assert not list(out.rglob(".tmp-*")), "temporary files of the killed runs are left"


def test_sigterm_while_ray_works_is_130_and_one_sentence(corpora, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(corpora / "one.py", tmp_path / "out"), cwd=ROOT, env=env, **pipes)
    while made(tmp_path / "out") < 5:
        assert process.poll() is None, "the run was over before it could be stopped"
        time.sleep(0.05)
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and error.strip().count("\n") == 0 and "goes on where it stopped" in error


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 MB of its own."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(tmp_path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_is_one_sentence_and_the_rerun_goes_on(corpora, nodes, small_disk):
    out, ballast = small_disk / "out", small_disk / "ballast"
    command_line, env = command(corpora / "one.py", out), os.environ | {"RAY_ADDRESS": nodes.address}
    process = subprocess.Popen(command_line, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while made(out) < 3:  # the first partitions are there
        assert process.poll() is None, "the run was over before its disk was full"
        time.sleep(0.02)
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 16))
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and error.count("\n") == 1 and "the disk is full" in error
    ballast.unlink()
    run(corpora / "one.py", out)
    assert result(out) == result(corpora / "straight")
    accounted(out)


def test_a_second_run_makes_nothing_and_needs_no_ray(corpora):
    before = written(corpora / "straight")
    done = run_alone(corpora / "one.py", corpora / "straight", "--ray_address=127.0.0.1:1")  # no Ray listens there
    assert "all was done before" in done.stdout
    assert written(corpora / "straight") == before


def test_an_added_source_adds_only_its_own_partitions(corpora, tmp_path):
    out = shutil.copytree(corpora / "straight", tmp_path / "out")
    before = written(out)
    run(corpora / "two.py", out, "--until=documents")
    after = written(out)
    kept = {path for path in before if path.startswith(("raw/", "documents/", "dropped/raw.", "dropped/documents."))}
    assert kept and all(after[path] == before[path] for path in kept)
    new = after.keys() - before.keys()
    assert new and all(Path(path).name.removeprefix("raw.").removeprefix("documents.").startswith("second-") for path in new), new
    assert {r["source"] for r in rows(out, "documents")} == {"first", "second"}


def test_a_changed_setting_remakes_only_what_follows_it(corpora, tmp_path):
    out = shutil.copytree(corpora / "straight", tmp_path / "out")
    before = written(out)
    run(corpora / "one.py", out, "--until=duplicates", "--dedup.threshold=0.5")
    after = written(out)
    remade = {str(Path(path).parent) for path in after if after[path] != before.get(path)}
    assert "duplicates" in remade and not {"raw", "documents", "dropped"} & remade, remade


def accounted(out):
    """Every raw record is in the shards, or else once in the ledger; what the ledger names besides never became a record."""
    index = pq.read_table(out / "shards" / "index.parquet")
    kept, lost = index["id"].to_pylist(), [r["id"] for r in rows(out, "dropped")]
    raw = [r["id"] for r in rows(out, "raw")]
    assert not set(kept) & set(lost)
    assert sorted([*set(kept), *(i for i in lost if i in set(raw))]) == sorted(raw)
    assert all(r["reason"] and r["stage"] for r in rows(out, "dropped"))


def test_every_record_is_in_the_shards_or_once_in_the_ledger(corpora):
    accounted(corpora / "straight")


def test_the_shards_hold_the_documents_in_index_order(corpora):
    from tokenizers import Tokenizer

    import phoenix.shards

    out = corpora / "straight"
    tokenizer = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    texts = {r["id"]: r["text"] for r in rows(out, "documents")}
    files = {}
    for split in ("train", "val"):
        opened = phoenix.shards.open(out / "shards", split, verify=True)
        files |= {s["file"]: a for s, a in zip(opened.meta["shards"][split], opened.shards, strict=True)}
        assert opened.tokens == opened.meta["tokens"][split] > 0
    ends = dict.fromkeys(files, 0)
    for row in pq.read_table(out / "shards" / "index.parquet").to_pylist():
        assert row["start"] == ends[row["shard"]]
        ends[row["shard"]] += row["length"]
        tokens = files[row["shard"]][row["start"] : ends[row["shard"]]]
        assert tokens[-1] == opened.meta["eot"] == tokenizer.token_to_id("<|endoftext|>")
        assert tokenizer.decode(tokens[:-1], skip_special_tokens=False) == texts[row["id"]]
    assert ends == {name: len(array) for name, array in files.items()}
    assert np.memmap(out / "shards" / "train-00000.bin", np.uint16).shape == files["train-00000.bin"].shape


def test_copies_are_removed_with_their_survivor_named(corpora):
    out = corpora / "straight"
    uris = {r["id"]: r["uri"] for r in rows(out, "raw")}
    pairs = {uris[r["id"]]: (uris[r["kept_id"]], r["similarity"]) for r in rows(out, "duplicates")}
    copies = {name: other for name, other in pairs.items() if "copy" in name or "copy" in other[0]}
    assert len(copies) == 2 and all(similarity >= 0.8 for _, similarity in pairs.values())


def test_a_budget_with_shares_is_met_by_tokens(corpora):
    out = corpora / "mixed"
    run(corpora / "two.py", out, "--tokens=150000", "--shard_tokens=40000")
    mix = json.loads((out / "shards" / "sources.json").read_text())
    assert abs(mix["tokens"] - 150_000) < 3_000
    longest = pc.max(pq.read_table(out / "shards" / "index.parquet")["length"]).as_py()
    for source in mix["sources"]:  # the last document of a source may end over the mark or under it
        assert abs(source["tokens"] - source["target_share"] * 150_000) <= longest
    shards = json.loads((out / "shards" / "shards.json").read_text())["shards"]
    assert len(shards["train"]) == 4
    run(corpora / "two.py", out, "--tokens=150000")
    assert sorted(path.name for path in (out / "shards").glob("*.bin")) == ["train-00000.bin", "val-00000.bin"]
    accounted(out)
    assert {r["detail"] for r in rows(out, "dropped") if r["reason"] == "not_selected"}


def test_a_record_that_comes_twice_is_kept_once_and_counts_once_in_the_mix(tmp_path):
    """Two equal files whose records have ids, and in one of them a record twice: one document, and the share is met."""
    records = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(corpus.texts()[:40])]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join([*records, records[0]]))
    (tmp_path / "in" / "b.jsonl").write_text("\n".join(records))
    corpus.write(tmp_path / "other", slice(40, 110))
    more = f', Local("second", {str(tmp_path / "other")!r}, share=0.5)'
    one, out = config(tmp_path / "one.py", tmp_path / "in", 0.5, more), tmp_path / "out"
    run(one, out, "--tokens=40000")
    index = pq.read_table(out / "shards" / "index.parquet")
    assert pc.count_distinct(index["id"]).as_py() == len(index)
    reasons = [(r["uri"], r["reason"]) for r in rows(out, "dropped") if r["uri"] in ("d0", "d1") and r["stage"] != "mix"]
    assert sorted(reasons) == [("d0", "duplicate"), ("d0", "repeated"), ("d1", "duplicate")]
    for source in json.loads((out / "shards" / "sources.json").read_text())["sources"]:
        assert 0.4 < source["share"] < 0.6, source


def test_bad_input_ends_in_the_ledger_and_the_run_goes_on(tmp_path):
    expected = corpus.write_bad(tmp_path / "bad")
    corpus.write(tmp_path / "bad" / "good", slice(0, 20))
    one, out = config(tmp_path / "one.py", tmp_path / "bad"), tmp_path / "out"
    run(one, out, "--until=documents")
    ledger = rows(out, "dropped")
    for name, (records, reason) in expected.items():
        lost = [r for r in ledger if r["uri"].split("#")[0] == name]
        kept = [r for r in rows(out, "documents") if r["uri"].split("#")[0] == name]
        assert reason in {r["reason"] for r in lost}, (name, lost)
        assert len(lost) + len(kept) == records, (name, lost, kept)
    assert len(rows(out, "documents")) >= 15


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--sedd=1"], "did you mean 'seed'"),
        (["--vocab_size=many"], "vocab_size must be int"),
        (["--until=end"], "until"),
        (["--out=/proc/nowhere"], "cannot be written"),
        (["--mix.short=maybe"], "mix.short"),
        (["--num_cpus=-2"], "num_cpus must be at least 1"),
        (["--shard_tokens=0"], "shard_tokens"),
        (["--mix.max_epochs=0"], "mix.max_epochs"),
        (["--dedup.bands=0"], "dedup.bands"),
        (["--language.keep=english"], "codes such as en"),
        (["--language.model=/"], "is not a file"),
        (["--sources=x"], "which is no source"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(corpora, tmp_path, settings, words):
    done = run(corpora / "one.py", tmp_path / "out", *settings, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


def test_shares_that_do_not_sum_to_one_and_missing_paths_are_refused(corpora, tmp_path):
    one = tmp_path / "one.py"
    for text, words in (
        (CONFIG.format(first=str(corpora / "first"), share=0.4, more=""), "sum to 0.4"),
        (CONFIG.format(first=str(corpora / "nowhere"), share=1.0, more=""), "does not exist"),
        ("sources = []", "sources= is empty"),
        ("sources = [1 / 0]", "ZeroDivisionError"),
        ("sources = ['/x']", "which is no source"),
        ("from data_engine.download import Local\nsources = [Local]", "which is no source"),
        ("from data_engine.download import Local\nsources = [Local('a', '/', share='1.0')]", "share must be"),
        ("from data_engine.download import Local\nsources = [Local(1, '/')]", "name must be str"),
    ):
        one.write_text(text)
        done = run(one, tmp_path / "out", check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / "out").exists()


def test_a_file_that_is_gone_leaves_nothing_behind(tmp_path):
    corpus.write(tmp_path / "in", slice(0, 30))
    (tmp_path / "in" / "bad.jsonl").write_text("no json")
    one, out = config(tmp_path / "one.py", tmp_path / "in"), tmp_path / "out"
    run(one, out, "--until=documents")
    assert any(r["uri"].startswith("bad.jsonl") for r in rows(out, "dropped"))
    for name in ("bad.jsonl", "half.jsonl"):
        (tmp_path / "in" / name).unlink()
    run(one, out, "--until=documents")
    for name in ("raw", "documents", "dropped"):
        assert not [r for r in rows(out, name) if r["uri"].split("#")[0] in ("bad.jsonl", "half.jsonl")], name
    fresh = tmp_path / "fresh"
    run(one, fresh, "--until=documents")
    assert rows(out, "documents") == rows(fresh, "documents")


def test_a_file_missing_from_a_copied_folder_is_made_anew(corpora, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(corpora / "straight", out)
    (out / "shards" / "train-00000.bin").unlink()
    run(corpora / "one.py", out)
    assert result(out) == result(corpora / "straight")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_damaged_files_are_made_anew(corpora, tmp_path):
    """Receipts, the index and the shards on every run; pages of partitions and their ledgers with --verify."""
    out = shutil.copytree(corpora / "straight", tmp_path / "out")
    straight = result(out)
    documents = sorted((out / "documents").glob("*.parquet"))[0]
    flip(documents, documents.read_bytes().rindex(b"phoenix") + 40)
    flip(out / "shards" / "index.parquet", 400)
    flip(out / "shards" / "train-00000.bin", 1000)
    done = run(corpora / "one.py", out)
    assert "all was done before" not in done.stdout and result(out) == straight
    assert "all was done before" in run(corpora / "one.py", out).stdout

    ledger = sorted((out / "dropped").glob("*.parquet"))[0]
    before = rows(out, "documents"), rows(out, "dropped")
    flip(documents, 200)
    flip(ledger, 30)
    assert "all was done before" in run(corpora / "one.py", out).stdout
    done = inspect(out, f"--id={before[0][0]['id']}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "cannot be read" in done.stderr
    run(corpora / "one.py", out, "--verify")
    assert (rows(out, "documents"), rows(out, "dropped"), result(out)) == (*before, straight)


def test_a_changed_licence_reaches_the_index(tmp_path):
    corpus.write(tmp_path / "in", slice(0, 20))
    one, out = tmp_path / "one.py", tmp_path / "out"
    for licence in ("", "CC0"):
        config(one, tmp_path / "in", f"1.0, licence={licence!r}")
        run(one, out)
        assert set(pq.read_table(out / "shards" / "index.parquet")["licence"].to_pylist()) == {licence}


def test_a_run_stopped_after_a_change_leaves_no_shards_json(corpora, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(corpora / "straight", out)
    run(corpora / "one.py", out, "--extract.min_chars=2000", "--until=documents")
    assert not (out / "shards" / "shards.json").exists()
    kept, lost = ([r["id"] for r in rows(out, name)] for name in ("documents", "dropped"))
    raw = [r["id"] for r in rows(out, "raw")]
    assert sorted(kept + [i for i in lost if i in set(raw)]) == sorted(raw)
    run(corpora / "one.py", out)
    assert result(out) == result(corpora / "straight")
    accounted(out)


def test_a_failing_step_ends_the_run_and_names_step_and_partition(corpora, tmp_path):
    model = tmp_path / "model.ftz"
    model.write_bytes(b"no model")
    done = run(corpora / "one.py", tmp_path / "out", f"--language.model={model}", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "documents: first-" in done.stderr and "identify_language" in done.stderr


def test_a_run_that_drops_everything_says_so_and_leaves_a_report(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.txt").write_text("")
    (tmp_path / "in" / "bad.jsonl").write_text("{")
    one, out = config(tmp_path / "one.py", tmp_path / "in"), tmp_path / "out"
    done = run(one, out, check=False)
    assert done.returncode == 2 and "no document is left" in done.stderr and done.stderr.count("\n") == 1
    assert "bad_json" in (out / "report.html").read_text()


def test_a_plan_writes_nothing(corpora, tmp_path):
    done = run(corpora / "two.py", tmp_path / "out", "--plan", "--tokens=1_000_000")
    assert "second" in done.stdout and "1,000,000 tokens" in done.stdout and not (tmp_path / "out").exists()


def test_two_runs_do_not_share_a_folder(corpora):
    import fcntl

    with (corpora / "straight" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(corpora / "one.py", corpora / "straight", check=False)
    assert done.returncode == 2 and "another run" in done.stderr


def test_quality_filters_apply_to_web_sources_only(tmp_path):
    texts = {"menu": "Home | News | Contact\n" * 40, "list": "\n".join(f"- item {i}" for i in range(60))}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    text = "from data_engine.download import Local\nlanguage = dict(keep=(), xlm_roberta=None)\nuntil = 'documents'\n"
    pages, books = (
        f"Local({name!r}, {str(tmp_path / 'in.jsonl')!r}, share=0.5, web={name == 'pages'})" for name in ("pages", "books")
    )
    (tmp_path / "c.py").write_text(text + f"sources = [{pages}, {books}]\n")
    run(tmp_path / "c.py", tmp_path / "out")
    assert [(row["source"], row["uri"]) for row in rows(tmp_path / "out", "documents")].count(("books", "menu")) == 1
    assert {row["source"] for row in rows(tmp_path / "out", "documents")} == {"books"}
    lost = {row["uri"]: (row["source"], row["stage"]) for row in rows(tmp_path / "out", "dropped")}
    assert lost == {"menu": ("pages", "quality"), "list": ("pages", "quality")}


@pytest.mark.skipif(not (SHARED / "eval").is_dir(), reason=f"the evaluation data are not in {SHARED}/eval")
def test_documents_that_hold_evaluation_items_are_dropped_and_counted_by_task(tmp_path):
    read = lambda name: [json.loads(line) for line in (SHARED / "eval" / name).read_text().splitlines()]  # noqa: E731
    passages, goals = read("lambada_openai/lambada_test.jsonl"), read("piqa/valid.jsonl")
    texts = list(corpus.texts()[:30])
    for i in range(3):
        texts[i] += "\n\n" + passages[i]["text"]
    texts[5] = f"{texts[5]}\n{goals[7]['goal']} {goals[7]['sol1']} {goals[7]['sol2']}\n{texts[6]}"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    text = f"from data_engine.download import Local\nsources = [Local('s', {str(tmp_path / 'in.jsonl')!r})]\n"
    (tmp_path / "c.py").write_text(text + "language = dict(xlm_roberta=None)\n")
    (tmp_path / "eval").mkdir()
    for task in ("lambada_openai", "piqa"):  # two of the six are enough, and read sooner
        (tmp_path / "eval" / task).symlink_to(SHARED / "eval" / task)
    out = tmp_path / "out"
    run(tmp_path / "c.py", out, f"--decontaminate.data={tmp_path / 'eval'}", "--until=documents")
    lost = [row for row in rows(out, "dropped") if row["reason"] == "contaminated"]
    assert sorted(row["uri"] for row in lost) == ["d0", "d1", "d2", "d5"]
    found = json.loads((out / "report.json").read_text())["contaminated"]
    assert found == {"lambada_openai": {"documents": 3, "items": 3}, "piqa": {"documents": 1, "items": 1}}
    before = written(out)
    run(tmp_path / "c.py", out, "--decontaminate.data=None", "--until=documents")
    assert len(rows(out, "documents")) == 30 and not any(row["reason"] == "contaminated" for row in rows(out, "dropped"))
    assert all(written(out)[path] == when for path, when in before.items() if path.startswith("raw/"))


def test_any_token_leads_back_to_its_document(corpora):
    out = corpora / "straight"
    texts = {r["id"]: r["text"] for r in rows(out, "documents")}
    index = pq.read_table(out / "shards" / "index.parquet").to_pylist()
    for split in ("train", "val"):
        mine = [r for r in index if r["shard"].startswith(split)]
        row = mine[len(mine) // 2]
        text = inspect(out, f"--token={row['start'] + 1}", f"--split={split}").stdout
        assert f"token 1 of the {row['length']} of the document {row['id']}" in text and row["uri"] in text
        before, middle = text.split("\n\n", 1)[1].split("⟧")[0].split("⟦")
        assert texts[row["id"]].startswith(before + middle)
    assert "has the tokens 0 to" in inspect(out, "--token=999999999").stderr


def test_inspect_shows_what_became_of_every_record(corpora):
    out = corpora / "straight"
    duplicate = rows(out, "duplicates")[0]
    text = inspect(out, f"--id={duplicate['id']}").stdout
    assert f"duplicate of {duplicate['kept_id']}" in text and "not in the corpus: dedup, duplicate" in text
    kept = pq.read_table(out / "shards" / "index.parquet").to_pylist()[0]
    text = inspect(out, f"--why={kept['uri']}").stdout
    assert kept["id"] in text and text.rstrip().endswith("it is in the corpus")
    for setting, sentence in (("--why=nowhere", "no record"), ("--id=xyz!", "hex digits"), ("--split=val", "one of --token=123")):
        done = inspect(out, setting)
        assert done.returncode == 2 and sentence in done.stderr
