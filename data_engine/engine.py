"""
The engine's driver: it alone knows Ray, and decides which partitions are done and which are to be made.

One partition = one row of a Ray Data dataset = one output file. Each goes through a list of steps, pure functions on Arrow
tables: worker.py reads the input, applies the steps and commits the result:

    out/<name>/<partition>.parquet           kept rows; the footer holds the partition's receipt
    out/dropped/<name>.<partition>.parquet   the ledger rows of the same steps, where there are any

The receipt's `key` hashes all that decides the content: the input, the steps, their versions and settings. A partition is done
when its file exists with the right key, so a rerun does only what is missing or has changed, whatever ended the last run.

    ingest(sources)                      sources -> raw partitions
    map(name, parts, steps)              one partition -> one partition
    exchange(name, parts, split, merge)  keyed shuffle through files: rows -> buckets -> one partition a bucket
    save(name, key, tables)              partitions that the driver makes from all rows
    once(name, key, make)                a folder that the driver makes from all rows

On a cluster every node reads and writes `out` itself: it must be the same address for all of them, an object store or a shared
folder. The project must lie at the same path on every node. Ray runs the task of a lost worker or node again elsewhere; it
writes the same file, so the output never depends on which machines were alive.
"""

import json
import logging
import os
import pickle
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.sources.fetch import show_downloads
from data_engine.sources.listing import is_available
from data_engine.step import EngineError, digest
from data_engine.storage import storage
from data_engine.worker import Apply, commit, commit_buckets, read_bucket, read_input, read_source
from phoenix.config import UserError, one_line
from phoenix.files import sha256
from phoenix.progress import Progress

VERSION = 1  # raise when the engine itself would write other rows for the same steps
DONE_MARKER = "shards/shards.json"  # completeness marker: deleted when any partition is remade, written last
MIN_FREE_BYTES = 256 << 20  # a run does not start on a disk with less than this
STORE_BYTES_PER_CPU = 192 << 20  # object store: three 64 MB partitions between a worker and an actor
RECEIPT_THREADS = 16  # threads that read receipts: in an object store each takes some 10 ms
CPUS_PER_ACTOR = 4  # without a GPU; each actor holds its model, 1.2 GB for XLM-RoBERTa
RETRIES = 8  # of Ray, for a partition whose worker or node is lost; a step that kills its worker takes one (isolated.py)
RAY_ENVIRONMENT = {
    **dict.fromkeys(("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_DEDUP_LOGS", "RAY_USAGE_STATS_ENABLED"), "0"),
    "RAY_task_oom_retries": str(RETRIES),  # these have a count of their own
}
START_SECS = 50.0  # for a cluster to answer; one that does not hears for minutes of nothing, deaf to signals
FULL_DISK = "the disk is full; free some space and run the same command again, finished partitions are kept"


@dataclass(frozen=True)
class Partition:
    """A finished partition: its table lies in `file` of the run's storage; `receipt` is that of the footer."""

    name: str
    file: str
    receipt: dict[str, Any]

    @property
    def content(self):
        """The hash that every partition made from this one puts into its own key."""
        return self.receipt["content"]


