"""Laws of the guards: a run that met bad data ends bit for bit as one that never saw it, stopped or not."""

import contextlib
import functools
import io
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch

import train
from model import Phoenix
from phoenix import checkpoint, guards, shards
from phoenix.batches import Windows, data_step, windows_of_step
from phoenix.checkpoint import RunState
from phoenix.config import UserError
from tests.training import STEPS, at_step, losses, make_data, once, quick, run, weights_hash


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick():
        yield


def rows_of(out, name):
    return [row for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines() if name in (row := json.loads(line))]


def hash_without(monkeypatch, data, out, left_out, **settings):
    """The final weights' hash of a run that leaves these steps of the data out from its beginning."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "RunState", functools.partial(RunState, left_out=left_out))
        assert run(data, out, **settings) == 0
    return weights_hash(out)


# ---- one step --------------------------------------------------------------------------------------------------------


def checked(losses, **settings):
    """(what check_step decides on each of the losses, the state after them)"""
    cfg, state = train.Train(data="", out="", **settings), RunState()
    return [guards.check_step(state, loss, 1.0, cfg)[0] for loss in losses], state


def test_a_spike_is_called_when_there_is_a_history_and_never_downwards():
    noise = [3.0 + 0.01 * (-1) ** n for n in range(guards.HISTORY)]
    assert checked([*noise[:-1], 9.0])[0][-1] == "update"  # too few to know
    assert checked([*noise, 3.07])[0][-1] == "update"  # 7 standard deviations
    assert checked([*noise, 3.09])[0][-1] == "roll back"
    assert checked([*noise, 1.0])[0][-1] == "update"
    assert checked([*noise, 9.0], spike_z=None)[0][-1] == "update"
    assert len(checked([*noise, *noise])[1].losses) == guards.HISTORY


def test_steps_that_are_not_finite_are_skipped_until_there_are_too_many_in_a_row():
    found, state = checked([math.nan, math.inf, 3.0, math.nan, math.nan, math.nan], rollback_after=3)
    assert found == ["skip", "skip", "update", "skip", "skip", "roll back"]
    assert state.losses == [3.0] and state.skipped == 5
    cfg = train.Train(data="", out="", rollback_after=3)
    assert guards.check_step(RunState(), 3.0, math.inf, cfg)[0] == "skip"  # a gradient


@pytest.mark.parametrize("left_out", [[], [0], [3], [3, 4, 5], [0, 2, 4], [5, 1]])
def test_the_data_goes_on_behind_what_is_left_out(left_out):
    assert [data_step(step, left_out) for step in range(6)] == [n for n in range(20) if n not in left_out][:6]


# ---- in a run --------------------------------------------------------------------------------------------------------


def poisoned(data, folder, step):
    """A copy of the data in which the windows of that step are noise: tokens drawn evenly instead of text."""
    shutil.copytree(data, folder)
    split = shards.open(folder / "shards", "train")
    windows, rng = Windows(split, 16), np.random.default_rng(0)
    for window in windows_of_step(step, 4, windows.count, seed=1):
        for position in range(window * 16 + 1, window * 16 + 16):  # the first token is its neighbour's last target
            shard = np.searchsorted(windows.start_S, position, side="right") - 1
            file = folder / "shards" / split.meta["shards"]["train"][shard]["file"]
            tokens = np.memmap(file, np.uint16, "r+")
            tokens[position - windows.start_S[shard]] = rng.integers(2, split.meta["vocab_size"])
            tokens.flush()
    return folder


POISON = dict(verify=False, steps=50, ckpt_every=7, spike_z=4.0, rollback_margin=3, keep_last=3)


@pytest.fixture(scope="module")
def long_data(tmp_path_factory):
    """Text for 60 steps without a second epoch, and the same with poison in step 40."""
    folder = tmp_path_factory.mktemp("long")
    clean = make_data(folder / "clean", documents=300)
    return clean, poisoned(clean, folder / "poisoned", 40)


@pytest.fixture
def short_history(monkeypatch):
    monkeypatch.setattr(guards, "HISTORY", 20)
    monkeypatch.setattr("tests.training.STEPS", POISON["steps"])


@pytest.fixture(scope="module")
def poisoned_run(long_data, tmp_path_factory):
    """The folder of a run on the poisoned data that was never stopped, and its output."""
    out, output = tmp_path_factory.mktemp("poisoned") / "out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(guards, "HISTORY", 20)
        assert run(long_data[1], out, **POISON) == 0
    return out, output.getvalue()


def test_a_poisoned_batch_sends_the_run_back_and_is_left_out(long_data, poisoned_run, tmp_path, monkeypatch, short_history):
    clean, poison = long_data
    left_out = [37, 38, 39, 40]
    out, output = poisoned_run
    assert "standard deviations above the mean" in output and f"back to step 35, data of steps {left_out} left out" in output
    (row,) = rows_of(out, "rollback_from")
    assert (row["step"], row["rollback_from"], row["left_out"]) == (35, 41, left_out)
    saved, _ = checkpoint.newest_checkpoint(out)
    assert (saved["left_out"], saved["rollbacks"], saved["step"]) == (left_out, 1, 50)
    assert [row["step"] for row in rows_of(out, "loss")] == list(range(1, 51))  # each is logged once
    # bit for bit the run that never saw that data
    assert weights_hash(out) == hash_without(monkeypatch, clean, tmp_path / "without", left_out, **POISON)
    # and better than the one that did not notice
    assert run(poison, tmp_path / "blind", **(POISON | {"spike_z": None})) == 0
    assert weights_hash(tmp_path / "blind") != weights_hash(out)


@pytest.mark.slow
@pytest.mark.parametrize("step", [38, 44])  # before the poison, and between the rollback and the next checkpoint
def test_stopped_around_a_rollback_it_ends_as_the_straight_run(long_data, poisoned_run, tmp_path, monkeypatch, short_history, step):
    (_, poison), (straight, _) = long_data, poisoned_run

    class Crash(Exception):
        pass

    def crash():
        raise Crash

    with monkeypatch.context() as patch:
        at_step(patch, step, once(crash))
        with pytest.raises(Crash):
            run(poison, tmp_path / "out", **POISON)
    with monkeypatch.context() as patch:
        at_step(patch, 8, once(lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert run(poison, tmp_path / "out", **POISON) == 143
    assert run(poison, tmp_path / "out", **POISON) == 0
    assert weights_hash(tmp_path / "out") == weights_hash(straight)
    assert losses(tmp_path / "out") == losses(straight)


def nan_at(monkeypatch, data, steps):
    """NaN for every micro-batch that holds a window of these steps of the data."""
    windows, objective_of = Windows(shards.open(data / "shards", "train"), 16), Phoenix.objective
    bad = {tuple(windows.read(w)[:-1]) for step in steps for w in windows_of_step(step, 4, windows.count, seed=1)}

    def objective(self, tokens_BT, targets_BT, z_loss):
        factor = math.nan if any(tuple(row) in bad for row in tokens_BT.tolist()) else 1.0
        return tuple(part * factor for part in objective_of(self, tokens_BT, targets_BT, z_loss))

    monkeypatch.setattr(Phoenix, "objective", objective)


def test_too_many_in_a_row_send_the_run_back_and_are_left_out(tiny_data, tmp_path, monkeypatch, capsys):
    nan_at(monkeypatch, tiny_data, [8, 9, 10])
    assert run(tiny_data, tmp_path / "out", rollback_after=3) == 0
    assert "3 such steps in a row: back to step 5, data of steps [8, 9, 10] left out" in capsys.readouterr().out
    saved, _ = checkpoint.newest_checkpoint(tmp_path / "out")
    assert saved["left_out"] == [8, 9, 10] and saved["skipped"] == 0 and saved["step"] == STEPS  # the rollback undid their skips
    assert weights_hash(tmp_path / "out") == hash_without(monkeypatch, tiny_data, tmp_path / "without", [8, 9, 10])


def test_fewer_in_a_row_are_skipped_and_no_more(tiny_data, tmp_path, monkeypatch):
    nan_at(monkeypatch, tiny_data, [8, 9])
    assert run(tiny_data, tmp_path / "out", rollback_after=3) == 0
    saved, _ = checkpoint.newest_checkpoint(tmp_path / "out")
    assert saved["skipped"] == 2 and saved["left_out"] == [] and not rows_of(tmp_path / "out", "rollback_from")


def test_a_run_that_finds_no_way_past_gives_up(tiny_data, tmp_path, monkeypatch):
    nan = torch.tensor(math.nan, requires_grad=True)
    monkeypatch.setattr(Phoenix, "objective", lambda self, *_: (nan * self.model.norm.weight.sum(), nan.detach()))
    with pytest.raises(UserError, match=r"step 2: .* 5 rollbacks brought no way past it: .* spike_z or rollback_after"):
        run(tiny_data, tmp_path / "out", rollback_after=2)


def test_a_run_goes_on_while_each_rollback_gets_past_its_place(tiny_data, tmp_path, monkeypatch):
    nan_at(monkeypatch, tiny_data, range(2, 24, 3))
    assert run(tiny_data, tmp_path / "out", rollback_after=1, rollback_margin=0, steps=16) == 0
    saved, _ = checkpoint.newest_checkpoint(tmp_path / "out")
    assert saved["rollbacks"] > guards.MAX_ROLLBACKS and saved["step"] == 16


def test_a_rollback_uses_the_newest_checkpoint_where_older_ones_are_damaged(tmp_path, capsys):
    for step in (5, 10):
        state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "run": "r", "step": step, "tokens": step}
        checkpoint.save_checkpoint(tmp_path, state)
    (tmp_path / "ckpt-00000005.pt").write_bytes(b"")
    rollbacks = guards.Rollbacks(tmp_path, train.Train(data="", out="", rollback_margin=4))
    saved = rollbacks.go_back(RunState(step=12), "a spike")
    assert (saved["step"], saved["left_out"]) == (10, [10, 11, 12])
    assert "ckpt-00000005.pt is damaged" in capsys.readouterr().out
