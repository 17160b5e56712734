"""Laws of the trainer: the order of the data, accumulation, and runs stopped in every way that end with the same weights."""

import contextlib
import dataclasses
import errno
import hashlib
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import train
from model import ModelConfig, Phoenix, from_checkpoint, load_checkpoint
from phoenix import checkpoint, shards
from phoenix.batches import Windows, epoch_order, windows_of_step
from phoenix.config import UserError, help_text, main_guard
from phoenix.files import sha256_file
from phoenix.signals import stop_requests
from tests.fixtures import ROOT
from tests.training import (
    PLAIN,
    STEPS,
    TEXT,
    Launcher,
    arguments,
    at_step,
    logged,
    losses,
    make_data,
    once,
    quick,
    run,
    wait_until,
    weights_hash,
)

torch.set_num_threads(1)  # as in test_model.py


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick():
        yield


@pytest.fixture(scope="module")
def data(tiny_data):
    return tiny_data


@pytest.fixture(scope="module")
def straight(straight_run):
    return straight_run


# ---- the order of the data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_an_epoch_holds_each_window_once(count):
    orders = [epoch_order(count, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(count))
    if count == 1000:
        assert len({tuple(order) for order in orders}) == 4


def test_the_order_is_splitmix64s_on_every_machine_and_version():
    def mix(x, low=2**64 - 1):
        x = x + 0x9E3779B97F4A7C15 & low
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & low
        x = (x ^ x >> 27) * 0x94D049BB133111EB & low
        return x ^ x >> 31

    assert mix(0) == 0xE220A8397B1DCDAF  # the first number of the published generator with seed 0
    for seed, epoch in ((1, 0), (7, 3)):
        assert epoch_order(8, seed, epoch).tolist() == sorted(range(8), key=lambda w: mix(mix(mix(seed) + epoch) + w))


@pytest.mark.parametrize(("per_step", "count"), [(3, 7), (4, 4), (10, 3), (1, 5)])
def test_steps_walk_through_the_epochs_and_each_is_known_from_its_number(per_step, count):
    steps = [windows_of_step(s, per_step, count, seed=3) for s in range(4 * count)]
    walked = np.concatenate(steps)
    for epoch in range(len(walked) // count):
        assert walked[epoch * count : (epoch + 1) * count].tolist() == epoch_order(count, 3, epoch).tolist()


@pytest.mark.parametrize("seq_len", [1, 16, 100])
def test_windows_cover_the_shards_end_to_end(data, seq_len):
    split = shards.open(data / "shards", "train")
    whole, windows = np.concatenate(split.shards), Windows(split, seq_len)
    tokens_BT, targets_BT = windows.batch(range(windows.count))
    inside = windows.count * seq_len
    assert len(whole) - 1 - inside < seq_len  # only a tail shorter than a window is left
    assert tokens_BT.flatten().tolist() == whole[:inside].tolist()
    assert targets_BT.flatten().tolist() == whole[1 : inside + 1].tolist()


# ---- the arithmetic ------------------------------------------------------------------------------------------------


def test_many_small_micro_batches_give_the_gradient_of_one_large():
    torch.manual_seed(0)
    model = Phoenix(ModelConfig(50, 2, 2, 16, 32, 8))
    x_BT, y_BT = torch.randint(50, (8, 8)), torch.randint(50, (8, 8))
    found = []
    for micro_batch in (1, 3, 8):  # 3 leaves a smaller last part
        model.zero_grad()
        loss = train.accumulate(model, x_BT, y_BT, micro_batch, PLAIN)
        found.append([loss] + [p.grad.clone() for p in model.parameters()])
    expected = F.cross_entropy(model(x_BT).flatten(0, 1), y_BT.flatten())
    torch.testing.assert_close(found[0][0], expected.detach())
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-5, atol=1e-7)


def test_bytes_of_tokens_add_up_to_the_bytes_of_the_text(data):
    sizes = train.token_bytes(data / "tokenizer" / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json"))
    text = TEXT + "naïve Ω ∑ 東京 🙂 \t\x00\u200b end"
    ids = tokenizer.encode(text + "<|endoftext|>").ids
    assert ids[-1] == 0 and sizes[0] == sizes[1] == 0  # special tokens are no text
    assert sizes[ids].sum() == len(text.encode()) and len(sizes) == tokenizer.get_vocab_size()


def test_validation_leaves_special_tokens_out_of_bits_per_byte(data):
    split = shards.open(data / "shards", "val")
    model = Phoenix(ModelConfig(split.meta["vocab_size"], 1, 2, 8, 16, 16))
    sizes = train.token_bytes(data / "tokenizer" / "tokenizer.json")
    windows = Windows(split, 16)
    found = train.validate(model, windows, [0, 2, 5], 2, sizes, torch.device("cpu"), contextlib.nullcontext)
    nats, n_bytes, all_nats = 0.0, 0, 0.0
    for w in (0, 2, 5):
        x, y = (t.long() for t in torch.from_numpy(windows.read(w).astype(np.int64)).unfold(0, 16, 1)[[0, 1]])
        with torch.no_grad():
            each = F.cross_entropy(model(x[None])[0], y, reduction="none")
        all_nats += each.sum().item()
        nats += each[y > 1].sum().item()
        n_bytes += sizes[y].sum().item()
    assert found["val_loss"] == pytest.approx(all_nats / 48, rel=1e-5)
    assert found["val_bpb"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)


def test_validation_does_not_depend_on_the_micro_batch(data):
    split = shards.open(data / "shards", "val")
    torch.manual_seed(0)
    model = Phoenix(ModelConfig(split.meta["vocab_size"], 1, 2, 8, 16, 16))
    sizes, found = train.token_bytes(data / "tokenizer" / "tokenizer.json"), []
    for micro_batch in (1, 2, 5, 8, 100):
        cfg = train.load(train.Train, arguments(data, "out", micro_batch=micro_batch, eval_tokens=10**6))
        opened = train.open_data(cfg)
        assert len(opened.val_windows) == opened.val.count
        result = train.validate(model, opened.val, opened.val_windows, micro_batch, sizes, PLAIN.torch_device, PLAIN.precision)
        found.append(list(result.values()))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-6)


# ---- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_all_its_files(data, straight, capsys):
    names = {p.name for p in straight.iterdir()}
    kept = {f"ckpt-{step:08d}.pt" for step in (15, 20, 24)}
    assert names == kept | {".lock", "ckpt.pt", "manifest.json", "log.jsonl", "loss.png", "sample.txt", "tokenizer", "tensorboard"}
    _, saved = from_checkpoint(straight / "ckpt.pt")
    assert saved["tokens"] == STEPS * 64 and saved["skipped"] == 0 and saved["settings"]["lr"] == 1e-2
    assert saved["val_loss"] < saved["first_val_loss"] - 1 and 0 < saved["val_bpb"] < saved["first_val_bpb"]
    assert [step for step, _ in losses(straight)] == sorted([*range(1, STEPS + 1), 0, 12, STEPS])
    assert (straight / "tokenizer" / "tokenizer.json").read_bytes() == (data / "tokenizer" / "tokenizer.json").read_bytes()
    assert (straight / "loss.png").read_bytes()[:4] == b"\x89PNG" and (straight / "sample.txt").read_text(encoding="utf-8")

    before = (straight / "ckpt.pt").read_bytes(), (straight / "log.jsonl").read_bytes()
    assert run(data, straight) == 0  # once more: nothing left to do
    assert "is done already" in capsys.readouterr().out
    assert ((straight / "ckpt.pt").read_bytes(), (straight / "log.jsonl").read_bytes()) == before


# after the first step, before a validation, and with one
@pytest.mark.parametrize(("number", "code", "step"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 7), (signal.SIGTERM, 143, 12)])
def test_a_signal_finishes_the_step_and_the_rerun_ends_as_the_straight_run(
    data, straight, tmp_path, monkeypatch, capsys, number, code, step
):
    with monkeypatch.context() as patch:
        at_step(patch, step, once(lambda: os.kill(os.getpid(), number)))
        default = signal.getsignal(number)
        assert run(data, tmp_path / "out") == code
        assert signal.getsignal(number) is default
    assert f"stopped by {number.name} after step {step}" in capsys.readouterr().out.splitlines()[-1]
    assert load_checkpoint(tmp_path / "out" / "ckpt.pt")["step"] == step
    assert run(data, tmp_path / "out") == 0
    assert weights_hash(tmp_path / "out") == weights_hash(straight)
    assert losses(tmp_path / "out") == losses(straight)


