"""
How many files of a remote source a run takes: as many as its share of the tokens needs, in an order chosen by the seed.

The first estimate comes from a look at the first bytes of some files (probe); once a run has come to its end, from the tokens that
its files gave. Files are taken from the front of one fixed order, so a run that needs more fetches the next ones and nothing twice.
"""

import functools
import hashlib
import io
import json
import math

import numpy as np
import pyarrow as pa

from data_engine.sources.fetch import Ranges
from data_engine.sources.readers import MEDIA_TYPE, SEEKABLE, kind_of, read_file
from data_engine.sources.source import Chunk

PROBED = 2  # files that are looked at
MOST_PROBED = 10  # where the first show no text or are damaged
HEAD, MAX_HEAD = 256 << 10, 4 << 20  # bytes of the look: more where they hold fewer than ENOUGH records
ENOUGH = 50
MARGIN = 1.1  # beyond what an estimate says
GROWTH = 4  # times the files of the last run, at most, that a run takes because they gave too little
# Bytes of clean text that a byte of content becomes; HTML and PDF on ../shared/corpus, see dev/LOG.md
TEXT_OF = {
    **{"text/html": 0.11, "application/pdf": 0.2, "text/x-wiki": 0.65, "application/x-tex": 0.75},
    "application/x-stackexchange+json": 0.76,
}
# Seconds of one core that a byte of content costs to be read and made clean text, on the same; and that of any other content
SECS_OF = {
    **{"text/html": 80e-9, "application/pdf": 200e-9, "text/x-wiki": 155e-9, "application/x-tex": 350e-9},
    "application/x-stackexchange+json": 110e-9,
}
PLAIN_SECS = 26e-9
KEPT = {True: 0.7, False: 0.9}  # part of the text that outlasts cleaning and deduplication, of pages of the web and of other text
# Tokens a byte of English text by size of the vocabulary, our tokenizer on Wikipedia and web pages, see dev/LOG.md
TOKENS_PER_BYTE = (
    *((512, 0.51), (1024, 0.41), (2048, 0.35), (4096, 0.30)),
    *((8192, 0.27), (16384, 0.245), (32768, 0.225), (65536, 0.21)),
)


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
    kept = KEPT[web] * place.tokens_per_byte * looked["text"] / max(1, looked["bytes"])
    thought = max(1, take(files, place.tokens * MARGIN, kept))
    if not measured or measured.get("cleaning") != place.cleaning:
        return thought
    if measured["needed"] == place.tokens and measured["found"] >= place.tokens:
        return measured["files"]
    gave = measured["found"] / max(1, measured["bytes"])
    more = take(files, place.tokens * (1 + (MARGIN - 1) / 2), gave)
    more = min(more, max(thought, GROWTH * measured["files"]))  # found next to nothing: not all that there is at once
    short = measured["needed"] == place.tokens  # the same goal again, not reached: at least one more
    return min(len(files), max(more, measured["files"] + 1 if short else 1))


def measured(place, tokens, taken):
    """What a run has learnt, for count(): the files `taken` gave so many tokens to choose from."""
    size = sum(file[1] for file in taken)
    return {"needed": place.tokens, "found": int(tokens), "files": len(taken), "bytes": size, "cleaning": place.cleaning}


