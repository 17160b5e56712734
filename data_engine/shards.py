"""
Token shards, written: the last stage. phoenix/shards.py describes and reads the files.

in:   bucket, key, epoch, id, source, uri, licence, length, tokens          out:  INDEX, and a file a bucket
drops nothing
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.records import nothing_dropped, one_array
from phoenix.shards import FORMAT, FORMAT_VERSION

VERSION = 1
INDEX = pa.schema(
    {
        "shard": pa.string(),
        "start": pa.int64(),  # first token of the document in the shard
        "length": pa.int64(),  # tokens with the closing <|endoftext|>
        **{name: pa.string() for name in ("id", "source", "uri", "licence")},
        "epoch": pa.int32(),
    }
)


def write_shard(rows, settings):
    """
    All rows of a bucket (bucket, key, epoch, id, ..., tokens) -> INDEX rows and the shard's file.

    The order is that of (key, epoch, id). settings: {"train_shards": number of buckets that are train shards}
    """
    rows = rows.take(pc.sort_indices(rows, [(name, "ascending") for name in ("key", "epoch", "id")]))
    if not len(rows):
        return INDEX.empty_table(), nothing_dropped(), {}
    bucket, train = rows["bucket"][0].as_py(), settings["train_shards"]
    name = f"train-{bucket:05d}.bin" if bucket < train else f"val-{bucket - train:05d}.bin"
    tokens = one_array(rows["tokens"])  # the values of a column lie one behind the other: the shard as it is
    ends = np.frombuffer(tokens.buffers()[1], np.int64)[tokens.offset : tokens.offset + len(tokens) + 1]
    data = tokens.buffers()[2].slice(ends[0], ends[-1] - ends[0])
    lengths = rows["length"].to_numpy()
    starts = np.cumsum(lengths) - lengths
    if not np.array_equal(np.diff(ends), 2 * lengths):
        raise ValueError(f"{name}: documents have other lengths than their tokens")
    columns = [pa.array([name] * len(rows)), pa.array(starts), rows["length"]]
    columns += [rows[column] for column in ("id", "source", "uri", "licence", "epoch")]
    return pa.table(columns, schema=INDEX), nothing_dropped(), {name: data}


def describe(files, vocab_size, tokenizer_sha256):
    """shards.json: files are (name, bytes, sha256) of all shards."""
    shards = {"train": [], "val": []}
    for name, size, sha256 in sorted(files):
        shards[name.split("-")[0]].append({"file": name, "tokens": size // 2, "sha256": sha256})
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "dtype": "<u2",
        "vocab_size": vocab_size,
        "eot": 0,
        "tokenizer_sha256": tokenizer_sha256,
        "tokens": {split: sum(shard["tokens"] for shard in parts) for split, parts in shards.items()},
        "shards": shards,
    }