def test_what_was_done_after_the_last_checkpoint_is_done_and_logged_once(data, straight, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def crash(_loss):
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(patch, 14, crash)
        with pytest.raises(MemoryError):
            run(data, out)
    assert load_checkpoint(out / "ckpt.pt")["step"] == 10 and losses(out)[-1][0] == 13
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 14, "lo')  # as a kill leaves it
    (out / ".tmp-99-ckpt-00000014.pt").write_bytes(b"half of a checkpoint")
    assert run(data, out) == 0
    assert weights_hash(out) == weights_hash(straight) and losses(out) == losses(straight)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_an_update_that_is_not_finite_is_skipped_and_counted(data, tmp_path, monkeypatch, capsys, poison):
    at_step(monkeypatch, 6, lambda loss: loss * poison)
    out = tmp_path / "out"
    assert run(data, out) == 0
    assert "step 6: loss" in capsys.readouterr().out
    model, saved = from_checkpoint(out / "ckpt.pt")
    assert saved["skipped"] == 1 and saved["step"] == STEPS
    assert all(p.isfinite().all() for p in model.parameters()) and saved["val_loss"] < saved["first_val_loss"] - 1
    assert dict(losses(out))[6] is None  # JSON has no NaN
    assert "NaN" not in (out / "log.jsonl").read_text(encoding="utf-8")


KEYS = "format version model_config settings tokenizer_sha256 shards_sha256 model optimizer rng run step tokens secs kwh rollbacks"
KEYS += " skipped bad_in_a_row losses left_out first_val_loss first_val_bpb val_loss val_bpb"


def test_a_checkpoint_of_version_1_resumes_also_from_before_some_keys_were_added(data, straight, tmp_path):
    saved = load_checkpoint(straight / "ckpt-00000015.pt")
    assert saved.keys() == set(KEYS.split()) and saved["version"] == 1  # a run of an older commit must resume, and the other way
    for key in ("run", "kwh", "rollbacks", "bad_in_a_row", "losses", "left_out"):
        del saved[key]
    (tmp_path / "out").mkdir()
    torch.save(saved, tmp_path / "out" / "ckpt.pt")
    shutil.copy(straight / "log.jsonl", tmp_path / "out")
    assert run(data, tmp_path / "out") == 0
    assert weights_hash(tmp_path / "out") == weights_hash(straight) and losses(tmp_path / "out") == losses(straight)


def test_what_is_only_looked_at_does_not_end_a_run(data, straight, tmp_path, monkeypatch, capsys):
    """Scores, sample and a damaged log fail one after the other; the weights are those of the straight run."""

    def fails(*_, **__):
        raise ValueError("of a library")

    out = stopped(data, tmp_path / "out", monkeypatch)
    with (out / "log.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\x00x\n12\n{"loss": 1}\n' + b"\0" * 9)
    monkeypatch.setattr(train.zero_shot, "prepare", fails)
    monkeypatch.setattr(train.zero_shot, "fitting", lambda *_: ("arc_easy",))
    monkeypatch.setattr(train.zero_shot, "problem", lambda *_: None)
    monkeypatch.setattr("phoenix.validation.sample", fails)
    capsys.readouterr()
    assert run(data, out, zero_shot_every=12) == 0
    output = capsys.readouterr().out
    assert output.count("log.jsonl: 3 damaged lines are left out") == 1
    assert " is not scored: " in output and "sample.txt could not be written: ValueError: of a library" in output
    assert weights_hash(out) == weights_hash(straight) and losses(out) == losses(straight)
    assert run(data, out) == 0 and "damaged" not in capsys.readouterr().out


# ---- damaged and foreign checkpoints -------------------------------------------------------------------------------


def stopped(data, out, monkeypatch, step=13):
    with monkeypatch.context() as patch:
        at_step(patch, step, once(lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert run(data, out) == 143
    return out


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(data, straight, tmp_path, monkeypatch, capsys):
    out = stopped(data, tmp_path / "out", monkeypatch)
    damaged = (out / "ckpt-00000013.pt").read_bytes()[:-1000]
    (out / "ckpt-00000013.pt").write_bytes(damaged)
    foreign = out / "ckpt-00000099.pt"
    foreign.write_bytes((straight / "ckpt.pt").read_bytes())
    assert run(data, out) == 0
    output = capsys.readouterr().out
    assert re.search(r"ckpt-00000013\.pt is damaged: its sha256", output) and f"{foreign} is foreign" in output
    assert re.search(r"set aside as .*damaged.*ckpt-00000010\.pt, step 10, is used\n", output)
    assert (out / "ckpt-00000013.pt.damaged").read_bytes() == damaged and not foreign.exists()
    assert weights_hash(out) == weights_hash(straight) and losses(out) == losses(straight)


def test_the_manifest_is_asked_wherever_a_checkpoint_is_loaded(straight, tmp_path):
    """A bit of a weight and its CRC-32 may be damaged together; ckpt.pt leads to the file that the manifest lists."""
    out = tmp_path / "out"
    shutil.copytree(straight, out, symlinks=True)
    saved = load_checkpoint(out / "ckpt.pt")
    path = checkpoint.checkpoint_files(out)[-1]
    torch.save(saved | {"step": 7}, path)
    for name in ("ckpt.pt", path.name):
        with pytest.raises(UserError, match=r"is damaged: its sha256 is not the one in manifest\.json"):
            from_checkpoint(out / name)
    shutil.copy(path, tmp_path / "alone.pt")
    assert load_checkpoint(tmp_path / "alone.pt")["step"] == 7  # no manifest: its own checksums decide


def test_whatever_damage_makes_torch_raise_is_one_sentence(tmp_path, monkeypatch):
    state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "step": 0, "tokens": 0}
    torch.save(state, tmp_path / "c.pt")

    def damaged(*_, **__):
        raise zlib.error("Error -3 while decompressing data")

    monkeypatch.setattr(torch, "load", damaged)
    with pytest.raises(UserError, match=r"c\.pt is not a whole torch file: error: Error -3"):
        load_checkpoint(tmp_path / "c.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):  # says nothing of the file
        load_checkpoint(tmp_path / "c.pt")


def test_a_run_without_a_whole_checkpoint_is_refused_rather_than_begun_anew(data, tmp_path, monkeypatch):
    out = stopped(data, tmp_path / "out", monkeypatch)
    for path in checkpoint.checkpoint_files(out):
        path.write_bytes(b"")
    for _ in range(2):  # and nothing was moved that would let the next rerun begin anew
        with pytest.raises(UserError, match=r"0013\.pt is damaged.*0005\.pt is damaged.* delete them to begin anew"):
            run(data, out)


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_text('{"format": "', encoding="utf-8")])
def test_a_lost_manifest_is_made_again_from_the_checkpoints(data, straight, tmp_path, monkeypatch, harm):
    out = stopped(data, tmp_path / "out", monkeypatch)
    before = checkpoint.read_manifest(out)
    harm(out / "manifest.json")
    (out / "ckpt-00000010.pt").write_bytes(b"PK")
    assert run(data, out) == 0
    after = checkpoint.read_manifest(out)
    assert after["run"] == before["run"] and [row["step"] for row in after["checkpoints"]] == [15, 20, 24]
    assert weights_hash(out) == weights_hash(straight)


def test_settings_that_break_a_run_are_refused_and_others_are_reported(data, tmp_path, monkeypatch, capsys):
    out = stopped(data, tmp_path / "out", monkeypatch)
    for name, value in dict(d_ff=48, qk_norm=True, seq_len=32, tokens_per_step=128, seed=2).items():
        with pytest.raises(UserError, match=f"{out / 'ckpt.pt'} has .*: give another out="):
            run(data, out, **{name: value})
    other = make_data(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"trained on other data \(shards_sha256 differs\)"):
        run(other, out)
    assert load_checkpoint(out / "ckpt.pt")["step"] == 13
    capsys.readouterr()
    assert run(data, out, lr=0.02, log_every=2) == 0
    assert "changed since the checkpoint: lr 0.01 -> 0.02; the weights" in capsys.readouterr().out


def test_a_run_that_stopped_at_step_0_goes_on_from_it_as_saved(data, straight, tmp_path, monkeypatch):
    def crash():
        raise ZeroDivisionError

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        at_step(patch, 1, once(crash))
        with pytest.raises(ZeroDivisionError):
            run(data, out)
    before = (out / "ckpt-00000000.pt").read_bytes()
    with monkeypatch.context() as patch:
        at_step(patch, 3, once(crash))
        with pytest.raises(ZeroDivisionError):
            run(data, out)
    assert (out / "ckpt-00000000.pt").read_bytes() == before
    assert run(data, out) == 0
    assert weights_hash(out) == weights_hash(straight) and losses(out) == losses(straight)


@pytest.mark.parametrize("calls", range(6))
def test_killed_while_a_step_is_replaced_one_of_the_two_is_there(tmp_path, monkeypatch, calls):
    state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "run": "r", "step": 0, "tokens": 0}
    checkpoint.save_checkpoint(tmp_path, state | {"which": "old"})
    left, replace = [None] * calls, os.replace

    class Kill(BaseException):
        pass

    def killed(path, target):
        if not left:
            raise Kill
        left.pop()
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with contextlib.suppress(Kill):
            checkpoint.save_checkpoint(tmp_path, state | {"which": "new"})
    for _ in range(2):
        found, sentences = checkpoint.newest_checkpoint(tmp_path)
        assert found["which"] == ("old" if calls < 2 else "new") and not sentences
    (row,) = checkpoint.read_manifest(tmp_path)["checkpoints"]
    assert row["sha256"] == sha256_file(tmp_path / "ckpt-00000000.pt") and "replaces" not in row


def test_two_runs_in_one_folder_are_refused_and_half_written_files_go(data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".tmp-7-ckpt-00000005.pt", "ckpt-best.pt.tmp"):
        (out / name).write_bytes(b"half")
    with checkpoint.locked(out):
        assert sorted(path.name for path in out.iterdir()) == [".lock", "ckpt-best.pt.tmp"]  # the second is not ours
        with pytest.raises(UserError, match="another run is writing to out="):
            run(data, out)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "ckpt-best.pt.tmp"]