class Engine:
    """One run in one `out` folder; a context manager that holds the folder's lock and, from the first work on, a Ray session."""

    def __init__(self, out, num_cpus=None, ray_address=None, partition_bytes=64 << 20, verify=False):
        self.storage = storage(str(out))
        self.out = self.storage.root
        self.num_cpus = num_cpus or available_cpus()
        self.ray_address = ray_address or os.environ.get("RAY_ADDRESS")
        self.partition_bytes = partition_bytes
        self.verify = verify  # every byte of finished files is read and compared with its checksum, not only the receipts
        self.stages = {}  # stage -> seconds over all runs, partitions made in this run, partitions in all
        self.run = uuid.uuid4().hex  # tells the attempts of this run from those of one that was stopped
        self.ray = None
        self.started_ray = False

    def __enter__(self):
        self.lock = self.storage.claim(MIN_FREE_BYTES)
        return self

    def __exit__(self, *exc):
        if self.started_ray:
            self.ray.shutdown()
        self.lock.close()

    # ---- stages

    def ingest(self, sources):
        """The raw partitions of all sources in their order. A job (a file, or some small ones) makes one or more of them."""
        jobs = []  # (name, key, source, source's job)
        for source in sources:
            kind = type(source).__name__
            for job in source.jobs(self.partition_bytes):
                key = digest(VERSION, kind, job.name, job.state, self.partition_bytes)
                jobs.append((f"{source.name}-{job.name}", key, source, job))
        names = Counter(name for name, *_ in jobs)
        if names and max(names.values()) > 1:
            raise UserError(f"two sources would both write raw/{names.most_common(1)[0][0]}: rename one of them")
        todo = [entry for entry in jobs if self._raw_partitions(*entry[:2]) is None]
        missing = {name: source.name for name, _, source, job in todo if not is_available(source, job)}
        for source, count in Counter(missing.values()).items():  # a finished partition does not need its download any more
            total = sum(other.name == source for _, _, other, _ in jobs)
            print(f"{source}: offline, {count} of {total} downloads are not here and are left out", file=sys.stderr)
        jobs, todo = ([entry for entry in entries if entry[0] not in missing] for entries in (jobs, todo))
        rows = [
            ({"stage": "raw", "name": name, "key": key, "out": self.out, "cut": self.partition_bytes}, (source, job))
            for name, key, source, job in todo
        ]
        fetched = [(source, job) for _, _, source, job in todo]
        with self._stage("raw", len(jobs), len(todo)) as progress, show_downloads(progress, fetched):
            self._run("raw", rows, [read_source], progress)
        parts = []
        for name, key, *_ in jobs:
            made = self._raw_partitions(name, key)
            if made is None:
                raise EngineError(f"raw: the job {name} left no complete partitions")
            parts += made
        self._remove_old_raw({source.name for source in sources}, {part.name for part in parts})
        return parts

    def map(self, name, parts, steps, side_inputs=(), folder=None, no_ledger=False):
        """
        Every partition through the steps; the results, of the same names and order, lie in out/<folder or name>.

        side_inputs  lists of partitions, each with one of the same name for every one of `parts`; or one partition for all
        no_ledger    dropped rows are not recorded, because the corpus does not lose them
        """
        jobs = []
        for part, others in zip(parts, self._side_inputs(parts, side_inputs), strict=True):
            source = part.receipt.get("source")
            identity = [step.identity() for step in steps if step.takes(source)]
            job = {
                "name": part.name,
                "key": digest(VERSION, identity, [p.content for p in (part, *others)]),
                "inputs": [part.file],
                "side_inputs": [p.file for p in others],
                "source": source,
                "no_ledger": no_ledger,
            }
            jobs.append(job)
        return self._produce(name, folder or name, jobs, [read_input, *(Apply(s) for s in steps), commit])

    def exchange(self, name, parts, split, merge, buckets, files_to=None, side_inputs=()):
        """
        Keyed shuffle: split adds an int32 column `bucket` to a partition's rows, merge gets all rows of one bucket.

        The rows rest in work/<name>-split, a row group a bucket: merge reads only its own, and a stopped run goes on in the
        middle. Merge gets the rows in the order of `parts` and sorts by what it needs.

        files_to     folder of the files that merge makes
        side_inputs  of split, as in map
        Returns the partitions of both halves.
        """
        identity = [split.identity(), buckets]
        jobs = []
        for part, others in zip(parts, self._side_inputs(parts, side_inputs), strict=True):
            key = digest(VERSION, identity, [p.content for p in (part, *others)])
            job = {"name": part.name, "key": key, "inputs": [part.file], "side_inputs": [p.file for p in others]}
            jobs.append(job | {"source": part.receipt.get("source")})
        halves = self._produce(f"{name}-split", f"work/{name}-split", jobs, [read_input, Apply(split), commit_buckets])
        merge_key = digest(VERSION, identity, merge.identity(), [p.content for p in halves])
        jobs = []
        for bucket in range(buckets):
            groups = [[p.file, p.receipt["buckets"].index(bucket)] for p in halves if bucket in p.receipt["buckets"]]
            schema = halves[0].file if halves else None
            job = {"name": f"{bucket:05d}", "key": digest(merge_key, bucket), "inputs": groups, "schema": schema}
            jobs.append(job | {"files_to": files_to})
        return halves, self._produce(name, f"work/{name}", jobs, [read_bucket, Apply(merge), commit])

    def save(self, name, key, tables, folder=None):
        """Partitions that the driver makes: tables() gives (name, table) pairs, and is called only if one is missing."""
        folder, index = folder or name, f"work/{name}.json"
        known = self._read_json(index)
        if known and known["key"] == key:
            parts = [self._finished(folder, part, digest(key, part)) for part in known["parts"]]
            if all(parts):
                with self._stage(name, 1, 0):
                    return parts
        with self._stage(name, 1, 1) as progress:
            names = []
            for part, table in tables():
                receipt = {"stage": name, "name": part, "key": digest(key, part), "content": digest(key, part)}
                self.storage.write_table(f"{folder}/{part}.parquet", table, receipt | {"rows": len(table)})
                names.append(part)
            self._remove_others(folder, names)
            self.storage.write(index, json.dumps({"key": key, "parts": names}).encode())
            progress.update()
        return [self._finished(folder, part, digest(key, part)) for part in names]

    def once(self, folder, key, make, units):
        """
        The files that make(temporary folder, progress) writes, in out/<folder>; made anew unless is_made(folder, key).

        units  what `make` counts up to on `progress`
        """
        done, receipt = self.is_made(folder, key), f"work/{folder}.json"
        with self._stage(folder, 1, 0 if done else 1, units) as progress:
            if done:
                return
            self.storage.remove(receipt)
            for name in self.storage.names(folder):
                self.storage.remove(f"{folder}/{name}")
            with tempfile.TemporaryDirectory() as temporary:
                make(temporary, progress)
                names = sorted(path.name for path in Path(temporary).iterdir())
                for name in names:
                    self.storage.write(f"{folder}/{name}", Path(temporary, name).read_bytes())
            self.storage.write(receipt, json.dumps(self._folder_receipt(folder, key, names)).encode())

    def is_made(self, folder, key):
        """True if `once` made the folder with this key and its files are the same since."""
        return self._read_json(f"work/{folder}.json") == self._folder_receipt(folder, key, self.storage.names(folder))

    def publish(self, folder, files, key, keep):
        """
        Finishes a folder: writes `files`, {name: bytes or list of partitions}, in this order; removes all but these and `keep`.

        Partitions become one Parquet file, read and written one by one. key: what they depend on; a file that has this key, and
        the bytes that were written, is not written again.
        """
        for name in self.storage.names(folder):
            if name not in {*files, *keep}:
                self.storage.remove(f"{folder}/{name}")
        for name, data in files.items():
            path, state = f"{folder}/{name}", f"work/{folder}.{name}.json"
            if isinstance(data, bytes):
                if self.storage.size(path) != len(data) or self.storage.read(path) != data:
                    self.storage.write(path, data)
            elif not self._same(path, self._read_json(state) or {}, key):
                self.storage.write_table(path, (self.read([part], None) for part in data), {"key": key})
                written = {"key": key, "bytes": self.storage.size(path), "sha256": self._sha256(path)}
                self.storage.write(state, json.dumps(written).encode())

    def read(self, parts, columns):
        """The columns of all partitions as one table, in their order; it must fit the driver's memory."""
        return pa.concat_tables([self.storage.read_table(part.file, columns) for part in parts])

    def read_ledger(self, part, reason):
        """The ledger rows of a partition with this reason, as dicts. The partition must have a ledger."""
        table = self.storage.read_table(f"dropped/{part.receipt['ledger']}")
        return table.filter(pc.equal(table["reason"], reason)).to_pylist()

    def remove_ledgers(self, stages):
        """Removes the ledgers of stages that this run did not reach; an earlier run with other settings wrote them."""
        for name in self.storage.names("dropped"):
            if name.split(".")[0] in stages:
                self.storage.remove(f"dropped/{name}")

    # ---- what is done

    def _finished(self, folder, name, key):
        """The partition if it is done: its file, its ledger and the files it made exist and carry this key. None if not."""
        file = f"{folder}/{name}.parquet"
        receipt = self.storage.read_receipt(file)
        if receipt is None or receipt.get("key") != key or not {"stage", "content", "rows"} <= receipt.keys():
            return None
        if self.verify and not self.storage.whole(file):
            return None
        ledger = self.storage.read_receipt(f"dropped/{receipt['stage']}.{name}.parquet") or {}
        if ledger.get("key") != (key if receipt.get("ledger") else None):
            return None
        if self.verify and receipt.get("ledger") and not self.storage.whole(f"dropped/{receipt['ledger']}"):
            return None
        for made in receipt.get("files", []):
            path = f"{made['folder']}/{made['file']}"
            if self.storage.size(path) != made["bytes"]:
                return None
            if (self.storage.local or self.verify) and self._sha256(path) != made["sha256"]:  # from a store it fetches all
                return None
        return Partition(name, file, receipt)

    def _same(self, path, written, key):
        """True if a file has this key and still is what `written` says: its bytes, in an object store only their number."""
        if written.get("key") != key or self.storage.size(path) != written["bytes"]:
            return False
        return not (self.storage.local or self.verify) or self._sha256(path) == written["sha256"]

    def _all_finished(self, folder, jobs):
        """For every job its finished partition, or None."""
        with ThreadPoolExecutor(RECEIPT_THREADS) as pool:
            return list(pool.map(lambda job: self._finished(folder, job["name"], job["key"]), jobs))

    def _raw_partitions(self, name, key):
        """All raw partitions of a job; None if it has not been finished."""
        parts = []
        while True:
            part = self._finished("raw", f"{name}-{len(parts):03d}", key)
            if part is None:
                return None
            parts.append(part)
            if part.receipt["last"]:
                return parts

    def _folder_receipt(self, folder, key, names):
        return {"key": key, "files": {name: self._sha256(f"{folder}/{name}") for name in names}}

    def _sha256(self, name):
        return sha256(self.storage.read(name))

    def _read_json(self, name):
        """The content of a JSON file of the run; None if it is missing or damaged, and is then made anew."""
        with suppress(ValueError):
            return json.loads(self.storage.read(name)) if self.storage.size(name) else None

    def _remove_old_raw(self, sources, names):
        """Removes what these sources left under another cut or for files that are gone. Other sources keep their partitions."""
        paths = [f"raw/{name}" for name in self.storage.names("raw")]
        paths += [f"dropped/{name}" for name in self.storage.names("dropped") if name.startswith("raw.")]
        for path in paths:
            name = path.split("/")[1].removesuffix(".parquet")
            name = name.removeprefix("raw.") if path.startswith("dropped/") else name
            if name not in names and (self.storage.read_receipt(path) or {}).get("source") in {*sources, None}:
                self.storage.remove(path)

    def _remove_others(self, folder, names):
        """A folder holds this run's partitions alone, because readers take all its files."""
        keep = {f"{name}.parquet" for name in names}
        for name in self.storage.names(folder):
            if name.endswith(".parquet") and name not in keep:
                self.storage.remove(f"{folder}/{name}")

    # ---- how it is made

    @staticmethod
    def _side_inputs(parts, side_inputs):
        """For each of `parts` its side inputs: from every list the partition of the same name, or the one partition for all."""
        tables = []
        for others in side_inputs:
            for_all = isinstance(others, Partition)
            tables.append({part.name: others for part in parts} if for_all else {part.name: part for part in others})
        return [[table[part.name] for table in tables] for part in parts]

    def _produce(self, name, folder, jobs, functions):
        """Runs the jobs whose partition is not done; returns all partitions in the jobs' order and removes others."""
        for job in jobs:
            job |= {"stage": name, "out": self.out, "output": f"{folder}/{job['name']}.parquet"}
        todo = [job for job, part in zip(jobs, self._all_finished(folder, jobs), strict=True) if part is None]
        self._remove_others(folder, [job["name"] for job in jobs])
        ledgers = {f"{name}.{job['name']}.parquet" for job in jobs}
        for ledger in self.storage.names("dropped"):
            if ledger.startswith(f"{name}.") and ledger not in ledgers:
                self.storage.remove(f"dropped/{ledger}")
        with self._stage(name, len(jobs), len(todo)) as progress:
            self._run(name, [(job, None) for job in todo], functions, progress)
        parts = self._all_finished(folder, jobs)
        for part, job in zip(parts, jobs, strict=True):
            if part is None:
                raise EngineError(f"{name}: partition {job['name']} was not written")
        return parts

    @contextmanager
    def _stage(self, name, partitions, todo, units=1):
        """Progress of a stage, `units` a partition, and its wall clock time, summed over the runs that made its partitions."""
        progress, start = Progress(name, todo * units), time.perf_counter()
        if todo:
            self.storage.remove(DONE_MARKER)
        try:
            yield progress
        finally:
            progress.close()
            secs = self._read_json("work/seconds.json") or {}
            if todo:
                before = secs.get(name, 0.0) if todo < partitions else 0.0
                secs[name] = round(before + time.perf_counter() - start, 2)
                self.storage.write("work/seconds.json", json.dumps(secs, indent=1).encode())
            self.stages[name] = {"secs": secs.get(name, 0.0), "made": todo, "partitions": partitions}

    def _run(self, name, rows, functions, progress):
        """Runs the functions on one row per partition with Ray, and shows the committed counts."""
        if not rows:
            return
        data = self._session().data
        # A memory budget matters only where tables wait between workers and an actor. Ray leaves it empty for the first one or two
        # seconds of a stage, and runs one task at a time.
        with_actor = any(isinstance(function, Apply) and function.step.actor for function in functions)
        data.DataContext.get_current().op_resource_reservation_enabled = with_actor
        blocks = [pa.table({"job": [json.dumps(job | {"run": self.run})], "payload": [pickle.dumps(load)]}) for job, load in rows]
        dataset = data.from_arrow(blocks)
        for function in functions:
            options = {"batch_format": "pyarrow", "batch_size": None}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray 2.60 has no other way to bound its retries, which are endless
                if isinstance(function, Apply) and function.step.actor:
                    options |= {"max_task_retries": RETRIES} | self._actors()
                    dataset = dataset.map_batches(Apply, fn_constructor_args=(function.step,), **options)
                else:
                    dataset = dataset.map_batches(function, max_retries=RETRIES, **options)
        total = Counter()
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for text in batch["job"].to_pylist():
                    total.update({key: value for key, value in json.loads(text).items() if key in ("rows", "bytes")})
                    progress.update(1, made=f"{total['rows']:,} rows  {total['bytes'] / 1e6:,.1f} MB")
        except self.ray.exceptions.RayError as error:
            raise EngineError(_cause(name, error)) from None

    def _actors(self):
        """Ray's options for an actor's step. It asks for no core: on one core the other steps would wait for it forever."""
        resources = self.ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        most = gpus or max(1, cpus // CPUS_PER_ACTOR)
        strategy = self.ray.data.ActorPoolStrategy(min_size=1, max_size=most)
        return {"compute": strategy, "num_cpus": 0, "num_gpus": 1 if gpus else 0}

    def _session(self):
        """Ray, started when the first partition is to be made. A session that the process already has is used, and stays."""
        if self.ray is None:
            for name, value in RAY_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            os.environ.setdefault("RAY_TMPDIR", tempfile.gettempdir())  # Ray itself would create a TMPDIR that is missing
            import ray
            import ray.data

            if not ray.is_initialized():
                # without an address Ray would join any cluster that runs on this machine
                with _starting(self.ray_address):
                    ray.init(self.ray_address or "local", **self._ray_options())
                self.started_ray = True
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors come back as exceptions
            context = ray.data.DataContext.get_current()
            context.target_max_block_size = None  # a block is a partition, whatever its size
            context.enable_progress_bars = False
            self.ray = ray
        return self.ray

    def _ray_options(self):
        options = {"logging_level": logging.ERROR, "log_to_driver": False}
        for_workers = {"PYTHONPATH": str(Path(__file__).parent.parent), "TOKENIZERS_PARALLELISM": "0"}
        if self.ray_address:
            return options | {"runtime_env": {"env_vars": for_workers}}
        os.environ |= for_workers  # inherited: a runtime_env would start every worker three seconds later
        options |= {"num_cpus": self.num_cpus, "include_dashboard": False}
        options |= {"object_store_memory": STORE_BYTES_PER_CPU * self.num_cpus}
        if self.storage.local:
            options |= {"object_spilling_directory": str(self.storage.local / "work")}
        return options


@contextmanager
def _starting(address):
    """While Ray starts: what goes wrong is a UserError, and the handler of SIGTERM, which Ray replaces, is put back."""
    what = f"Ray cannot be reached at ray_address={address}" if address else "Ray cannot be started"

    def give_up():
        print(f"error: {what}: no answer in {START_SECS:.0f} s", file=sys.stderr, flush=True)
        os._exit(2)  # Ray's compiled code waits for minutes and hears no signal

    handler, alarm = signal.getsignal(signal.SIGTERM), threading.Timer(START_SECS, give_up)
    alarm.daemon = True
    try:
        if address and re.fullmatch(r"[\w.-]+:\d+", address):
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        if address:
            alarm.start()
        yield
    except SystemExit:  # Ray's own handler of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:
        text = f"{type(error).__name__}: {one_line(error)}"
        if ".ray" in text or "home directory" in text:
            text += "; it keeps its key in HOME, which must be a folder that can be written"
        raise UserError(f"{what}: {text[:500]}") from error
    finally:
        alarm.cancel()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _cause(name, error):
    """One sentence on what ended a worker's task: the worker's own EngineError, or else Ray's message."""
    text = str(error)
    if "No space left on device" in text:
        return f"{name}: {FULL_DISK}"
    messages = re.findall(r"(?:EngineError|FetchError): (.+)", text)
    if not messages and re.match("WorkerCrashed|OutOfMemory|ActorDied|ActorUnavailable", type(error).__name__):
        return f"{name}: a worker died {RETRIES + 1} times at the same partition; memory may be short (num_cpus sets how many work)"
    return f"{name}: {messages[-1] if messages else one_line(text, 500)}"


def available_cpus():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
