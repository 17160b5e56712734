"""
Sources -> raw records: where documents come from, and the readers of their files.

    Local(name, path, share=1.0)        a folder or a file: .jsonl .txt .html .htm .tex .xml, WikiExtractor's wiki_NN (also .gz .zst
                                        .bz2) .parquet .pdf; .xml: MediaWiki's export and StackExchange's Posts.xml (xml_dumps.py)
    PythonDocs(name, share=1.0)         the documentation of the installed Python and its packages: the embedded default

out:   (records RAW, dropped LEDGER) in chunks of about CHUNK bytes; nothing found is lost: it is a record or a ledger row
drops  empty          a file without a byte or without a record, a record whose text is ""
       no_text        a record without the text field, or with something else than text in it
       bad_json       a line that is no JSON, such as one cut in half
       invalid_utf8   a line of JSON that is not UTF-8 (the bytes of plain text are judged in extract)
       broken_parquet, broken (a damaged .gz .zst .bz2 or .xml), unreadable (the disk says no), unknown_type
       too_large      over MAX_RECORD
       redirect, not_article, not_question, orphan     what an XML dump holds beside articles and questions
       bad_python, import_failed, timeout, crashed     modules that PythonDocs cannot read

A source is a frozen dataclass: `check()` and `jobs(partition_bytes)` run in the driver, `read(job)` in a worker. One job is one
large file or a group of small ones; the engine redoes a job when its state changes.
"""

import ast
import dataclasses
import hashlib
import html
import importlib.metadata
import json
import math
import os
import re
import stat
import subprocess
import sys
import sysconfig
import textwrap
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config import UserError
from data_engine.records import RAW, drop, nothing_dropped, record_id
from data_engine.xml_dumps import Lost, read_dump

VERSION = 2  # raise when the records of the same input change
CHUNK = 16 << 20  # bytes of content a chunk holds before it is handed on (one record can be more)
MAX_RECORD = 64 << 20  # bytes; a longer line, cell or file is dropped as too_large. The longest books have 10 MB
MAX_META = 4096  # characters of JSON that a record's other fields may take
COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MEDIA_TYPE = {
    **{".txt": "text/plain", ".html": "text/html", ".htm": "text/html"},
    **{".pdf": "application/pdf", ".tex": "application/x-tex"},
}
WIKI_FILE = re.compile(r"(?:^|/)wiki_\d{2,}$")
STREAMED = (".jsonl", ".txt", ".html", ".htm", ".tex", ".xml", "wiki")  # kinds of file that may be compressed

Chunks = Iterator[tuple[pa.Table, pa.Table]]


@dataclass(frozen=True)
class Job:
    name: str  # unique in its source, safe in a file name, the same however many cores there are
    spec: tuple  # what to read; JSON
    state: str  # hex digest of what decides its records: settings, paths, sizes, times, versions
    size: int = 0  # bytes that will be read, for plans and progress


# ---------------------------------------------------------------------------------------------------------------------------
# Local: files on disk


