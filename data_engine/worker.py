"""
The workers' half of the engine: functions that Ray runs on partitions. engine.py chains them; none of them knows Ray.

    read_input, read_bucket, read_source    job -> table
    Apply(step)                             table -> table; a step that loses rows ends the run
    commit, commit_buckets                  table -> files

Between them a partition travels as a table of one row, so that nothing can cut it or lose it:
    job      string, JSON: names, paths, key, counts so far
    kept     large_list<struct<columns of the table>>
    dropped  large_list<struct<ledger row>>
    files    list<struct<name, large_binary>>
"""

import functools
import hashlib
import json
import pickle
import signal
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine.isolated import Child, end_with_parent, time_limit
from data_engine.records import LEDGER, RAW, drop, one_array
from data_engine.step import EngineError
from data_engine.storage import storage
from phoenix.config import one_line
from phoenix.files import sha256

MAX_QUARANTINED = 0.1  # a step that fails on more of a partition's rows has a bug; the data are not to blame
FAILURES = ("quarantined", "crashed", "timeout")  # reasons of the rows that a step fails on
OTHERS = 4  # times the content's bytes that a raw partition's other columns may have
OTHER_COLUMNS = [field.name for field in RAW if field.type == pa.string()]
MIN_OTHERS, MAX_OTHERS = 16 << 20, 1 << 30  # bytes of them: less is no burden; Arrow's string columns end at 2 GiB
MAX_DEATHS = 3  # of the workers of one partition, where its rows cannot be told apart


def names_its_partition(function):
    """Puts the partition's name into the function's errors."""

    @functools.wraps(function)
    def named(block):
        try:
            return function(block)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"{_job(block)['name']}: {function.__name__}: {type(error).__name__}: {one_line(error)}") from error

    return named


@names_its_partition
def read_input(block):
    """Job -> the input partition's table."""
    job = _begun(block)
    return pack(job, storage(job["out"]).read_table(job["inputs"][0]))


@names_its_partition
def read_bucket(block):
    """Job -> all rows of a bucket, from the row groups of the split's files."""
    job = _begun(block)
    store = storage(job["out"])
    with store.open(job["schema"]) as file:
        empty = pq.read_schema(file).empty_table().replace_schema_metadata(None)
    tables = [empty, *(store.read_table(name, groups=[group]) for name, group in job["inputs"])]
    return pack(job, pa.concat_tables(tables))


@names_its_partition
def read_source(block):
    """
    One job of a source -> its raw partitions, each with its ledger rows.

    A partition is cut at job["cut"] bytes of content, or OTHERS times as many of its other columns. So ordinary records, with
    their few hundred bytes of uri, licence and meta, are cut by content alone; short ones with much metadata are not
    collected until they fill the memory.
    """
    end_with_parent()
    job = _job(block)
    with surviving(job, "read") as deaths:
        if deaths >= MAX_DEATHS:
            raise EngineError(f"{job['name']}: {deaths} workers died of reading it; memory may be short (num_cpus)")
        return _read_source(job, *pickle.loads(block["payload"][0].as_py()))


