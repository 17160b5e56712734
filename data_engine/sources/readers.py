"""
Readers: an open file -> records, as a stream with bounded memory.

    .txt .md .rst .html .htm .tex .pdf .ipynb      one file, one record
    .docx .odt .epub               one file, one record of its text (documents.py)
    .jsonl .ndjson .json .csv .tsv one line or row, one record; .json: JSON lines, or arrays or objects
    .parquet                       one row, one record
    wiki_NN                        WikiExtractor's files, one <doc> a record
    .xml                           MediaWiki's export and StackExchange's Posts.xml (xml_dumps.py)
    .warc .wet .wat                one answer of a web server a record (warc.py)
    .zip .tar                      the files in it, each by its own kind (archives.py)
    2001.00001, hep-th9901001      a submission of arXiv: a tar, TeX or PDF, whatever it is
    .gz .zst .bz2 .xz .lz4         any of these but .parquet and the zips, compressed; .tgz .tbz2 .txz .tzst

Text comes in UTF-8 (encodings.py); HTML, TeX and PDF say their encoding themselves, so they stay as they are.

drops  empty          a file without a byte or without a record, a record whose text is ""
       no_text        a record without the text field, or with no text in it; a document without text
       bad_json       a line that is no JSON, such as one cut in half; an item of an array
       broken_parquet, broken (any other damaged file, or a row of CSV), unreadable (the disk says no), unknown_type, encrypted
       too_large      over MAX_RECORD
       quarantined    an archive bomb; records before its limits are kept
       redirect, not_article, not_question, orphan     parts of an XML dump that are no article or question
       not_document, http_error                        records of a WARC that are no document

One bad spot costs one record. Where the records behind it cannot be told apart, the ledger's row says how many are not read, or
that it is unknown.
"""

import html
import itertools
import json
import math
import os
import re
import tarfile
import tempfile
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine.records import RAW, nothing_dropped, record_id
from data_engine.sources import csv_rows, json_items
from data_engine.sources import documents as office
from data_engine.sources.archives import (
    DAMAGE,
    Bomb,
    Limits,
    NeedsMemory,
    Rejoined,
    decompressed,
    is_ours,
    members,
    tar_members,
    zip_members,
)
from data_engine.sources.encodings import Utf8Stream, beginning, to_utf8
from data_engine.sources.fetch import RemoteFile
from data_engine.sources.source import CHUNK, Chunks, utf8
from data_engine.sources.warc import documents, sniff
from data_engine.sources.xml_dumps import Lost, read_dump

VERSION = 5  # raise when the records of the same file change; 5: all encodings, one bad spot costs one record, more kinds
MAX_RECORD = 64 << 20  # bytes; a longer line, cell or file is too_large; the longest books have 10 MB
SMALL = 1 << 18  # bytes asked for first: most files have fewer, and a read allocates all that it asks for
MAX_BATCH = 1 << 30  # bytes of a batch of Parquet in the worst case that its footer allows
MAX_META = 4096  # characters of JSON that a record's other fields may take
MAX_DEPTH = 3  # archives in archives
COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz", ".lz4": "lz4"}
SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}
ALIASES = {  # other names of a kind
    **{".ndjson": ".jsonl", ".jsonlines": ".jsonl", ".jl": ".jsonl", ".tab": ".tsv", ".text": ".txt", ".markdown": ".md"},
    **{".xhtml": ".html", ".latex": ".tex", ".ltx": ".tex"},
}
MEDIA_TYPE = {
    **{".txt": "text/plain", ".html": "text/html", ".htm": "text/html", ".md": "text/plain", ".rst": "text/plain"},
    **{".pdf": "application/pdf", ".tex": "application/x-tex", ".ipynb": "text/plain"},
}
WIKI_FILE = re.compile(r"(?:^|/)wiki_\d{2,}$")
ARXIV_FILE = re.compile(
    r"(?:^|/)(?:\d{4}\.\d{4,5}|(?:[a-z]{1,6}-[a-z]{2,4}|math|cs|physics|nlin|stat)(?:\.[a-z]{2})?/?\d{7})(?:v\d{1,2})?$"
)
KINDS = (  # may be compressed
    *(*MEDIA_TYPE, ".jsonl", ".json", ".csv", ".tsv", ".xml", ".warc", ".wet", ".wat", ".tar", "wiki", "arxiv"),
)
PACKED = (".zip", *office.READERS)  # zip files
SEEKABLE = (".parquet", *PACKED)  # read from their end, and never compressed


