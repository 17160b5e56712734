"""The engine's parts without Ray: packing, accounting, quarantine, cutting, receipts, atomic files."""

import json
import pickle
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine import engine as e
from data_engine import isolated
from data_engine import worker as w
from data_engine.records import LEDGER, RAW, drop, nothing_dropped, record_id
from data_engine.sources.source import Job
from data_engine.step import EngineError, Step, digest
from data_engine.storage import storage
from phoenix.config import UserError

VERSION = 1


def table(n):
    columns = {"id": [f"{i:032x}" for i in range(n)], "source": ["s"] * n, "uri": [f"u{i}" for i in range(n)]}
    return pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()} | {"n": pa.array(range(n), pa.int64())})


def drop_odd(rows, cfg):
    odd = pa.array([n % 2 == 1 for n in rows["n"].to_pylist()], pa.bool_())
    even = pa.array([n % 2 == 0 for n in rows["n"].to_pylist()], pa.bool_())
    return rows.filter(even), drop(rows.filter(odd), "test", "odd")


def raise_on_seven(rows, cfg):
    if 7 in rows["n"].to_pylist():
        raise ValueError("seven")
    return rows, nothing_dropped()


def raise_always(rows, cfg):
    if len(rows):
        raise ValueError("always")
    return rows, nothing_dropped()


def lose_a_row(rows, cfg):
    return rows.slice(1), nothing_dropped()


def with_file(rows, cfg):
    return rows, nothing_dropped(), {"a.bin": b"abc", "b.bin": b""}


def job(tmp_path, **more):
    one = {"name": "p", "key": "k", "stage": "stage", "out": str(tmp_path), "output": "stage/p.parquet"}
    return one | {"began": 0.0, "steps": [], "side_inputs": []} | more


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_a_partition_survives_packing_whatever_its_size(tmp_path, n):
    rows = table(n).slice(0, n)
    files = {"x": b"1234", "y": b""}
    back, kept, dropped, found = w.unpack(w.pack(job(tmp_path), rows, LEDGER.empty_table(), files))
    assert kept.equals(rows) and kept.schema == rows.schema and dropped.schema == LEDGER
    assert {k: bytes(v) for k, v in found.items()} == files and back["name"] == "p"


def test_a_large_string_column_survives_packing_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(w, "NARROW", 100)  # bytes, in place of 1 GiB
    rows = table(50).append_column(
        "s", pa.chunked_array([["é" * (i % 70), None][: 1 + i % 2] for i in range(34)], pa.string())[:50]
    )
    block = w.pack(job(tmp_path), rows)
    assert pa.types.is_large_string(block.schema.field("kept").type.value_type.field("s").type)
    back = w.unpack(block)[1]
    assert back.equals(rows) and back.schema == rows.schema and back["s"].num_chunks > 10


def test_kept_and_dropped_rows_are_counted_by_reason(tmp_path):
    block = w.pack(job(tmp_path), table(10))
    steps = w.unpack(w.Apply(Step(drop_odd))(block))[0]["steps"]
    counts = {key: value for key, value in steps[0].items() if key not in ("secs", "bytes")}
    assert counts == {"step": "drop_odd", "in": 10, "out": 5, "dropped": {"odd": 5}}


def test_a_step_that_loses_a_row_ends_the_run(tmp_path):
    with pytest.raises(EngineError, match="lose_a_row: 10 rows in, 9 kept"):
        w.Apply(Step(lose_a_row))(w.pack(job(tmp_path), table(10)))


def test_one_row_that_makes_a_step_fail_is_quarantined_and_the_others_are_kept_in_order(tmp_path):
    _, kept, dropped, _ = w.unpack(w.Apply(Step(raise_on_seven))(w.pack(job(tmp_path), table(20))))
    assert kept["n"].to_pylist() == [n for n in range(20) if n != 7]
    record = {"id": f"{7:032x}", "source": "s", "uri": "u7"}
    assert dropped.to_pylist() == [record | {"stage": "raise_on_seven", "reason": "quarantined", "detail": "ValueError: seven"}]


def test_a_step_that_fails_on_everything_is_a_defect_and_not_bad_data(tmp_path):
    with pytest.raises(EngineError, match="failed on 20 rows"):
        w.Apply(Step(raise_always))(w.pack(job(tmp_path), table(20)))


@pytest.mark.parametrize("how", ["atomic", "one_to_many"])
def test_a_step_whose_rows_belong_together_is_never_cut(tmp_path, how):
    with pytest.raises(EngineError, match="p: raise_on_seven: ValueError: seven"):
        w.Apply(Step(raise_on_seven, **{how: True}))(w.pack(job(tmp_path), table(20)))


