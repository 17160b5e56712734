"""
The engine: it alone knows Ray and how a run goes on after a stop. Files are storage.py's, on disk or in an object store.

One partition = one row of a Ray Data dataset = one output file. What is to be done to a partition is a list of steps, pure
functions on Arrow tables; the engine reads the input, passes it through the steps and commits the result:

    out/<name>/<partition>.parquet           kept rows; the footer holds the partition's receipt
    out/dropped/<name>.<partition>.parquet   the ledger rows of the same steps, where there are any

The receipt's `key` hashes all that decides the content: what the input files hold, the steps, their versions and settings. A
partition is done when its file exists with the right key, so a rerun does only what is missing or has changed, whatever ended
the last run. Files are written under a temporary name, fsynced and renamed. Rows in = rows kept + rows dropped is checked for
every step of every partition; a violation ends the run.

    ingest(sources)                      sources -> raw partitions
    map(name, parts, steps)              one partition -> one partition
    exchange(name, parts, split, merge)  keyed shuffle through files: rows -> buckets -> one partition a bucket
    save(name, tables, inputs)           partitions that the driver made from the whole
    once(name, inputs, make)             a folder that the driver makes from the whole

On a cluster every node reads and writes `out` itself, so it must be the same address for all of them: an object store, or a folder
that all mount. The project, too, must lie at the same path on every node. A task whose worker or node dies is run again elsewhere
and writes the same file, so what is committed never depends on who was alive.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pickle
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine.records import LEDGER, RAW, drop, one_array
from data_engine.sources.fetch import show_downloads
from data_engine.sources.listing import is_available
from data_engine.storage import sha256, storage
from phoenix.config import UserError
from phoenix.progress import Progress

VERSION = 1  # raise when the engine itself would write other rows for the same steps
SEAL = "shards/shards.json"  # vouches for the whole run: it goes as soon as anything is remade, and comes last
MIN_FREE_BYTES = 256 << 20  # a run is not started on a disk with less than this
STORE_BYTES_PER_CPU = 192 << 20  # object store: three 64 MB partitions between a worker and an actor
LOOKERS = 16  # threads that look for finished partitions: in an object store each look takes some 10 ms
CPUS_PER_ACTOR = 4  # without a GPU; each holds its model, 1.2 GB for XLM-RoBERTa
FULL_DISK = "the disk is full; free some space and run the same command again, finished partitions are kept"
MAX_QUARANTINED = 0.1  # a step that fails on more of a partition's rows is a defect of ours, not bad data


class EngineError(Exception):
    """A run that cannot go on; the text names the stage and the partition."""


@dataclass(frozen=True)
class Partition:
    """A finished partition: its table lies in `file` of the run's storage, the footer's receipt in `receipt`."""

    name: str
    file: str
    receipt: dict[str, Any]

    @property
    def content(self):
        """What stands for the partition's rows in the keys of everything made from it."""
        return self.receipt["content"]


@dataclass(frozen=True)
class Step:
    """
    run(table, settings, *beside) -> (kept, dropped), and if there are any {file name: buffer}, and {note: JSON} for the receipt

    beside  the step also takes the table of the same name from each partition list that map(..., beside=) names
    expand  the step makes any number of rows of one (a shuffle's split): rows are then not counted against each other
    whole   the step's rows belong together: one that makes it raise ends the run. So it is with expand; elsewhere the row is
            quarantined
    actor   the step holds a large model: it runs in processes of its own, one a GPU or a few for all cores, that load it once
    sources the step is for the partitions of these sources only; None: for all
    """

    run: Callable
    settings: Any = None
    beside: bool = False
    expand: bool = False
    whole: bool = False
    actor: bool = False
    sources: frozenset[str] | None = None

    @property
    def name(self):
        return self.run.__name__

    def takes(self, source):
        """Whether partitions of this source go through the step."""
        return self.sources is None or source in self.sources

    def identity(self):
        """What decides the step's output besides its input: the function, its module's VERSION, the settings."""
        module = sys.modules[self.run.__module__]
        return [f"{module.__name__}.{self.name}", module.VERSION, self.settings]