@dataclass(frozen=True)
class Local:
    name: str  # names the source in every table and file
    path: str  # a folder (read to its depth; hidden files are left alone) or one file
    share: float = 1.0  # fraction of the corpus' tokens
    text: str = "text"  # the field of a .jsonl or .parquet record that holds its text
    id: str | None = "id"  # the field that becomes the document's uri; a record without it has path#row
    licence: str = ""  # of records that do not name their own
    web: bool = False  # pages of the open web: the quality filters sift them

    def check(self):
        _check_source(self)
        if "://" in str(self.path):
            raise UserError(f"source {self.name}: {self.path} is an address, Local reads files on disk")
        if not os.path.exists(self._root()):
            raise UserError(f"source {self.name}: {self.path} does not exist")
        if not any(_kind(path)[0] for path, _, _ in self._files()):
            raise UserError(f"source {self.name}: no .jsonl .parquet .txt .html .htm .tex .xml .pdf in {self.path}")

    def jobs(self, partition_bytes: int) -> list[Job]:
        """Files of more than a third of a partition are a job each; the others are grouped to two thirds of one."""
        root = self._root()
        if not os.path.isdir(root):
            root = os.path.dirname(root)
        large, small = [], []
        for file in self._files():
            (large if file[1] * 3 > partition_bytes else small).append(file)
        groups = [[file] for file in large] + group(small, partition_bytes * 2 // 3)
        settings, jobs = (VERSION, self.name, self.text, self.id, self.licence), []
        for g in groups:
            spec = (root, tuple(path for path, _, _ in g))
            jobs.append(Job(_job_name(g[0][0]), spec, _digest(settings, g), sum(size for _, size, _ in g)))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        root, paths = job.spec
        chunk = Chunk(self.name)
        for path in paths:
            yield from _read_file(self, root, path, chunk)
        yield chunk.take()

    def _root(self):
        return os.path.abspath(os.path.expanduser(self.path))

    def _files(self):
        root = self._root()
        if os.path.isdir(root):
            return _walk(root)
        return [(os.path.basename(root), *_size_and_time(root))]


def _walk(root):
    """(path relative to root, bytes, mtime in ns) of all that is not hidden, sorted; each real folder is entered once."""
    found, entered, folders = [], set(), [""]
    while folders:
        folder = folders.pop()
        try:
            info = os.stat(os.path.join(root, folder))
            if (info.st_dev, info.st_ino) in entered:
                continue  # a link back into what was read already
            entered.add((info.st_dev, info.st_ino))
            names = sorted(os.listdir(os.path.join(root, folder)))
        except OSError:
            found.append((folder or ".", 0, 0))  # read() gives it its row in the ledger
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
    return info.st_size, info.st_mtime_ns


def _kind(path):
    """'a/B.TXT.gz' -> ('.txt', 'gzip'), 'AA/wiki_00' -> ('wiki', None); (None, None) for what cannot be read."""
    path = path.lower()
    stem, kind = os.path.splitext(path)
    compression = COMPRESSION.get(kind)
    if not compression:
        stem = path
    kind = "wiki" if WIKI_FILE.search(stem) else os.path.splitext(stem)[1]
    if kind.startswith(".xml-p"):  # a part of a dump: pages-articles1.xml-p1p41242.bz2
        kind = ".xml"
    if compression:
        return (kind, compression) if kind in STREAMED else (None, None)
    return (kind, None) if kind in STREAMED or kind in MEDIA_TYPE or kind == ".parquet" else (None, None)


def _read_file(source, root, path, chunk) -> Chunks:
    uri = _utf8(os.fsencode(path))
    kind, compression = _kind(path)
    full = os.path.join(root, path)
    try:
        mode = os.stat(full).st_mode
        if not stat.S_ISREG(mode):
            chunk.drop(uri, "unreadable", "a folder that cannot be listed" if stat.S_ISDIR(mode) else "not a regular file")
        elif kind is None:
            chunk.drop(uri, "unknown_type", os.path.splitext(uri)[1] or "no suffix")
        elif os.path.getsize(full) == 0:
            chunk.drop(uri, "empty", "0 bytes")
        else:
            with open(full, "rb") as file:
                if kind == ".parquet":
                    yield chunk.take()  # its rows go out as Arrow tables, after those that came before
                    yield from _read_parquet(source, file, uri)
                else:
                    stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), compression) if compression else file
                    if kind == ".xml":
                        yield from _read_xml(source, stream, uri, os.path.basename(os.path.dirname(full)), chunk)
                    else:
                        read = {".jsonl": _read_jsonl, "wiki": _read_wiki}.get(kind, _read_whole)
                        yield from read(source, stream, uri, kind, chunk)
    except OSError as error:
        chunk.drop(uri, "unreadable", f"{type(error).__name__}: {error.strerror}")


def _read_whole(source, stream, uri, kind, chunk) -> Chunks:
    """One file, one record."""
    try:
        content = stream.read(MAX_RECORD + 1)
    except (OSError, pa.ArrowException) as error:
        chunk.drop(uri, "broken", str(error))
        return
    if len(content) > MAX_RECORD:
        chunk.drop(uri, "too_large", f"over {MAX_RECORD} bytes")
    elif not content:
        chunk.drop(uri, "empty", "0 bytes inside")
    else:
        chunk.add(uri, MEDIA_TYPE[kind], content, source.licence)
        yield from chunk.full()


