"""
How many files of a remote source a run takes: as many as its share of the tokens needs, in an order chosen by the seed.

The first estimate comes from a look at the first bytes of some files (probe); once a run has come to its end, from the tokens that
its files gave. Files are taken from the front of one fixed order, so a run that needs more fetches the next ones and nothing twice.
"""

import hashlib
import io
import json
import math

import numpy as np
import pyarrow as pa

from data_engine.readers import SEEKABLE, kind_of, read_file
from data_engine.source import Chunk

PROBED = 2  # files that are looked at
HEAD, MAX_HEAD = 256 << 10, 4 << 20  # bytes of the look: more where they hold fewer than ENOUGH records
ENOUGH = 50
MARGIN = 1.1  # beyond what an estimate says
# Bytes of clean text that a byte of content becomes; HTML and PDF on ../shared/corpus, see dev/LOG.md
TEXT_OF = {"text/html": 0.12, "application/pdf": 0.05, "text/x-wiki": 0.65, "application/x-tex": 0.75}
KEPT = {True: 0.7, False: 0.9}  # part of the text that outlasts cleaning and deduplication, of pages of the web and of other text
TOKENS_PER_BYTE = ((512, 0.40), (1024, 0.36), (4096, 0.28), (8192, 0.25), (32768, 0.22), (65536, 0.21))  # of a vocabulary


def tokens_per_byte(vocab_size):
    """About, of English text; between the measured sizes along the logarithm."""
    sizes, ratios = zip(*TOKENS_PER_BYTE, strict=True)
    return float(np.interp(math.log(vocab_size), np.log(sizes), ratios))


def in_order(files, seed):
    """(path, size, ...) in the order in which they are taken, the same however many there are."""
    return sorted(files, key=lambda file: (hashlib.blake2b(f"{seed} {file[0]}".encode()).digest(), file[0]))


def take(files, tokens, tokens_of_a_byte):
    """How many files from the front give so many tokens: [(path, bytes, ...)], 100, 0.5 -> 3; all where they do not."""
    covered = 0.0
    for count, (_, size, *_) in enumerate(files):
        if covered >= tokens:
            return count
        covered += size * tokens_of_a_byte
    return len(files)


def count(files, place, looked, web, measured):
    """How many files are to be taken; `measured` is what an earlier run has learnt, or None."""
    if place.tokens is None:
        return len(files)
    if not measured:
        kept = KEPT[web] * place.tokens_per_byte * looked["text"] / max(1, looked["bytes"])
        return max(1, take(files, place.tokens * MARGIN, kept))
    if measured["needed"] == place.tokens and measured["found"] >= place.tokens:
        return measured["files"]
    gave = measured["found"] / max(1, measured["bytes"])
    more = take(files, place.tokens * (1 + (MARGIN - 1) / 2), gave)
    short = measured["needed"] == place.tokens  # the same goal again, not reached: at least one more
    return min(len(files), max(more, measured["files"] + 1 if short else 1))


def probe(source, files, read_range, open_file):
    """
    A look at the first files: {"bytes": of the files seen, "text": bytes of text in them, "documents", "fields", "problem"}.

    read_range(file, start, n) -> bytes; open_file(file) -> a seekable file that reads the remote one
    """
    looked = {"bytes": 0, "text": 0.0, "content": 0, "documents": 0, "fields": [], "problem": ""}
    for file in files[:PROBED]:
        path, size = file[0], file[1]
        kind, _ = kind_of(path)
        if kind == ".parquet":
            seen, text, documents, content, fields = _of_parquet(source, open_file(file))
        elif kind in SEEKABLE:  # a zip: looking costs as much as reading
            seen, text, documents, content, fields = size, 3.0 * size * 0.2, size // 10_000 + 1, 3 * size, None
        else:
            seen, text, documents, content, fields = _of_stream(
                source, path, size, lambda start, n, f=file: read_range(f, start, n)
            )
        if fields is not None and source.text not in fields:
            looked["problem"] = f"{path} has no field {source.text!r}; it has {', '.join(fields) or 'none'}"
        looked["fields"] = looked["fields"] or list(fields or ())
        looked["bytes"] += seen
        looked["text"] += text
        looked["content"] += content
        looked["documents"] += documents
    return looked


def _of_parquet(source, file):
    """Figures from the footer alone."""
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    meta, fields = parquet.metadata, parquet.schema_arrow.names
    text = 0
    for group in range(meta.num_row_groups):
        for column in range(meta.num_columns):
            about = meta.row_group(group).column(column)
            if about.path_in_schema == source.text:
                text += about.total_uncompressed_size - 4 * about.num_values  # each text behind its length
    return file.size, max(0, text), meta.num_rows, max(0, text), fields


def _of_stream(source, path, size, read_range):
    n = HEAD
    while True:
        head = read_range(0, min(n, size))
        chunk = Chunk(source.name)
        records, lost = [], []
        for kept, dropped in (*read_file(source, io.BytesIO(head), len(head), path, path, chunk), chunk.take()):
            records.append(kept.select(["media_type", "content"]))
            lost.append(dropped)
        table = pa.concat_tables(records)
        if len(table) >= ENOUGH or n >= min(size, MAX_HEAD):
            break
        n *= 4
    content = text = 0
    for kind, data in zip(table["media_type"].to_pylist(), table["content"], strict=True):
        length = len(data.as_buffer())
        content += length
        text += length * TEXT_OF.get(kind, 1.0)
    seen = len(head)
    if kind_of(path)[0] in (".pdf", ".html", ".htm", ".txt", ".tex") and not len(table):  # one record, longer than the look
        return size, 0.2 * size, 1, size, None
    return seen, text, len(table), content, _fields(path, head)


def _fields(path, head):
    """Names of the first record's fields; None for a kind without any."""
    kind, compression = kind_of(path)
    if kind not in (".jsonl", ".json", ".csv", ".tsv"):
        return None
    stream = io.BytesIO(head)
    if compression:
        from data_engine.archives import DAMAGE, Limits, decompressed

        try:
            head = decompressed(stream, compression, Limits(len(head))).read(MAX_HEAD)
        except DAMAGE:
            return []
    line = head.lstrip().partition(b"\n")[0]
    if kind in (".csv", ".tsv"):
        return [name.strip().strip('"') for name in line.decode("utf-8", "replace").split("," if kind == ".csv" else "\t")]
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return sorted(record) if isinstance(record, dict) else None
