"""The record of a run: rows, TensorBoard's events with the same numbers, a plot."""

import errno
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from phoenix.run_log import RunLog, commit
from tests.fixtures import ROOT
from tests.training import STEPS


def events(folder):
    """Every event of TensorBoard's files, the oldest file first: records of (length, crc, message, crc)."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def scalars(folder):
    """{tag: {step: value}} as TensorBoard shows them: a file that starts at a step hides earlier events from that step on."""
    found = {}
    for event in events(folder):
        if event.session_log.status == event.session_log.START and event.HasField("session_log"):
            found = {tag: {s: v for s, v in steps.items() if s < event.step} for tag, steps in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_the_log_opens_with_what_the_run_is_and_holds_every_step(straight_run):
    rows = [json.loads(line) for line in (straight_run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"arguments", "commit", "versions", "device", "data", "model", "step", "run", "work"} <= rows[0]["about"].keys()
    assert "corpus " in rows[0]["about"]["data"] and "torch 2." in rows[0]["about"]["versions"]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert all({"grad_norm", "lr", "tokens_per_sec", "mfu", "memory_gb", "watts", "skipped"} <= row.keys() for row in steps)
    assert all(row["tokens"] == 64 * row["step"] and 0.05 < row["memory_gb"] < 20 for row in steps)


def test_tensorboard_shows_the_numbers_of_the_log(straight_run):
    rows = [json.loads(line) for line in (straight_run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = scalars(straight_run / "tensorboard")
    for tag, name in (("training/loss", "loss"), ("training/lr", "lr"), ("validation/val_bpb", "val_bpb")):
        logged = {row["step"]: row[name] for row in rows if name in row}
        assert {step: round(value, 4) for step, value in shown[tag].items()} == {s: round(v, 4) for s, v in logged.items()}


def test_a_rewind_removes_rows_and_events(tmp_path):
    log = RunLog(tmp_path, until=-1)
    for step in range(1, 6):
        log.row(step=step, tokens=step, loss=float(step))
    log.rewind(2)
    log.row(step=2, tokens=2, rollback_from=5, left_out=[3, 4])
    log.row(step=3, tokens=3, loss=30.0)
    log.close()
    assert scalars(tmp_path / "tensorboard")["training/loss"] == {1: 1.0, 2: 2.0, 3: 30.0}
    (tmp_path / "log.jsonl").open("a", encoding="utf-8").write('{"step": 4, "lo')  # as a kill leaves it
    again = RunLog(tmp_path, until=3, left_out=[3, 4])
    assert [(row["step"], row.get("loss")) for row in again.rows] == [(1, 1.0), (2, 2.0), (2, None), (3, 30.0)]
    unaware = RunLog(tmp_path, until=2)  # a checkpoint from before the rollback does not know it, and will meet it again
    assert [row["step"] for row in unaware.rows] == [1, 2]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()] == [1, 2]


def test_a_value_that_is_not_finite_is_null_and_a_plot_is_drawn_of_little(tmp_path):
    log = RunLog(tmp_path, until=-1)
    log.plot("nothing yet")
    log.row(step=1, tokens=1, loss=float("nan"))
    log.row(step=2, tokens=2, loss=2.0)
    log.row(step=2, tokens=2, rollback_from=3, left_out=[1])
    log.plot("a step")
    log.close()
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8").startswith('{"step": 1, "tokens": 1, "loss": null}')
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_the_commit_is_that_of_the_checkout():
    assert re.fullmatch(r"unknown|[0-9a-f]{12}( with changes)?", commit())


def test_the_backend_of_a_notebook_is_not_needed(tmp_path):
    code = "from pathlib import Path; from phoenix.run_log import RunLog\n"
    code += f"log = RunLog(Path({str(tmp_path)!r}), until=-1); log.row(step=1, tokens=1, loss=1.0); log.plot('x'); log.close()"
    env = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_a_library_that_fails_is_reported_once(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("of a library")

    log = RunLog(tmp_path, until=-1)
    monkeypatch.setattr(RecordWriter, "write", fail)
    monkeypatch.setattr(RunLog, "_figure", fail)
    for step in range(1, 9):
        log.row(step=step, tokens=step, loss=1.0)
    log.plot("x")
    log.close()
    assert capsys.readouterr().out.count("cannot be written: RuntimeError: of a library; training goes on") == 1
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 8


def test_a_full_disk_is_reported_once_and_the_rows_are_written_later(tmp_path, monkeypatch, capsys):
    log = RunLog(tmp_path, until=-1)
    log.row(step=1, tokens=1, loss=1.0)

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        patch.setattr("matplotlib.figure.Figure.savefig", fail)
        patch.setattr(RecordWriter, "write", fail)
        for step in range(2, 30):
            log.row(step=step, tokens=step, loss=1.0)
        log.plot("full")
        log.flush()
    log.row(step=30, tokens=30, loss=1.0)
    log.close()
    assert capsys.readouterr().out.count("the disk is full; training goes on") == 1
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()] == list(
        range(1, 31)
    )
    assert len(scalars(tmp_path / "tensorboard")["training/loss"]) == 30