def _read_jsonl(source, stream, uri, kind, chunk) -> Chunks:
    """One line, one record."""
    number, records = -1, 0
    try:
        for number, line in _lines(stream):
            records += line is None or bool(line.strip())
            where = f"line {number + 1}"
            if line is None:
                chunk.drop(f"{uri}#{number}", "too_large", f"{where}: over {MAX_RECORD} bytes")
            elif line and not line.isspace():
                _read_line(source, line.removeprefix(b"\xef\xbb\xbf"), f"{uri}#{number}", where, chunk)
                yield from chunk.full()
    except (OSError, pa.ArrowException) as error:
        chunk.drop(uri, "broken", f"after line {number + 1}: {error}")
        return
    if not records:
        chunk.drop(uri, "empty", "no line but blank ones")


def _read_xml(source, stream, uri, folder, chunk) -> Chunks:
    """One page, or one question with its answers, one record."""
    for found in read_dump(stream, uri, folder):
        where = _utf8(found.uri.encode("utf-8", "surrogatepass"))
        if isinstance(found, Lost):
            chunk.drop(where, found.reason, found.detail)
        elif len(found.content) > MAX_RECORD:
            chunk.drop(where, "too_large", f"{len(found.content)} bytes")
        else:
            chunk.add(where, found.media_type, found.content, found.licence or source.licence, _meta(found.meta, ()))
        yield from chunk.full()


WIKI_PAGE = re.compile(rb'<doc id="([^"]*)" (?:revid="[^"]*" )?url="([^"]*)" title="([^\n]*)">\s*$')


def _read_wiki(source, stream, uri, kind, chunk) -> Chunks:
    """
    A file of WikiExtractor: <doc id="12" url="..." title="..."> a line with the title, the text </doc>; or a line of JSON a page.

    The text without the line of the title is a record.
    """
    number, pages, head, body, size = -1, 0, None, [], 0
    try:
        for number, line in _lines(stream):
            where = f"line {number + 1}"
            if head and line is not None and line.rstrip() == b"</doc>":
                _add_wiki_page(source, head, body, size, uri, chunk)
                head = None
            elif head:
                size += MAX_RECORD + 1 if line is None else len(line) + 1
                if size <= MAX_RECORD:
                    body.append(line)
            elif line is None:
                chunk.drop(f"{uri}#{number}", "too_large", f"{where}: over {MAX_RECORD} bytes")
            elif line.startswith(b"{"):
                _read_line(source, line, f"{uri}#{number}", where, chunk)
            elif line.strip():
                head, body, size = WIKI_PAGE.match(line), [], 0
                if not head:
                    chunk.drop(f"{uri}#{number}", "broken", f"{where}: neither <doc> nor JSON", line)
            pages += line is None or bool(line.strip())
            yield from chunk.full()
    except (OSError, pa.ArrowException) as error:
        chunk.drop(uri, "broken", f"after line {number + 1}: {error}")
        return
    if head:
        chunk.drop(uri, "broken", f"line {number + 1}: no </doc>")
    if not pages:
        chunk.drop(uri, "empty", "no line but blank ones")


def _add_wiki_page(source, head, body, size, uri, chunk):
    number, url, title = (html.unescape(_utf8(value)) for value in head.groups())
    where = url or f"{uri}#{number}"
    if size > MAX_RECORD:
        return chunk.drop(where, "too_large", f"over {MAX_RECORD} bytes")
    if body and html.unescape(_utf8(body[0])).strip() == title.strip():
        body = body[1:]
    content = b"\n".join(body).strip(b"\r\n")
    if not content:
        return chunk.drop(where, "empty", f"nothing but the title {title!r}")
    chunk.add(where, "text/plain", content, source.licence, _meta({"id": number, "title": title}, ()))


def _read_line(source, line, uri, where, chunk):
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return chunk.drop(uri, "invalid_utf8", f"{where}: {error}", line)
    except (ValueError, RecursionError) as error:
        return chunk.drop(uri, "bad_json", f"{where}: {error}", line)
    if not isinstance(record, dict):
        return chunk.drop(uri, "no_text", f"{where}: {type(record).__name__} instead of an object", line)
    text = record.get(source.text)
    if not isinstance(text, str):
        found = type(text).__name__ if source.text in record else "nothing"
        return chunk.drop(uri, "no_text", f"{where}: {found} in field {source.text!r}", line)
    if not text:
        return chunk.drop(uri, "empty", f"{where}: {source.text!r} is empty", line)
    try:
        content = text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, as in "\ud800"
        return chunk.drop(uri, "invalid_utf8", f"{where}: {error}", line)
    name = record.get(source.id) if source.id else None
    if isinstance(name, (str, int)) and name != "":
        uri = _utf8(str(name).encode("utf-8", "surrogatepass"))
    licence = _licence(record) or source.licence
    chunk.add(uri, "text/plain", content, licence, _meta(record, (source.text, source.id)))


