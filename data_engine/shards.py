"""
Token shards: flat little-endian uint16 files without a header, described by shards.json.

    shards.json  {"format": "phoenix-shards", "version": 1, "dtype": "<u2", "vocab_size": 32768, "eot": 0,
                  "tokenizer_sha256": "...", "tokens": {"train": N, "val": N},
                  "shards": {"train": [{"file": "train-00000.bin", "tokens": n, "sha256": "..."}, ...], "val": [...]}}

Each document ends in <|endoftext|>, whose id is `eot`. shards.json is written last: a folder without it is not finished.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from config import UserError
from data_engine.records import nothing_dropped, one_array

FORMAT, FORMAT_VERSION = "phoenix-shards", 1


@dataclass(frozen=True)
class Split:
    """One split, its shards memory-mapped in the order of shards.json; `meta` is all of shards.json."""

    shards: list[np.ndarray]  # uint16, one array a file
    tokens: int
    meta: dict


def open(folder, split="train", verify=False):
    """
    The train or val shards below `folder` (the one that holds shards.json), sizes checked; with `verify` the sha256 too.

    UserError where shards.json is missing, of another format, or does not fit the files.
    """
    if "://" in str(folder):
        raise UserError(f"{folder} is not on disk: training maps its shards into memory, so copy that folder to this machine first")
    folder = Path(folder)
    path = folder / "shards.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `python -m data_engine.run` to its end first")
    meta = described(path.read_bytes(), path)
    arrays = []
    for shard in meta["shards"][split]:
        file = folder / shard["file"]
        size = file.stat().st_size if file.is_file() else -1
        if size != 2 * shard["tokens"]:
            raise UserError(f"{file} has {size} bytes, shards.json says {2 * shard['tokens']}: rerun data_engine.run")
        if verify:
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != shard["sha256"]:
                    raise UserError(f"{file} does not have the sha256 in shards.json: rerun data_engine.run")
        arrays.append(np.memmap(file, np.dtype(meta["dtype"]), "r") if size else np.empty(0, np.uint16))
    return Split(arrays, sum(len(a) for a in arrays), meta)


def described(data, path):
    """The bytes of shards.json -> its dict; UserError, which names `path`, where this code cannot read it."""
    try:
        meta = json.loads(data)
        if (meta["format"], meta["version"]) != (FORMAT, FORMAT_VERSION):
            raise UserError(f"{path} is {meta['format']} {meta['version']}, this code reads {FORMAT} {FORMAT_VERSION}")
        missing = {"dtype", "vocab_size", "eot", "tokenizer_sha256", "tokens", "shards"} - meta.keys()
        if missing:
            raise UserError(f"{path} lacks {', '.join(sorted(missing))}: rerun data_engine.run")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): rerun data_engine.run") from error
    return meta


# ---------------------------------------------------------------------------------------------------- writing

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