def test_commit_writes_table_ledger_files_and_receipt(tmp_path):
    block = w.Apply(Step(with_file))(w.Apply(Step(drop_odd))(w.pack(job(tmp_path, files_to="made"), table(10))))
    w.commit(block)
    assert pq.read_table(tmp_path / "stage" / "p.parquet")["n"].to_pylist() == [0, 2, 4, 6, 8]
    assert pq.read_table(tmp_path / "dropped" / "stage.p.parquet")["uri"].to_pylist() == ["u1", "u3", "u5", "u7", "u9"]
    receipt = storage(str(tmp_path)).read_receipt("stage/p.parquet")
    assert receipt["rows"] == 5 and receipt["key"] == "k" and receipt["ledger"] == "stage.p.parquet"
    assert (tmp_path / "made" / "a.bin").read_bytes() == b"abc" and [f["bytes"] for f in receipt["files"]] == [3, 0]


def test_a_partition_is_done_only_while_all_it_made_is_there(tmp_path):
    engine = e.Engine(tmp_path)
    block = w.pack(job(tmp_path, files_to="made"), table(10))
    w.commit(w.Apply(Step(with_file))(w.Apply(Step(drop_odd))(block)))
    done = lambda key: engine._finished("stage", "p", key)  # noqa: E731
    assert done("k") and not done("another key")
    for path in (tmp_path / "made" / "a.bin", tmp_path / "dropped" / "stage.p.parquet"):
        content = path.read_bytes()
        path.unlink()
        assert done("k") is None
        path.write_bytes(content)
    ledger = pq.read_table(tmp_path / "dropped" / "stage.p.parquet")
    storage(str(tmp_path)).write_table("dropped/stage.p.parquet", ledger, {"key": "another run's"})
    assert done("k") is None
    storage(str(tmp_path)).write_table("dropped/stage.p.parquet", ledger, {"key": "k"})
    assert done("k")
    (tmp_path / "made" / "a.bin").write_bytes(b"ab")
    assert done("k") is None
    (tmp_path / "made" / "a.bin").write_bytes(b"abd")
    assert done("k") is None, "as long, and something else"
    (tmp_path / "made" / "a.bin").write_bytes(b"abc")
    whole = (tmp_path / "stage" / "p.parquet").read_bytes()
    (tmp_path / "stage" / "p.parquet").write_bytes(whole[:-20])
    assert done("k") is None


def test_buckets_are_row_groups_in_order(tmp_path):
    rows = table(10).append_column("bucket", pa.array([3, 1, 3, 1, 0, 0, 3, 1, 0, 3], pa.int32()))
    w.commit_buckets(w.pack(job(tmp_path), rows))
    path = tmp_path / "stage" / "p.parquet"
    assert storage(str(tmp_path)).read_receipt("stage/p.parquet")["buckets"] == [0, 1, 3]
    groups = [pq.ParquetFile(path).read_row_group(i)["n"].to_pylist() for i in range(3)]
    assert groups == [[4, 5, 8], [1, 3, 7], [0, 2, 6, 9]]
    bucket = {"name": "b", "out": str(tmp_path), "schema": "stage/p.parquet"}
    bucket |= {"inputs": [["stage/p.parquet", 1], ["stage/p.parquet", 2]]}
    again = {"job": [json.dumps(bucket)], "payload": [b""]}
    assert w.unpack(w.read_bucket(pa.table(again)))[1]["n"].to_pylist() == [1, 3, 7, 0, 2, 6, 9]


@dataclass(frozen=True)
class Sizes:
    """A source of records of given sizes, handed over in chunks of three."""

    name: str
    sizes: tuple

    def read(self, job):
        for start in range(0, len(self.sizes), 3):
            some = self.sizes[start : start + 3]
            uris = [f"u{start + i}" for i in range(len(some))]
            content = [b"x" * n for n in some]
            columns = [[record_id(self.name, u, c) for u, c in zip(uris, content, strict=True)], [self.name] * len(some), uris]
            columns += [["text/plain"] * len(some), content, *[[""] * len(some)] * 2, [0] * len(some), ["{}"] * len(some)]
            yield pa.table([pa.array(c, f.type) for c, f in zip(columns, RAW, strict=True)], schema=RAW), nothing_dropped()


