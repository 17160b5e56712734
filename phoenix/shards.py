"""
Token shards: flat little-endian uint16 files without a header, described by shards.json.

    shards.json  {"format": "phoenix-shards", "version": 1, "dtype": "<u2", "vocab_size": 32768, "eot": 0,
                  "tokenizer_sha256": "...", "tokens": {"train": N, "val": N},
                  "shards": {"train": [{"file": "train-00000.bin", "tokens": n, "sha256": "..."}, ...], "val": [...]}}

Each document ends in <|endoftext|>, whose id is `eot`. shards.json is written last: a folder without it is not finished.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phoenix.config import UserError
from phoenix.files import sha256_file

FORMAT, FORMAT_VERSION = "phoenix-shards", 1


@dataclass(frozen=True)
class Split:
    """A split: its shards, memory-mapped, in the order of shards.json; `meta` is the whole of shards.json."""

    shards: list[np.ndarray]  # uint16, one array a file
    tokens: int
    meta: dict


def open(folder, split="train", verify=False):
    """
    The train or val shards in the folder of shards.json, their sizes checked, with `verify` also their sha256.

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
        if verify and sha256_file(file) != shard["sha256"]:
            raise UserError(f"{file} does not have the sha256 in shards.json: rerun data_engine.run")
        arrays.append(np.memmap(file, np.dtype(meta["dtype"]), "r") if size else np.empty(0, np.uint16))
    return Split(arrays, sum(len(a) for a in arrays), meta)


def described(data, path):
    """bytes of shards.json -> dict; UserError, which names `path`, where this code cannot read them."""
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