def test_a_full_disk_at_the_end_of_a_save_is_a_sentence(tmp_path, monkeypatch):
    write, calls = checkpoint.write_manifest, []

    def full(out, manifest):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(out, manifest)

    monkeypatch.setattr(checkpoint, "write_manifest", full)
    state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "run": "r", "step": 0, "tokens": 0}
    with pytest.raises(UserError, match=r"step 0 could not be written to .*: the disk is full"):
        checkpoint.save_checkpoint(tmp_path, state)
    assert checkpoint.newest_checkpoint(tmp_path)[0]["step"] == 0


def test_the_second_ctrl_c_does_not_wait_for_the_step():
    default = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stop_requests() as stops:
            os.kill(os.getpid(), signal.SIGINT)
            assert stops == [signal.SIGINT]
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)  # the interrupt ends it at once
    finally:
        signal.signal(signal.SIGINT, default)


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:  # of the import system: Ctrl-C as torch is imported
    def find_spec(name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
sys.meta_path.insert(0, Interrupt)
sys.argv = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


def test_ctrl_c_during_imports_is_one_line_and_130():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "stopped by Ctrl-C\n")


def test_ctrl_c_outside_the_loop_is_one_line_and_130(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_:
        main_guard(interrupted)
    assert exit_.value.code == 130 and capsys.readouterr().err == "stopped by Ctrl-C\n"


# ---- bad input -----------------------------------------------------------------------------------------------------


def lose(folder, name):
    (folder / name).unlink()


def cut(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-2])