@pytest.mark.parametrize(
    ("sizes", "cut", "expected"),
    [
        ((4, 4, 4, 4, 4), 8, [2, 2, 1]),
        ((4, 4, 4, 4), 8, [2, 2]),
        ((100, 1, 1), 8, [1, 2]),
        ((1, 1, 100, 1), 8, [2, 1, 1]),
        ((), 8, [0]),
        ((0, 0, 0, 0), 8, [4]),
        ((9, 9), 8, [1, 1]),
    ],
)
def test_raw_partitions_are_cut_by_bytes_and_lose_nothing(tmp_path, sizes, cut, expected):
    source = Sizes("s", sizes)
    one = {"stage": "raw", "name": "s-0", "key": "k", "out": str(tmp_path), "cut": cut}
    w.read_source(pa.table({"job": [json.dumps(one)], "payload": [pickle.dumps((source, Job("0", (), "")))]}))
    parts = e.Engine(tmp_path)._raw_partitions("s-0", "k")
    assert [part.receipt["rows"] for part in parts] == expected
    uris = [uri for part in parts for uri in pq.read_table(tmp_path / part.file)["uri"].to_pylist()]
    assert uris == [f"u{i}" for i in range(len(sizes))]
    assert len({part.content for part in parts if part.receipt["rows"]}) == sum(1 for n in expected if n)


@dataclass(frozen=True)
class Meta(Sizes):
    """As Sizes, with so many bytes of meta in each record."""

    meta: int = 0

    def read(self, job):
        for records, lost in super().read(job):
            index = RAW.get_field_index("meta")
            yield records.set_column(index, RAW.field(index), pa.array(["x" * self.meta] * len(records), pa.string())), lost


@pytest.mark.parametrize(("meta", "rows"), [(0, [30]), (500_000, [30]), (1_000_000, [16, 14]), (9_000_000, [1] * 30)])
def test_metadata_beyond_a_multiple_of_the_cut_ends_a_partition(tmp_path, meta, rows):
    """16 MiB of it here, the least that counts; ordinary records are cut by their content alone."""
    source, one = Meta("s", (100,) * 30, meta), {"stage": "raw", "name": "s-0", "key": "k", "out": str(tmp_path), "cut": 200_000}
    w.read_source(pa.table({"job": [json.dumps(one)], "payload": [pickle.dumps((source, Job("0", (), "")))]}))
    parts = e.Engine(tmp_path)._raw_partitions("s-0", "k")
    assert [part.receipt["rows"] for part in parts] == rows


@pytest.mark.parametrize("n", [0, 1, 25_000])
def test_the_content_of_a_raw_partition_is_the_digest_of_what_steps_read(n):
    columns = {name: [f'{name} "é\n{i}' for i in range(n)] for name in ("id", "media_type", "licence", "meta")}
    rows = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    if n:
        rows = pa.concat_tables([rows.slice(0, 0), rows.slice(0, 1), rows.slice(1)])
    assert w.rows_digest(rows) == digest(list(columns.values()))


def test_an_unfinished_job_has_no_partitions(tmp_path):
    source = Sizes("s", (4, 4, 4, 4, 4))
    one = {"stage": "raw", "name": "s-0", "key": "k", "out": str(tmp_path), "cut": 8}
    w.read_source(pa.table({"job": [json.dumps(one)], "payload": [pickle.dumps((source, Job("0", (), "")))]}))
    (tmp_path / "raw" / "s-0-002.parquet").unlink()
    assert e.Engine(tmp_path)._raw_partitions("s-0", "k") is None


def test_keys_depend_on_settings_and_not_on_paths():
    @dataclass(frozen=True)
    class Cfg:
        a: int = 1

    assert digest(Cfg()) == digest(Cfg(1)) != digest(Cfg(2))
    from data_engine.tokenizer import EncodeConfig

    assert digest(EncodeConfig("x", "/here")) == digest(EncodeConfig("x", "/there")) != digest(EncodeConfig("y", "/here"))