def kind_of(path):
    """'a/B.TXT.gz' -> ('.txt', 'gzip'), 'AA/wiki_00' -> ('wiki', None); (None, None) for what cannot be read."""
    path = path.lower()
    stem, kind = os.path.splitext(path)
    if kind in SHORT:
        stem, kind = os.path.splitext(stem + SHORT[kind])
    compression = COMPRESSION.get(kind)
    if not compression:
        stem = path
    kind = os.path.splitext(stem)[1]
    kind = "wiki" if WIKI_FILE.search(stem) else "arxiv" if ARXIV_FILE.search(stem) else ALIASES.get(kind, kind)
    if kind.startswith(".xml-p"):  # a part of a dump: pages-articles1.xml-p1p41242.bz2
        kind = ".xml"
    if kind in KINDS or (kind in SEEKABLE and not compression):
        return kind, compression
    return None, None


def read_file(source, file, size, path, uri, chunk, limits=None, depth=0) -> Chunks:
    """
    Yields the records of one file; the caller takes the rest from `chunk`.

    source  gives name, text, id and licence
    file    open for reading bytes; seekable if it is no member of an archive
    path    tells the kind; its folder's name tells a StackExchange site
    limits  of the archive that holds it
    """
    kind, compression = kind_of(path)
    if kind is None:
        chunk.drop(uri, "unknown_type", os.path.splitext(uri)[1][:20] or "no suffix")
    elif size == 0:
        chunk.drop(uri, "empty", "0 bytes")
    elif kind in (".zip", ".tar") and depth >= MAX_DEPTH:
        chunk.drop(uri, "quarantined", f"an archive in {depth} others")
    elif limits is not None:
        yield from _read_kind(source, file, kind, compression, path, uri, chunk, limits, depth)
    else:
        try:
            yield from _read_kind(source, file, kind, compression, path, uri, chunk, Limits(size), depth)
        except Bomb as error:
            chunk.drop(uri, "quarantined", str(error))
        except NeedsMemory as error:  # another machine reads it, so it is no loss
            raise RemoteFile(source.name, uri).error(str(error)) from None


def _read_kind(source, file, kind, compression, path, uri, chunk, limits, depth):
    if kind in SEEKABLE and depth:  # a member cannot seek, so a copy is read
        with tempfile.TemporaryFile() as copy:
            try:
                while block := file.read(1 << 20):
                    copy.write(block)
            except DAMAGE as error:
                if is_ours(error):
                    raise
                chunk.drop(uri, "broken", str(error))
                return
            copy.seek(0)
            yield from _read_seekable(source, copy, kind, uri, chunk, limits, depth)
        return
    if kind in SEEKABLE:
        yield from _read_seekable(source, file, kind, uri, chunk, limits, depth)
        return
    stream = decompressed(file, compression, limits) if compression else file
    if kind == "arxiv":
        kind, stream = _arxiv_kind(stream, uri, chunk, limits)
    if kind == ".tar" and depth >= MAX_DEPTH:
        chunk.drop(uri, "quarantined", f"an archive in {depth} others")
    elif kind == ".tar":
        yield from _read_members(source, tar_members(stream), uri, chunk, limits, depth)
    elif kind == ".xml":
        yield from _read_xml(source, stream, uri, os.path.basename(os.path.dirname(path)), chunk)
    elif kind in (".warc", ".wet", ".wat"):
        yield from _read_warc(source, stream, uri, chunk, limits)
    elif kind in READERS:
        try:
            stream = Utf8Stream(stream, carriage=kind != "wiki")
            yield from READERS[kind](source, stream, uri, kind, chunk)
        except DAMAGE as error:
            if is_ours(error):
                raise
            chunk.drop(uri, "broken", str(error))
    elif kind:
        yield from _read_whole(source, stream, uri, kind, chunk)


def _arxiv_kind(stream, uri, chunk, limits):
    """(kind, stream) of a submission of arXiv, which its first bytes tell; (None, stream) with a ledger row for another file."""
    try:
        head = beginning(stream)
        stream = Rejoined(head, stream)
        if head[:2] == b"\x1f\x8b":
            stream = decompressed(stream, "gzip", limits)
            head = beginning(stream)
            stream = Rejoined(head, stream)
    except DAMAGE as error:
        if is_ours(error):
            raise
        chunk.drop(uri, "broken", str(error))
        return None, stream
    with suppress(tarfile.TarError):
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
        return ".tar", stream
    if head.startswith(b"%PDF-"):
        return ".pdf", stream
    if TEX.search(head):
        return ".tex", stream
    if not head.strip():
        chunk.drop(uri, "empty", "0 bytes inside")
    elif sniff(head) == "text/html":
        return ".html", stream
    else:
        chunk.drop(uri, "unknown_type", f"neither TeX nor tar nor PDF: {head[:20]!r}")
    return None, stream