def _read_source(job, source, source_job):
    kept, lost, size, others, index, began = [], [], 0, 0, 0, time.time()
    most_others = min(max(OTHERS * job["cut"], MIN_OTHERS), MAX_OTHERS)
    total, seen = {"rows": 0, "bytes": 0}, set()

    def write(last):
        nonlocal kept, lost, size, others, index, began
        table = pa.concat_tables([RAW.empty_table(), *kept])
        dropped = pa.concat_tables([LEDGER.empty_table(), *lost])
        name = f"{job['name']}-{index:03d}"
        record = {"step": "raw", "in": len(table) + len(dropped), "out": len(table)}
        record |= {"dropped": dict(sorted(Counter(dropped["reason"].to_pylist()).items()))}
        record |= {"secs": time.time() - began, "bytes": size}
        partition = job | {"name": name, "output": f"raw/{name}.parquet", "began": began, "steps": [record]}
        partition |= {"content": rows_digest(table), "last": last, "source": source.name}
        _commit(partition, table, dropped, {})
        total["rows"] += len(table)
        total["bytes"] += size
        kept, lost, size, others, index, began = [], [], 0, 0, index + 1, time.time()

    for records, dropped in source.read(source_job):
        ids = records["id"].to_pylist()
        first = pa.array([not (i in seen or seen.add(i)) for i in ids], pa.bool_())
        repeated = records.filter(pc.invert(first))
        lost += [dropped, drop(repeated, "raw", "repeated", "the same uri and content as a record before")]
        records = records.filter(first)
        while len(records):
            ends, other_ends = (np.cumsum(lengths(records, names)) for names in (["content"], OTHER_COLUMNS))
            fitting = int(((ends <= job["cut"] - size) & (other_ends <= most_others - others)).sum())
            full = fitting < len(records) and bool(fitting or kept)
            if not full:
                fitting = max(fitting, 1)  # one record alone may be larger than a partition
            kept.append(records.slice(0, fitting))
            size += int(ends[fitting - 1]) if fitting else 0
            others += int(other_ends[fitting - 1]) if fitting else 0
            records = records.slice(fitting)
            if full:
                write(last=False)
    write(last=True)
    if hasattr(source, "committed"):
        source.committed(source_job)
    return pa.table({"job": [json.dumps({"name": job["name"], **total})]})


def lengths(records, names):
    """int64[n]: bytes of these columns in each row."""
    columns = [pc.fill_null(pc.binary_length(records[name]), 0).cast(pa.int64()).to_numpy() for name in names]
    return np.sum(columns, axis=0)


def rows_digest(table):
    """digest([columns that steps read]), some rows at a time. `content` is left out: the id already hashes it."""

    def pieces():
        yield "[["
        for i, name in enumerate(("id", "media_type", "licence", "meta")):
            yield ", [" if i else "["
            for j, batch in enumerate(filter(len, table.select([name]).to_batches(max_chunksize=10_000))):
                rows = json.dumps(batch[0].to_pylist())[1:-1]
                yield f", {rows}" if j else rows
            yield "]"
        yield "]]"

    found = hashlib.sha256()
    for piece in pieces():
        found.update(piece.encode())
    return found.hexdigest()