def test_a_folder_in_use_or_not_writable_is_refused(tmp_path):
    with e.Engine(tmp_path / "out"), pytest.raises(UserError, match="another run"), e.Engine(tmp_path / "out"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), e.Engine(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_is_refused_before_any_work(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(UserError, match="has 0 MB left"), e.Engine(tmp_path):
        pass


def test_stages_import_without_ray_torch_or_transformers():
    import subprocess
    import sys

    code = "import sys, phoenix.config, data_engine.run; print(*({'ray', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def note_process(rows, cfg):
    import os

    return rows.append_column("process", pa.array([os.getpid()] * len(rows), pa.int64())), nothing_dropped()


def note_actor(rows, cfg):
    import os

    return rows.append_column("actor", pa.array([os.getpid()] * len(rows), pa.int64())), nothing_dropped()


def saved(engine, sources):
    """Partitions of ten rows, one a source."""
    parts = []
    for source in sources:
        receipt = {"stage": "in", "name": source, "key": source, "content": source, "source": source, "rows": 10}
        engine.storage.write_table(f"in/{source}.parquet", table(10), receipt)
        parts.append(e.Partition(source, f"in/{source}.parquet", receipt))
    return parts


@pytest.mark.slow
def test_a_step_with_a_model_runs_in_one_actor_and_a_step_of_a_source_on_that_source_only(nodes, tmp_path):
    names = [f"s{i}" for i in range(6)]
    steps = [Step(note_process), Step(note_actor, actor=True), Step(drop_odd, sources=frozenset(names[:2]))]
    with e.Engine(tmp_path, num_cpus=1) as engine:
        parts = saved(engine, names)
        out = engine.map("out", parts, steps)
        assert [p.receipt["rows"] for p in out] == [5, 5, 10, 10, 10, 10]
        assert [len(p.receipt["steps"]) for p in out] == [3, 3, 2, 2, 2, 2]
        rows = engine.read(out, ["process", "actor"])
        actors = set(rows["actor"].to_pylist())
        assert len(actors) == 1 and not actors & set(rows["process"].to_pylist())

        before = {p.name: p.receipt for p in out}
        steps[2] = Step(drop_odd, {"another": "setting"}, sources=frozenset(names[:1]))
        again = engine.map("out", parts, steps)
        assert [p.name for p in again if p.receipt["key"] != before[p.name]["key"]] == ["s0", "s1"]
        assert [p.receipt["rows"] for p in again] == [5, 10, 10, 10, 10, 10]


def test_a_project_that_cannot_be_written_has_its_kernels_in_the_temporary_folder(tmp_path):
    import os
    import subprocess
    import sys

    code = "import os; os.access = lambda *_: False; import data_engine; print(os.environ['NUMBA_CACHE_DIR'])"
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path}/phoenix-{os.getuid()}/kernels-")
    assert os.stat(tmp_path / f"phoenix-{os.getuid()}").st_mode & 0o777 == 0o700, "numba runs what lies there"


def test_ray_that_does_not_start_is_one_sentence_and_leaves_the_handler_of_sigterm(monkeypatch):
    import signal

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError, match=r"ray_address=127\.0\.0\.1:1: ConnectionRefusedError"), e._starting("127.0.0.1:1"):
        pass
    with pytest.raises(UserError, match="Ray cannot be started: Exception: The current node timed out"), e._starting(None):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does
        raise Exception("The current node timed out during startup.")
    with pytest.raises(UserError, match="HOME, which must be a folder"), e._starting(None):
        raise FileNotFoundError(2, "No such file or directory", "/proc/.ray")
    with pytest.raises(KeyboardInterrupt), e._starting(None):
        raise SystemExit(15)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_cluster_that_does_not_answer_is_given_up():
    import subprocess
    import sys

    code = "import time; from data_engine import engine as e; e.START_SECS = 0.1\nwith e._starting('auto'): time.sleep(300)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: Ray cannot be reached at ray_address=auto: no answer in 0 s\n"


def test_a_process_ends_with_its_parent_while_it_is_busy():
    """A pattern holds Python's lock: neither a thread nor a signal handler of this process would ever run."""
    import os
    import subprocess
    import sys
    import time

    child = "import os, re; from data_engine.isolated import end_with_parent; end_with_parent(); print(os.getpid(), flush=True)"
    child += "; re.match('(a|a)*b', 'a' * 60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)


def test_a_damaged_json_file_of_the_driver_counts_as_missing(tmp_path):
    engine = e.Engine(tmp_path)
    engine.storage.write("work/x.json", b'{"key": "un')
    assert engine._read_json("work/x.json") is None
    engine.storage.write("work/x.json", b'{"key": "k"}')
    assert engine._read_json("work/x.json") == {"key": "k"} and engine._read_json("work/y.json") is None


def kill_on_seven(rows, cfg):
    """Dies of the row 7, by the signal cfg["signal"], wherever it runs; fails on the row 5."""
    import os

    numbers = rows["n"].to_pylist()
    if 7 in numbers:
        os.kill(os.getpid(), cfg["signal"])
    if 5 in numbers:
        raise ValueError("five")
    return drop_odd(rows, cfg) if cfg.get("drop") else (rows, nothing_dropped())


def hang_on_three(rows, cfg):
    import re

    if 3 in rows["n"].to_pylist():
        re.match("(a|a)*b", "a" * 60)
    return rows, nothing_dropped()


