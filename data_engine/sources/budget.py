"""
How many files of a remote source a run takes: as many as its share of the tokens needs, in an order chosen by the seed.

The first estimate comes from the first bytes of some files (probe); after a run, from the tokens that its files gave. Files are
taken from the front of one fixed order, so a run that needs more fetches the next ones and nothing twice.
"""

import functools
import hashlib
import io
import json
import math

import numpy as np
import pyarrow as pa

from data_engine.sources import csv_rows
from data_engine.sources.encodings import Utf8Stream
from data_engine.sources.readers import MEDIA_TYPE, PACKED, SEEKABLE, kind_of, read_file
from data_engine.sources.source import Chunk
from phoenix.config import one_line

PROBED = 2  # files with text that a probe reads the beginning of
MOST_PROBED = 10  # if the first show no text or are damaged
HEAD, MAX_HEAD = 256 << 10, 4 << 20  # bytes of a beginning: more if they hold fewer than ENOUGH records
ENOUGH = 50
MARGIN = 1.1  # files taken beyond the estimate
GROWTH = 4  # the most files, in those of the last run, that a run takes because they gave too little
# Bytes of clean text from a byte of content; HTML and PDF measured on ../shared/corpus, see dev/LOG.md
TEXT_OF = {
    **{"text/html": 0.11, "application/pdf": 0.2, "text/x-wiki": 0.65, "application/x-tex": 0.75},
    "application/x-stackexchange+json": 0.76,
}
# Seconds of one core to read and clean a byte of content, measured on the same; PLAIN_SECS for any other type
SECS_OF = {
    **{"text/html": 80e-9, "application/pdf": 200e-9, "text/x-wiki": 155e-9, "application/x-tex": 350e-9},
    "application/x-stackexchange+json": 110e-9,
}
PLAIN_SECS = 26e-9
KEPT = {True: 0.7, False: 0.9}  # fraction of text that survives cleaning and deduplication: of web pages, of other text
# Tokens a byte of English text by vocabulary size: our tokenizer on Wikipedia and web pages, see dev/LOG.md
TOKENS_PER_BYTE = (
    *((512, 0.51), (1024, 0.41), (2048, 0.35), (4096, 0.30)),
    *((8192, 0.27), (16384, 0.245), (32768, 0.225), (65536, 0.21)),
)


def tokens_per_byte(vocab_size):
    """An estimate for English text, interpolated over the logarithm of the size."""
    sizes, ratios = zip(*TOKENS_PER_BYTE, strict=True)
    return float(np.interp(math.log(vocab_size), np.log(sizes), ratios))


def in_order(files, seed):
    """(path, size, ...) in the order in which runs take them; a file's place does not depend on how many there are."""
    return sorted(files, key=lambda file: (hashlib.blake2b(f"{seed} {file[0]}".encode()).digest(), file[0]))


def files_for(files, tokens, tokens_of_a_byte):
    """How many files from the front give so many tokens: [(path, bytes, ...)], 100, 0.5 -> 3; all if they do not."""
    covered = 0.0
    for count, (_, size, *_) in enumerate(files):
        if covered >= tokens:
            return count
        covered += size * tokens_of_a_byte
    return len(files)


def count(files, downloads, looked, web, measured):
    """How many files a run takes: estimated from `looked` of probe(), corrected by `measured` of an earlier run, or None."""
    if downloads.tokens is None:
        return len(files)
    kept = KEPT[web] * downloads.tokens_per_byte * looked["text"] / max(1, looked["bytes"])
    estimate = max(1, files_for(files, downloads.tokens * MARGIN, kept))
    if not measured or measured.get("cleaning") != downloads.cleaning:
        return estimate
    if measured["needed"] == downloads.tokens and measured["found"] >= downloads.tokens:
        return measured["files"]
    tokens_of_a_byte = measured["found"] / max(1, measured["bytes"])
    more = files_for(files, downloads.tokens * (1 + (MARGIN - 1) / 2), tokens_of_a_byte)
    more = min(more, max(estimate, GROWTH * measured["files"]))  # a run that found next to nothing does not fetch all at once
    same_goal = measured["needed"] == downloads.tokens  # and not reached: at least one more file
    return min(len(files), max(more, measured["files"] + 1 if same_goal else 1))


def measured(downloads, tokens, files):
    """An earlier run for count(): the `files` that it took gave so many tokens to choose from."""
    size = sum(file[1] for file in files)
    return {"needed": downloads.tokens, "found": int(tokens), "files": len(files), "bytes": size, "cleaning": downloads.cleaning}