TEX = re.compile(rb"\\(?:documentclass|documentstyle|begin|input|magnification|section|title|def|font|hsize|bye|newcommand)\b")


def _read_seekable(source, file, kind, uri, chunk, limits, depth):
    if kind == ".parquet":
        yield chunk.take()  # its rows follow as Arrow tables, after the earlier records
        yield from _read_parquet(source, file, uri, chunk, limits)
    elif kind in office.READERS:
        try:
            text, title = office.READERS[kind](file, limits, MAX_RECORD)
        except office.Problem as problem:
            chunk.drop(uri, *problem.args)
        except DAMAGE as error:
            if is_ours(error):
                raise
            chunk.drop(uri, "broken", f"{type(error).__name__}: {error}")
        else:
            chunk.add(uri, "text/plain", text.encode("utf-8", "replace"), source.licence, _meta({"title": title}, ()))
            yield from chunk.full()
    else:
        yield from _read_members(source, zip_members(file, limits), uri, chunk, limits, depth)


def _read_members(source, found, uri, chunk, limits, depth):
    """Every file in an archive, by its kind. Its name only tells the kind and becomes part of the uri."""
    number = 0
    try:
        for number, member in enumerate(members(found, limits), 1):  # noqa: B007 (for the message below)
            where = f"{uri}!/{utf8(member.name.encode('utf-8', 'surrogateescape'))}"
            if member.problem:
                chunk.drop(where, *member.problem)
            else:
                folder = member.name if "/" in member.name else f"{os.path.splitext(os.path.basename(uri))[0]}/{member.name}"
                try:
                    yield from read_file(source, member.file, member.size, folder, where, chunk, limits, depth + 1)
                except DAMAGE as error:
                    if is_ours(error):
                        raise
                    chunk.drop(where, "broken", f"{type(error).__name__}: {error}")
            yield from chunk.full()
    except DAMAGE as error:
        if is_ours(error):
            raise
        chunk.drop(uri, "broken", f"after {number} members, the number of those behind is unknown: {type(error).__name__}: {error}")
        return
    if not number:
        chunk.drop(uri, "empty", "no file in it")


def _read_whole(source, stream, uri, kind, chunk):
    """One file, one record."""
    try:
        content = stream.read(min(MAX_RECORD + 1, SMALL))
        if len(content) == SMALL:
            content += stream.read(MAX_RECORD + 1 - SMALL)
        if content and len(content) <= MAX_RECORD:
            content += stream.read(1)  # damage at the end raises here
    except DAMAGE as error:
        chunk.drop(uri, "broken", str(error))
        return
    if len(content) > MAX_RECORD:
        chunk.drop(uri, "too_large", f"over {MAX_RECORD} bytes")
    elif not content:
        chunk.drop(uri, "empty", "0 bytes inside")
    else:
        meta = {}
        if kind == ".ipynb":
            try:
                text, title = office.notebook(content)
            except office.Problem as problem:
                chunk.drop(uri, *problem.args)
                return
            content, meta = text.encode("utf-8", "replace"), {"title": title}
        elif MEDIA_TYPE[kind] == "text/plain":
            content = to_utf8(content)
        chunk.add(uri, MEDIA_TYPE[kind], content, source.licence, _meta(meta, ()))
        yield from chunk.full()


def _read_jsonl(source, stream, uri, kind, chunk, head=b""):
    """One line, one record. head: bytes that were read already."""
    number, records = -1, 0
    try:
        for number, line in _lines(stream, head):
            records += line is None or bool(line.strip())
            where = f"line {number + 1}"
            if line is None:
                chunk.drop(f"{uri}#{number}", "too_large", f"{where}: over {MAX_RECORD} bytes")
            elif line and not line.isspace():
                _read_line(source, line, f"{uri}#{number}", where, chunk)
                yield from chunk.full()
    except DAMAGE as error:
        chunk.drop(uri, "broken", f"after line {number + 1}, the number of records behind is unknown: {error}")
        return
    if not records:
        chunk.drop(uri, "empty", "no line but blank ones")