def probe(source, files, read_range, most=PROBED):
    """
    A look at the first files, read_range(file, start, n) -> bytes: what is seen of them and stands for the rest.

    {"bytes": of the files, "documents", "content": their bytes, "text": bytes of text in them, about, "secs": of one core to clean
    them, "fields", "problem": or ""}
    """
    seen = {"bytes": 0, "documents": 0, "content": 0, "text": 0.0, "secs": 0.0, "fields": [], "problem": ""}
    told, damage = 0, ""  # files that showed text
    looked = [file for file in files if file[1] or (file[1] is None and kind_of(file[0])[0] not in SEEKABLE)]
    looked = looked[: max(most, MOST_PROBED)]
    for file in looked:
        if told == most:
            break
        path, size = file[0], file[1]
        read, kind = functools.partial(read_range, file), kind_of(path)[0]
        if kind == ".parquet":
            try:
                found, fields = _of_parquet(source, Ranges(size, read))
            except (pa.ArrowException, OSError) as error:
                damage = damage or f"{path} is no Parquet file that can be read: {' '.join(str(error).split())[:100]}"
                continue  # its row in the ledger comes when it is read
        elif kind == ".zip":  # a look would cost as much as the reading
            found, fields = {"bytes": size, "documents": 1 + size // 10_000, "content": 3 * size, "text": 0.6 * size}, None
            found["secs"] = found["content"] * PLAIN_SECS
        else:
            found, fields = _of_stream(source, path, size or MAX_HEAD, read)
        if fields is not None and source.text not in fields:
            seen["problem"] = f"{path} has no field {source.text!r}; it has {', '.join(fields) or 'none'}"
        elif fields is not None and source.id is not None and source.id not in fields:
            seen["problem"] = f"{path} has no field {source.id!r} for id; it has {', '.join(fields) or 'none'}"
        seen["fields"] = seen["fields"] or list(fields or ())
        for name, value in found.items():
            seen[name] += value
        told += found["text"] > 0
    if looked and not told and not seen["problem"]:
        others = f", nor in {len(looked) - 1} other files" if len(looked) > 1 else ""
        seen["problem"] = damage or f"no text in field {source.text!r} was found at the beginning of {looked[0][0]}{others}"
    return seen


def _of_parquet(source, file):
    """Figures from the footer alone; a text that stands twice in a column counts once."""
    import pyarrow.parquet as pq

    meta = pq.ParquetFile(file).metadata
    text = 0
    for group in range(meta.num_row_groups):
        for column in map(meta.row_group(group).column, range(meta.num_columns)):
            if column.path_in_schema == source.text:
                text += column.total_uncompressed_size - 4 * column.num_values  # each text behind its length
    found = {"bytes": file.size, "documents": meta.num_rows, "content": max(0, text), "text": max(0, text)}
    found["secs"] = found["content"] * PLAIN_SECS
    return found, meta.schema.to_arrow_schema().names


def _of_stream(source, path, size, read):
    """Figures from as much of the file's beginning as holds ENOUGH records."""
    n = HEAD
    while True:
        head = read(0, min(n, size))
        chunk = Chunk(source.name)
        tables = [kept for kept, _ in read_file(source, io.BytesIO(head), len(head), path, path, chunk)]
        table = pa.concat_tables([*tables, chunk.take()[0]])
        if len(table) >= ENOUGH or n >= min(size, MAX_HEAD):
            break
        n *= 4
    if not len(table) and kind_of(path)[0] in MEDIA_TYPE:  # one record, and longer than the look
        kind = MEDIA_TYPE[kind_of(path)[0]]
        found = {"bytes": size, "documents": 1, "content": size}
        return found | {"text": size * TEXT_OF.get(kind, 1.0), "secs": size * SECS_OF.get(kind, PLAIN_SECS)}, None
    found = {"bytes": len(head), "documents": len(table), "content": 0, "text": 0.0, "secs": 0.0}
    for kind, data in zip(table["media_type"].to_pylist(), table["content"], strict=True):
        length = len(data.as_buffer())
        found["content"] += length
        found["text"] += length * TEXT_OF.get(kind, 1.0)
        found["secs"] += length * SECS_OF.get(kind, PLAIN_SECS)
    return found, _fields(path, head)


def _fields(path, head):
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
    line = head.lstrip().partition(b"\n")[0]
    if kind in (".csv", ".tsv"):
        return [name.strip().strip('"') for name in line.decode("utf-8", "replace").split("," if kind == ".csv" else "\t")]
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return sorted(record) if isinstance(record, dict) else None
