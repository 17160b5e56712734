"""Beyond one machine: two Ray nodes and an object store, whatever dies, give the bytes of a run on one machine."""

import os
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from data_engine.storage import Storage, storage
from phoenix.config import UserError
from tests import corpus
from tests.data_engine.test_run import CONFIG, ROOT, inspect, made, result, run
from tests.servers import cluster

pytestmark = pytest.mark.slow
KILLS = 10


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A config, and what it gives on this machine alone."""
    path = tmp_path_factory.mktemp("alone")
    corpus.write(path / "first", slice(0, 120))
    (path / "one.py").write_text(CONFIG.format(first=str(path / "first"), share=1.0, more=""))
    run(path / "one.py", path / "out")
    return path / "one.py", result(path / "out")


def objects(root, folders=("",)):
    """{name: bytes} of all objects of these folders."""
    where = storage(root)
    return {name: where.read(f"{folder}/{name}") for folder in folders for name in where.names(folder)}


@pytest.fixture(scope="module")
def two(nodes, straight):
    """The run of two nodes: the bucket's folder, and what it printed."""
    out = f"s3://{cluster.BUCKET}/two"
    return out, run(straight[0], out, f"--ray_address={nodes.address}")


def test_two_nodes_and_an_object_store_give_the_bytes_of_one_machine(nodes, straight, two):
    (config, expected), (out, done) = straight, two
    assert f"{out}/report.html" in done.stdout and "first" in storage(out).read("report.html").decode()
    assert objects(out, ("shards", "tokenizer")) == expected
    again = run(config, out, f"--ray_address={nodes.address}")
    assert "all was done before" in again.stdout
    assert "token 5 of train" in inspect(out, "--token=5").stdout
    assert "it is in the corpus" in inspect(out, "--why=half").stdout


def test_kills_of_driver_worker_and_node_change_nothing(bucket, straight, two, tmp_path):
    """On nodes of their own, which no other test needs afterwards."""
    with cluster.nodes() as nodes:
        kill_and_compare(nodes, straight, two[0], tmp_path / "said")


def kill_and_compare(nodes, straight, two, said):
    config, expected = straight
    out, draw = f"s3://{cluster.BUCKET}/killed", random.Random(4)
    kinds = ["driver", "worker", "node"] * 4
    moments = sorted(draw.sample(range(1, made(two) - 4), KILLS))
    command = [sys.executable, "-m", "data_engine.run", str(config), f"--out={out}"]
    process, killed, failed, deadline = None, [], 0, time.monotonic() + 300
    for kind, moment in zip(kinds, moments, strict=False):
        while made(out) < moment:
            assert time.monotonic() < deadline, f"stuck at {made(out)} files, killed: {killed}\n{said.read_text()}"
            if process is None or process.poll() is not None:
                failed += process is not None and process.returncode != 0
                if failed == 3:  # Ray itself sometimes does not get over the loss of a node that shares its machine
                    nodes.start()
                    failed = 0
                with said.open("a") as log:
                    process = subprocess.Popen([*command, f"--ray_address={nodes.address}"], cwd=ROOT, stdout=log, stderr=log)
            time.sleep(0.05)
        if kind == "driver" and process and process.poll() is None:
            process.kill()
            process.wait()
            process = None
        elif kind == "worker" and (workers := nodes.workers()):
            os.kill(draw.choice(workers), signal.SIGKILL)
        else:  # also where no driver or worker is there to be killed at that moment
            nodes.kill_second()
            nodes.add_second()
            kind = "node"
        killed.append(kind)
    if process and process.poll() is None:
        process.kill()
        process.wait()
    nodes.start()
    run(config, out, f"--ray_address={nodes.address}")
    assert {"driver", "worker", "node"} <= set(killed) and len(killed) == KILLS, killed
    assert objects(out, ("shards", "tokenizer")) == expected
    for folder in ("raw", "documents", "dropped", "duplicates"):
        assert tables(out, folder) == tables(two, folder), folder


def tables(root, folder):
    """{file: rows} without the time of fetching."""
    found = {name: storage(root).read_table(f"{folder}/{name}") for name in storage(root).names(folder)}
    return {name: table.select([c for c in table.column_names if c != "fetched_at"]).to_pylist() for name, table in found.items()}


def test_a_stopped_upload_leaves_no_object(bucket):
    where = storage(f"s3://{cluster.BUCKET}/broken")
    with pytest.raises(RuntimeError, match="in the middle"), where.writing("x/file.bin") as sink:
        sink.write(b"half")
        raise RuntimeError("in the middle")
    assert where.size("x/file.bin") is None and where.names("x") == []
    where.write("x/file.bin", b"whole")
    assert (where.read("x/file.bin"), where.size("x/file.bin"), where.names("x")) == (b"whole", 5, ["file.bin"])
    table = pa.table({"a": [1, 2, 3]})
    where.write_table("x/t.parquet", [table, table], {"key": "k"})
    assert where.read_receipt("x/t.parquet") == {"key": "k"} and len(where.read_table("x/t.parquet")) == 6
    where.remove("x/file.bin")
    where.remove("x/file.bin")
    assert where.names("x") == ["t.parquet"]


def test_a_bucket_that_is_not_there_is_one_sentence(bucket, straight):
    done = run(straight[0], "s3://no-such-bucket/out", check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "s3://no-such-bucket/out cannot be written" in done.stderr


def test_an_address_that_nothing_serves_is_one_sentence():
    with pytest.raises(UserError, match="is no address"):
        Storage("gopher://somewhere/out")
