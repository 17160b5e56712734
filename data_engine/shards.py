"""
Tokens -> shards, the last stage. phoenix/shards.py describes the format and reads the files.

in:   bucket, key, epoch, id, source, uri, licence, length, tokens          out:  INDEX, and a file a bucket
drops nothing
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.mix import choose, place, shares
from data_engine.records import nothing_dropped, one_array, to_json
from data_engine.step import EngineError, Step, digest
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
    tokens = one_array(rows["tokens"])  # the column's values are contiguous: they are the shard
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
    """shards.json; files: (name, bytes, sha256) of all shards."""
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


# ---------------------------------------------------------------------------------------------------- in the driver


def make_shards(cfg, engine, tokens, targets, available, encoder):
    """Writes shards/: the chosen documents in the order of a hash, cut into files; index.parquet, sources.json, shards.json."""
    counts = engine.read(tokens, ["id", "source", "length"]).rename_columns(["id", "source", "tokens"])
    selection = choose(counts, targets, available, cfg.seed, cfg.val_fraction)
    total = sum(targets.values())
    train_shards = -(-total // cfg.shard_tokens) or 1
    val_shards = -(-int(total * cfg.val_fraction) // cfg.shard_tokens) or 1
    settings = {"seed": cfg.seed, "val_fraction": cfg.val_fraction, "selection": selection}
    settings |= {"train_shards": train_shards, "val_shards": val_shards}
    split, merge = Step(place, settings, one_to_many=True), Step(write_shard, {"train_shards": train_shards}, atomic=True)
    order, parts = engine.exchange("shards", tokens, split, merge, train_shards + val_shards, files_to="shards")
    files = [(f["file"], f["bytes"], f["sha256"]) for part in parts for f in part.receipt.get("files", [])]
    index = engine.read(parts, ["shard", "id", "source", "licence", "length"])
    written, lost = pc.count_distinct(index["id"]).as_py(), sum(sum(p.receipt["steps"][-1]["dropped"].values()) for p in order)
    if written + lost != len(counts):
        raise EngineError(f"shards: {len(counts)} documents in, {written} written + {lost} dropped")
    last = {
        "index.parquet": parts,
        "sources.json": to_json(attribution(cfg.sources, index, targets, shares(cfg))),
        "shards.json": to_json(describe(files, cfg.vocab_size, encoder.sha256)),
    }
    engine.publish("shards", last, digest([part.content for part in parts]), keep=[name for name, _, _ in files])
    return order, parts


def attribution(sources, index, targets, shares):
    """sources.json: documents, tokens, licences of every source, its share as wanted and as achieved."""
    train = index.filter(pc.starts_with(index["shard"], "train"))
    total = pc.sum(train["length"]).as_py() or 0
    rows = []
    for source in sources:
        own = train.filter(pc.equal(train["source"], source.name))
        tokens, documents = pc.sum(own["length"]).as_py() or 0, pc.count_distinct(own["id"]).as_py()
        licences = Counter(own["licence"].to_pylist())
        rows.append(
            {
                "name": source.name,
                "kind": type(source).__name__,
                "origin": getattr(source, "origin", None),
                "revision": getattr(source, "taken_revision", None),
                "files": source.file_counts() if hasattr(source, "file_counts") else None,
                "documents": documents,
                "epochs": round(len(own) / max(1, documents), 3),
                "tokens": tokens,
                "target_tokens": targets[source.name],
                "share": round(tokens / total, 6) if total else 0.0,
                "target_share": shares[source.name],
                "licences": {key or "unknown": licences[key] for key in sorted(licences, key=str)},
            }
        )
    return {"tokens": total, "sources": rows}
