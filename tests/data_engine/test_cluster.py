"""Beyond one machine: two Ray nodes and an object store, whatever dies, give the bytes of a run on one machine."""

import os
import random
import signal
import subprocess
import time

import pyarrow as pa
import pytest

from data_engine.storage import Storage, storage
from phoenix.config import UserError
from tests.fixtures import ROOT
from tests.runs import command, inspect, made, result, run
from tests.servers import cluster

pytestmark = pytest.mark.slow
KILLS = ["worker", "driver", "node", "worker"]


def objects(root, folders):
    """{name: bytes} of all objects of these folders."""
    store = storage(root)
    return {name: store.read(f"{folder}/{name}") for folder in folders for name in store.names(folder)}


@pytest.fixture(scope="module")
def two(corpora):
    """The run of two nodes: the bucket's folder, and what it printed."""
    out = f"s3://{cluster.BUCKET}/two"
    return out, run(corpora / "one.py", out)


def test_two_nodes_and_an_object_store_give_the_bytes_of_one_machine(corpora, two):
    out, done = two
    assert f"{out}/report.html" in done.stdout and "first" in storage(out).read("report.html").decode()
    assert objects(out, ("shards", "tokenizer")) == result(corpora / "straight")
    assert "all was done before" in run(corpora / "one.py", out).stdout
    assert "token 5 of train" in inspect(out, "--token=5").stdout
    assert "it is in the corpus" in inspect(out, "--why=half").stdout


def test_kills_of_driver_worker_and_node_change_nothing(corpora, two, tmp_path):
    """On nodes of their own, which no other test needs afterwards."""
    with cluster.nodes() as nodes:
        kill_and_compare(nodes, corpora, two[0], tmp_path / "log")


def kill_and_compare(nodes, corpora, two, log_file):
    config, out, draw = corpora / "one.py", f"s3://{cluster.BUCKET}/killed", random.Random(4)
    moments = sorted(draw.sample(range(1, made(two) - 4), len(KILLS)))
    process, killed, failed, deadline = None, [], 0, time.monotonic() + 300
    for kind, moment in zip(KILLS, moments, strict=True):
        while made(out) < moment:
            assert time.monotonic() < deadline, f"stuck at {made(out)} files, killed: {killed}\n{log_file.read_text()}"
            if process is None or process.poll() is not None:
                failed += process is not None and process.returncode != 0
                if failed == 3:  # Ray itself sometimes does not get over the loss of a node that shares its machine
                    nodes.start()
                    failed = 0
                joining = command(config, out, f"--ray_address={nodes.address}")
                with log_file.open("a") as log:
                    process = subprocess.Popen(joining, cwd=ROOT, stdout=log, stderr=log)
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
    run(config, out)
    assert {"driver", "worker", "node"} <= set(killed), killed
    assert objects(out, ("shards", "tokenizer")) == result(corpora / "straight")
    for folder in ("raw", "documents", "dropped", "duplicates"):
        assert tables(out, folder) == tables(two, folder), folder


def tables(root, folder):
    """{file: rows} without the time of fetching."""
    found = {name: storage(root).read_table(f"{folder}/{name}") for name in storage(root).names(folder)}
    return {name: table.select([c for c in table.column_names if c != "fetched_at"]).to_pylist() for name, table in found.items()}


def test_a_stopped_upload_leaves_no_object(bucket):
    store = storage(f"s3://{cluster.BUCKET}/broken")
    with pytest.raises(RuntimeError, match="in the middle"), store.writing("x/file.bin") as sink:
        sink.write(b"half")
        raise RuntimeError("in the middle")
    assert store.size("x/file.bin") is None and store.names("x") == []
    store.write("x/file.bin", b"whole")
    assert (store.read("x/file.bin"), store.size("x/file.bin"), store.names("x")) == (b"whole", 5, ["file.bin"])
    table = pa.table({"a": [1, 2, 3]})
    store.write_table("x/t.parquet", [table, table], {"key": "k"})
    assert store.read_receipt("x/t.parquet") == {"key": "k"} and len(store.read_table("x/t.parquet")) == 6
    store.remove("x/file.bin")
    store.remove("x/file.bin")
    assert store.names("x") == ["t.parquet"]


def test_a_bucket_that_is_not_there_is_one_sentence(corpora):
    done = run(corpora / "one.py", "s3://no-such-bucket/out", check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "s3://no-such-bucket/out cannot be written" in done.stderr


def test_an_address_that_nothing_serves_is_one_sentence():
    with pytest.raises(UserError, match="is no address"):
        Storage("gopher://somewhere/out")
