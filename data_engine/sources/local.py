"""
Local: files on disk, or in a store that fsspec or pyarrow can list and read (s3:// gs:// hf:// memory:// ...).

A folder is read with all its sub-folders, without hidden files. readers.py lists the kinds of file.
"""

import errno
import os
import re
import stat
from dataclasses import dataclass
from urllib.parse import unquote

from data_engine.sources import budget
from data_engine.sources.fetch import FetchError, RemoteFile
from data_engine.sources.hosts import describe, redact_urls
from data_engine.sources.readers import VERSION, kind_of, read_file
from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, group, job_name, retrying_file, utf8
from phoenix.config import UserError

MARKS = (
    "sha256",
    "etag",
    "ETag",
    "blob_id",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)  # of a store: they change with a file
KEYS = re.compile(r"//(?:[^/@:]*:[^@]*|[^/@]*)@")  # in an address; a secret key may hold slashes
SAMPLED = 5  # files of each kind that a plan probes
REFUSED = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG}  # not retried
KINDS = ".jsonl .json .parquet .csv .txt .md .html .tex .xml .pdf .docx .epub .ipynb .warc .zip .tar"


@dataclass(frozen=True)
class Local:
    name: str  # names the source in every table and file
    path: str  # a folder with its sub-folders, without hidden files; or one file
    share: float = 1.0  # fraction of the corpus' tokens
    text: str = "text"  # the field of a .jsonl, .csv or .parquet record that holds its text
    id: str | None = "id"  # the field that becomes the document's uri; a record without it has path#row
    licence: str = ""  # of records that do not name their own
    web: bool = False  # pages of the open web: the quality filters apply

    @property
    def origin(self):
        """The path without the keys in an address."""
        return KEYS.sub("//", str(self.path).partition("?")[0]) if self._is_remote() else str(self.path)

    def check(self):
        check_source(self)
        if not str(self.path).strip():
            raise UserError(f"source {self.name}: path is empty; the working directory would be '.'")
        if self._is_remote():
            self._store()
        elif not os.path.exists(self._root()):
            raise UserError(f"source {self.name}: {self.origin} does not exist")
        if not any(kind_of(path)[0] for path, _, _ in self._files()):
            raise UserError(f"source {self.name}: no {KINDS} in {self.origin}")

    def jobs(self, partition_bytes: int) -> list[Job]:
        """Files of more than a third of a partition are a job each; the others are grouped to two thirds of one."""
        files = self._files()
        root = self._root()
        if files and files[0][0] == os.path.basename(root):  # the path is one file
            root = root.rpartition("/")[0]
        large = [[file] for file in files if file[1] * 3 > partition_bytes]
        groups = large + group([file for file in files if file[1] * 3 <= partition_bytes], partition_bytes * 2 // 3)
        settings, jobs = (VERSION, self.name, self.text, self.id, self.licence), []
        for g in groups:
            spec = (root, tuple(g))
            jobs.append(Job(job_name(g[0][0]), spec, digest(settings, g), sum(size for _, size, _ in g)))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        root, files = job.spec
        chunk = Chunk(self.name)
        system = self._store()[0] if self._is_remote() else None
        for path, size, mark in files:
            uri = utf8(os.fsencode(path))
            if system:
                full = f"{root}/{path}"
                with retrying_file(self.name, uri, lambda full=full: system.open(full, "rb")) as file:
                    yield from read_file(self, file, size, full, uri, chunk)
            else:
                yield from _read_from_disk(self, os.path.join(root, path), uri, (size, mark), chunk)
        yield chunk.take()

    def sampled(self):
        """For a plan, of each kind of file: (bytes of all, budget.probe of a few, with "files": the number of all)."""
        kinds = {}
        for file in self._files():
            if file[1] and kind_of(file[0])[0]:
                kinds.setdefault(kind_of(file[0]), []).append(file)
        root = self._root()

        def read(file, start, n):
            path = root if file[0] == os.path.basename(root) and not os.path.isdir(root) else f"{root}/{file[0]}"
            system = self._store()[0] if self._is_remote() else None
            try:
                with retrying_file(self.name, file[0], lambda: system.open(path, "rb") if system else open(path, "rb")) as stream:
                    stream.seek(start)
                    return stream.read(n)
            except FetchError as error:
                raise UserError(str(error)) from None

        found = []
        for files in kinds.values():
            looked = budget.probe(self, budget.in_order(files, 0), read, SAMPLED)
            found.append((sum(size for _, size, _ in files), looked | {"files": len(files)}))
        return found

    def _is_remote(self):
        return "://" in str(self.path)

    def _root(self):
        return self._store()[1].rstrip("/") if self._is_remote() else os.path.abspath(os.path.expanduser(self.path))

    def _files(self):
        """(path below the root, bytes, a value that changes with the file) of all files, sorted."""
        root = self._root()
        if not self._is_remote():
            return _walk(root) if os.path.isdir(root) else [(os.path.basename(root), *_size_and_time(root))]
        system = self._store()[0]
        try:
            found = system.find(root, detail=True)
        except Exception as error:  # a store's library may raise anything
            raise UserError(f"source {self.name}: {self.origin} cannot be listed: {self._message(error)}") from None
        if not found:
            raise UserError(f"source {self.name}: {self.origin} does not exist, or holds no file")
        files = []
        for full, about in found.items():
            path = full.removeprefix(root).lstrip("/") or root.rpartition("/")[2]
            mark = next((str(about[key]) for key in MARKS if about.get(key)), "")
            if not any(part.startswith(".") for part in path.split("/")):
                files.append((path, about.get("size") or 0, mark))
        return sorted(files)

    def _store(self):
        try:
            return filesystem(str(self.path))
        except (ImportError, ValueError, OSError) as error:
            raise UserError(f"source {self.name}: {self.origin} cannot be opened: {self._message(error)}") from None

    def _message(self, error):
        """A store library's error on one line, without the keys in the address."""
        text, (address, _, query) = str(error).replace(str(self.path), self.origin), str(self.path).partition("?")
        keys = KEYS.search(address)
        secrets = keys[0][2:-1].split(":", 1) if keys else []
        secrets += [value for pair in query.split("&") for value in pair.split("=", 1)[1:]]
        for secret in sorted(filter(None, {*secrets, *map(unquote, secrets)}), key=len, reverse=True):
            text = text.replace(secret, "...")
        return f"{type(error).__name__}: {redact_urls(text)}"[:300]


def filesystem(path):
    """(fsspec file system, path in it) of an address. s3:// and gs:// go through pyarrow, which needs no further package."""
    import fsspec

    if path.startswith(("s3://", "gs://", "gcs://")):
        import pyarrow.fs
        from fsspec.implementations.arrow import ArrowFSWrapper

        system, inner = pyarrow.fs.FileSystem.from_uri(path.replace("gcs://", "gs://"))
        return ArrowFSWrapper(system), inner
    system, inner = fsspec.url_to_fs(path)
    return system, inner


def _read_from_disk(source, full, uri, listed, chunk):
    """
    The records of a file that is as it was listed; FetchError for any other.

    A disk that is away, or a right that is missing for a while, must not become a ledger row under the key of the whole file.

    listed: (size, mtime) of _walk
    """

    def refused(cause):
        return RemoteFile(source.name, uri).error(f"{cause}; when it can be read, the same command goes on")

    try:
        info = os.stat(full)
        is_folder = stat.S_ISDIR(info.st_mode)
        if is_folder and listed == (0, 0):
            os.listdir(full)
    except OSError as error:
        if listed != (0, 0) or error.errno not in REFUSED:
            raise refused(describe(error)) from None
        chunk.drop(uri, "unreadable", f"{type(error).__name__}: {error.strerror or error}")
        return
    if is_folder or _size_and_time(full) != listed:
        raise refused("has changed since the files were listed")
    if not stat.S_ISREG(info.st_mode):
        chunk.drop(uri, "unreadable", "not a regular file")
    elif not listed[1]:
        chunk.drop(uri, "unreadable", "PermissionError: Permission denied")
    else:
        with retrying_file(source.name, uri, lambda: open(full, "rb")) as file:
            yield from read_file(source, file, info.st_size, full, uri, chunk)


def _walk(root):
    """(path below root, bytes, mtime in ns or 0 if it may not be read) of all files but hidden ones, sorted."""
    found, entered, folders = [], set(), [""]
    while folders:
        folder = folders.pop()
        try:
            info = os.stat(os.path.join(root, folder))
            if (info.st_dev, info.st_ino) in entered:
                continue  # a link into a folder that was read already
            entered.add((info.st_dev, info.st_ino))
            names = sorted(os.listdir(os.path.join(root, folder)))
        except OSError:
            found.append((folder or ".", 0, 0))  # read() writes its ledger row
            continue
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name.startswith("."):
                continue
            if os.path.isdir(os.path.join(root, path)):
                folders.append(path)
            else:
                found.append((path, *_size_and_time(os.path.join(root, path))))
    return sorted(found)


def _size_and_time(path):
    try:
        info = os.stat(path)
    except OSError:
        return 0, 0
    return info.st_size, info.st_mtime_ns if os.access(path, os.R_OK) else 0
