"""
The tokens each source gets: budget and shares -> whole epochs of its documents, and a part of one more.

take_fraction   drops documents that the budget cannot need, before they are encoded     (reason "not_selected")
place           drops documents beyond the share of their source                         (reason "not_selected")

A hash of id, seed and epoch alone decides on a document. So the choice does not depend on order, partitions or cores, and a
larger budget only adds documents. A source with fewer tokens than its share is repeated up to max_epochs times. What it then
lacks goes to the others by their shares, or ends the run, as mix.short says. Validation documents are chosen by another hash
and never trained on.
"""

import dataclasses
import math
from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.dedup import pack_ids, remove_duplicates
from data_engine.kernels.hash_tables import mix64
from data_engine.records import drop, one_array
from data_engine.step import Step
from phoenix.config import UserError

VERSION = 2
FULL = 1 << 64  # hashes are below this
VALIDATION = -1  # "epoch" of the hash that chooses validation documents
SAMPLE = -2  # "epoch" of the hash that chooses the tokenizer's sample
ORDER = 1 << 32  # added to the epoch, so that a document's place does not depend on its selection
MARGIN = 1.1  # documents encoded beyond the estimate of what the budget takes; the exact choice needs their tokens


@dataclass(frozen=True)
class MixConfig:
    max_epochs: int = 4  # times a document may be seen in one pass over the corpus
    short: str = "renormalise"  # if a source runs short: "renormalise" gives its share to the others, "fail" ends the run


def uniform(ids, seed, epoch):
    """Ids (32 hex digits or 16 bytes) -> uint64, uniform on [0, 2^64), the same on every machine."""
    packed = ids if ids.type == pa.binary(16) else pack_ids(ids)
    packed = one_array(packed)
    words = np.frombuffer(packed.buffers()[1] or b"", np.uint64, 2 * len(packed), 16 * packed.offset).reshape(-1, 2)
    out = np.empty(len(packed), np.uint64)
    _mix_ids(words, np.uint64(seed % FULL), np.uint64(epoch % FULL), out)
    return out


def allocate(available, shares, budget, cfg):
    """
    Tokens to take of each source.

    available  {source: tokens of its train documents}
    shares     {source: fraction of the corpus}, sum 1
    budget     tokens in all; None: the most that keeps the shares and takes no document twice

    >>> allocate({"a": 100, "b": 300}, {"a": 0.5, "b": 0.5}, 400, MixConfig(max_epochs=2))
    {'a': 200, 'b': 200}
    """
    if budget is None:
        budget = min([available[s] / share for s, share in shares.items() if share and available[s]], default=0)
        budget *= sum(share for s, share in shares.items() if available[s])  # a source without documents has no share
    room = {s: cfg.max_epochs * available[s] for s in shares}
    target, capped = {}, set()
    while True:
        left = budget - sum(room[s] for s in capped)
        weight = sum(share for s, share in shares.items() if s not in capped)
        target = {s: room[s] if s in capped else left * share / weight for s, share in shares.items()}
        short = {s for s in shares if s not in capped and target[s] > room[s] * (1 + 1e-9)}
        if short and cfg.short == "fail":
            s = min(short)
            raise UserError(
                f"source {s} has {available[s]:,} tokens, {cfg.max_epochs} epochs of them are {room[s]:,}, its share needs "
                f"{target[s]:,.0f}: lower tokens= or its share, raise mix.max_epochs, or set mix.short='renormalise'"
            )
        capped |= short
        if not short or len(capped) == len(shares):
            return {s: round(min(target[s], room[s])) for s in shares}


