"""
Finds the document of a token, and what became of a record.

    python -m data_engine.inspect data/quickstart --token=123456           the document of a token of the train split
    python -m data_engine.inspect data/quickstart --token=99 --split=val
    python -m data_engine.inspect data/quickstart --id=5f0c...             a record, stage by stage
    python -m data_engine.inspect data/quickstart --why=docs/page.html     the same for every record whose uri is, or holds, this

Reads what a run left under its `out`, finished or not, and changes nothing.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from data_engine.storage import CHECKED, storage
from phoenix import shards
from phoenix.config import UserError, load, main_guard, one_line

LISTED = 20  # records that --why describes; more are counted
AROUND = 40  # tokens printed on either side of the one asked for


@dataclass(frozen=True)
class Inspect:
    out: str = "data/quickstart"  # folder of the run
    token: int | None = None  # position of a token in its split, from 0, as train.py counts
    split: str = "train"  # of the token: train or val
    id: str | None = None  # of a record: 32 hex digits, or the first few
    why: str | None = None  # uri of a record, or a part of it


def main(argv):
    cfg = load(Inspect, argv, positional="out")
    out = storage(cfg.out)
    try:
        return answer(out, cfg)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{out.root} cannot be read: {one_line(error)}") from error


def answer(out, cfg):
    if not out.names("raw"):
        raise UserError(f"{out.root} is no folder of a run: python -m data_engine.run makes one")
    if [cfg.token, cfg.id, cfg.why].count(None) != 2:
        raise UserError("one of --token=123, --id=5f0c..., --why=URI is needed")
    if cfg.token is not None:
        print(*document_of_token(out, cfg.split, cfg.token), sep="\n")
        return 0
    ids = find_ids(out, cfg.id, cfg.why)
    for i in ids[:LISTED]:
        print(*story(out, i), "", sep="\n")
    if len(ids) > LISTED:
        print(f"{len(ids) - LISTED} more records; give more of the uri to list fewer")
    return 0


def document_of_token(out, split, token):
    """Lines that describe the document of a token, and the text around it."""
    from tokenizers import Tokenizer

    if split not in ("train", "val"):
        raise UserError(f"split={split!r} must be train or val")
    if out.size("shards/shards.json") is None:
        raise UserError(f"{out.root} has no shards yet: run `python -m data_engine.run` to its end first")
    meta = shards.described(out.read("shards/shards.json"), out.path("shards/shards.json"))
    if not 0 <= token < meta["tokens"][split]:
        raise UserError(f"token={token}: the {split} split has the tokens 0 to {meta['tokens'][split] - 1}")
    starts = np.cumsum([0] + [shard["tokens"] for shard in meta["shards"][split]])
    number = int(np.searchsorted(starts, token, side="right")) - 1
    name, position = meta["shards"][split][number]["file"], int(token - starts[number])
    start = ds.field("start")
    holds_token = (ds.field("shard") == name) & (start <= position) & (start + ds.field("length") > position)
    (row,) = index(out).to_table(filter=holds_token).to_pylist()
    in_document = position - row["start"]
    first, end = max(0, in_document - AROUND), min(row["length"], in_document + 1 + AROUND)
    with out.open(f"shards/{name}") as file:
        ids = np.frombuffer(file.read_at(2 * (end - first), 2 * (row["start"] + first)), meta["dtype"]).tolist()
    tokenizer = Tokenizer.from_str(out.read("tokenizer/tokenizer.json").decode())
    middle = in_document - first
    parts = (ids[:middle], [ids[middle]], ids[middle + 1 :])
    texts = [tokenizer.decode(part, skip_special_tokens=False) for part in parts]
    return [
        f"token {token} of {split}: {name} at {position}, id {ids[middle]}",
        f"token {in_document} of the {row['length']} of the document {row['id']}, epoch {row['epoch']}",
        *about(row),
        "",
        "{}⟦{}⟧{}".format(*texts),
    ]


def find_ids(out, prefix, uri):
    """Sorted ids of the records whose id begins with `prefix`, or whose uri is `uri`, or else holds it."""
    tables = [rows(out, folder, ["id", "uri"]) for folder in ("raw", "dropped")]
    known = pa.concat_tables([table for table in tables if table is not None])
    if prefix is not None:
        if not re.fullmatch("[0-9a-f]{4,32}", prefix):
            raise UserError(f"id={prefix} must be 4 to 32 hex digits")
        chosen = pc.starts_with(known["id"], prefix)
    else:
        chosen = pc.equal(known["uri"], uri)
        if not pc.any(chosen).as_py():
            chosen = pc.match_substring(known["uri"], uri)
    ids = sorted(set(known.filter(chosen)["id"].to_pylist()))
    if not ids:
        raise UserError(f"no record in {out.root} has the {'id' if prefix else 'uri'} {prefix or uri}")
    return ids


def story(out, record):
    """Lines that describe one record stage by stage; the last says if it is in the corpus."""
    is_record = ds.field("id") == record
    lines = [f"record {record}"]
    (raw,) = rows(out, "raw", ["source", "uri", "licence", "media_type", "content"], is_record).to_pylist()[:1] or [None]
    if raw:
        lines += [*about(raw), f"raw: {raw['media_type']}, {len(raw['content']):,} bytes"]
    for row in (
        rows(out, "documents", ["title", "text", "language", "language_score", "pii"], is_record) or pa.table({})
    ).to_pylist():
        pii = ", ".join(f"{n} {name}" for name, n in row["pii"]) or "none"
        lines.append(f"document: {len(row['text']):,} characters, {row['language']} {row['language_score']:.2f}, redacted: {pii}")
        lines += [f"title: {row['title']}"] if row["title"] else []
    for row in (rows(out, "duplicates", ["kept_id", "similarity"], is_record) or pa.table({})).to_pylist():
        lines.append(f"duplicate of {row['kept_id']}, similarity {row['similarity']:.4f}")
    dropped = (rows(out, "dropped", ["source", "uri", "stage", "reason", "detail"], is_record) or pa.table({})).to_pylist()
    if dropped and not raw:
        lines += about(dropped[0])
    placements = index(out).to_table(filter=is_record).to_pylist() if out.size("shards/index.parquet") else []
    for row in placements:
        lines.append(f"shards: {row['shard']} from token {row['start']}, {row['length']} tokens, epoch {row['epoch']}")
    if placements:
        lines.append("it is in the corpus")
    elif dropped:
        lines += [f"it is not in the corpus: {row['stage']}, {row['reason']}: {row['detail']}" for row in dropped]
    else:
        lines.append("it was not dropped; the run has not reached its shards yet")
    return lines


def about(row):
    """Lines with source, uri and licence."""
    return [f"{name}: {row[name]}" for name in ("source", "uri", "licence") if row.get(name)]


def rows(out, folder, columns, chosen=None):
    """Columns of the chosen rows of all files of a folder; None if there are no files."""
    found = out.dataset(folder)
    return found.to_table(columns=columns, filter=chosen) if found else None


def index(out):
    """shards/index.parquet as a dataset."""
    return ds.dataset(out.path("shards/index.parquet"), filesystem=out.fs, format=CHECKED)


if __name__ == "__main__":
    main_guard(main)