def _lines(stream):
    """(number from 0, line) of a binary stream; None for a line of more than MAX_RECORD bytes, which is never held."""
    parts, size, number = [], 0, 0
    while block := stream.read(1 << 20):
        *ended, rest = block.split(b"\n")
        for piece in ended:
            size += len(piece)
            yield number, b"".join([*parts, piece]) if size <= MAX_RECORD else None
            parts, size, number = [], 0, number + 1
        size += len(rest)
        if size <= MAX_RECORD:
            parts.append(rest)
        else:
            parts = []
    if size:
        yield number, b"".join(parts) if size <= MAX_RECORD else None


def _read_parquet(source, file, uri) -> Chunks:
    """One row, one record; the text stays in Arrow."""
    row = 0
    try:
        parquet = pq.ParquetFile(file)
        schema, groups = parquet.schema_arrow, parquet.metadata.num_row_groups
        columns = [f.name for f in schema if f.name == "metadata" or f.name == source.text or not pa.types.is_nested(f.type)]
        for index in range(groups):
            meta = parquet.metadata.row_group(index)
            # rows that make about CHUNK bytes, were all alike
            rows = max(1, min(4096, meta.num_rows * CHUNK // max(1, meta.total_byte_size)))
            for batch in parquet.iter_batches(rows, row_groups=[index], columns=columns):
                yield from _parquet_rows(source, batch, uri, row)
                row += batch.num_rows
    except Exception as error:  # whatever a damaged or strange file makes Arrow raise, it costs this file alone
        chunk = Chunk(source.name)
        chunk.drop(uri, "broken_parquet", f"after row {row}: {type(error).__name__}: {error}")
        yield chunk.take()
        return
    if row == 0:
        chunk = Chunk(source.name)
        chunk.drop(uri, "empty", "no row")
        yield chunk.take()


def _parquet_rows(source, batch, uri, first_row) -> Chunks:
    n = batch.num_rows
    names = batch.schema.names
    content = _binary(batch.column(names.index(source.text))) if source.text in names else None
    if content is None:
        content, why = pa.nulls(n, pa.large_binary()), f"nothing that is text in column {source.text!r}"
    else:
        why = f"null in column {source.text!r}"
    lengths = pc.fill_null(pc.cast(pc.binary_length(content), pa.int64()), -1).to_numpy(zero_copy_only=False)
    others = {name: _values(batch.column(i)) for i, name in enumerate(names) if name != source.text}
    records = [dict(zip(others, row, strict=True)) for row in zip(*others.values(), strict=True)] if others else [{}] * n
    uris = []
    for i, record in enumerate(records):
        name = record.get(source.id) if source.id else None
        uris.append(str(name) if isinstance(name, (str, int)) and name != "" else f"{uri}#{first_row + i}")
    kept = np.flatnonzero((lengths > 0) & (lengths <= MAX_RECORD))
    lost = np.flatnonzero((lengths <= 0) | (lengths > MAX_RECORD))
    dropped = Chunk(source.name)
    for i in lost.tolist():
        reason = "no_text" if lengths[i] < 0 else "empty" if lengths[i] == 0 else "too_large"
        detail = {"no_text": why, "empty": f"{source.text!r} is empty", "too_large": f"{lengths[i]} bytes"}[reason]
        dropped.drop(f"{uri}#{first_row + i}", reason, f"row {first_row + i}: {detail}")
    yield dropped.take()
    ends = np.cumsum(lengths[kept]) // CHUNK
    for part in np.split(kept, np.flatnonzero(np.diff(ends)) + 1) if len(kept) else []:
        rows = part.tolist()
        contents = content.take(pa.array(rows, pa.int64()))
        columns = {
            "id": [record_id(source.name, uris[i], memoryview(c.as_buffer())) for i, c in zip(rows, contents, strict=True)],
            "source": [source.name] * len(rows),
            "uri": [uris[i] for i in rows],
            "media_type": ["text/plain"] * len(rows),
            "content": contents,
            "licence": [_licence(records[i]) or source.licence for i in rows],
            "fetched_at": [int(time.time())] * len(rows),
            "meta": [_meta(records[i], (source.id,)) for i in rows],
        }
        yield pa.table(columns, schema=RAW), nothing_dropped()


def _values(column):
    """A column as Python values; None for all where one has none, such as a date of the year 20,000 or text that is not UTF-8."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [None] * len(column)


def _binary(column):
    """A column of text or bytes as large_binary; None when it holds something else."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        kind = pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
    if not any(f(kind) for f in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)):
        return None
    return column.cast(kind).cast(pa.large_binary())


def _licence(record):
    """What the record, or its field `metadata`, says of its licence; else None."""
    inner = record.get("metadata")
    for place in (record, inner if isinstance(inner, dict) else {}):
        for name in ("licence", "license"):
            if isinstance(place.get(name), str) and place[name]:
                return _utf8(place[name][:200].encode("utf-8", "surrogatepass"))
    return None


def _meta(record, leave_out):
    """The other scalar fields, and those of `metadata`, as JSON of at most about MAX_META characters."""
    fields, size = {}, 0
    inner = record.get("metadata")
    flat = record | ({f"metadata.{k}": v for k, v in inner.items()} if isinstance(inner, dict) else {})
    for name in sorted(flat):
        value = flat[name]
        if name in leave_out or value is None or isinstance(value, (dict, list, bytes)):
            continue
        if not isinstance(value, (bool, int, float)):
            value = str(value)[:500]
        elif isinstance(value, float) and not math.isfinite(value):
            continue
        size += len(name) + len(str(value)) + 6
        if size > MAX_META:
            break
        fields[name] = value
    return json.dumps(fields, sort_keys=True)


# ---------------------------------------------------------------------------------------------------------------------------
# PythonDocs: what every machine has that has Python and the requirements

LEFT_OUT = {  # of the standard library: windows, jokes, demos, tests, tables
    *("antigravity", "this", "idlelib", "lib2to3", "test", "tests", "tkinter", "turtle", "turtledemo"),
}
NOT_DOCS = {  # tests, copies of other packages, and a megabyte of generated one-line wrappers
    *("tests", "test", "testing", "_testing", "_vendor", "_vendored", "vendored", "third_party", "thirdparty_files", "mupdf.py"),
}
DOC_SHARE = 1 / 3  # a module is a document when this part of its source or more is docstrings: text about code, not code
SOURCE_PER_JOB = 8_000_000  # bytes of Python; about 25 jobs with the pinned requirements, each a second or two
SOURCE_PER_TEXT = 9  # bytes of Python for one of docstrings, on the whole
PAGES_PER_JOB = 1_200_000  # bytes of the modules whose pydoc pages one child process renders
PDF_EVERY = 32  # one document of so many is typeset, chosen by the hash of its uri
CHILD_SECS = 120  # for the pages of one job; they take 2 s on an idle core


@dataclass(frozen=True)
class PythonDocs:
    """
    pydoc:MODULE        HTML   pydoc's page of a module of the standard library, rendered in a child process
    docstrings:PATH     text   the docstrings of a module of an installed package, taken from its source without importing it
    readme:PACKAGE      text   the long description of an installed package
    One in PDF_EVERY of the texts is a PDF instead. The records depend on the installed versions only.
    """

    name: str  # names the source in every table and file
    share: float = 1.0  # fraction of the corpus' tokens
    web: ClassVar[bool] = False  # the quality filters know prose and would drop half of a documentation

    def check(self):
        _check_source(self)

    def jobs(self, partition_bytes: int) -> list[Job]:
        python = (VERSION, self.name, sys.version)
        jobs = []
        for g in group(_standard_modules(), min(PAGES_PER_JOB, partition_bytes)):
            names = tuple(module for module, _ in g)
            jobs.append(Job("pydoc-" + _job_name(names[0]), ("pydoc", names), _digest(python, g), sum(size for _, size in g)))
        sources, readmes = [], []
        for package, dist in _packages().items():
            readmes.append((package, dist.version))
            for file in dist.files or ():
                if file.suffix == ".py" and ".." not in file.parts and not NOT_DOCS.intersection(file.parts):
                    mark = file.hash.value if file.hash else dist.version
                    sources.append((file.as_posix(), file.size or 0, package, mark))
        for g in group(sorted(sources), min(SOURCE_PER_JOB, 4 * partition_bytes)):
            spec = tuple((path, package) for path, _, package, _ in g)
            jobs.append(
                Job(
                    "docstrings-" + _job_name(g[0][0]),
                    ("docstrings", spec),
                    _digest(python, g),
                    sum(f[1] for f in g) // SOURCE_PER_TEXT,
                )
            )
        names = tuple(package for package, _ in readmes)
        jobs.append(Job("readmes", ("readme", names), _digest(python, readmes)))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        chunk = Chunk(self.name)
        kind, items = job.spec
        if kind == "pydoc":
            for module, page, problem in _pydoc_pages(items):
                if page is None:
                    chunk.drop(f"pydoc:{module}", *problem)
                else:
                    chunk.add(f"pydoc:{module}", "text/html", page.encode("utf-8", "backslashreplace"), "PSF-2.0")
        elif kind == "docstrings":
            for path, package in items:
                _add_docstrings(chunk, path, package)
        else:
            for package in items:
                _add_readme(chunk, package)
        yield chunk.take()


def _standard_modules():
    """(name, bytes of source) of the public modules of the standard library, sorted, found without importing any."""
    library = sysconfig.get_path("stdlib")
    found = {name: 20_000 for name in sys.stdlib_module_names}  # those in C: pages like those of modules of this size
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if os.path.exists(os.path.join(folder, f, "__init__.py"))]
        package = os.path.relpath(folder, library).replace(os.sep, ".").removeprefix(".")
        for name in names:
            if name.endswith(".py"):
                module = f"{package}.{name[:-3]}".removeprefix(".").removesuffix(".__init__")
                found[module] = os.path.getsize(os.path.join(folder, name))
    return sorted(
        (module, size)
        for module, size in found.items()
        if not LEFT_OUT.intersection(module.split("."))
        and not module.startswith("encodings.")
        and not any(part.startswith("_") for part in module.removeprefix("__future__").split("."))
    )