def choose(counts, targets, available, seed, val_fraction):
    """
    The selection that reaches the targets: {source: {"epochs", "threshold", "validation"}}. A source's documents are taken in
    whole epochs, those with a hash below the threshold once more; validation documents if their hash is below "validation".

    counts     table (id, source, tokens) of the encoded documents; some bytes of memory a document
    available  {source: tokens of all its train documents, encoded or not}
    """
    validation = is_validation(counts["id"], seed, val_fraction)
    selection, repeats = {}, {}
    for source, target in targets.items():
        rows = counts.filter(pa.array(~validation & pc.equal(counts["source"], source).to_numpy()))
        tokens = rows["tokens"].to_numpy()
        epochs, rest = divmod(target, max(1, int(tokens.sum())))
        sorted_hashes = np.sort(hashes := uniform(rows["id"], seed, epochs))
        so_far = np.cumsum(tokens[np.argsort(hashes)])
        count = int(np.searchsorted(so_far, rest, "left")) + 1 if rest and len(tokens) else 0
        # the last document is left out if stopping before it comes nearer to the target
        if count and count <= len(so_far):
            before = so_far[count - 2] if count > 1 else 0
            count -= bool(rest - before < so_far[count - 1] - rest)
        threshold = int(sorted_hashes[count - 1]) + 1 if 0 < count <= len(sorted_hashes) else 0
        selection[source] = {"epochs": int(epochs), "threshold": threshold}
        repeats[source] = target / max(1, available[source])
    most = max([1.0, *repeats.values()])
    # validation takes no document twice, so the most repeated source scales down every source's share
    for source, chosen in selection.items():
        chosen["validation"] = min(int(repeats[source] / most * FULL), FULL - 1)
    return selection


def is_validation(ids, seed, fraction):
    """bool[n]: True for documents of the validation split."""
    return uniform(ids, seed, VALIDATION) < np.uint64(min(int(fraction * FULL), FULL - 1))


def take_fraction(docs, settings):
    """Documents whose hash of epoch 0 is below settings["fractions"][source]; the others go to the ledger."""
    hashes = uniform(docs["id"], settings["seed"], 0)
    limits = np.array([min(int(settings["fractions"].get(s, 0) * FULL), FULL - 1) for s in docs["source"].to_pylist()], np.uint64)
    chosen = pa.array(hashes <= limits if len(docs) else np.empty(0, bool))
    return docs.filter(chosen), _not_selected(docs.filter(pc.invert(chosen)))


def place(docs, settings):
    """
    Documents -> rows for the shards: (bucket, key, epoch, ...), one for every epoch that takes the document.

    The key decides the position in the corpus: train shard = key * train_shards / 2^64; validation shards come after the train
    shards. The function keeps its name because partitions' keys hold it.

    settings  seed, val_fraction, selection (of `choose`), train_shards, val_shards
    """
    seed, selection = settings["seed"], settings["selection"]
    validation = is_validation(docs["id"], seed, settings["val_fraction"])
    names, codes = np.unique(np.array(docs["source"].to_pylist(), dtype=object).astype(str), return_inverse=True)
    known = [selection.get(str(name), {"epochs": 0, "threshold": 0, "validation": 0}) for name in names]
    epochs = np.array([k["epochs"] for k in known], np.int64)[codes] if len(docs) else np.empty(0, np.int64)
    limits = np.array([k["threshold"] for k in known], np.uint64)[codes] if len(docs) else np.empty(0, np.uint64)
    val_limits = np.array([k["validation"] for k in known], np.uint64)[codes] if len(docs) else np.empty(0, np.uint64)
    rows, buckets, keys, numbers = [], [], [], []
    for epoch in range(int(epochs.max(initial=0)) + 1):
        partial = uniform(docs["id"], seed, epoch) < limits
        taken = np.where(epochs == epoch, partial, epochs > epoch)
        held_out = (epoch == 0) & (uniform(docs["id"], seed, 0) < val_limits)  # the corpus' mix, but nothing twice
        taken = np.where(validation, held_out, taken)
        key = uniform(docs["id"], seed, ORDER + epoch)
        bucket = _scale(key, settings["train_shards"])
        bucket = np.where(validation, settings["train_shards"] + _scale(key, settings["val_shards"]), bucket)
        rows.append(np.flatnonzero(taken))
        for parts, values in ((buckets, bucket), (keys, key), (numbers, np.full(len(docs), epoch))):
            parts.append(values[taken])
    rows = np.concatenate(rows)
    unused = np.setdiff1d(np.arange(len(docs)), rows)
    table = docs.take(pa.array(rows))
    table = table.append_column("bucket", pa.array(np.concatenate(buckets).astype(np.int32)))
    table = table.append_column("key", pa.array(np.concatenate(keys)))
    table = table.append_column("epoch", pa.array(np.concatenate(numbers).astype(np.int32)))
    return table, _not_selected(docs.take(pa.array(unused)))


