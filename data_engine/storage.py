"""
Where a run lies: a folder on disk, or a prefix in an object store (s3://bucket/corpus, gs://…, any address that pyarrow knows).

Names are relative to that root, "/" between folders. A file is there whole or not at all: on disk it is written under a temporary
name, fsynced and renamed; in an object store an object appears when its upload is complete. What is put into one is held in memory
until then: a partition, or a shard.

S3 takes its keys, region and endpoint from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION,
AWS_ENDPOINT_URL), on every node of a cluster.
"""

import fcntl
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from phoenix.config import UserError

RECEIPT = b"phoenix"  # key of the receipt in a Parquet footer
TEMPORARY = ".tmp-"
KEYS = re.compile(r"//[^/@:]*:[^@]*@")  # in an address; a secret key may hold slashes


@functools.cache
def storage(root):
    """The storage at this root, a str; one a process, with its connections."""
    return Storage(root)


class Storage:
    """
    A folder on disk or in an object store.

    root   absolute path or address, the same for every process of a run
    local  the folder as a Path, None where it is not on disk
    """

    def __init__(self, root):
        if "://" in root:
            if KEYS.search(root):  # receipts and reports name the address
                raise UserError("the keys of a store do not belong into the address of out: give them in the environment")
            try:
                self.fs, self.base = pafs.FileSystem.from_uri(root)
            except (pa.ArrowInvalid, OSError, ImportError, ValueError) as error:
                raise UserError(f"{root} is no address that pyarrow can use: {' '.join(str(error).split())}") from error
            self.root = root.rstrip("/")
            if not self.base.strip("/"):
                raise UserError(f"{root} names no bucket or folder")
        else:
            self.fs, self.base = pafs.LocalFileSystem(), str(Path(root).expanduser().resolve())
            self.root = self.base
        self.local = Path(self.base) if isinstance(self.fs, pafs.LocalFileSystem) else None

    def path(self, name):
        """What the filesystem calls the file."""
        return f"{self.base}/{name}"

    def size(self, name):
        """Bytes of the file, None where there is none."""
        info = self.fs.get_file_info(self.path(name))
        return info.size if info.type == pafs.FileType.File else None

    def names(self, folder):
        """The names of the files in a folder, sorted; [] where there is none. Temporary and hidden files are not listed."""
        found = self.fs.get_file_info(pafs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.File and info.base_name[0] != ".")

    def open(self, name):
        """The file for reading at any place; on disk it is mapped."""
        return pa.memory_map(self.path(name)) if self.local else self.fs.open_input_file(self.path(name))

    def read(self, name):
        """The bytes of a file; FileNotFoundError where there is none."""
        with self.fs.open_input_stream(self.path(name)) as stream:
            return stream.read()

    def write(self, name, data):
        """The bytes under this name, all or nothing."""
        with self.writing(name) as sink:
            sink.write(data)

    @contextmanager
    def writing(self, name):
        """A stream whose bytes are the file `name` when the block ends well, and nothing when it does not."""
        if self.local:
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
            try:
                with pa.OSFile(str(temporary), "wb") as sink:
                    yield sink
                sync(temporary)
                temporary.rename(path)
                sync(path.parent)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        else:
            sink = pa.BufferOutputStream()
            yield sink
            stream = self.fs.open_output_stream(self.path(name))
            stream.write(sink.getvalue())
            stream.close()  # completes the upload; where a line above raises, no object appears

    def remove(self, name):
        """The file is gone, if it was there."""
        if self.local:
            (self.local / name).unlink(missing_ok=True)
        elif self.size(name) is not None:
            self.fs.delete_file(self.path(name))

    # ---- tables

    def write_table(self, name, tables, receipt, cuts=None):
        """
        A Parquet file with the receipt in its footer.

        tables  one table, or an iterable of tables of one schema, a row group each
        cuts    row numbers at which the row groups of one table begin and end
        """
        tables = iter([tables] if isinstance(tables, pa.Table) else tables)
        first = next(tables).combine_chunks()
        schema = first.schema.with_metadata({RECEIPT: json.dumps(receipt)})
        with self.writing(name) as sink, pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
            cuts = cuts or [0, len(first)]
            for start, end in itertools.pairwise(cuts):
                writer.write_table(first.slice(start, end - start), row_group_size=max(1, end - start))
            for table in tables:
                writer.write_table(table, row_group_size=max(1, len(table)))

    def read_table(self, name, columns=None, groups=None):
        """The columns of a table, or of some of its row groups; OSError where a page has not the checksum it was written with."""
        with self.open(name) as file:
            try:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                table = parquet.read(columns) if groups is None else parquet.read_row_groups(groups, columns)
            except (OSError, pa.ArrowException) as error:
                cure = "should it be damaged, delete it, and the same command makes it anew"
                raise OSError(f"{self.path(name)} cannot be read ({' '.join(str(error).split())}); {cure}") from error
        return table.replace_schema_metadata(None)

    def read_receipt(self, name):
        """The receipt in a Parquet footer, or None where there is no readable file of ours."""
        try:
            with self.open(name) as file:
                return json.loads((pq.read_schema(file).metadata or {}).get(RECEIPT, b"null"))
        except (OSError, pa.ArrowInvalid):
            return None

    def dataset(self, folder):
        """All tables of a folder as one pyarrow dataset, None where there are none."""
        files = [self.path(f"{folder}/{name}") for name in self.names(folder) if name.endswith(".parquet")]
        return ds.dataset(files, filesystem=self.fs, format="parquet") if files else None

    # ---- the whole

    def claim(self, at_least):
        """
        Makes the root ready for one run; keeps what this returns, which holds the lock until it is closed or the process ends.

        UserError where it cannot be written, has less than `at_least` bytes left, or another run is at work in it. In an object
        store the lock is known on this machine only.
        """
        lock = self.local / ".lock" if self.local else Path(tempfile.gettempdir(), f"phoenix-{sha256(self.root)[:16]}.lock")
        try:
            if self.local:
                self.local.mkdir(parents=True, exist_ok=True)
            held = lock.open("w")
            self.write("work/writable", b"\0" * (1 << 20))
            self.remove("work/writable")
        except (OSError, pa.ArrowInvalid) as error:
            cause = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UserError(f"out={self.root} cannot be written: {cause}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another run is at work in out={self.root}: wait for it or stop it") from error
        if self.local:
            free = shutil.disk_usage(self.local).free
            if free < at_least:
                raise UserError(f"the disk of out={self.root} has {free >> 20} MB left; at least {at_least >> 20} MB are needed")
            for leftover in sorted(self.local.rglob(f"{TEMPORARY}*")):  # of runs that were killed
                leftover.unlink(missing_ok=True)
        return held


def sync(path):
    """Brings a file, or the names in a folder, safely to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(data):
    """Of bytes or a str, as hex."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