def _pydoc_pages(modules):
    """(module, page, None) or (module, None, (reason, detail)) for each: a module that hangs or kills the child costs one."""
    child = Path(__file__).with_name("pydoc_child.py")
    # a fixed hash seed and an empty environment: no order of sets, no address, no secret of this machine gets into a page
    env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}
    if "LD_LIBRARY_PATH" in os.environ:
        env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    modules = list(modules)
    while modules:
        command = [sys.executable, "-S", "-s", "-P", "-B", str(child), *modules]
        try:
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, timeout=CHILD_SECS)
            lines, problem = run.stdout, ("crashed", f"pydoc's process left with code {run.returncode}")
        except subprocess.TimeoutExpired as error:
            lines, problem = error.stdout or b"", ("timeout", f"over {CHILD_SECS} s")
        for line in lines.splitlines(keepends=True):
            if line.endswith(b"\n"):
                page, failure = json.loads(line)
                yield modules.pop(0), page, failure and ("import_failed", failure)
        if modules:
            yield modules.pop(0), None, problem


@cache
def _packages():
    """Normalised name -> distribution of this environment, sorted; sys.path is not asked, since programs add to it."""
    folders = list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
    found = {}
    for dist in importlib.metadata.distributions(path=folders):
        if dist.name:
            found.setdefault(re.sub(r"[-_.]+", "-", dist.name).lower(), dist)
    return dict(sorted(found.items()))