def _not_selected(docs):
    return drop(docs, "mix", "not_selected", "beyond the share of its source")


def _scale(keys, n):
    """uint64 keys -> 0 .. n-1 in the order of the keys."""
    return ((keys >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)


@numba.njit(nogil=True, cache=True)
def _mix_ids(words, seed, epoch, out):
    salt = mix64(seed * np.uint64(0x9E3779B97F4A7C15) + epoch + np.uint64(1))
    for i in range(len(words)):
        out[i] = mix64(words[i, 1] ^ mix64(words[i, 0] ^ salt))


# ---------------------------------------------------------------------------------------------------- in the driver


def encode_documents(cfg, engine, docs, dupes, sizes, tokens_per_byte, encode):
    """
    Encodes about as many documents as the budget takes, then decides exactly from their tokens.

    sizes            (id, source, bytes) of the documents that are no duplicates
    tokens_per_byte  {source: tokens a byte}; not read if there is no budget
    encode           the Step that encodes
    Returns the encoded partitions, {source: tokens to take}, {source: train tokens that it has, encoded or not}.
    """
    # with mix.short="fail", run.py raises the error after encoding, from the exact tokens
    margin, mix = MARGIN, dataclasses.replace(cfg.mix, short="renormalise")
    while True:
        fractions = {source.name: 1.0 for source in cfg.sources}
        if cfg.tokens is not None:
            expected = {s: n * tokens_per_byte[s] for s, n in bytes_by_source(cfg, sizes).items()}
            wanted = allocate({s: round(n) for s, n in expected.items()}, shares(cfg), cfg.tokens, mix)
            parts = {s: wanted[s] / max(1.0, expected[s]) for s in wanted}
            documents = {row["values"]: row["counts"] for row in pc.value_counts(sizes["source"].combine_chunks()).to_pylist()}
            # the fewer documents, the more their lengths vary. A second round must stay rare: every rerun would begin it anew
            spread = {s: 2 / math.sqrt(max(1.0, parts[s] * documents.get(s, 0))) for s in parts}
            fractions = {s: min(1.0, (margin + spread[s]) * parts[s]) for s in parts}
        take = Step(take_fraction, {"seed": cfg.seed, "fractions": fractions})
        steps = [Step(remove_duplicates, side_inputs=True), take, encode]
        tokens = engine.map("tokens", docs, steps, [dupes], "work/tokens")
        counts = engine.read(tokens, ["id", "source", "length"])
        train = counts.filter(pa.array(~is_validation(counts["id"], cfg.seed, cfg.val_fraction)))
        sums = train.group_by("source").aggregate([("length", "sum")])
        encoded = dict(zip(sums["source"].to_pylist(), sums["length_sum"].to_pylist(), strict=True))
        # a source that was encoded in part has tokens in proportion
        available = {s: encoded.get(s, 0) / fractions[s] if fractions[s] else 0 for s in fractions}
        targets = allocate({s: int(n) for s, n in available.items()}, shares(cfg), cfg.tokens, mix)
        short = [s for s in targets if fractions[s] < 1 and targets[s] > available[s] * fractions[s]]
        if not short:
            return tokens, targets, available
        margin *= 1.5


def bytes_by_source(cfg, sizes):
    """{source: bytes of its documents}; 0 for a source without any."""
    sums = sizes.group_by("source").aggregate([("bytes", "sum")])
    found = dict(zip(sums["source"].to_pylist(), sums["bytes_sum"].to_pylist(), strict=True))
    return {source.name: found.get(source.name, 0) for source in cfg.sources}


def shares(cfg):
    """{source: its fraction of the corpus' tokens}, as the config gives it."""
    return {source.name: source.share for source in cfg.sources}
