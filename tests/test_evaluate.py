"""Laws of scoring: the requests, windows and metrics of lm-evaluation-harness; every log-likelihood that of one plain sequence."""

import errno
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import torch

import evaluate
import export_hf
from model import from_checkpoint
from phoenix import results, shards, tasks, validation
from phoenix.batches import Windows
from phoenix.config import UserError
from phoenix.files import sha256_file
from phoenix.results import FORMAT, FORMAT_VERSION, VERSION, bootstrap_stderr, earlier_results, metrics_of, results_path, write_json
from phoenix.tasks import TASKS, Item, Unavailable, items_of, sha256_json
from tests.fixtures import ROOT, SHARED
from tests.servers import loopback_hub
from tests.tiny_run import make_run

torch.set_num_threads(1)
genuine = pytest.mark.skipif(
    not (SHARED / "eval" / "golden" / "golden.json").is_file(), reason="needs the tasks' data: set PHOENIX_SHARED"
)
SIX = ("hellaswag", "winogrande", "arc_easy", "lambada_openai", "piqa", "wikitext")


@pytest.fixture(scope="module")
def golden():
    return json.loads((SHARED / "eval" / "golden" / "golden.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def lm(run):
    return load(run)[0]


def load(path, device="cpu"):
    return evaluate.load_model(evaluate.Evaluate(str(path), device=device))


# ---- requests and metrics --------------------------------------------------------------------------------------------


def test_a_row_becomes_the_requests_worked_by_hand():
    row = {"activity_label": "Roof", "ctx_a": "[step] A  man [title] sits.", "ctx_b": "he SAYS", "label": "1"}
    assert tasks.hellaswag(row | {"endings": ["is  here. [sub]", "runs."]}) == Item(
        [("Roof: A man. sits. He says", " is here. "), ("Roof: A man. sits. He says", " runs.")], 1
    )
    row = {"sentence": "Ann met Bo so _ waved _ off. ", "option1": "Ann", "option2": "Bo", "answer": "2"}
    assert tasks.winogrande(row) == Item([("Ann met Bo so Ann", " waved _ off."), ("Ann met Bo so Bo", " waved _ off.")], 1)
    row = {"question": "Why?", "choices": {"text": ["a ", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "3"}
    asked = "Question: Why?\nAnswer:"
    assert tasks.arc_easy(row) == Item([(asked, " a "), (asked, " b"), (asked, " c")], 2)
    row = {"goal": "Why?", "sol1": " a", "sol2": "b ", "label": "0"}
    assert tasks.piqa(row) == Item([(asked, "  a"), (asked, " b ")], 0)
    assert tasks.lambada_openai({"text": "she\u00a0told  Li\nam"}) == Item([("she\u00a0told ", " Li\nam")], 0)
    page = ' = Ann = \n He said : " no " ( 1 @,@ 000 @.@ 5 ) , \n it \'s 3 ° N '
    assert tasks.wikitext({"page": page}) == Item([(' = Ann =\nHe said: "no" (1,000.5),\nit\'s 3°N ',)], (24, 65))


def test_a_title_opens_a_page_and_a_section_does_not():
    text = " \n = A = \n x \n = = B = = \n y \n = C = \n z \n"
    assert tasks.wikitext_pages(text) == [" = A = \n x \n = = B = = \n y ", " = C = \n z \n"]


@genuine
def test_requests_are_those_of_the_harness(golden):
    now, old = golden["lm_eval_0_4_13_offline_run"], golden["legacy_v0_3_request_hashes"]
    for name in SIX:
        items, _ = items_of(name, SHARED / "eval")  # checks number and hashes
        assert TASKS[name].requests_sha256 == now["sha256_of_json_dumps_of_request_list_in_dataset_order"][f"loc_{name}"]
        shuffled = list(items)
        random.Random(42).shuffle(shuffled)
        requests = [list(request) for item in shuffled for request in item.requests * (2 if name == "lambada_openai" else 1)]
        dumped = json.dumps(requests, sort_keys=True)
        assert hashlib.sha256(dumped.encode()).hexdigest() == old["hashes"][name]
    assert len(items_of("arc_easy:validation", SHARED / "eval")[0]) == 570


@genuine
@pytest.mark.slow
def test_metrics_are_those_of_the_harness_for_its_fake_model(golden):
    def fake(context, continuation=None):
        text = context if continuation is None else f"{context}\0{continuation}"
        digest = hashlib.sha256(text.encode()).digest()
        fraction = int.from_bytes(digest[:6], "big") / 2**48
        return -(0.5 + fraction) * len(context if continuation is None else continuation), digest[6] % 3 == 0

    for name in SIX:
        items, _ = items_of(name, SHARED / "eval")
        answers = [[fake(*request) for request in item.requests] for item in items]
        want = golden["lm_eval_0_4_13_offline_run"]["results"][f"loc_{name}"]
        for metric, (value, stderr) in metrics_of(name, items, answers, draws=1000).items():
            assert value == pytest.approx(want[f"{metric},none"], rel=1e-12)
            assert stderr is None or stderr == pytest.approx(want[f"{metric}_stderr,none"], rel=1e-12)


def test_the_bootstrap_draws_what_random_choices_draws():
    lls = np.random.default_rng(0).normal(-3, 1, 37)
    replicates = []
    for seed in range(2):
        draw = random.Random(seed)
        replicates += [math.exp(-np.mean(draw.choices(list(lls), k=37))) for _ in range(1000)]
    assert bootstrap_stderr(lls, 2000) == pytest.approx(np.std(replicates, ddof=1), rel=1e-12)


def test_ties_go_to_the_first_and_lengths_count_without_the_delimiter():
    items = [Item([("c", " ab"), ("c", "  b")], 0), Item([("c", " a"), ("c", " abcd")], 1)]
    answers = [[(-2.0, False), (-2.0, False)], [(-1.0, False), (-3.0, False)]]
    found = metrics_of("piqa", items, answers)
    assert found == {"acc": (0.5, 0.5), "acc_norm": (1.0, 0.0)}
    assert metrics_of("piqa", items[:1], answers[:1])["acc"] == (1.0, None)  # one item has no spread


# ---- log-likelihoods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.model"])
def test_scores_are_stale_when_a_file_of_the_folder_changes(tmp_path, file):
    about = {"weights_sha256": {}, "tokenizer_sha256": None}
    (tmp_path / file).write_text("{}")
    (tmp_path / "eval.json").write_text("[]")

    def described():
        found = evaluate.files_of(tmp_path)
        return about | {"files_sha256": {file.name: sha256_file(file) for file in found}}

    old = {"format": FORMAT, "version": FORMAT_VERSION, "versions": {"evaluate": VERSION}, "results": {"piqa": {}}}
    assert earlier_results(tmp_path / "eval.json", described()) == {}
    (tmp_path / "eval.json").write_text(json.dumps(old | described()))
    assert earlier_results(tmp_path / "eval.json", described()) == {"piqa": {}}
    (tmp_path / file).write_text("{} ")
    assert earlier_results(tmp_path / "eval.json", described()) == {}


def test_a_full_disk_is_one_sentence_and_leaves_the_scores_before(tmp_path, monkeypatch):
    path = tmp_path / "eval.json"
    write_json(path, {"results": {"old": 1}})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written to .*eval.json \(No space left on device\)"):
        write_json(path, {"results": {"new": 2}})
    assert json.loads(path.read_text()) == {"results": {"old": 1}} and list(tmp_path.iterdir()) == [path]


def test_a_diverged_model_is_one_sentence_and_takes_no_other_task_with_it():
    lambada = [Item([("a", " b")], 0)] * 3
    with pytest.raises(Unavailable, match=r"a perplexity of e\^4,000 is beyond any number"):
        metrics_of("lambada_openai", lambada, [[(-4000.0, False)]] * 3, draws=1000)
    with pytest.raises(Unavailable, match="beyond any number"):
        metrics_of("wikitext", [Item([("a b",)], (2, 3))], [[(-4000.0, False)]])


@genuine
@pytest.mark.slow
def test_the_harness_gives_the_same_to_every_request(tmp_path):
    """A small part of `make parity`: one item of 1,200 of each task."""
    if not (ROOT / ".venv-lm-eval" / "bin" / "python").exists():
        pytest.skip("needs .venv-lm-eval: run `make peers`")
    export = tmp_path / "hf"
    assert export_hf.main([str(make_run(tmp_path, context=512, std=0.1)), f"--out={export}"]) == 0
    command = [sys.executable, ROOT / "benchmarks" / "bench_eval.py", f"--ours={export}", f"--data={SHARED / 'eval'}"]
    done = subprocess.run(
        [*command, "--every=1200", f"--scratch={tmp_path / 'parity'}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for model in ("ours", "gpt2"):
        assert f"{model}: equal" in done.stdout
    assert all(done.stdout.count(f"| {name} | {len(range(0, TASKS[name].items, 1200))} |") == 2 for name in SIX)


def test_the_comparison_with_the_harness_knows_what_is_equal(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import bench_eval

    def compared(metric, ours, theirs, lls=(-1.0, -1.0)):
        mine = {"lambada_openai": {"lls": [[lls[0]]], "metrics": {metric: (ours, None)}}}
        their = {"lambada_openai": {f"{metric},none": theirs, f"{metric}_stderr,none": "N/A"}}
        ((*_, above, cell),), equal = bench_eval.compare(mine, their, {"lambada_openai": [[lls[1]]]})
        return above, cell, equal

    assert compared("perplexity", 675765.3801, 675765.3801) == ("0", "equal", True)
    four = "perplexity 675765.1818 for 675765.3801 (3e-07)"  # beyond the digits of float32
    assert compared("perplexity", 675765.1818, 675765.3801) == ("0", four, True)
    assert compared("perplexity", 675700.0, 675765.3801)[2] is False
    assert compared("acc", 0.25004, 0.25001)[2] is True and compared("acc", 0.2501, 0.25)[2] is False
    step = 2.0**-13  # of float32 from 1,024 to 2,048
    for lls, equal in (((-1.0, -1.00009), True), ((-1.0, -1.00012), False), ((-1100.0, -1100.0 - 3 * step), True)):
        assert compared("acc", 0.5, 0.5, lls)[::2] == ("0" if equal else "1", equal)
    assert compared("acc", 0.5, 0.5, (-1100.0, -1100.0 - 4 * step))[2] is False


# ---- bits per byte ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [None, 3])
def test_bits_per_byte_is_what_training_validates(lm, run, windows):
    cut = Windows(shards.open(run.parents[1] / "data" / "shards", "val"), lm.context)
    found, counts = evaluate.bits_per_byte(lm, cut, windows)
    count = windows or cut.count
    chosen = np.arange(count) * cut.count // count
    bytes_V = validation.token_bytes(run.parent / "tokenizer" / "tokenizer.json")
    want = validation.validate(from_checkpoint(run)[0], cut, chosen, 2, bytes_V, torch.device("cpu"), nullcontext)
    assert found["bits_per_byte"][0] == pytest.approx(want["val_bpb"], rel=1e-6)
    assert found["loss"][0] == pytest.approx(want["val_loss"], rel=1e-6)
    assert (counts["items"], counts["of"], counts["tokens"]) == (count, cut.count, count * lm.context)


# ---- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_has_each_value_in_its_column(capsys):
    lambada = {"metrics": {"acc": (0.25, 0.0123), "perplexity": (38.5, 1.5)}, "items": 1000, "of": 5153, "chance": 0.0}
    results.print_table({"lambada_openai": lambada, "piqa": lambada | {"metrics": {"acc_norm": (0.5, None)}, "chance": 0.5}})
    heads, acc, perplexity, piqa = ([cell for cell in line.split() if cell != "±"] for line in printed_lines(capsys))
    assert heads == ["task", "metric", "value", "stderr", "items", "chance", "GPT-2", "124M", "Pythia-160M", "Cerebras-GPT-111M"]
    assert acc == ["lambada_openai", "acc", "0.2500", "0.0123", "1,000", "of", "5,153", "0", "0.326", "0.328", "0.194"]
    assert perplexity == ["lambada_openai", "perplexity", "38.5000", "1.5000", "1,000", "of", "5,153", "–", "40.06", "–", "–"]
    assert piqa == ["piqa", "acc_norm", "0.5000", "1,000", "of", "5,153", "0.5", "0.625", "0.616", "–"]


@genuine
def test_the_anchors_are_those_of_the_notes():
    lines = (SHARED / "field_notes" / "trainer.md").read_text().splitlines()
    published = ("| GPT-2 124M | WebText |", "| Pythia-160M final |", "| **Cerebras-GPT-111M** |")
    rows = [next(line for line in lines if line.startswith(start)) for start in published]
    for scores in results.ANCHOR_SCORES.values():
        for score, row in zip(scores, rows, strict=True):
            assert score is None or (f"{score:.3f}"[1:] if score < 1 else f"{score}") in row


def printed_lines(capsys):
    return capsys.readouterr().out.strip().splitlines()


# ---- data and arguments ----------------------------------------------------------------------------------------------

ROWS = [{"goal": f"goal {i}", "sol1": "a man", "sol2": "a roof", "label": i % 2} for i in range(5)]


@pytest.fixture
def five_items(monkeypatch, tmp_path):
    """piqa with five items, and a folder of data that holds them."""
    items = [tasks.piqa(row) for row in ROWS]
    known = {
        "items": 5,
        "requests_sha256": sha256_json([request for item in items for request in item.requests]),
        "gold_sha256": sha256_json([item.gold for item in items]),
    }
    monkeypatch.setitem(TASKS, "piqa", replace(TASKS["piqa"], **known))
    folder = tmp_path / "eval" / "piqa"
    folder.mkdir(parents=True)
    bare = [{k: v for k, v in row.items() if k != "label"} for row in ROWS]
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    (folder / "valid-labels.lst").write_text("".join(f"{row['label']}\n" for row in ROWS))
    return folder.parent


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)


def test_a_run_writes_every_items_loglikelihoods_and_names_what_is_missing(run, five_items, no_network, tmp_path, capsys):
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--limit=4"]
    assert evaluate.main(argv) == 0
    report, printed = json.loads(out.read_text()), capsys.readouterr().out
    piqa = report["results"]["piqa"]
    assert (piqa["items"], piqa["of"], piqa["chance"], piqa["gold"]) == (4, 5, 0.5, [0, 1, 0, 1])
    assert [len(lls) for lls in piqa["loglikelihoods"]] == [2] * 4
    assert report["results"]["bits_per_byte"]["metrics"]["bits_per_byte"][0] > 0
    assert set(report["missing"]) == set(SIX) - {"piqa"}
    assert "not scored: hellaswag: Rowan/hellaswag cannot be had from the Hub: Name or service not known" in printed
    assert report["weights_sha256"]["ckpt.pt"] == hashlib.sha256(run.read_bytes()).hexdigest()
    assert evaluate.main([*argv, "--tasks=piqa,winogrande"]) == 1  # asked for by name, and not scored
    assert evaluate.main([*argv, "--tasks=bits_per_byte"]) == 0
    assert set(json.loads(out.read_text())["results"]) == {"bits_per_byte", "piqa"}  # what the file had stays


def test_two_runs_that_share_a_file_keep_each_others_results(run, five_items, tmp_path, monkeypatch):
    shutil.copytree(five_items / "piqa", tmp_path / "eval" / "arc_easy")
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl"))
    out, plain = tmp_path / "scores.json", evaluate.answer
    argv = [str(run), f"--data={five_items}", f"--json={out}"]

    def another_run_meanwhile(lm, name, items):
        monkeypatch.setattr(evaluate, "answer", plain)
        assert evaluate.main([*argv, "--tasks=arc_easy"]) == 0
        return plain(lm, name, items)

    monkeypatch.setattr(evaluate, "answer", another_run_meanwhile)
    assert evaluate.main([*argv, "--tasks=piqa"]) == 0
    assert set(json.loads(out.read_text())["results"]) == {"piqa", "arc_easy"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eval", "scores.json"]


def test_an_earlier_runs_metrics_are_made_anew_and_damaged_entries_scored_again(run, five_items, tmp_path, capsys):
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"]
    assert evaluate.main(argv) == 0
    report = json.loads(out.read_text())
    first = report["results"]["piqa"]
    lls, known = first["loglikelihoods"], {key: first[key] for key in first if key != "secs"}
    for change, message in (
        ({"metrics": {"acc": [9.0, None]}}, "scored before"),
        ({"loglikelihoods": lls[:3]}, "5 items in"),
        ({"loglikelihoods": [given[:1] for given in lls]}, "5 items in"),
        ({"loglikelihoods": [["-1.5", "-2"]] * 5}, "5 items in"),
        ({"likeliest": None}, "5 items in"),
        ([], "5 items in"),
    ):
        out.write_text(json.dumps(report | {"results": {"piqa": first | change if change else change}}))
        capsys.readouterr()
        assert evaluate.main(argv) == 0
        printed = capsys.readouterr().out
        assert f"piqa: {'5 items, ' if message == 'scored before' else ''}{message}" in printed and "9.0000" not in printed
        if "metrics" not in change:
            found = json.loads(out.read_text())["results"]["piqa"]
            assert {key: found[key] for key in known} == known


def test_a_run_that_scores_nothing_fails_and_leaves_the_scores_before_it(run, no_network, tmp_path, capsys):
    path = shutil.copytree(run.parent, tmp_path / "run") / "ckpt.pt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"settings": {"data": "gone"}}, path)
    scores = path.parent / "eval.json"
    scores.write_text(before := json.dumps({"format": FORMAT}))
    assert evaluate.main([str(path)]) == 1
    assert scores.read_text() == before
    assert "not scored: bits_per_byte: gone/shards/shards.json" in capsys.readouterr().out


def test_a_stopped_run_goes_on_at_the_first_task_that_it_had_not_finished(run, five_items, tmp_path, monkeypatch, capsys):
    shutil.copytree(five_items / "piqa", tmp_path / "eval" / "arc_easy")
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl"))
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--tasks=bits_per_byte,piqa,arc_easy"]
    plain, asked = evaluate.answer, []

    def stopped_at_arc_easy(lm, name, items):
        asked.append(name)
        if name == "arc_easy" and asked.count(name) == 1:
            raise KeyboardInterrupt
        return plain(lm, name, items)

    monkeypatch.setattr(evaluate, "answer", stopped_at_arc_easy)
    assert evaluate.main(argv) == 130
    assert f"stopped; the scores of bits_per_byte, piqa are in {out}" in capsys.readouterr().err
    first = json.loads(out.read_text())["results"]
    assert set(first) == {"bits_per_byte", "piqa"}
    assert evaluate.main(argv) == 0
    assert asked == ["piqa", "arc_easy", "arc_easy"]
    printed = capsys.readouterr().out
    assert "piqa: 5 items, scored before" in printed and "arc_easy: 5 items in" in printed
    last = json.loads(out.read_text())["results"]
    assert {name: last[name] for name in first} == first and "arc_easy" in last
    assert evaluate.main([*argv, "--limit=3"]) == 0
    assert asked == ["piqa", "arc_easy", "arc_easy"], "the first of what was scored"
    printed = capsys.readouterr().out
    assert "piqa: 3 items, scored before" in printed and re.search(r"piqa +acc .* 3 of 5", printed)
    report = json.loads(out.read_text())
    assert report["results"] == last, "a short rerun takes nothing of a long one away"
    out.write_text(json.dumps(report | {"weights_sha256": {"ckpt.pt": "another model's"}}))
    assert evaluate.main([*argv, "--limit=3"]) == 0
    assert asked[3:] == ["piqa", "arc_easy"]
    short = json.loads(out.read_text())["results"]["piqa"]
    assert short["items"] == 3 and short["loglikelihoods"] == last["piqa"]["loglikelihoods"][:3]
    assert evaluate.main(argv) == 0 and asked[5:] == ["piqa", "arc_easy"], "more items than before are scored anew"


@pytest.mark.parametrize("content", ['{"precious": 1}', "{", "[1]", "[" * 200_000])
def test_a_file_that_is_no_result_is_not_overwritten(run, five_items, tmp_path, content):
    out = tmp_path / "scores.json"
    out.write_text(content)
    with pytest.raises(UserError, match="is no result of evaluate"):
        evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"])
    assert out.read_text() == content


def test_what_is_no_file_is_not_replaced_by_results(run, five_items, tmp_path):
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)  # stands for /dev/null and other devices, which tests leave alone
    link.symlink_to(pipe)
    folder.mkdir()
    for out in (pipe, link, folder):
        before = out.lstat()
        with pytest.raises(UserError, match="is a folder, a pipe or a device, not a file: give another --json"):
            evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"])
        assert (out.lstat().st_ino, out.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert pipe.is_fifo() and not list(folder.iterdir())


def test_results_go_where_a_link_points_and_into_an_empty_file(run, five_items, tmp_path):
    link, target, empty = tmp_path / "link.json", tmp_path / "disk.json", tmp_path / "empty.json"
    link.symlink_to(target)
    empty.touch()
    for out in (link, link, empty):  # the target is made, then reused
        assert evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"]) == 0
        assert "piqa" in json.loads(out.read_text())["results"]
    assert link.is_symlink() and target.is_file()


def test_checkpoints_of_one_run_have_a_result_each(run, five_items, tmp_path):
    path = shutil.copytree(run.parent, tmp_path / "run") / "ckpt.pt"
    other = path.with_name("ckpt-00000300.pt")
    shutil.copyfile(path, other)
    for checkpoint in (path, other):
        assert evaluate.main([str(checkpoint), f"--data={five_items}", "--tasks=piqa"]) == 0
    for name, checkpoint in (("eval.json", path), ("eval-ckpt-00000300.json", other)):
        assert set(json.loads((path.parent / name).read_text())["weights_sha256"]) == {checkpoint.name}
    assert results_path(path.parent) == path.parent / "eval.json"


def test_a_task_that_does_not_fit_the_model_is_named_and_the_rest_goes_on(run, five_items, tmp_path, monkeypatch, capsys):
    long = tmp_path / "eval" / "arc_easy"
    long.mkdir()
    row = {"goal": "1", "sol1": "1 " * 60, "sol2": "2", "label": 0}
    (long / "valid.jsonl").write_text(json.dumps(row) + "\n")
    (long / "valid-labels.lst").write_text("0\n")
    item = tasks.piqa(row)
    known = {"items": 1, "requests_sha256": sha256_json(item.requests), "gold_sha256": sha256_json([0])}
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl", **known))
    argv = [str(run), f"--data={five_items}", f"--json={tmp_path / 'scores.json'}", "--tasks=arc_easy,piqa"]
    assert evaluate.main(argv) == 1
    printed = capsys.readouterr().out
    assert "piqa: 5 items in" in printed and set(json.loads((tmp_path / "scores.json").read_text())["missing"]) == {"arc_easy"}
    assert re.search(r"not scored: arc_easy: a continuation of \d+ tokens does not fit the model's context of 48", printed)


def test_data_of_the_hub_come_at_their_revision_and_once(five_items, monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    repo, revision, _ = TASKS["piqa"].hub
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    data = table.getvalue().to_pybytes()
    with loopback_hub.running(monkeypatch, tmp_path / "cache") as hub:
        hub.datasets[repo, revision] = {"piqa_validation.parquet": data, "piqa_train.parquet": b"never asked for"}
        items, source = items_of("piqa", None)
        assert items == items_of("piqa", five_items)[0] and source == f"{repo} on the Hub at {revision}"
        assert not any("train" in path for _, path, _ in hub.requests)
        hub.datasets.clear()  # the Hub no longer answers for it: the cache has it, at this revision
        assert items_of("piqa", None)[0] == items
        with pytest.raises(Unavailable, match="Rowan/hellaswag cannot be had from the Hub: "):
            items_of("hellaswag", None)
        shutil.rmtree(tmp_path / "cache")
        hub.datasets[repo, revision] = {"piqa_validation.parquet": data[:-1]}
        with pytest.raises(Unavailable, match="is not the data of piqa"):
            items_of("piqa", None)


def test_a_hub_that_does_not_answer_is_given_up_once(monkeypatch, tmp_path):
    asked, stop = [], threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            stop.wait(20)

        def log_message(self, *_):
            pass

    with loopback_hub.running(monkeypatch, tmp_path / "cache", lambda hub: Silent):
        monkeypatch.setattr(tasks, "unreachable", {})
        monkeypatch.setattr(tasks, "SILENCE_SECS", 0.2)
        for name in ("piqa", "hellaswag"):
            with pytest.raises(Unavailable, match=r"cannot be had from the Hub: http.* has sent nothing for 0\.2 s"):
                items_of(name, None)
            assert len(asked) == 1  # not for the second
        stop.set()


def test_an_answer_of_the_hub_that_is_cut_off_is_one_sentence(monkeypatch):
    import httpx2

    asked = []

    def cut(*_, local_files_only, **__):
        asked.append(local_files_only)
        raise httpx2.RemoteProtocolError("peer closed connection") from OSError("of the layer below")

    monkeypatch.setattr(tasks, "unreachable", {})
    monkeypatch.setattr("huggingface_hub.snapshot_download", cut)
    for name in ("piqa", "hellaswag"):
        with pytest.raises(Unavailable, match="cannot be had from the Hub: "):
            items_of(name, None)
    assert asked == [False, True, True]  # the cache is looked into, and only it for the second


def test_a_file_of_the_hub_is_checked_like_any_other(five_items, monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "snapshot" / "piqa_validation.parquet"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / "snapshot"))
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    assert items_of("piqa", None)[0] == items_of("piqa", five_items)[0]
    for wrong in (ROWS[:4], [{"text": "another data set"}] * 5, [row | {"label": 0} for row in ROWS]):
        pq.write_table(pa.Table.from_pylist(wrong), file)
        with pytest.raises(Unavailable, match="is not the data of piqa"):
            items_of("piqa", None)
    file.unlink()
    with pytest.raises(Unavailable, match=r"baber/piqa has no \*validation\*\.parquet at revision 142f6d73"):
        items_of("piqa", None)


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("valid.jsonl", lambda text: text.split("\n", 1)[1], "is not the data of piqa"),  # 4 rows, 5 answers
        ("valid.jsonl", lambda text: text.replace("a man", "a  man"), "requests_sha256 differs"),
        ("valid.jsonl", lambda text: text[:-20], "JSONDecodeError"),
        ("valid.jsonl", lambda text: "", "0 items, 5 are expected"),
        ("valid.jsonl", lambda text: text.replace("goal", "query"), "KeyError: 'goal'"),
        ("valid-labels.lst", lambda text: text.replace("1", "0"), "gold_sha256 differs"),
        ("valid-labels.lst", lambda text: "yes\n" * 5, "is not the data of piqa"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_scored(five_items, file, change, sentence):
    path = five_items / "piqa" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=sentence):
        items_of("piqa", five_items)


def test_a_users_mistake_is_one_sentence(run, tmp_path, no_network):
    foreign = tmp_path / "foreign.pt"
    foreign.write_bytes(b"not a checkpoint")
    (tmp_path / "empty").mkdir()
    for argv, sentence in (
        (["no/ckpt.pt"], "no/ckpt.pt does not exist"),
        ([str(foreign), "--tasks=bits_per_byte"], "is not a whole torch file"),
        ([str(tmp_path / "empty"), "--tasks=bits_per_byte"], "a folder without config.json"),
        ([str(run), "--tasks=hellaswog"], "unknown task 'hellaswog': there are hellaswag, winogrande"),
        ([str(run), "--tasks=()"], "--tasks names no task"),
        ([str(run), "--limit=0"], "must be at least 1"),
        ([str(run), "--data=no/folder"], "--data=no/folder is not a folder"),
        ([str(run), "--tasks=bits_per_byte", "--shards=no/folder"], "no/folder/shards.json does not exist"),
        ([str(run), "--tasks=bits_per_byte", "--device=nonsense"], "device 'nonsense' cannot be used"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate.main(argv)


def test_a_tokenizer_other_than_the_trained_one_is_refused(tmp_path, capsys):
    path = make_run(tmp_path)
    meta = tmp_path / "data" / "shards" / "shards.json"
    meta.write_text(meta.read_text().replace('"tokenizer_sha256": "', '"tokenizer_sha256": "0'))
    assert evaluate.main([str(path), "--tasks=bits_per_byte"]) == 1
    assert "not scored: bits_per_byte" in (printed := capsys.readouterr().out) and "were made with another tokenizer" in printed
    with pytest.raises(UserError, match="were made with another tokenizer"):
        evaluate.main([str(path), "--tasks=bits_per_byte", f"--shards={meta.parent}"])
    tokens = path.parent / "tokenizer" / "tokenizer.json"
    tokens.write_text(tokens.read_text() + " ")
    with pytest.raises(UserError, match="is not the tokenizer that"):
        evaluate.main([str(path), "--tasks=bits_per_byte"])