@cache
def _package_licence(package):
    meta = _packages()[package].metadata
    stated = meta.get("License-Expression") or (meta.get("License") or "").strip().partition("\n")[0]
    if not stated or len(stated) > 80:  # some put the whole text there
        kinds = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License :: ")]
        stated = " AND ".join(kinds)
    return stated


def _add_readme(chunk, package):
    dist = _packages().get(package)
    if dist is None:
        return chunk.drop(f"readme:{package}", "unreadable", f"{package} is not installed here")
    meta = dist.metadata
    text = meta.get("Description") or meta.get_payload() or ""
    if text.strip() and text.strip() != "UNKNOWN":
        return _add_text(chunk, f"readme:{package}", f"{meta['Name']}\n\n{text}", _package_licence(package))
    return chunk.drop(f"readme:{package}", "no_text", "no long description")


def _add_docstrings(chunk, path, package):
    uri = f"docstrings:{path}"
    dist = _packages().get(package)
    if dist is None:  # on this node of a cluster, or not any more
        return chunk.drop(uri, "unreadable", f"{package} is not installed here")
    try:
        source = Path(dist.locate_file(path)).read_bytes()
    except OSError as error:
        return chunk.drop(uri, "unreadable", f"{type(error).__name__}: {error.strerror}")
    quoted = sum(m.end() - m.start() for m in re.finditer(rb'"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'', source))
    if quoted < DOC_SHARE * len(source):  # tells without the cost of parsing
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" in a string that is not raw
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return chunk.drop(uri, "bad_python", f"{type(error).__name__}: {error}", source)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = _docstrings(tree, module)
    if found:
        _add_text(chunk, uri, "\n\n".join(f"{name}\n\n{doc}" for name, doc in found), _package_licence(package))


def _docstrings(tree, module):
    """[(qualified name, docstring)] of a module and its public classes and functions, in the order of the source."""
    found, todo = [], [(tree, module)]
    while todo:
        node, name = todo.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node)
            if doc and doc.strip():
                found.append((name, doc.strip()))
        inside = [*getattr(node, "body", ()), *getattr(node, "orelse", ())]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.If, ast.Try)):
            for child in reversed(inside):
                if isinstance(child, (ast.If, ast.Try)):
                    todo.append((child, name))
                elif isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and child.name[0] != "_":
                    todo.append((child, f"{name}.{child.name}"))
    return found