def _read_xml(source, stream, uri, folder, chunk):
    """One page, or one question with its answers, one record."""
    for found in read_dump(stream, uri, folder):
        where = utf8(found.uri.encode("utf-8", "surrogatepass"))
        if isinstance(found, Lost):
            chunk.drop(where, found.reason, found.detail)
        elif len(found.content) > MAX_RECORD:
            chunk.drop(where, "too_large", f"{len(found.content)} bytes")
        else:
            chunk.add(where, found.media_type, found.content, found.licence or source.licence, _meta(found.meta, ()))
        yield from chunk.full()


WIKI_PAGE = re.compile(rb'<doc id="([^"]*)" (?:revid="[^"]*" )?url="([^"]*)" title="([^\n]*)">\s*$')


def _read_wiki(source, stream, uri, kind, chunk):
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
            elif head and line is not None and (next_head := WIKI_PAGE.match(line)):
                chunk.drop(_wiki_uri(head, uri), "broken", f"no </doc> before {where}", b"\n".join(body))
                head, body, size = next_head, [], 0
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
    except DAMAGE as error:
        chunk.drop(uri, "broken", f"after line {number + 1}, the number of records behind is unknown: {error}")
        return
    if head:
        chunk.drop(_wiki_uri(head, uri), "broken", f"line {number + 1}: no </doc>", b"\n".join(body))
    if not pages:
        chunk.drop(uri, "empty", "no line but blank ones")


def _wiki_uri(head, uri):
    number, url, _ = (html.unescape(utf8(value)) for value in head.groups())
    return url or f"{uri}#{number}"


def _add_wiki_page(source, head, body, size, uri, chunk):
    number, _, title = (html.unescape(utf8(value)) for value in head.groups())
    where = _wiki_uri(head, uri)
    if size > MAX_RECORD:
        return chunk.drop(where, "too_large", f"over {MAX_RECORD} bytes")
    if body and html.unescape(utf8(body[0])).strip() == title.strip():
        body = body[1:]
    content = b"\n".join(body).strip(b"\r\n")
    if not content:
        return chunk.drop(where, "empty", f"nothing but the title {title!r}")
    chunk.add(where, "text/plain", content, source.licence, _meta({"id": number, "title": title}, ()))


def _read_line(source, line, uri, where, chunk):
    """One record, or some behind each other: the second and further get uri.1, uri.2, ..."""
    text = line.decode()
    for number, (record, problem) in enumerate(json_items.values(text)):
        name = f"{uri}.{number}" if number else uri
        if problem:
            chunk.drop(name, "bad_json", f"{where}: {problem}", line)
        else:
            _add_record(source, record, name, where, chunk, line if not number else f"{number} {text}".encode())


def _add_record(source, record, uri, where, chunk, line):
    if not isinstance(record, dict):
        return chunk.drop(uri, "no_text", f"{where}: {type(record).__name__} instead of an object", line)
    text = record.get(source.text)
    if not isinstance(text, str):
        found = type(text).__name__ if source.text in record else "nothing"
        return chunk.drop(uri, "no_text", f"{where}: {found} in field {source.text!r}", line)
    if not text:
        return chunk.drop(uri, "empty", f"{where}: {source.text!r} is empty", line)
    name = record.get(source.id) if source.id else None
    if isinstance(name, (str, int)) and name != "":
        uri = utf8(str(name).encode("utf-8", "surrogatepass"))
    licence = _licence(record) or source.licence
    chunk.add(uri, "text/plain", text.encode(), licence, _meta(record, (source.text, source.id)))


def _lines(stream, head=b""):
    """(number from 0, line) of `head` and the stream; None for a line over MAX_RECORD bytes, which never fills the memory."""
    parts, size, number = [], 0, 0
    while block := head or stream.read(1 << 20):
        head = b""
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


def _read_json(source, stream, uri, kind, chunk):
    """JSON lines, as most .json.gz files of the Hub are; or arrays; or objects over several lines, MAX_RECORD bytes in all."""
    head = stream.read()
    first, ended, rest = head.lstrip().partition(b"\n")
    if first[:1] == b"[":
        yield from _read_array(source, stream, uri, head, chunk)
        return
    if ended and rest.strip() and not _is_json(first):
        while len(head) <= MAX_RECORD and (block := stream.read()):
            head += block
        found = [] if len(head) > MAX_RECORD else list(json_items.values(head.decode()))
        if len(found) == 1 and found[0][1] is None and found[0][0] == {}:
            chunk.drop(uri, "empty", "an empty object")
            return
        if found and all(problem is None for _, problem in found):
            for number, (record, _) in enumerate(found):
                name = f"{uri}#{number}" if len(found) > 1 else uri
                _add_record(source, record, name, f"object {number}", chunk, json.dumps(record).encode())
                yield from chunk.full()
            return
    yield from _read_jsonl(source, stream, uri, kind, chunk, head)


