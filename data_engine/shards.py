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

from config import UserError

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
    folder = Path(folder)
    path = folder / "shards.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `python -m data_engine.run` first, or point data= at its shards folder")
    meta = json.loads(path.read_text())
    if (meta.get("format"), meta.get("version")) != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path} is {meta.get('format')} {meta.get('version')}, this code reads {FORMAT} {FORMAT_VERSION}")
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