# ---------------------------------------------------------------------------------------------------- the driver's side


class Engine:
    """One run over one `out` folder; a context manager that holds the folder's lock and, once it is needed, Ray's session."""

    def __init__(self, out, num_cpus=None, ray_address=None, partition_bytes=64 << 20):
        self.storage = storage(str(out))
        self.out = self.storage.root
        self.num_cpus = num_cpus or available_cpus()
        self.ray_address = ray_address or os.environ.get("RAY_ADDRESS")
        self.partition_bytes = partition_bytes
        self.stages = {}  # name -> {"secs", "made" in this run, "partitions"}; secs of all runs that made its partitions
        self.ray = None

    def __enter__(self):
        self.lock = self.storage.claim(MIN_FREE_BYTES)
        return self

    def __exit__(self, *exc):
        if self.ray:
            self.ray.shutdown()
        self.lock.close()

    def ingest(self, sources):
        """The raw partitions of all sources in their order. A job (a file, or some small ones) leaves one or more of them."""
        plan = []  # (job's name, key, source, job)
        for source in sources:
            kind = type(source).__name__
            for job in source.jobs(self.partition_bytes):
                key = digest(VERSION, kind, job.name, job.state, self.partition_bytes)
                plan.append((f"{source.name}-{job.name}", key, source, job))
        names = Counter(name for name, *_ in plan)
        if names and max(names.values()) > 1:
            raise UserError(f"two sources would both write raw/{names.most_common(1)[0][0]}: rename one of them")
        todo = [entry for entry in plan if self._raw_parts(*entry[:2]) is None]
        away = {name: source.name for name, _, source, job in todo if not is_available(source, job)}
        for source, count in Counter(away.values()).items():  # what has become partitions need not be here as a download
            of = sum(other.name == source for _, _, other, _ in plan)
            print(f"{source}: offline, {count} of {of} downloads are not here and are left out", file=sys.stderr)
        plan, todo = ([entry for entry in entries if entry[0] not in away] for entries in (plan, todo))
        rows = [
            ({"stage": "raw", "name": name, "key": key, "out": self.out, "cut": self.partition_bytes}, (source, job))
            for name, key, source, job in todo
        ]
        fetched = [(source, job) for _, _, source, job in todo]
        with self._stage("raw", len(plan), len(todo)) as progress, show_downloads(progress, fetched):
            self._run("raw", rows, [read_source], progress)
        parts = []
        for name, key, *_ in plan:
            found = self._raw_parts(name, key)
            if found is None:
                raise EngineError(f"raw: the job {name} left no complete partitions")
            parts += found
        self._remove_old_raw({source.name for source in sources}, {part.name for part in parts})
        return parts

    def map(self, name, parts, steps, beside=(), folder=None, aside=False):
        """
        Every partition through the steps; the results, of the same names and order, lie in out/<folder or name>.

        beside  lists of partitions, each with one of the same name for every one of `parts`; or one partition for all
        aside   a look at the rows from the side of the line: what it leaves out is not lost and gets no ledger row
        """
        jobs = []
        for part, near in zip(parts, self._beside(parts, beside), strict=True):
            source = part.receipt.get("source")
            identity = [step.identity() for step in steps if step.takes(source)]
            job = {
                "name": part.name,
                "key": digest(VERSION, identity, [p.content for p in (part, *near)]),
                "inputs": [part.file],
                "beside": [p.file for p in near],
                "source": source,
                "aside": aside,
            }
            jobs.append(job)
        return self._produce(name, folder or name, jobs, [read_input, *(Apply(s) for s in steps), commit])

    def exchange(self, name, parts, split, merge, buckets, files_to=None, beside=()):
        """
        Keyed shuffle: split adds an int32 column `bucket` to every partition's rows, merge gets all rows of one bucket. Split
        takes tables beside as in map.

        The rows rest in <name>-split of the work folder, a row group a bucket, so that the second half reads only what it needs
        and a stopped run goes on in the middle. Merge gets the rows in the order of `parts` and sorts by what it needs.
        Files that merge makes go to out/<files_to>.
        Returns the partitions of both halves.
        """
        identity = [split.identity(), buckets]
        jobs = []
        for part, near in zip(parts, self._beside(parts, beside), strict=True):
            key = digest(VERSION, identity, [p.content for p in (part, *near)])
            job = {"name": part.name, "key": key, "inputs": [part.file], "beside": [p.file for p in near]}
            jobs.append(job | {"source": part.receipt.get("source")})
        steps = [read_input, Apply(split), commit_buckets]
        halves = self._produce(f"{name}-split", f"work/{name}-split", jobs, steps)
        whole = digest(VERSION, identity, merge.identity(), [p.content for p in halves])
        jobs = []
        for bucket in range(buckets):
            groups = [[p.file, p.receipt["buckets"].index(bucket)] for p in halves if bucket in p.receipt["buckets"]]
            schema = halves[0].file if halves else None
            job = {"name": f"{bucket:05d}", "key": digest(whole, bucket), "inputs": groups, "schema": schema}
            jobs.append(job | {"files_to": files_to})
        return halves, self._produce(name, f"work/{name}", jobs, [read_bucket, Apply(merge), commit])

    def save(self, name, key, tables, folder=None):
        """Partitions made in the driver: tables() gives (name, table) pairs and is called only where one is missing."""
        folder, index = folder or name, f"work/{name}.json"
        known = self._json(index)
        if known and known["key"] == key:
            parts = [self._done(folder, part, digest(key, part)) for part in known["parts"]]
            if all(parts):
                with self._stage(name, 1, 0):
                    return parts
        with self._stage(name, 1, 1) as progress:
            names = []
            for part, table in tables():
                receipt = {"stage": name, "name": part, "key": digest(key, part), "content": digest(key, part)}
                self.storage.write_table(f"{folder}/{part}.parquet", table, receipt | {"rows": len(table)})
                names.append(part)
            self._remove_strangers(folder, names)
            self.storage.write(index, json.dumps({"key": key, "parts": names}).encode())
            progress.update()
        return [self._done(folder, part, digest(key, part)) for part in names]

    def once(self, folder, key, make):
        """The files that make(temporary folder) makes, in out/<folder>; made anew only when `key` changes or they did."""
        receipt, there = f"work/{folder}.json", self.storage.names(folder)
        with self._stage(folder, 1, 0 if (done := self._json(receipt) == self._made_once(folder, key, there)) else 1) as progress:
            if done:
                return
            self.storage.remove(receipt)
            for name in there:
                self.storage.remove(f"{folder}/{name}")
            with tempfile.TemporaryDirectory() as temporary:
                make(temporary)
                names = sorted(path.name for path in Path(temporary).iterdir())
                for name in names:
                    self.storage.write(f"{folder}/{name}", Path(temporary, name).read_bytes())
            self.storage.write(receipt, json.dumps(self._made_once(folder, key, names)).encode())
            progress.update()

    def _made_once(self, folder, key, names):
        return {"key": key, "files": {name: self.sha256(f"{folder}/{name}") for name in names}}

    def publish(self, folder, files, key, keep):
        """
        The files that finish a folder, {name: bytes or list of partitions}, in this order; what is neither in `files` nor in
        `keep` goes. Partitions become one Parquet file, read and written one by one.

        key  what the partitions depend on: a file that is there with this key is not written again
        """
        for name in self.storage.names(folder):
            if name not in {*files, *keep}:
                self.storage.remove(f"{folder}/{name}")
        for name, data in files.items():
            path = f"{folder}/{name}"
            if isinstance(data, bytes):
                if self.storage.size(path) != len(data) or self.storage.read(path) != data:
                    self.storage.write(path, data)
            elif (self.storage.read_receipt(path) or {}).get("key") != key:
                self.storage.write_table(path, (self.read([part], None) for part in data), {"key": key})

    def read(self, parts, columns):
        """The columns of all partitions as one table, in their order: for what fits into the driver."""
        return pa.concat_tables([self.storage.read_table(part.file, columns) for part in parts])

    def read_ledger(self, part, reason):
        """The ledger rows with this reason of a partition that has any, as dicts."""
        table = self.storage.read_table(f"dropped/{part.receipt['ledger']}")
        return table.filter(pc.equal(table["reason"], reason)).to_pylist()

    def sha256(self, name):
        """Of the file out/<name>, as hex."""
        return sha256(self.storage.read(name))

    def forget(self, stages):
        """Removes the ledgers of stages that this run did not come to, and that an earlier, other run has left."""
        for name in self.storage.names("dropped"):
            if name.split(".")[0] in stages:
                self.storage.remove(f"dropped/{name}")

    # ---- how it is done

    @staticmethod
    def _beside(parts, beside):
        """For each of `parts` the partitions that go with it: of every entry of `beside` the one of its name, or the only one."""
        tables = []
        for others in beside:
            alike = isinstance(others, Partition)
            tables.append({part.name: others for part in parts} if alike else {part.name: part for part in others})
        return [[table[part.name] for table in tables] for part in parts]

    def _produce(self, name, folder, jobs, functions):
        """Runs the jobs whose partition is not done yet; all partitions in the jobs' order. Others in the folder go."""
        for job in jobs:
            job |= {"stage": name, "out": self.out, "output": f"{folder}/{job['name']}.parquet"}
        todo = [job for job, part in zip(jobs, self._look(folder, jobs), strict=True) if part is None]
        self._remove_strangers(folder, [job["name"] for job in jobs])
        ledgers = {f"{name}.{job['name']}.parquet" for job in jobs}
        for ledger in self.storage.names("dropped"):
            if ledger.startswith(f"{name}.") and ledger not in ledgers:
                self.storage.remove(f"dropped/{ledger}")
        with self._stage(name, len(jobs), len(todo)) as progress:
            self._run(name, [(job, None) for job in todo], functions, progress)
        parts = self._look(folder, jobs)
        for part, job in zip(parts, jobs, strict=True):
            if part is None:
                raise EngineError(f"{name}: partition {job['name']} was not written")
        return parts

    def _look(self, folder, jobs):
        """For every job its finished partition, or None."""
        with ThreadPoolExecutor(LOOKERS) as pool:
            return list(pool.map(lambda job: self._done(folder, job["name"], job["key"]), jobs))

    def _run(self, name, rows, functions, progress):
        """Streams one row a partition through the functions on Ray; the receipts come back as they are committed."""
        if not rows:
            return
        data = self._ray().data
        # A budget is wanted only where tables wait between workers and an actor: elsewhere receipts come out. It is empty for the
        # first one or two seconds of every stage, until Ray has been told of its own resources, and one task runs at a time.
        with_actor = any(isinstance(function, Apply) and function.step.actor for function in functions)
        data.DataContext.get_current().op_resource_reservation_enabled = with_actor
        blocks = [pa.table({"job": [json.dumps(job)], "payload": [pickle.dumps(load)]}) for job, load in rows]
        dataset = data.from_arrow(blocks)
        for function in functions:
            how = {"batch_format": "pyarrow", "batch_size": None}
            if isinstance(function, Apply) and function.step.actor:
                dataset = dataset.map_batches(Apply, fn_constructor_args=(function.step,), **how, **self._actors())
            else:
                dataset = dataset.map_batches(function, **how)
        made = Counter()
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for text in batch["job"].to_pylist():
                    made.update({key: value for key, value in json.loads(text).items() if key in ("rows", "bytes")})
                    progress.update(1, made=f"{made['rows']:,} rows  {made['bytes'] / 1e6:,.1f} MB")
        except self.ray.exceptions.RayError as error:
            raise EngineError(_cause(name, error)) from None

    def _actors(self):
        """How an actor's step is spread. It takes no core of Ray's count: on one core the other steps would wait for it forever."""
        has = self.ray.cluster_resources()
        gpus, cpus = int(has.get("GPU", 0)), int(has.get("CPU", 1))
        most = gpus or max(1, cpus // CPUS_PER_ACTOR)
        strategy = self.ray.data.ActorPoolStrategy(min_size=1, max_size=most)
        return {"compute": strategy, "num_cpus": 0, "num_gpus": 1 if gpus else 0}

    def _ray(self):
        """Ray's session, started when the first partition is to be made: a run with nothing to do needs none."""
        if self.ray is None:
            import logging

            for name in ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_DEDUP_LOGS", "RAY_USAGE_STATS_ENABLED"):
                os.environ.setdefault(name, "0")
            import ray
            import ray.data

            options = {"logging_level": logging.ERROR, "log_to_driver": False}
            of_workers = {"PYTHONPATH": str(Path(__file__).parent.parent), "TOKENIZERS_PARALLELISM": "0"}
            if self.ray_address:
                options["runtime_env"] = {"env_vars": of_workers}
            else:
                os.environ |= of_workers  # inherited: a runtime_env would start every worker three seconds later
                options |= {"num_cpus": self.num_cpus, "include_dashboard": False}
                options |= {"object_store_memory": STORE_BYTES_PER_CPU * self.num_cpus}
                if self.storage.local:
                    options |= {"object_spilling_directory": str(self.storage.local / "work")}
            ray.init(self.ray_address or "local", **options)  # without an address Ray would join any cluster that it finds here
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors come back as exceptions
            context = ray.data.DataContext.get_current()
            context.target_max_block_size = None  # a block is a partition, whatever its size
            context.enable_progress_bars = False
            self.ray = ray
        return self.ray

    @contextmanager
    def _stage(self, name, partitions, todo):
        """Progress of a stage, and its wall clock time, summed over the runs that made its partitions."""
        progress, start = Progress(name, todo), time.perf_counter()
        if todo:
            self.storage.remove(SEAL)
        try:
            yield progress
        finally:
            progress.close()
            secs = self._json("work/seconds.json") or {}
            if todo:
                before = secs.get(name, 0.0) if todo < partitions else 0.0
                secs[name] = round(before + time.perf_counter() - start, 2)
                self.storage.write("work/seconds.json", json.dumps(secs, indent=1).encode())
            self.stages[name] = {"secs": secs.get(name, 0.0), "made": todo, "partitions": partitions}

    def _json(self, name):
        """The content of a file of ours, None where there is none, or none that can be read: it is made anew."""
        with suppress(ValueError):
            return json.loads(self.storage.read(name)) if self.storage.size(name) else None

    def _done(self, folder, name, key):
        """The partition, or None where its file or its ledger is missing or was made from something else."""
        file = f"{folder}/{name}.parquet"
        receipt = self.storage.read_receipt(file)
        if receipt is None or receipt["key"] != key:
            return None
        ledger = self.storage.read_receipt(f"dropped/{receipt['stage']}.{name}.parquet") or {}
        if ledger.get("key") != (key if receipt.get("ledger") else None):
            return None
        for made in receipt.get("files", []):
            path = f"{made['folder']}/{made['file']}"
            if self.storage.size(path) != made["bytes"]:
                return None
            if self.storage.local and self.sha256(path) != made["sha256"]:  # of a store that would be to fetch all
                return None
        return Partition(name, file, receipt)

    def _raw_parts(self, name, key):
        """All raw partitions of a job, or None where it has not been finished."""
        parts = []
        while True:
            part = self._done("raw", f"{name}-{len(parts):03d}", key)
            if part is None:
                return None
            parts.append(part)
            if part.receipt["last"]:
                return parts

    def _remove_old_raw(self, sources, names):
        """What these sources left under another cut or for files that are gone. Sources not in the config keep theirs."""
        found = [f"raw/{name}" for name in self.storage.names("raw")]
        found += [f"dropped/{name}" for name in self.storage.names("dropped") if name.startswith("raw.")]
        for path in found:
            name = path.split("/")[1].removesuffix(".parquet")
            name = name.removeprefix("raw.") if path.startswith("dropped/") else name
            if name not in names and (self.storage.read_receipt(path) or {}).get("source") in {*sources, None}:
                self.storage.remove(path)

    def _remove_strangers(self, folder, names):
        """A folder holds the partitions of this run alone: readers take all its files."""
        keep = {f"{name}.parquet" for name in names}
        for name in self.storage.names(folder):
            if name.endswith(".parquet") and name not in keep:
                self.storage.remove(f"{folder}/{name}")


def _cause(name, error):
    """What ended a worker's task, as one sentence: the worker's own EngineError where it could still speak."""
    text = str(error)
    if "No space left on device" in text:
        return f"{name}: {FULL_DISK}"
    said = re.findall(r"(?:EngineError|FetchError): (.+)", text)
    return f"{name}: {said[-1] if said else ' '.join(text.split())[:500]}"


# ---------------------------------------------------------------------------------------------------- the workers' side
#
# Between the functions of a pipeline a partition travels as a table of one row, so that nothing can cut it or lose it:
#     job      string, JSON: names, paths, key, counts so far
#     kept     large_list<struct<columns of the table>>
#     dropped  large_list<struct<ledger row>>
#     files    list<struct<name, large_binary>>


def names_its_partition(function):
    """An error in a worker says which partition it was."""

    @functools.wraps(function)
    def named(block):
        try:
            return function(block)
        except EngineError:
            raise
        except Exception as error:
            name = json.loads(block["job"][0].as_py())["name"]
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise EngineError(f"{name}: {function.__name__}: {message}") from error

    return named


@names_its_partition
def read_input(block):
    """Job -> the input partition's table."""
    job = json.loads(block["job"][0].as_py()) | {"began": time.time(), "steps": []}
    return _pack(job, storage(job["out"]).read_table(job["inputs"][0]))


@names_its_partition
def read_bucket(block):
    """Job -> all rows of a bucket, from the row groups of the split's files."""
    job = json.loads(block["job"][0].as_py()) | {"began": time.time(), "steps": []}
    where = storage(job["out"])
    with where.open(job["schema"]) as file:
        none = pq.read_schema(file).empty_table().replace_schema_metadata(None)
    tables = [none, *(where.read_table(name, groups=[group]) for name, group in job["inputs"])]
    return _pack(job, pa.concat_tables(tables))


class Apply:
    """One step on a packed partition, every row accounted for; rows on which it raises are quarantined one by one."""

    def __init__(self, step):
        self.step = step
        self.__name__ = step.name  # what Ray calls the operator

    def __call__(self, block):
        job, table, dropped, files = _unpack(block)
        if not self.step.takes(job.get("source")):
            return block
        beside = [storage(job["out"]).read_table(name) for name in job.get("beside", [])] if self.step.beside else []
        start = time.perf_counter()
        try:
            kept, lost, more, notes = _guarded(self.step, table, beside)
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise EngineError(f"{job['name']}: {self.step.name}: {message}") from error
        reasons = Counter(lost["reason"].to_pylist())
        if not self.step.expand and len(table) != len(kept) + len(lost):
            raise EngineError(f"{job['name']}: {self.step.name}: {len(table)} rows in, {len(kept)} kept + {len(lost)} dropped")
        if reasons["quarantined"] > max(10, MAX_QUARANTINED * len(table)):
            raise EngineError(f"{job['name']}: {self.step.name} failed on {reasons['quarantined']} rows: {lost['detail'][-1]}")
        record = {"step": self.step.name, "in": len(table), "out": len(kept), "dropped": dict(sorted(reasons.items()))}
        record |= {"notes": notes} if notes else {}
        job["steps"].append(record | {"secs": time.perf_counter() - start, "bytes": table.nbytes})
        return _pack(job, kept, pa.concat_tables([dropped, lost]), files | more)


@names_its_partition
def commit(block):
    """Writes a partition and its ledger; gives its job back with the receipt's counts."""
    job, kept, dropped, files = _unpack(block)
    return _commit(job, kept, dropped, files)


@names_its_partition
def commit_buckets(block):
    """As commit, the rows sorted by `bucket` and each bucket a row group of its own; the receipt lists the buckets."""
    job, kept, dropped, files = _unpack(block)
    kept = kept.take(pc.sort_indices(kept["bucket"]))  # stable
    runs = pc.run_end_encode(one_array(kept["bucket"])) if len(kept) else None
    job["buckets"] = runs.values.to_pylist() if runs is not None else []
    ends = runs.run_ends.to_pylist() if runs is not None else []
    return _commit(job, kept, dropped, files, [0, *ends])


@names_its_partition
def read_source(block):
    """One job of a source -> its raw partitions, cut at job["cut"] bytes of content, each with its ledger rows."""
    job = json.loads(block["job"][0].as_py())
    source, part = pickle.loads(block["payload"][0].as_py())
    held, lost, size, index, began = [], [], 0, 0, time.time()
    total, seen = {"rows": 0, "bytes": 0}, set()

    def write(last):
        nonlocal held, lost, size, index, began
        table = pa.concat_tables([RAW.empty_table(), *held])
        dropped = pa.concat_tables([LEDGER.empty_table(), *lost])
        name = f"{job['name']}-{index:03d}"
        record = {"step": "raw", "in": len(table) + len(dropped), "out": len(table)}
        record |= {"dropped": dict(sorted(Counter(dropped["reason"].to_pylist()).items()))}
        record |= {"secs": time.time() - began, "bytes": size}
        seen_by_steps = [table[name].to_pylist() for name in ("id", "media_type", "licence", "meta")]  # the id has the content
        content = digest(seen_by_steps)
        one = job | {"name": name, "output": f"raw/{name}.parquet", "began": began, "steps": [record]}
        _commit(one | {"content": content, "last": last, "source": source.name}, table, dropped, {})
        total["rows"] += len(table)
        total["bytes"] += size
        held, lost, size, index, began = [], [], 0, index + 1, time.time()

    for records, dropped in source.read(part):
        ids = records["id"].to_pylist()
        first = pa.array([not (i in seen or seen.add(i)) for i in ids], pa.bool_())
        lost += [dropped, drop(records.filter(pc.invert(first)), "raw", "repeated", "the same uri and content as a record before")]
        records = records.filter(first)
        while len(records):
            ends = pc.cumulative_sum(pc.cast(pc.binary_length(records["content"]), pa.int64())).to_numpy()
            room = int((ends <= job["cut"] - size).sum())
            if room < len(records) and (room or held):  # the partition is full; one record alone may be larger than it
                held.append(records.slice(0, room))
                size += int(ends[room - 1]) if room else 0
                records = records.slice(room)
                write(last=False)
            else:
                room = max(room, 1)
                held.append(records.slice(0, room))
                size += int(ends[room - 1])
                records = records.slice(room)
    write(last=True)
    if hasattr(source, "committed"):
        source.committed(part)
    return pa.table({"job": [json.dumps({"name": job["name"], **total})]})


def _guarded(step, table, beside):
    """The step on all rows; where it raises, on halves, until the rows that make it raise are alone and quarantined."""
    try:
        kept, lost, *more = step.run(table, step.settings, *beside)
    except Exception as error:
        if step.whole or step.expand or not len(table):
            raise
        if len(table) == 1:
            kept = step.run(table.slice(0, 0), step.settings, *beside)[0]
            return kept, drop(table, step.name, "quarantined", f"{type(error).__name__}: {error}"[:500]), {}, {}
        middle = len(table) // 2
        first = _guarded(step, table.slice(0, middle), beside)
        second = _guarded(step, table.slice(middle), beside)
        return pa.concat_tables([first[0], second[0]]), pa.concat_tables([first[1], second[1]]), {}, {}
    return kept, lost, *more, *({},) * (2 - len(more))


def _commit(job, kept, dropped, files, cuts=None):
    receipt = {key: job[key] for key in ("stage", "name", "key", "source", "buckets", "last", "steps") if key in job}
    receipt |= {"content": job.get("content", job["key"]), "rows": len(kept), "secs": round(time.time() - job["began"], 3)}
    where, ledger = storage(job["out"]), f"{job['stage']}.{job['name']}.parquet"
    if len(dropped) and not job.get("aside"):
        receipt["ledger"] = ledger
        lost = {"key": job["key"], "source": job.get("source")}
        where.write_table(f"dropped/{ledger}", dropped, lost)
    else:
        where.remove(f"dropped/{ledger}")
    if files:
        receipt["files"] = []
        for name, buffer in files.items():
            where.write(f"{job['files_to']}/{name}", buffer)
            receipt["files"].append({"folder": job["files_to"], "file": name, "bytes": len(buffer), "sha256": sha256(buffer)})
    where.write_table(job["output"], kept, receipt, cuts)
    return pa.table({"job": [json.dumps({"name": job["name"], "rows": len(kept), "bytes": kept.nbytes})]})


def _pack(job, kept, dropped=None, files=None):
    dropped = LEDGER.empty_table() if dropped is None else dropped
    files = files or {}
    data = one_array(pa.chunked_array(map(_value, files.values()), pa.large_binary()))
    blobs = pa.StructArray.from_arrays([pa.array(list(files), pa.string()), data], ["name", "data"])
    columns = {"job": pa.array([json.dumps(job)])}
    for key, rows in (("kept", _structs(kept)), ("dropped", _structs(dropped)), ("files", blobs)):
        columns[key] = pa.LargeListArray.from_arrays(pa.array([0, len(rows)], pa.int64()), rows)
    return pa.table(columns)


def _unpack(block):
    assert len(block) == 1, f"a partition travels as one row, {len(block)} came"
    kept, dropped, files = (one_array(block[key]) for key in ("kept", "dropped", "files"))
    tables = [pa.Table.from_struct_array(rows.flatten()) for rows in (kept, dropped)]
    blobs = files.flatten()
    found = {name.as_py(): data.as_buffer() for name, data in zip(blobs.field("name"), blobs.field("data"), strict=True)}
    return json.loads(block["job"][0].as_py()), *tables, found


def _value(data):
    """Bytes or a buffer as an array of one value, not copied: it may be a shard."""
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, pa.array([0, len(data)]).buffers()[1], pa.py_buffer(data)])


def _structs(table):
    return one_array(table.combine_chunks().to_struct_array())


def available_cpus():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def plain(value):
    """Settings as JSON values: dataclasses become dicts (without fields of metadata {"in_key": False}), tuples lists."""
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("in_key", True)]
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def digest(*values):
    """sha256 over the canonical JSON of the values, as hex."""
    return hashlib.sha256(json.dumps(plain(values), sort_keys=True).encode()).hexdigest()


@contextmanager
def stoppable():
    """SIGTERM ends the block as Ctrl-C does, so that Ray's processes go with the run."""

    def stop(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