def _read_array(source, stream, uri, head, chunk):
    """One item, one record."""
    number, damage = -1, []

    def read():
        try:
            return stream.read().decode()
        except DAMAGE as error:
            if is_ours(error):
                raise
            damage.append(error)
            return ""

    for number, (record, problem, text) in enumerate(json_items.items(read, head.decode())):
        where, name = f"item {number}", f"{uri}#{number}"
        if damage and problem:
            problem = f"{damage[0]}; the number of records behind is unknown"
        if problem:
            chunk.drop(name, "broken" if damage else "bad_json", f"{where}: {problem}", text.encode())
        elif len(text) > MAX_RECORD:
            chunk.drop(name, "too_large", f"{where}: over {MAX_RECORD} bytes")
        else:
            _add_record(source, record, name, where, chunk, text.encode())
        yield from chunk.full()
    if number < 0:
        chunk.drop(uri, "empty", "an empty array")


def _is_json(data):
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _read_csv(source, stream, uri, kind, chunk):
    """One row, one record; the first row names the fields."""
    head, number = stream.read(), -1
    delimiter, backslash, skipped = csv_rows.dialect(head.decode(), kind, source.text)
    lines = (line and line.decode() for line_number, line in _lines(stream, head) if line_number >= skipped)
    lines = (line if line is None or line else " " for line in lines)
    rows = csv_rows.rows(lines, delimiter, backslash, MAX_RECORD)
    try:
        names, problem = next(rows, ([], None))
        if problem:
            chunk.drop(uri, "broken", f"the names: {problem}; the number of rows is unknown")
            return
        names = [name.strip() for name in names]
        for number, (row, problem) in enumerate(rows):
            where, name = f"row {number + 1}", f"{uri}#{number}"
            line = ",".join(row or ()).encode()
            if problem:
                chunk.drop(name, "broken", f"{where}: {problem}")
            elif len(row) > len(names):
                chunk.drop(name, "broken", f"{where}: {len(row)} fields under {len(names)} names", line)
            else:
                _add_record(source, dict(itertools.zip_longest(names, row)), name, where, chunk, line)
            yield from chunk.full()
    except DAMAGE as error:
        if is_ours(error):
            raise
        chunk.drop(uri, "broken", f"after row {number + 1}, the number of those behind is unknown: {error}")
        return
    if number < 0:
        chunk.drop(uri, "empty", "no row under the names")


def _read_warc(source, stream, uri, chunk, limits):
    """One answer of a web server, one record."""
    number = -1
    try:
        for number, found in enumerate(documents(stream, MAX_RECORD, limits)):
            where = found.uri if found.uri and source.id else f"{uri}#{number}"
            where = utf8(where.encode("utf-8", "surrogateescape"))
            if found.reason:
                chunk.drop(where, found.reason, found.detail, found.content)
            else:
                chunk.add(where, found.media_type, found.content, source.licence, _meta(found.meta, ()))
            yield from chunk.full()
    except DAMAGE as error:
        chunk.drop(uri, "broken", f"after {number + 1} records, the number of those behind is unknown: {error}")
        return
    if number < 0:
        chunk.drop(uri, "empty", "no WARC record")