def _add_text(chunk, uri, text, licence):
    text = text.replace("\r\n", "\n")
    chosen = int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest()) % PDF_EVERY == 0
    if chosen and 2_000 < len(text) < 200_000 and text.isascii():  # the font at hand has no other letters
        chunk.add(uri, "application/pdf", typeset(text), licence)
    else:
        chunk.add(uri, "text/plain", text.encode("utf-8", "backslashreplace"), licence)


def typeset(text: str) -> bytes:
    """A PDF of the text, the first line as its title: A4, Courier 9, 100 columns, 66 lines; the same bytes every time."""
    import pymupdf

    lines = []
    for line in text.expandtabs().split("\n"):
        lines += textwrap.wrap(line, 100, drop_whitespace=False, replace_whitespace=False) or [""]
    document = pymupdf.open()
    for first in range(0, len(lines), 66):
        page = document.new_page(width=595, height=842)
        page.insert_text((28, 48), lines[first : first + 66], fontname="cour", fontsize=9, lineheight=1.25)
    document.set_metadata({"title": lines[0].strip()})
    data = document.tobytes(garbage=3, deflate=True, no_new_id=True)
    document.close()
    return data


# ---------------------------------------------------------------------------------------------------------------------------
# what both kinds of source use


class Chunk:
    """Records and ledger rows on their way out."""

    def __init__(self, source):
        self.source = source
        self.fetched_at = int(time.time())
        self.records, self.lost, self.size = [], [], 0

    def add(self, uri, media_type, content, licence, meta="{}"):
        key = record_id(self.source, uri, content)
        self.records.append((key, self.source, uri, media_type, content, licence, self.fetched_at, meta))
        self.size += len(content)

    def drop(self, uri, reason, detail, content=b""):
        detail = _utf8(detail[:200].encode("utf-8", "surrogatepass"))
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


def _job_name(path):
    """'wiki/AA/x 1.jsonl' -> 'wiki-AA-x-1.jsonl-' and eight hex digits that make it unique."""
    shown = re.sub(r"[^A-Za-z0-9.]+", "-", path).strip("-.")[:40].rstrip("-.")
    return f"{shown or 'file'}-{hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()}"


def _digest(*what):
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()


def _utf8(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _check_source(source):
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        kind = {"share": (int, float), "web": bool}.get(field.name, (str, os.PathLike))
        if field.name != "id" and not isinstance(value, kind):
            raise UserError(f"source {source.name!r}: {field.name} must be {field.type.__name__}, not {value!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", source.name):
        raise UserError(f"source {source.name!r}: a name is letters, digits, - and _, at most 64")
    if not 0 < source.share <= 1:
        raise UserError(f"source {source.name}: share must be above 0 and at most 1, not {source.share}")