@pytest.mark.slow
def test_a_record_that_kills_its_process_or_never_ends_is_alone_in_the_ledger(tmp_path, monkeypatch):
    for name in ("SECS_ALONE", "SECS_SLICE"):
        monkeypatch.setattr(isolated, name, 1.0)
    five, rows = "ValueError: five", table(8)
    for step, lost in (
        (Step(kill_on_seven, {"signal": 11}), [("crashed", 7, "its process died: SIGSEGV"), ("quarantined", 5, five)]),
        (Step(hang_on_three), [("timeout", 3, "over 1 s")]),
    ):
        one = job(tmp_path)
        attempts = storage(str(tmp_path)).scratch / f"stage.p.{step.name}"
        attempts.write_text("k 1")  # as a worker leaves it that died
        done, kept, dropped, _ = w.unpack(w.Apply(step)(w.pack(one, rows)))
        assert kept.equals(rows.filter(pa.array([n not in [row[1] for row in lost] for n in range(8)])))
        found = [(row["reason"], int(row["uri"][1:]), row["detail"]) for row in dropped.to_pylist()]
        assert sorted(found) == sorted(lost) and {row["stage"] for row in dropped.to_pylist()} == {step.name}
        assert attempts.read_text() == "k 1", "until all steps are over"
        w.commit(w.pack(done, kept, dropped))
        assert not attempts.exists()


def test_the_child_gives_what_the_worker_gives(tmp_path):
    step, rows = Step(drop_odd), table(40_000)
    with isolated.Child(step, str(tmp_path), []) as child:
        kept, dropped = child.run(rows)
    assert kept.equals(drop_odd(rows, None)[0]) and dropped.equals(drop_odd(rows, None)[1])
    with isolated.Child(step, str(tmp_path), []) as child:
        kept, dropped = child.run(table(0).slice(0, 0))
    assert kept.schema == rows.schema and dropped.schema == LEDGER and not len(kept)


def test_a_step_whose_rows_belong_together_is_tried_three_times(tmp_path):
    step = Step(kill_on_seven, {"signal": 9}, atomic=True)
    (storage(str(tmp_path)).scratch / "stage.p.kill_on_seven").write_text("k 3")
    with pytest.raises(EngineError, match=r"p: kill_on_seven: .*3 workers died of it"):
        w.Apply(step)(w.pack(job(tmp_path), table(20)))
    assert not list(storage(str(tmp_path)).scratch.iterdir()), "a rerun tries again"


@pytest.mark.parametrize(("left", "deaths"), [("", 0), ("krun 2", 2), ("kother 2", 0), ("xrun 2", 0), ("krun", 0)])
def test_deaths_of_this_run_and_partition_count(tmp_path, left, deaths):
    attempts = storage(str(tmp_path)).scratch / "stage.p.step"
    attempts.write_text(left)
    with w.surviving(job(tmp_path, run="run"), "step") as found:
        assert found == deaths and attempts.read_text() == f"krun {deaths + 1}"
    assert attempts.exists() == bool(deaths)


def test_a_file_that_kills_three_workers_is_named(tmp_path):
    (storage(str(tmp_path)).scratch / "raw.s-0.read").write_text("k 3")
    one = {"stage": "raw", "name": "s-0", "key": "k", "out": str(tmp_path), "cut": 8}
    with pytest.raises(EngineError, match="s-0: 3 workers died of reading it"):
        w.read_source(pa.table({"job": [json.dumps(one)], "payload": [pickle.dumps((Sizes("s", (1,)), Job("0", (), "")))]}))


@pytest.mark.slow
def test_the_run_goes_on_without_a_record_that_kills_its_worker(nodes, tmp_path):
    """In a task and in an actor, whose deaths Ray reports in other ways; twice in one partition."""
    steps = [Step(kill_on_seven, {"signal": 9}), Step(note_actor, actor=True), Step(kill_on_eight, {}, actor=True), Step(drop_odd)]
    with e.Engine(tmp_path, num_cpus=1) as engine:
        (part,) = engine.map("out", saved(engine, ["s"]), steps)
        assert engine.read([part], ["n"])["n"].to_pylist() == [0, 2, 4, 6]
        ledger = engine.storage.read_table("dropped/out.s.parquet").to_pylist()
        reasons = sorted((row["uri"], row["stage"], row["reason"]) for row in ledger)
        assert reasons == [
            ("u1", "test", "odd"),
            ("u3", "test", "odd"),
            ("u5", "kill_on_seven", "quarantined"),
            ("u7", "kill_on_seven", "crashed"),
            ("u8", "kill_on_eight", "crashed"),
            ("u9", "test", "odd"),
        ]
        assert not list(engine.storage.scratch.iterdir())


def kill_on_eight(rows, cfg):
    import os

    if 8 in rows["n"].to_pylist():
        os.kill(os.getpid(), 9)
    return rows, nothing_dropped()
