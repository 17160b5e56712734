"""The scores during training are evaluate.py's."""

import json
from types import SimpleNamespace

import pytest
import torch

import evaluate
from model import from_checkpoint
from phoenix import zero_shot
from tests.fixtures import SHARED
from tests.tiny_run import make_run

DATA = SHARED / "eval"


def test_an_unknown_task_is_known_before_the_first_step():
    assert "unknown task 'hellaswog' in zero_shot_tasks" in zero_shot.problem(("hellaswog",), None)


def test_an_item_that_does_not_fit_the_model_is_known_before_the_first_step(tmp_path, capsys):
    if not DATA.is_dir():
        pytest.skip("the evaluation data is not beside the project: set PHOENIX_SHARED")
    path = make_run(tmp_path, context=192)
    names = ("arc_easy", "piqa", "wikitext")
    cfg = SimpleNamespace(zero_shot_tasks=names, zero_shot_data=str(DATA), zero_shot_limit=20, seq_len=192)
    assert zero_shot.fitting(path.parent / "tokenizer", cfg) == ("arc_easy", "wikitext")
    assert "piqa is not scored: a continuation of" in capsys.readouterr().out


def test_the_scores_during_training_are_those_of_evaluate(tmp_path, capsys):
    if not DATA.is_dir():
        pytest.skip("the evaluation data is not beside the project: set PHOENIX_SHARED")
    path = make_run(tmp_path, context=192)
    model, _ = from_checkpoint(path)
    assert zero_shot.problem(("arc_easy",), str(DATA)) is None
    before = torch.get_rng_state()
    found = zero_shot.score(model, path.parent / "tokenizer", ("arc_easy", "piqa"), 20, str(DATA), torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert "piqa is not scored: a continuation of" in capsys.readouterr().out  # and the run goes on
    report = tmp_path / "eval.json"
    arguments = [str(path), "--tasks=arc_easy", "--limit=20", f"--data={DATA}", f"--json={report}", "--device=cpu"]
    assert evaluate.main(arguments) == 0
    metrics = json.loads(report.read_text(encoding="utf-8"))["results"]["arc_easy"]["metrics"]
    assert found == {f"arc_easy/{name}": value for name, (value, _) in metrics.items()} and len(found) == 2