class Apply:
    """Applies one step; a step that is not one_to_many ends the run if it loses rows."""

    def __init__(self, step):
        self.step = step
        self.__name__ = step.name  # Ray's name for the operator

    def __call__(self, block):
        if self.step.actor:  # a process of its own
            end_with_parent()
        job, table, dropped, files = unpack(block)
        if not self.step.takes(job.get("source")):
            return block
        names = job.get("side_inputs", []) if self.step.side_inputs else []
        side_inputs = [storage(job["out"]).read_table(name) for name in names]
        start = time.perf_counter()
        try:
            with surviving(job, self.step.name) as deaths:
                if deaths and self.step.separable:
                    with Child(self.step, job["out"], names) as child:
                        kept, lost, new_files, notes = *child.run(table), {}, {}
                elif deaths >= MAX_DEATHS:
                    raise EngineError(f"{deaths} workers died of it; memory may be too short for so many at a time (num_cpus)")
                else:
                    kept, lost, new_files, notes = self._in_time(table, side_inputs)
        except Exception as error:
            raise EngineError(f"{job['name']}: {self.step.name}: {type(error).__name__}: {one_line(error)}") from error
        reasons = Counter(lost["reason"].to_pylist())
        if not self.step.one_to_many and len(table) != len(kept) + len(lost):
            raise EngineError(f"{job['name']}: {self.step.name}: {len(table)} rows in, {len(kept)} kept + {len(lost)} dropped")
        failed = sum(reasons[reason] for reason in FAILURES)
        if failed > max(10, MAX_QUARANTINED * len(table)):
            raise EngineError(f"{job['name']}: {self.step.name} failed on {failed} rows: {lost['detail'][-1]}")
        record = {"step": self.step.name, "in": len(table), "out": len(kept), "dropped": dict(sorted(reasons.items()))}
        record |= {"notes": notes} if notes else {}
        job["steps"].append(record | {"secs": time.perf_counter() - start, "bytes": table.nbytes})
        return pack(job, kept, pa.concat_tables([dropped, lost]), files | new_files)

    def _in_time(self, table, side_inputs):
        """The step on all rows. One that takes too many CPU seconds ends the worker: no compiled loop can be told to stop."""
        if self.step.separable and not self.step.actor:  # a model's threads count their seconds together
            signal.setitimer(signal.ITIMER_PROF, time_limit(table))
        try:
            return _quarantining(self.step, table, side_inputs)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def surviving(job, step):
    """
    How many workers died at this step of the partition in this run; that a user stopped an earlier one says nothing of it.

    A file counts the attempts, because a dead worker can tell nothing. If there were deaths, it stays until the partition is
    committed: another step may kill the next worker.
    """
    attempts, own = storage(job["out"]).scratch / f"{job['stage']}.{job['name']}.{step}", job["key"] + job.get("run", "")
    try:
        of, deaths = attempts.read_text(encoding="utf-8").split()
        deaths = int(deaths) if of == own else 0
    except (OSError, ValueError):
        deaths = 0
    attempts.write_text(f"{own} {deaths + 1}", encoding="utf-8")
    try:
        yield deaths
    except BaseException:
        attempts.unlink(missing_ok=True)
        raise
    if deaths:
        attempts.write_text(f"{own} {deaths}", encoding="utf-8")
        job.setdefault("attempts", []).append(attempts.name)
    else:
        attempts.unlink(missing_ok=True)


def _quarantining(step, table, side_inputs):
    """The step on all rows. Where it raises, the table is halved until the rows that make it raise are alone: quarantined."""
    try:
        kept, lost, *more = step.run(table, step.settings, *side_inputs)
    except Exception as error:
        if not step.separable or not len(table):
            raise
        if len(table) == 1:
            kept = step.run(table.slice(0, 0), step.settings, *side_inputs)[0]
            return kept, drop(table, step.name, "quarantined", f"{type(error).__name__}: {error}"[:500]), {}, {}
        middle = len(table) // 2
        halves = [_quarantining(step, half, side_inputs) for half in (table.slice(0, middle), table.slice(middle))]
        kept, lost = (pa.concat_tables([half[i] for half in halves]) for i in (0, 1))
        return kept, lost, {}, {}
    return kept, lost, *more, *({},) * (2 - len(more))  # a step may return no files and no notes: they become {}


@names_its_partition
def commit(block):
    """Writes a partition and its ledger; returns its name and counts."""
    return _commit(*unpack(block))


@names_its_partition
def commit_buckets(block):
    """As commit; the rows are sorted by `bucket`, a row group each, and the receipt lists the buckets."""
    job, kept, dropped, files = unpack(block)
    kept = kept.take(pc.sort_indices(kept["bucket"]))  # stable
    runs = pc.run_end_encode(one_array(kept["bucket"])) if len(kept) else None
    job["buckets"] = runs.values.to_pylist() if runs is not None else []
    ends = runs.run_ends.to_pylist() if runs is not None else []
    return _commit(job, kept, dropped, files, [0, *ends])


