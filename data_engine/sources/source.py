"""
What all sources share: jobs, and the chunks in which records leave them.

A source is a frozen dataclass: `check()` and `jobs(partition_bytes)` run in the driver, `read(job)` in a worker. One job is one
large file or a group of small ones; the engine redoes a job when its state changes.

read()   (records RAW, dropped LEDGER) in chunks of about CHUNK bytes; nothing found is lost: it is a record or a ledger row
"""

import dataclasses
import hashlib
import json
import os
import re
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa

from data_engine.records import RAW, drop, record_id
from data_engine.sources.fetch import QUESTIONS, Failure, FetchError, Remote, persistently, told
from phoenix.config import UserError

CHUNK = 16 << 20  # bytes of content a chunk holds before it is handed on (one record can be more)

Chunks = Iterator[tuple[pa.Table, pa.Table]]


@dataclass(frozen=True)
class Job:
    name: str  # unique in its source, safe in a file name, the same however many cores there are
    spec: tuple  # what to read; JSON
    state: str  # hex digest of what decides its records: settings, paths, sizes, times, versions
    size: int = 0  # bytes that will be read, for plans and progress


class Chunk:
    """Records and ledger rows on their way out."""

    def __init__(self, source, revision="", fetched_at=None):
        self.source = source
        self.revision = revision  # of the data set that the records come from
        self.fetched_at = int(time.time() if fetched_at is None else fetched_at)
        self.records, self.lost, self.size = [], [], 0

    def add(self, uri, media_type, content, licence, meta="{}"):
        key = record_id(self.source, uri, content)
        self.records.append((key, self.source, uri, media_type, content, licence, self.revision, self.fetched_at, meta))
        self.size += len(content)

    def drop(self, uri, reason, detail, content=b""):
        detail = utf8(detail[:200].encode("utf-8", "surrogatepass"))
        self.lost.append((record_id(self.source, uri, content), self.source, uri, reason, detail))

    def full(self) -> Chunks:
        """Hands on what is there once it is CHUNK bytes or many rows."""
        if self.size >= CHUNK or len(self.records) + len(self.lost) >= 20_000:
            yield self.take()

    def take(self):
        """(records, dropped): what is there, be it nothing."""
        columns = zip(*self.records, strict=True) if self.records else [()] * len(RAW)
        records = pa.table([pa.array(c, f.type) for c, f in zip(columns, RAW, strict=True)], schema=RAW)
        *names, reasons, details = map(list, zip(*self.lost, strict=True)) if self.lost else [[]] * 5
        lost = drop(pa.table([pa.array(c, pa.string()) for c in names], names=["id", "source", "uri"]), "raw", reasons, details)
        self.records, self.lost, self.size = [], [], 0
        return records, lost


@contextmanager
def steady(source, path, open_file):
    """
    A file for the readers, at whose end it is certain that every read of it went well: FetchError if not, whatever a reader made
    of the failure. What a disk or a store refuses to give today is no damage of the file, so no record may be lost by it.

    open_file() -> the file; called again where reading failed and may go well the next time
    """
    file = Steady(source, path, open_file)
    try:
        yield file
    finally:
        file.close()
    if file.trouble:
        raise file.trouble


class Steady:
    def __init__(self, source, path, open_file):
        self.remote, self.open_file = Remote(source, path, ""), open_file
        self.file, self.at, self.closed = None, 0, False
        self.trouble = None  # the FetchError that ended it

    def read(self, n=-1):
        rest = None if n is None or n < 0 else n  # pyarrow's files take no -1
        data = self._persistently(lambda file: file.read(rest))
        self.at += len(data)
        return data

    def seek(self, offset, whence=0):
        base = 0 if whence == 0 else self.at if whence == 1 else self._persistently(lambda file: file.seek(0, 2))
        at = base + offset
        if at < 0:
            raise ValueError(f"a place before the beginning of the file: {at}")
        self.at = at
        return at

    def tell(self):
        return self.at

    def readable(self):
        return True

    def seekable(self):
        return True

    def writable(self):
        return False

    def close(self):
        self.closed = True
        self._let_go()

    def _let_go(self):
        with suppress(Exception):  # it has failed already, or its records have been read
            if self.file is not None:
                self.file.close()
        self.file = None

    def _persistently(self, act):
        def attempt():
            try:
                if self.file is None:
                    self.file = self.open_file()
                if self.file.tell() != self.at:
                    self.file.seek(self.at)
                return act(self.file)
            except Exception as error:  # whatever a store's library raises
                self._let_go()
                if isinstance(error, (FileNotFoundError, PermissionError)):
                    raise self.remote.error(told(error)) from None
                raise Failure(told(error)) from None

        if self.trouble:
            raise self.trouble
        try:
            return persistently(self.remote, attempt, lambda: 0, QUESTIONS)
        except FetchError as error:
            self.trouble = error
            raise


def group(files, target):
    """
    Tuples (path, bytes, ...), sorted by path -> groups of them, each of target/2 to 3/2 target bytes.

    Where a group ends is chosen by the hash of a path, not by a running sum from the start: a file that is added or
    taken away changes its own group, and few after it.  [("a", 1), ("b", 1)], 9 -> [[("a", 1), ("b", 1)]]
    """
    groups, size = [], 0
    for file in files:
        chance = int.from_bytes(hashlib.blake2b(os.fsencode(file[0]), digest_size=8).digest()) / 2**64
        full = size + file[1] > target * 3 / 2
        if not groups or full or (size >= target / 2 and chance < max(file[1], 1) * 2 / target):
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file[1]
    return groups


def job_name(path):
    """'wiki/AA/x 1.jsonl' -> 'wiki-AA-x-1.jsonl-' and eight hex digits that make it unique."""
    shown = re.sub(r"[^A-Za-z0-9.]+", "-", path).strip("-.")[:40].rstrip("-.")
    return f"{shown or 'file'}-{hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()}"


def digest(*what):
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()


def utf8(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def check_source(source):
    kinds = {str: (str, os.PathLike), float: (int, float), bool: (bool,), tuple: (tuple, list), types.NoneType: (types.NoneType,)}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        named = field.type.__args__ if isinstance(field.type, types.UnionType) else (field.type,)
        if all(kind in kinds for kind in named) and not isinstance(value, sum((kinds[kind] for kind in named), ())):
            wanted = getattr(field.type, "__name__", str(field.type))
            raise UserError(f"source {source.name!r}: {field.name} must be {wanted}, not {value!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", source.name):
        raise UserError(f"source {source.name!r}: a name is letters, digits, - and _, at most 64")
    if not 0 < source.share <= 1:
        raise UserError(f"source {source.name}: share must be above 0 and at most 1, not {source.share}")
