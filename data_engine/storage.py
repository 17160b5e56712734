"""
The files of a run, on disk or in an object store (s3://bucket/corpus, gs://…, any address that pyarrow knows).

Names are relative to the run's root, with "/" between folders. A file is whole or absent: on disk it is written under a temporary
name and renamed; in an object store it appears when its upload is complete, and is held in memory until then.

S3 takes its keys, region and endpoint from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION,
AWS_ENDPOINT_URL), on every node of a cluster.
"""

import fcntl
import functools
import itertools
import json
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from phoenix.config import UserError, one_line
from phoenix.files import atomic, remove_leftovers, sha256

RECEIPT = b"phoenix"  # key of the receipt in a Parquet footer
CHECKED = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True))
KEYS = re.compile(r"//[^/@:]*:[^@]*@")  # keys within an address; a secret key may hold slashes


@functools.cache
def storage(root):
    """The Storage of this root, a str; one a process, because it holds connections."""
    return Storage(root)


class Storage:
    """
    A folder on disk or in an object store.

    root   absolute path or address, the same for every process of a run
    local  the folder as a Path; None in an object store
    """

    def __init__(self, root):
        if "://" in root:
            if KEYS.search(root):  # receipts and reports name the address
                raise UserError("the keys of a store do not belong in the address of out: give them in the environment")
            try:
                self.fs, self.base = pafs.FileSystem.from_uri(root)
            except (pa.ArrowInvalid, OSError, ImportError, ValueError) as error:
                raise UserError(f"{root} is no address that pyarrow can use: {one_line(error)}") from error
            self.root = root.rstrip("/")
            if not self.base.strip("/"):
                raise UserError(f"{root} names no bucket or folder")
        else:
            self.fs, self.base = pafs.LocalFileSystem(), str(Path(root).expanduser().resolve())
            self.root = self.base
        self.local = Path(self.base) if isinstance(self.fs, pafs.LocalFileSystem) else None

    @functools.cached_property
    def scratch(self):
        """A folder on this machine for notes that only help a rerun: below the root, or in the temporary folder for a store."""
        folder = self.local / "work" / "attempts" if self.local else self._temporary()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def path(self, name):
        """The file's full path in its filesystem."""
        return f"{self.base}/{name}"

    def size(self, name):
        """Bytes of the file; None if it does not exist."""
        info = self.fs.get_file_info(self.path(name))
        return info.size if info.type == pafs.FileType.File else None

    def names(self, folder):
        """Names of the files in a folder, sorted, without temporary and hidden ones; [] if the folder does not exist."""
        found = self.fs.get_file_info(pafs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.File and info.base_name[0] != ".")

    def open(self, name):
        """The file, open for random reads; on disk it is memory-mapped."""
        return pa.memory_map(self.path(name)) if self.local else self.fs.open_input_file(self.path(name))

    def read(self, name):
        """The bytes of a file; FileNotFoundError if it does not exist."""
        with self.fs.open_input_stream(self.path(name)) as stream:
            return stream.read()

    def write(self, name, data):
        """Writes a file, whole or not at all."""
        with self.writing(name) as sink:
            sink.write(data)

    @contextmanager
    def writing(self, name):
        """A stream whose bytes become the file `name` when the block ends well; they are discarded if it raises."""
        if self.local:
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
                yield sink
        else:
            sink = pa.BufferOutputStream()
            yield sink
            stream = self.fs.open_output_stream(self.path(name))
            stream.write(sink.getvalue())
            stream.close()  # completes the upload; if a line above raises, no object appears

    def remove(self, name):
        """Deletes the file if it exists."""
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
        marked = receipt | {"mark": _mark(receipt)} if "rows" in receipt else receipt
        schema = first.schema.with_metadata({RECEIPT: json.dumps(marked)})
        with self.writing(name) as sink, pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
            cuts = cuts or [0, len(first)]
            for start, end in itertools.pairwise(cuts):
                writer.write_table(first.slice(start, end - start), row_group_size=max(1, end - start))
            for table in tables:
                writer.write_table(table, row_group_size=max(1, len(table)))

    def read_table(self, name, columns=None, groups=None):
        """The columns of a table, or of some of its row groups; OSError if a page does not match its checksum."""
        with self.open(name) as file:
            try:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                table = parquet.read(columns) if groups is None else parquet.read_row_groups(groups, columns)
            except (OSError, pa.ArrowException) as error:
                cure = "if it is damaged, delete it, and the same command makes it anew"
                raise OSError(f"{self.path(name)} cannot be read ({one_line(error)}); {cure}") from error
        return table.replace_schema_metadata(None)

    def read_receipt(self, name):
        """The receipt in a Parquet footer, a dict; None if there is no file of a run, or one whose footer is damaged."""
        try:
            with self.open(name) as file:
                parquet = pq.ParquetFile(file)
                receipt = json.loads((parquet.schema_arrow.metadata or {}).get(RECEIPT, b"null"))
                if receipt is None or receipt.get("rows", parquet.metadata.num_rows) != parquet.metadata.num_rows:
                    return None
                mark = receipt.pop("mark", None)
                return receipt if mark in (None, _mark(receipt)) else None  # older runs left none
        except Exception:  # a flipped bit may make Arrow, the JSON, its encoding or its kind fail
            return None

    def whole(self, name):
        """True if every page of a table can be read and matches its checksum."""
        try:
            self.read_table(name)
        except (OSError, pa.ArrowException):
            return False
        return True

    def dataset(self, folder):
        """All tables of a folder as one pyarrow dataset; None if there are none."""
        files = [self.path(f"{folder}/{name}") for name in self.names(folder) if name.endswith(".parquet")]
        return ds.dataset(files, filesystem=self.fs, format=CHECKED) if files else None

    def _temporary(self):
        """Path of the store's lock and notes in this machine's temporary folder, without an ending."""
        return Path(tempfile.gettempdir(), f"phoenix-{sha256(self.root)[:16]}")

    # ---- the run's lock

    def claim(self, at_least):
        """
        The root's lock, an open file: it is held until the file is closed or the process ends.

        UserError if the root cannot be written, has less than `at_least` bytes left, or another run holds the lock. For an object
        store the lock holds on this machine only.
        """
        lock = self.local / ".lock" if self.local else self._temporary().with_suffix(".lock")
        try:
            if self.local:
                self.local.mkdir(parents=True, exist_ok=True)
            held = lock.open("w", encoding="utf-8")
            self.write("work/writable", b"\0" * (1 << 20))
            self.remove("work/writable")
        except (OSError, pa.ArrowInvalid) as error:
            cause = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"out={self.root} cannot be written: {cause}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another run is at work in out={self.root}: wait for it or stop it") from error
        if self.local:
            free = shutil.disk_usage(self.local).free
            if free < at_least:
                raise UserError(f"the disk of out={self.root} has {free >> 20} MB left; at least {at_least >> 20} MB are needed")
            remove_leftovers(self.local)
        return held


def _mark(receipt):
    """A checksum of the receipt itself, for no part of Parquet guards its footer."""
    return sha256(json.dumps(receipt, sort_keys=True))[:16]