def _commit(job, kept, dropped, files, cuts=None):
    """
    Writes the ledger first, then the files, and last the partition, whose receipt names the others.

    cuts: row numbers at which its row groups begin and end.
    """
    receipt = {key: job[key] for key in ("stage", "name", "key", "source", "buckets", "last", "steps") if key in job}
    receipt |= {"content": job.get("content", job["key"]), "rows": len(kept), "secs": round(time.time() - job["began"], 3)}
    store, ledger = storage(job["out"]), f"{job['stage']}.{job['name']}.parquet"
    if len(dropped) and not job.get("no_ledger"):
        receipt["ledger"] = ledger
        store.write_table(f"dropped/{ledger}", dropped, {"key": job["key"], "source": job.get("source")})
    else:
        store.remove(f"dropped/{ledger}")
    if files:
        receipt["files"] = []
        for name, buffer in files.items():
            store.write(f"{job['files_to']}/{name}", buffer)
            receipt["files"].append({"folder": job["files_to"], "file": name, "bytes": len(buffer), "sha256": sha256(buffer)})
    store.write_table(job["output"], kept, receipt, cuts)
    for name in job.get("attempts", []):
        (store.scratch / name).unlink(missing_ok=True)
    return pa.table({"job": [json.dumps({"name": job["name"], "rows": len(kept), "bytes": kept.nbytes})]})


# ---------------------------------------------------------------------------------------------------- packing


def pack(job, kept, dropped=None, files=None):
    """Job, tables and {file name: buffer} -> the table of one row that travels."""
    dropped = LEDGER.empty_table() if dropped is None else dropped
    files = files or {}
    data = one_array(pa.chunked_array(map(_value, files.values()), pa.large_binary()))
    blobs = pa.StructArray.from_arrays([pa.array(list(files), pa.string()), data], ["name", "data"])
    kept, wide = _wide(kept)
    columns = {"job": pa.array([json.dumps(job | {"wide": wide})])}
    for key, rows in (("kept", _structs(kept)), ("dropped", _structs(dropped)), ("files", blobs)):
        columns[key] = pa.LargeListArray.from_arrays(pa.array([0, len(rows)], pa.int64()), rows)
    return pa.table(columns)


def unpack(block):
    """The inverse of pack: (job, kept, dropped, files)."""
    assert len(block) == 1, f"a partition travels as one row, {len(block)} came"
    kept, dropped, files = (one_array(block[key]) for key in ("kept", "dropped", "files"))
    tables = [pa.Table.from_struct_array(rows.flatten()) for rows in (kept, dropped)]
    blobs = files.flatten()
    buffers = {name.as_py(): data.as_buffer() for name, data in zip(blobs.field("name"), blobs.field("data"), strict=True)}
    job = _job(block)
    return job, _narrow(tables[0], job.pop("wide", [])), tables[1], buffers


NARROW = 1 << 30  # bytes of a string column that surely fit one array; Arrow's end at 2 GiB


def _wide(table):
    """The table with its largest string columns as large_string, for a partition travels as one array a column; their names."""
    names = [field.name for field in table.schema if field.type == pa.string() and table[field.name].nbytes > NARROW]
    fields = [field.with_type(pa.large_string()) if field.name in names else field for field in table.schema]
    return (table.cast(pa.schema(fields)) if names else table), names


def _narrow(table, names):
    """The inverse of _wide: string columns again, in pieces that Arrow can hold."""
    for name in names:
        column, pieces, start = one_array(table[name]), [], 0
        ends = np.cumsum(pc.fill_null(pc.binary_length(column), 0).to_numpy())
        while start < len(column):
            done = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, done + NARROW, side="right")))
            piece = column.take(pa.array(np.arange(start, min(end, len(column)))))  # a slice would still hold all bytes
            pieces.append(piece.cast(pa.string()))
            start = end
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name).with_type(pa.string()), pa.chunked_array(pieces, pa.string()))
    return table


def _value(data):
    """Bytes or a buffer as an array of one value. Not copied, for it may be a shard."""
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, pa.array([0, len(data)]).buffers()[1], pa.py_buffer(data)])


def _structs(table):
    return one_array(table.combine_chunks().to_struct_array())


def _job(block):
    return json.loads(block["job"][0].as_py())


def _begun(block):
    end_with_parent()
    return _job(block) | {"began": time.time(), "steps": []}