def probe(source, files, read_range, most=PROBED):
    """
    Reads the beginning of the first files, as a sample of all: read_range(file, start, n) -> bytes.

    {"bytes": of the sample, "documents", "content": their bytes, "text": bytes of text in them, about, "secs": of one core to clean
    them, "fields", "problem": a sentence or ""}
    """
    looked = {"bytes": 0, "documents": 0, "content": 0, "text": 0.0, "secs": 0.0, "fields": [], "problem": ""}
    files_with_text, damage = 0, ""
    candidates = [file for file in files if file[1] or (file[1] is None and kind_of(file[0])[0] not in SEEKABLE)]
    candidates = candidates[: max(most, MOST_PROBED)]
    for file in candidates:
        if files_with_text == most:
            break
        path, size = file[0], file[1]
        read, kind = functools.partial(read_range, file), kind_of(path)[0]
        if kind == ".parquet":
            try:
                figures, fields = _of_parquet(source, RangeFile(size, read), size)
            except (pa.ArrowException, OSError) as error:
                damage = damage or f"{path} is no Parquet file that can be read: {one_line(error, 100)}"
                continue  # reading it will write its ledger row
        elif kind in PACKED:  # its directory is at the end: probing would cost as much as reading
            documents = 1 + size // 10_000 if kind == ".zip" else 1
            figures, fields = {"bytes": size, "documents": documents, "content": 3 * size, "text": 0.6 * size}, None
            figures["secs"] = figures["content"] * PLAIN_SECS
        else:
            figures, fields = _of_stream(source, path, size or MAX_HEAD, read)
        if fields is not None and source.text not in fields:
            looked["problem"] = f"{path} has no field {source.text!r}; it has {', '.join(fields) or 'none'}"
        elif fields is not None and source.id is not None and source.id not in fields:
            looked["problem"] = f"{path} has no field {source.id!r} for id; it has {', '.join(fields) or 'none'}"
        looked["fields"] = looked["fields"] or list(fields or ())
        for name, value in figures.items():
            looked[name] += value
        files_with_text += figures["text"] > 0
    if candidates and not files_with_text and not looked["problem"]:
        others = f", nor in {len(candidates) - 1} other files" if len(candidates) > 1 else ""
        message = f"no text in field {source.text!r} was found at the beginning of {candidates[0][0]}{others}"
        looked["problem"] = damage or message
    return looked


class RangeFile(io.RawIOBase):
    """A remote file for pyarrow, which reads no more than the footer of a Parquet file."""

    def __init__(self, size, read_range):
        self.size, self.read_range, self.position = size, read_range, 0  # read_range(start, n) -> bytes

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def readinto(self, buffer):
        n = min(len(buffer), self.size - self.position)
        data = self.read_range(self.position, n) if n > 0 else b""
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def _of_parquet(source, file, size):
    """Figures from the footer alone; a text that a column repeats counts once."""
    import pyarrow.parquet as pq

    meta = pq.ParquetFile(file).metadata
    text = 0
    for group in range(meta.num_row_groups):
        for column in map(meta.row_group(group).column, range(meta.num_columns)):
            if column.path_in_schema == source.text:
                text += column.total_uncompressed_size - 4 * column.num_values  # each text has a length in front
    figures = {"bytes": size, "documents": meta.num_rows, "content": max(0, text), "text": max(0, text)}
    figures["secs"] = figures["content"] * PLAIN_SECS
    return figures, meta.schema.to_arrow_schema().names


def _of_stream(source, path, size, read):
    """Figures from a beginning that holds ENOUGH records."""
    n = HEAD
    while True:
        head = read(0, min(n, size))
        chunk = Chunk(source.name)
        tables = [kept for kept, _ in read_file(source, io.BytesIO(head), len(head), path, path, chunk)]
        table = pa.concat_tables([*tables, chunk.take()[0]])
        if len(table) >= ENOUGH or n >= min(size, MAX_HEAD):
            break
        n *= 4
    if not len(table) and kind_of(path)[0] in MEDIA_TYPE:  # a single record that is longer
        kind = MEDIA_TYPE[kind_of(path)[0]]
        figures = {"bytes": size, "documents": 1, "content": size}
        return figures | {"text": size * TEXT_OF.get(kind, 1.0), "secs": size * SECS_OF.get(kind, PLAIN_SECS)}, None
    figures = {"bytes": len(head), "documents": len(table), "content": 0, "text": 0.0, "secs": 0.0}
    for kind, data in zip(table["media_type"].to_pylist(), table["content"], strict=True):
        length = len(data.as_buffer())
        figures["content"] += length
        figures["text"] += length * TEXT_OF.get(kind, 1.0)
        figures["secs"] += length * SECS_OF.get(kind, PLAIN_SECS)
    return figures, _fields(source, path, head)


def _fields(source, path, head):
    """Names of the first record's fields; None for a kind without any."""
    kind, compression = kind_of(path)
    if kind not in (".jsonl", ".json", ".csv", ".tsv"):
        return None
    stream = io.BytesIO(head)
    if compression:
        from data_engine.sources.archives import DAMAGE, Limits, decompressed

        try:
            head = decompressed(stream, compression, Limits(len(head))).read(MAX_HEAD)
        except DAMAGE:
            return []
    head = Utf8Stream(io.BytesIO(head), carriage=True).read()
    if kind in (".csv", ".tsv"):
        delimiter, _, skipped = csv_rows.dialect(head.decode(), kind, source.text)
        return csv_rows.names("\n".join(head.decode().split("\n")[skipped : skipped + 1]), delimiter)
    line = head.lstrip().partition(b"\n")[0]
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return sorted(record) if isinstance(record, dict) else None
