"""
What all sources share: jobs, chunks of records, and files whose reads are retried.

A source is a frozen dataclass: `check()` and `jobs(partition_bytes)` run in the driver, `read(job)` in a worker. A job is one
large file or a group of small ones; the engine redoes it when its state changes.

read()   yields (records RAW, dropped LEDGER) of about CHUNK bytes; whatever is found becomes a record or a ledger row
"""

import dataclasses
import hashlib
import io
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
from data_engine.sources.fetch import FetchError, RemoteFile, RetryableError, retry
from data_engine.sources.hosts import describe
from phoenix.config import UserError

CHUNK = 16 << 20  # bytes of content at which a chunk is passed on; a single record can be larger

Chunks = Iterator[tuple[pa.Table, pa.Table]]


@dataclass(frozen=True)
class Job:
    name: str  # unique in its source, safe in a file name, the same however many cores there are
    spec: tuple  # what to read, as JSON values
    state: str  # hex digest of all that decides its records: settings, paths, sizes, times, versions
    size: int = 0  # bytes to read, for plans and progress


class Chunk:
    """Collects records and ledger rows until they are passed on."""

    def __init__(self, source):
        self.source = source
        self.revision, self.fetched_at = "", int(time.time())  # of the records that follow
        self.records, self.lost, self.size = [], [], 0

    def add(self, uri, media_type, content, licence, meta="{}"):
        key = record_id(self.source, uri, content)
        self.records.append((key, self.source, uri, media_type, content, licence, self.revision, self.fetched_at, meta))
        self.size += len(content)

    def drop(self, uri, reason, detail, content=b""):
        detail = utf8(detail[:200].encode("utf-8", "surrogatepass"))
        self.lost.append((record_id(self.source, uri, content), self.source, uri, reason, detail))

    def full(self) -> Chunks:
        """Yields take() once there are CHUNK bytes or many rows."""
        if self.size >= CHUNK or len(self.records) + len(self.lost) >= 20_000:
            yield self.take()

    def take(self):
        """(records, dropped) so far, maybe empty; the chunk starts anew."""
        columns = zip(*self.records, strict=True) if self.records else [()] * len(RAW)
        records = pa.table([pa.array(c, f.type) for c, f in zip(columns, RAW, strict=True)], schema=RAW)
        *names, reasons, details = map(list, zip(*self.lost, strict=True)) if self.lost else [[]] * 5
        lost = drop(pa.table([pa.array(c, pa.string()) for c in names], names=["id", "source", "uri"]), "raw", reasons, details)
        self.records, self.lost, self.size = [], [], 0
        return records, lost


@contextmanager
def retrying_file(source, path, open_file):
    """
    A readable file that retries reads; FetchError on exit if any read failed for good, even if the reader swallowed it.

    What a disk or store refuses to give today is no damage of the file, so it must not cost a record.

    open_file() -> the file; called again after a failure
    """
    raw = RetryingFile(source, path, open_file)
    with io.BufferedReader(raw) as file:
        yield file
    if raw.failure:
        raise raw.failure


class RetryingFile(io.RawIOBase):
    def __init__(self, source, path, open_file):
        self.remote, self.open_file = RemoteFile(source, path), open_file
        self.file, self.position = None, 0
        self.failure = None  # the FetchError that ended it

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        data = self._retry(lambda file: file.read(len(buffer)))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def seek(self, offset, whence=os.SEEK_SET):
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence == os.SEEK_END:
            offset += self._retry(lambda file: file.seek(0, os.SEEK_END))
        if offset < 0:
            raise ValueError(f"an offset before the beginning of the file: {offset}")
        self.position = offset
        return offset

    def close(self):
        self._close_file()
        super().close()

    def _close_file(self):
        with suppress(Exception):  # it has failed already, or its records have been read
            if self.file is not None:
                self.file.close()
        self.file = None

    def _retry(self, read):
        def attempt():
            try:
                if self.file is None:
                    self.file = self.open_file()
                if self.file.tell() != self.position:
                    self.file.seek(self.position)
                return read(self.file)
            except Exception as error:  # a store's library may raise anything
                self._close_file()
                if isinstance(error, (FileNotFoundError, PermissionError)):
                    raise self.remote.error(describe(error)) from None
                raise RetryableError(describe(error)) from None

        if self.failure:
            raise self.failure
        try:
            return retry(self.remote, attempt, question=True)
        except FetchError as error:
            self.failure = error
            raise


def group(files, target):
    """
    Tuples (path, bytes, ...), sorted by path -> groups of them, each of target/2 to 3/2 target bytes.

    The hash of a path decides where a group ends, not a running sum from the start: an added or removed file then changes its own
    group and few after it.  [("a", 1), ("b", 1)], 9 -> [[("a", 1), ("b", 1)]]
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


def digest(*values):
    """Of JSON values, in hex: a job's state, and so in the keys of raw partitions."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def utf8(name: bytes) -> str:
    """Bytes that are not UTF-8 become \\xNN."""
    return name.decode("utf-8", "backslashreplace")


def check_source(source):
    """UserError for a field of the wrong type, a bad name or a bad share."""
    kinds = {str: (str, os.PathLike), float: (int, float), bool: (bool,), tuple: (tuple, list), types.NoneType: (types.NoneType,)}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        expected = field.type.__args__ if isinstance(field.type, types.UnionType) else (field.type,)
        if all(kind in kinds for kind in expected) and not isinstance(value, sum((kinds[kind] for kind in expected), ())):
            name = getattr(field.type, "__name__", str(field.type))
            raise UserError(f"source {source.name!r}: {field.name} must be {name}, not {value!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", source.name):
        raise UserError(f"source {source.name!r}: a name is letters, digits, - and _, at most 64")
    if not 0 < source.share <= 1:
        raise UserError(f"source {source.name}: share must be above 0 and at most 1, not {source.share}")
