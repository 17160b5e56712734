"""Runs of the data engine for the tests, and what they leave: in this process, or alone in a process of their own."""

import contextlib
import io
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

import data_engine.inspect
import data_engine.run
from data_engine.storage import storage
from phoenix.config import main_guard
from tests.fixtures import ROOT

CONFIG = """
from data_engine.download import Local
sources = [Local("first", {first!r}, share={share}){more}]
partition_bytes = 1 << 16
vocab_size = 512
language = dict(xlm_roberta=None)
val_fraction = 0.05
num_cpus = 2
"""


def config(path, first, share=1.0, more=""):
    """Writes a config with the source `first`; `more` is the source text of others."""
    path.write_text(CONFIG.format(first=str(first), share=share, more=more))
    return path


def in_process(main, *arguments):
    """A script's main in this process -> returncode, stdout, stderr, as of subprocess.run."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    redirected = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    argv = mock.patch.object(sys, "argv", ["test", *map(str, arguments)])
    with redirected[0], redirected[1], argv, contextlib.chdir(ROOT):
        try:
            main_guard(main)
        except SystemExit as end:
            code = end.code or 0
    return SimpleNamespace(returncode=code, stdout=out.buffer.getvalue().decode(), stderr=err.buffer.getvalue().decode())


def run(config, out, *settings, check=True):
    """A run in this process, on the Ray session that it has: that of the fixture `nodes`."""
    done = in_process(data_engine.run.main, config, f"--out={out}", *settings)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def command(config, out, *settings):
    return [sys.executable, "-m", "data_engine.run", str(config), f"--out={out}", *settings]


def run_alone(config, out, *settings):
    """A run in a process of its own, which starts a Ray of its own."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command(config, out, *settings), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def inspect(out, *settings):
    return in_process(data_engine.inspect.main, out, *settings)


def result(out):
    """{file: bytes} of shards/ and tokenizer/, which the law of determinism is about."""
    return {path.name: path.read_bytes() for name in ("shards", "tokenizer") for path in sorted((out / name).iterdir())}


def rows(out, name):
    """All rows of a folder of the run in order of id, without the time of fetching."""
    tables = [pq.read_table(path).replace_schema_metadata(None) for path in sorted((out / name).glob("*.parquet"))]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    table = table.drop_columns([c for c in ("fetched_at",) if c in table.column_names])
    return table.take(pc.sort_indices(table, [("id", "ascending")])).to_pylist()


def made(root):
    """Number of files that a run has finished, on disk or in an object store."""
    store = storage(str(root))
    found = store.fs.get_file_info(pafs.FileSelector(store.base, recursive=True, allow_not_found=True))
    return sum(info.type == pafs.FileType.File and not info.base_name.startswith(".") for info in found)


def written(out):
    """{file: time of its last change} of all partitions."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