READERS = {
    **{".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".tsv": _read_csv},
    "wiki": _read_wiki,
}


def _read_parquet(source, file, uri, chunk, limits):
    """
    One row, one record; the text stays in Arrow.

    Strings are read as dictionaries where all pages of a column have them, and decoded about CHUNK bytes at a time: a text that the
    file holds once and names in a million rows does not fill the memory. A row group that is damaged costs its rows.
    """
    row = 0
    try:
        parquet = pq.ParquetFile(file)
        groups, schema = parquet.metadata.num_row_groups, parquet.schema_arrow
        columns = [f.name for f in schema if f.name == "metadata" or f.name == source.text or not pa.types.is_nested(f.type)]
    except Exception as error:  # Arrow may raise anything on a damaged file; it costs this file alone
        chunk.drop(uri, "broken_parquet", f"the number of its rows is unknown: {type(error).__name__}: {error}")
        return
    for index in range(groups):
        end = row + parquet.metadata.row_group(index).num_rows
        for as_dictionary in (True, False):
            try:
                for batch in _batches(file, parquet.metadata, index, columns, as_dictionary, limits):
                    yield from _parquet_rows(source, batch, uri, row, chunk)
                    row += batch.num_rows
            except Bomb:
                raise
            except pa.ArrowNotImplementedError as error:  # a dictionary of a column whose footer says that it has one
                if as_dictionary and end - row == parquet.metadata.row_group(index).num_rows:
                    continue
                problem = error
            except Exception as error:
                problem = error
            else:
                break
            detail = f"rows {row} to {end - 1} are not read: {type(problem).__name__}: {problem}"
            chunk.drop(f"{uri}#{row}", "broken_parquet", detail)
            break
        row = end
    if row == 0:
        chunk.drop(uri, "empty", "no row")


def _batches(file, metadata, index, columns, as_dictionary, limits):
    """The rows of a row group in batches of about CHUNK bytes, each counted before it is decoded as a whole."""
    group = metadata.row_group(index)
    texts = [c for c in map(group.column, range(group.num_columns)) if c.physical_type == "BYTE_ARRAY"]
    texts = {c.path_in_schema: c for c in texts}
    encodings = {name: " ".join(column.encodings) for name, column in texts.items()}
    named = [name for name, used in encodings.items() if as_dictionary and "DICTIONARY" in used and "DELTA" not in used]
    parquet = pq.ParquetFile(file, metadata=metadata, read_dictionary=named)
    rows = max(1, min(4096, group.num_rows * CHUNK // max(1, group.total_byte_size)))  # if all rows were of one size
    for name, column in texts.items():
        if name not in named:  # DELTA_BYTE_ARRAY: each row may repeat the longest text before it
            rows = max(1, min(rows, MAX_BATCH // max(1, column.total_uncompressed_size)))
    if group.total_byte_size > limits.bytes - limits.unpacked:
        limits.unpack(group.total_byte_size)
    for batch in parquet.iter_batches(rows, row_groups=[index], columns=columns):
        ends = np.cumsum(sum((_row_bytes(column) for column in batch.columns), np.zeros(batch.num_rows)))
        cuts = [0, *(np.flatnonzero(np.diff(ends // CHUNK)) + 1).tolist(), batch.num_rows]
        for start, end in itertools.pairwise(cuts):
            limits.unpack(int(ends[end - 1] - (ends[start - 1] if start else 0)))
            yield batch.slice(start, end - start)


def _row_bytes(column):
    """Bytes of each row of a column with its dictionary decoded; an average for other types than strings."""
    n = len(column)
    if pa.types.is_struct(column.type):
        return sum((_row_bytes(inner) for inner in column.flatten()), np.zeros(n))
    if pa.types.is_dictionary(column.type):
        sizes = pc.binary_length(column.dictionary).take(column.indices)
        return pc.fill_null(pc.cast(sizes, pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    return np.full(n, column.nbytes / max(1, n))


def _parquet_rows(source, batch, uri, first_row, chunk):
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
    for i in lost.tolist():
        reason = "no_text" if lengths[i] < 0 else "empty" if lengths[i] == 0 else "too_large"
        detail = {"no_text": why, "empty": f"{source.text!r} is empty", "too_large": f"{lengths[i]} bytes"}[reason]
        chunk.drop(f"{uri}#{first_row + i}", reason, f"row {first_row + i}: {detail}")
    yield chunk.take()
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
            "revision": [chunk.revision] * len(rows),
            "fetched_at": [chunk.fetched_at] * len(rows),
            "meta": [_meta(records[i], (source.id,)) for i in rows],
        }
        yield pa.table(columns, schema=RAW), nothing_dropped()


def _values(column):
    """A column as Python values; all None if Python cannot hold one: a date in the year 20,000, text that is not UTF-8."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [None] * len(column)


def _binary(column):
    """A column of text or bytes as large_binary; None for another type."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        kind = pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
    if not any(f(kind) for f in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)):
        return None
    return column.cast(kind).cast(pa.large_binary())


def _licence(record):
    """The licence that a record or its field `metadata` names; else None."""
    inner = record.get("metadata")
    for fields in (record, inner if isinstance(inner, dict) else {}):
        for name in ("licence", "license"):
            if isinstance(fields.get(name), str) and fields[name]:
                return utf8(fields[name][:200].encode("utf-8", "surrogatepass"))
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