def flip(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-2] + b"\0\1")


@pytest.mark.parametrize(
    ("harm", "settings", "sentence"),
    [
        (lambda d: lose(d, "shards/shards.json"), {}, "shards.json does not exist"),
        (lambda d: lose(d, "shards/train-00002.bin"), {}, "train-00002.bin has -1 bytes"),
        (lambda d: cut(d, "shards/val-00001.bin"), {}, "val-00001.bin has"),
        (lambda d: flip(d, "shards/train-00003.bin"), {}, "train-00003.bin does not have the sha256"),
        (lambda d: flip(d, "shards/val-00001.bin"), {"verify": True}, "val-00001.bin does not have the sha256"),
        (lambda d: lose(d, "tokenizer/tokenizer.json"), {}, "tokenizer.json does not exist"),
        (lambda d: cut(d, "tokenizer/tokenizer.json"), {}, "is not the tokenizer that"),
        (None, {"vocab_size": 32768}, "vocab_size=32768, but"),
        (None, {"seq_len": 4096, "tokens_per_step": 8192}, "a window is seq_len=4096"),
        (None, {"tokens_per_step": 65}, "must be a multiple of micro_batch*seq_len=32"),
        (None, {"steps": 0}, "steps=0 must be at least 1"),
        (None, {"seed": 1e20}, "must be below 2^63"),
        (None, {"n_head": 3}, "must be a multiple of 2*n_head=6"),
        (None, {"dtype": "float8"}, "dtype must be"),
        (None, {"device": "gpu"}, "device=gpu is not known"),
        (None, {"stepz": 5}, "did you mean 'steps'?"),
        (None, {"lr": 1e-5}, "lr=1e-05 is below min_lr=6e-05: the learning rate would rise"),
        (None, {"steps": 4}, "warmup=4 must be below steps=4"),
        (None, {"schedule": "wsd", "wsd_decay": 0.9}, "overlap in steps=24"),
        (None, {"out": "s3://bucket/run"}, "out=s3://bucket/run must be a folder on this machine"),
        (None, {"data": "s3://bucket/run"}, "data=s3://bucket/run must be a folder on this machine"),
        (None, {"out": "out/../copy", "nas": "file://" + os.path.abspath("copy")}, "out=out/../copy itself: a copy needs another"),
        (None, {"out": "copy", "nas": "copy"}, "out=copy itself: a copy needs another folder"),
        (None, {"lr": "fast"}, "lr must be float"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, capsys, monkeypatch, harm, settings, sentence):
    folder = make_data(tmp_path / "data")
    if harm:
        harm(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments(**({"data": folder, "out": tmp_path / "out"} | settings))])
    with pytest.raises(SystemExit) as exit_:
        main_guard(train.main)
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and sentence in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()  # before any work


def test_a_token_beyond_the_vocabulary_is_one_sentence_that_names_the_shard(tmp_path, capsys):
    for name, where in (("train-00003.bin", tmp_path / "train"), ("val-00001.bin", tmp_path / "val")):
        path = make_data(where / "data") / "shards" / name
        path.write_bytes(path.read_bytes()[:100] + b"\xff\xff" + path.read_bytes()[102:])
        with pytest.raises(
            UserError, match=rf"{name} holds the token 65535, the vocabulary ends at \d+: it is damaged; --verify"
        ) as error:
            run(where / "data", where / "out", verify=False, eval_tokens=10**6, steps=60)
        assert "\n" not in str(error.value)


def test_shards_are_compared_with_their_hashes_on_the_first_start_of_a_run(tmp_path, monkeypatch):
    hashed, sha256_of = [], shards.sha256_file
    monkeypatch.setattr(shards, "sha256_file", lambda path: hashed.append(path.name) or sha256_of(path))
    folder = make_data(tmp_path / "data")
    for settings, times in (({}, 1), ({}, 1), ({"verify": True}, 2), ({"verify": False, "out": tmp_path / "other"}, 2)):
        run(folder, **({"out": tmp_path / "out", "steps": 5} | settings))
        assert len(hashed) == 6 * times, settings


def test_a_folder_that_cannot_be_written_is_a_sentence(data, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=f"out={tmp_path / 'file' / 'out'} cannot be written"):
        run(data, tmp_path / "file" / "out")


def test_every_setting_has_its_text_in_the_help():
    rows = [line for line in help_text(train.Train).splitlines() if line.startswith("  --")]
    assert len(rows) == len(dataclasses.fields(train.Train))
    assert [row for row in rows if not row.partition("=")[2].strip().partition("  ")[2].strip()] == []


@pytest.mark.parametrize("config", ["125m", "quickstart"])
def test_the_configs_hold_settings_only(config):
    cfg = train.load(train.Train, [str(ROOT / "configs" / f"{config}.py")])
    assert cfg.out == f"out/{config}" and cfg.tokens_per_step % (cfg.micro_batch * cfg.seq_len) == 0
    if config == "125m":
        assert cfg.steps * cfg.tokens_per_step == pytest.approx(2.0e9, rel=1e-3)


# ---- killed for real -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    found = Launcher(tmp_path_factory.mktemp("launcher"))
    yield found
    found.close()


@pytest.mark.slow
def test_killed_at_ten_seeded_steps_a_run_ends_as_the_straight_run(data, tmp_path, launcher):
    steps, settings = 80, dict(steps=80, ckpt_every=4, eval_every=40)
    out, rng, resumed = tmp_path / "killed", random.Random(2), 0
    assert run(data, tmp_path / "straight", **settings) == 0
    for target in sorted(rng.sample(range(3, steps - 10), 10)):
        pid = launcher.start(data, out, **settings)
        # a run prints its arguments after its log is back at the checkpoint: rows of the killed run do not count
        wait_until(lambda target=target: launcher.printed("arguments") and logged(out, target))
        time.sleep(rng.uniform(0, 0.02))  # the kill comes in the middle of a step, a checkpoint or a manifest
        os.kill(pid, signal.SIGKILL)
        code, _, output = launcher.wait()
        assert code == -signal.SIGKILL, output
        resumed += "going on from step" in output
    launcher.start(data, out, **settings)
    code, _, output = launcher.wait()
    assert code == 0 and "going on from step" in output and resumed >= 8
    ends = [checkpoint.newest_checkpoint(folder)[0] for folder in (tmp_path / "straight", out)]
    digests = [hashlib.sha256(b"".join(p.numpy().tobytes() for p in end["model"].values())).hexdigest() for end in ends]
    assert ends[0]["step"] == ends[1]["step"] == steps and digests[0] == digests[1]
    assert losses(out) == losses(tmp_path / "straight")
    assert [row["step"] for row in checkpoint.read_manifest(out)["checkpoints"]] == [72, 76, 80]


@pytest.mark.slow
def test_going_on_needs_no_more_memory_than_training(data, tmp_path, launcher):
    sizes = dict(n_layer=4, d_model=384, d_ff=1536, micro_batch=1, tokens_per_step=16, eval_tokens=16)  # 113 MB of state
    peaks = []
    for steps in (1, 2):
        launcher.start(data, tmp_path / "out", **sizes, steps=steps, warmup=0, eval_every=5, sample_tokens=1)
        code, peak, output = launcher.wait()
        assert code == 0 and ("going on from step 1" in output) == (steps == 2), output
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 20e6, peaks  # a second copy of the weights alone would be 38 MB; the allocator varies by some


@pytest.mark.slow
def test_a_reader_that_ends_stops_the_run_with_a_checkpoint(data, straight, tmp_path):
    """python train.py ... | head -1"""
    read, write = os.pipe()
    command = [sys.executable, "train.py", *arguments(data, tmp_path / "out", steps=100_000, log_every=1)]
    with subprocess.Popen(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        wait_until(lambda: logged(tmp_path / "out", 2))
        os.close(read)
        assert process.wait(60) == 141 and "Traceback" not in process.stderr.read()
    assert load_checkpoint(tmp_path / "out" / "ckpt.pt")["step"] == logged_steps(tmp_path / "out")[-1] > 2


def logged_steps(out):
    return [step for step, loss in losses(out) if loss is not None]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_is_exit_code_130_and_a_typo_is_2(data, tmp_path, launcher):
    pid = launcher.start(data, tmp_path / "out", steps=100_000)
    wait_until(lambda: logged(tmp_path / "out", 2))
    os.kill(pid, signal.SIGINT)
    code, _, output = launcher.wait()
    assert code == 130 and output.splitlines()[-1].startswith("stopped by SIGINT after step"), output
    launcher.start(data, tmp_path / "out", stepz=1)
    code, _, output = launcher.wait()
    assert (code, output) == (2, "error: unknown setting 'stepz'; did you mean 'steps'?\n")
