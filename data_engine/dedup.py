"""
Documents -> duplicates: exact and near copies, every one verified.

    sign        documents -> signatures: MinHash of the word 5-grams, one hash of the whole word sequence, length in bytes
    split_bands signatures -> rows (bucket, key, id): one a band, and one for the whole sequence
    pair        the rows of a bucket -> candidate pairs: documents that agree in a band
    candidates  pairs -> a bucket for each group of documents that pairs connect
    shingles    documents -> the distinct 5-grams of the candidates alone, with their bucket and their pairs
    cluster     the 5-grams of a bucket -> duplicates: exact Jaccard of every pair, connected components, a survivor each

remove_duplicates drops a document whose Jaccard similarity to its own survivor reaches the threshold     (reason "duplicate")

A chain of similar documents therefore removes nothing by itself. The survivor is of the source that comes first in the config;
there it is the document similar to most others of its cluster, then the longest, then the one of the smallest id. Clusters of more
than ALL_COMPARED documents skip the second rule.

Bands: a pair of similarity s shares a band with probability 1 - (1 - s^rows)^bands, 0.997 at 0.8 for 20 x 6; verification
removes the pairs below the threshold. (Broder 1997; Leskovec et al., Mining of Massive Datasets, ch. 3.)

Memory: the driver holds the pairs, 32 bytes each. Verification holds the 5-grams of one bucket, 8 bytes each; a group of
documents that pairs connect is never divided, so one huge group may take more.
"""

import dataclasses
from dataclasses import dataclass, field

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.kernels.hash_tables import mix64
from data_engine.kernels.shingles import fold_table, jaccard, minhash, shingle_sets
from data_engine.records import drop, nothing_dropped, one_array, text_buffers
from data_engine.step import Step, digest
from phoenix.config import UserError

VERSION = 5
ID = pa.binary(16)
SIGNATURES = pa.schema({"id": ID, "source": pa.string(), "bytes": pa.int64(), "whole": pa.uint64(), "signature": pa.large_binary()})
PAIRS = pa.schema({"left": ID, "right": ID})
CANDIDATES = pa.schema({"id": ID, "bucket": pa.int32(), "others": pa.large_list(ID)})  # others: partners with a larger id
SHINGLES = pa.schema(
    {
        **{"bucket": pa.int32(), "id": ID, "source": pa.string(), "chars": pa.int64()},
        **{"others": pa.large_list(ID), "shingles": pa.large_list(pa.uint64())},
    }
)
DUPLICATES = pa.schema({"id": pa.string(), "kept_id": pa.string(), "cluster": pa.string(), "similarity": pa.float32()})
FOUND = 0.99  # fraction of the pairs at the threshold that the default bands find, in theory
ALL_COMPARED = 64  # the largest cluster in which every document is compared with every other, to keep the fewest survivors
ALL_PAIRS = 4096  # the most documents of one key whose pairs are all candidates
NEIGHBOURS = 512  # documents that each document of a larger key is paired with
MOST_PAIRS = 10_000_000  # the most pairs that a bucket makes: where there are more, ALL_PAIRS is halved
FEW = 64  # documents of a key whose pairs may repeat those of another key; distinct() removes them
BAND_ROWS = 5_000_000  # (key, id) rows that one bucket of the candidate search holds in memory: about 0.4 GB with their order
BUCKET_TEXT = 256 << 20  # bytes of documents whose 5-grams one bucket of verification holds, if all are candidates: 0.5 GB


@dataclass(frozen=True)
class DedupConfig:
    threshold: float = 0.8  # Jaccard similarity of word 5-grams from which two documents are copies
    bands: int | None = None  # groups of the signature; a pair that agrees in one is compared. None: enough to find 99 % of pairs
    rows: int | None = None  # hashes a band; None as for bands
    hashes: int = field(default=120, metadata={"in_key": False})  # of the signature; read only if bands is None
    optimise: bool = field(default=False, metadata={"in_key": False})  # bands and rows by datasketch's optimiser
    ngram: int = 5  # words a shingle


def choose_bands(cfg):
    """
    The settings with bands and rows filled in: the most rows that still find FOUND of the pairs at the threshold.

    That is 20 x 6 at 0.8, which finds 0.997. With `optimise` they are datasketch's, which weighs missed pairs against vain
    comparisons for an LSH without verification: 9 x 13 at 0.8, which finds 0.40.
    """
    if cfg.bands is not None:
        return cfg
    if cfg.optimise:
        from datasketch import MinHashLSH

        lsh = MinHashLSH(threshold=cfg.threshold, num_perm=cfg.hashes)
        return dataclasses.replace(cfg, bands=lsh.b, rows=lsh.r)
    divided = (dataclasses.replace(cfg, bands=cfg.hashes // rows, rows=rows) for rows in range(cfg.hashes, 0, -1))
    found = next((one for one in divided if chance(cfg.threshold, one) >= FOUND), None)
    if found is None:
        raise UserError(f"{cfg.hashes} hashes do not find {FOUND:.0%} of the pairs at {cfg.threshold:g}: raise dedup.hashes")
    return found


def chance(similarity, cfg):
    """The probability that a pair of this Jaccard similarity agrees in a band: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**cfg.rows) ** cfg.bands


def sign(docs, cfg):
    """Documents (id, text) -> SIGNATURES; the signature is bands * rows little-endian uint32, datasketch's affine32, seed 1."""
    size = cfg.bands * cfg.rows
    draw = np.random.RandomState(1)  # as datasketch draws its permutations
    a = draw.randint(0, 1 << 31, size, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 1 << 32, size, dtype=np.uint32)
    data, offsets = text_buffers(docs["text"])
    signatures, whole = np.empty((len(docs), size), np.uint32), np.empty(len(docs), np.uint64)
    minhash(data, offsets, fold_table(), cfg.ngram, a, b, signatures, whole)
    ends = pa.py_buffer(np.arange(len(docs) + 1, dtype=np.int64) * 4 * size)
    signature = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(docs), [None, ends, pa.py_buffer(signatures)])
    columns = [pack_ids(docs["id"]), docs["source"], pa.array(np.diff(offsets)), pa.array(whole), signature]
    return pa.table(columns, schema=SIGNATURES), nothing_dropped()


def split_bands(signatures, settings):
    """SIGNATURES -> (bucket, key, id), bands + 1 rows a document with words; settings: {"dedup": DedupConfig, "buckets": int}."""
    cfg, buckets = settings["dedup"], settings["buckets"]
    whole = signatures["whole"].to_numpy()
    data, offsets = _blob(signatures["signature"])
    data = data[offsets[0] : offsets[-1]]
    keys = np.empty((cfg.bands + 1, len(signatures)), np.uint64)
    _band_keys(data.view(np.uint32).reshape(len(signatures), cfg.bands * cfg.rows), whole, cfg.bands, cfg.rows, keys)
    ids = pa.chunked_array([signatures["id"].combine_chunks()] * (cfg.bands + 1), ID)
    keys = keys.reshape(-1)
    table = pa.table({"bucket": pa.array((keys % np.uint64(buckets)).astype(np.int32)), "key": keys, "id": ids})
    has_words = np.tile(whole != 0, cfg.bands + 1)
    return table.filter(pa.array(has_words)), nothing_dropped()


def pair(rows, cfg):
    """
    (key, id) rows of a bucket -> distinct PAIRS, left < right, in order. cfg is not read: verification applies the threshold.

    Notes for the receipt: keys that documents share, the most documents of a key, keys whose pairs were not all made.
    """
    keys = rows["key"].to_numpy()
    rows = rows.take(pa.array(_shared(keys, np.argsort(keys))))  # about one row in hundreds
    rows = rows.take(pc.sort_indices(rows, [("key", "ascending"), ("id", "ascending")]))
    keys, words = rows["key"].to_numpy(), np.frombuffer(one_array(rows["id"]).buffers()[1] or b"", np.uint64)[::2]
    sizes = np.unique(keys, return_counts=True)[1]
    limit = ALL_PAIRS
    while True:
        left, right = _pairs(words, *_keys_of_documents(words, sizes, limit), limit, min(NEIGHBOURS, limit // 2), MOST_PAIRS)
        if len(left) <= MOST_PAIRS or limit == 2:
            break
        limit //= 2
    table = pa.table([rows["id"].take(pa.array(left)), rows["id"].take(pa.array(right))], schema=PAIRS)
    table = table.filter(pc.not_equal(table["left"], table["right"]))
    capped = sizes[sizes > limit]
    notes = {"keys": len(sizes), "largest": int(sizes.max(initial=0)), "capped": len(capped), "capped_rows": int(capped.sum())}
    return distinct(table), nothing_dropped(), {}, notes


def candidates(pairs, buckets):
    """Distinct PAIRS in order -> CANDIDATES in order of id."""
    ids = pc.unique(pa.chunked_array([*pairs["left"].chunks, *pairs["right"].chunks], ID))
    ids = ids.take(pc.sort_indices(ids))
    left, right = (pc.index_in(pairs[side], ids).to_numpy() for side in ("left", "right"))
    root = components(len(ids), left, right)
    first = np.frombuffer(ids.buffers()[1] or b"", np.uint64)[::2][root]  # half an id is enough: ids are hashes
    starts = pa.array(np.searchsorted(left, np.arange(len(ids) + 1)))
    others = pa.LargeListArray.from_arrays(starts, pairs["right"].combine_chunks())
    return pa.table([ids, pa.array((first % np.uint64(buckets)).astype(np.int32)), others], schema=CANDIDATES)


def shingles(docs, cfg, candidates):
    """SHINGLES of the documents whose id is in CANDIDATES."""
    ids = pack_ids(docs["id"])
    at = pc.index_in(ids, candidates["id"].combine_chunks())
    docs = docs.append_column("key", ids).filter(pc.is_valid(at))
    known = candidates.take(pc.drop_null(at))
    data, offsets = text_buffers(docs["text"])
    hashes, ends = shingle_sets(data, offsets, fold_table(), cfg.ngram)
    sets = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(hashes))
    lengths = pc.utf8_length(docs["text"].cast(pa.large_string())).cast(pa.int64())
    return pa.table(
        [known["bucket"], docs["key"], docs["source"], lengths, known["others"], sets], schema=SHINGLES
    ), nothing_dropped()


def cluster(sets, settings):
    """
    SHINGLES of a bucket -> DUPLICATES, in order of id.

    settings  {"dedup": DedupConfig, "sources": names in the order of their priority}
    """
    cfg, sources = settings["dedup"], settings["sources"]
    sets = sets.take(pc.sort_indices(sets, [("id", "ascending")]))
    sets = sets.filter(pa.array(~repeated(sets["id"].combine_chunks())))
    ids = pa.concat_arrays([pa.array([], ID), *sets["id"].chunks])
    hashes, starts, ends = _sets(sets["shingles"])
    others = pa.concat_arrays([pa.array([], CANDIDATES.field("others").type), *sets["others"].chunks])
    left = np.repeat(np.arange(len(ids)), pc.list_value_length(others).to_numpy())
    right = pc.index_in(others.flatten(), ids).to_numpy()
    similarity = np.empty(len(left))
    jaccard(hashes, starts, ends, left, right, cfg.threshold, similarity)
    near = similarity >= cfg.threshold
    root = components(len(ids), left[near], right[near])
    rank = pc.index_in(sets["source"], pa.array(sources)).to_numpy()
    best_first = np.lexsort([np.arange(len(ids)), -sets["chars"].to_numpy(), rank, root])
    kept, similarity = _survivors(best_first.astype(np.int64), root, rank, hashes, starts, ends, cfg.threshold)
    gone = np.flatnonzero(kept >= 0)
    columns = [unpack_ids(ids.take(pa.array(chosen))) for chosen in (gone, kept[gone], root[gone])]
    return pa.table([*columns, pa.array(similarity[gone].astype(np.float32))], schema=DUPLICATES), nothing_dropped()


def remove_duplicates(docs, cfg, duplicates):
    """Documents without the duplicates, which go to the ledger with their survivor and similarity."""
    at = pc.index_in(docs["id"], duplicates["id"])
    gone = docs.filter(pc.is_valid(at))
    found = duplicates.take(pc.drop_null(at))
    numbers = (f"{s:.4f}" for s in found["similarity"].to_pylist())
    details = [f"copy of {kept}, similarity {s}" for kept, s in zip(found["kept_id"].to_pylist(), numbers, strict=True)]
    return docs.filter(pc.is_null(at)), drop(gone, "dedup", "duplicate", details)


def distinct(pairs):
    """PAIRS without repetitions, in order."""
    pairs = pairs.group_by(["left", "right"], use_threads=False).aggregate([])
    return pairs.take(pc.sort_indices(pairs, [("left", "ascending"), ("right", "ascending")])).cast(PAIRS)


def repeated(ids):
    """
    bool[n]: True if the same id came before. Within a job ids are distinct; two jobs may share one if a field names the uri.

    >>> repeated(pa.array(["00" * 16, "01" * 16, "00" * 16])).tolist()
    [False, False, True]
    """
    words = np.frombuffer((ids if ids.type == ID else pack_ids(ids)).buffers()[1] or b"", np.uint64).reshape(-1, 2)
    order = np.lexsort(words.T)  # stable: equal ids stay in the order in which they came
    again = np.zeros(len(words), bool)
    again[order[1:]] = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    return again


def pack_ids(ids):
    """Ids of 32 hex digits -> 16 bytes each, which sort alike."""
    data, offsets = text_buffers(ids)
    digits = data[offsets[0] : offsets[-1]]
    digits = np.where(digits >= 97, digits - 87, digits - 48).astype(np.uint8)
    packed = digits[0::2] << np.uint8(4) | digits[1::2]
    return pa.Array.from_buffers(ID, len(ids), [None, pa.py_buffer(np.ascontiguousarray(packed))])


def unpack_ids(ids):
    """16 bytes each -> 32 hex digits."""
    ids = pa.concat_arrays([pa.array([], ID), *(ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids])])
    packed = np.frombuffer(ids.buffers()[1] or b"", np.uint8, 16 * len(ids), 16 * ids.offset)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[np.stack([packed >> 4, packed & 15], axis=1)].tobytes()
    ends = np.arange(len(ids) + 1, dtype=np.int64) * 32
    return pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(digits)).cast(pa.string())


def components(n, left, right):
    """Connected components of n nodes: for every node the smallest node of its component."""
    root = np.arange(n)
    _union(root, left, right)
    return root


def _blob(column):
    """A large_binary column -> (all its bytes, offsets)."""
    column = one_array(column)
    return text_buffers(column.view(pa.large_string())) if len(column) else (np.empty(0, np.uint8), np.zeros(1, np.int64))


def _sets(column):
    """A large_list<uint64> column -> (values, start of each list, end of each list)."""
    column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    offsets = column.offsets.to_numpy()
    return column.values.to_numpy(), offsets[:-1], offsets[1:]


@numba.njit(nogil=True, cache=True)
def _band_keys(signatures, whole, bands, rows, keys):
    for d in range(len(signatures)):
        for band in range(bands):
            key = np.uint64(band + 1)
            for k in range(band * rows, (band + 1) * rows):
                key = mix64(key ^ np.uint64(signatures[d, k]))
            keys[band, d] = key
        keys[bands, d] = mix64(whole[d])


@numba.njit(nogil=True, cache=True)
def _shared(keys, order):
    """Rows whose key another row has too, in the order of the keys."""
    found = [np.int64(0) for _ in range(0)]
    for i in range(len(order)):
        before = i > 0 and keys[order[i - 1]] == keys[order[i]]
        if before or (i + 1 < len(order) and keys[order[i + 1]] == keys[order[i]]):
            found.append(order[i])
    return np.array(found, np.int64)


def _keys_of_documents(words, sizes, limit):
    """
    Rows in the order of keys of these sizes -> (first row of each key, document of each row, numbers of keys, a start a document).

    The numbers are, document by document and ascending, those of its keys that are paired in full and have more than FEW rows.
    """
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    documents = np.unique(words, return_inverse=True)[1].reshape(-1)
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    shared = np.flatnonzero(((sizes > FEW) & (sizes <= limit))[numbers])
    shared = shared[np.lexsort([numbers[shared], documents[shared]])]
    starts = np.searchsorted(documents[shared], np.arange(documents.max(initial=-1) + 2))
    return begins, documents, numbers[shared], starts


@numba.njit(nogil=True, cache=True)
def _pairs(words, begins, documents, numbers, starts, limit, neighbours, most):
    """
    Index pairs of rows of one key: all pairs of up to `limit` rows, each where its documents first share such a key.

    In a longer key each row is paired with the first and with the `neighbours` next ones in a pseudo-random order that differs by
    key: another key may pair the others. Ends early with more than `most` pairs.
    """
    left, right = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    for key in range(len(begins) - 1):
        first, n = begins[key], begins[key + 1] - begins[key]
        if n <= limit:
            for p in range(first, first + n):
                for q in range(p + 1, first + n):
                    if n <= FEW or _first_shared(numbers, starts, documents[p], documents[q]) == key:
                        left.append(p)
                        right.append(q)
                if len(left) > most and limit > 2:
                    break
        else:
            mixed = np.empty(n, np.uint64)
            for q in range(n):
                mixed[q] = mix64(words[first + q] ^ mix64(np.uint64(key)))
            order = np.argsort(mixed)
            for p in range(n):
                left.append(first)
                right.append(first + p)
                for step in range(1, neighbours + 1):
                    a, b = order[p], order[(p + step) % n]
                    left.append(first + min(a, b))
                    right.append(first + max(a, b))
                if len(left) > most and limit > 2:
                    break
        if len(left) > most and limit > 2:
            break
    return np.array(left, np.int64), np.array(right, np.int64)


@numba.njit(nogil=True, cache=True)
def _first_shared(numbers, starts, p, q):
    """The smallest number in the ascending lists of both p and q; they share one."""
    i, j = starts[p], starts[q]
    while numbers[i] != numbers[j]:
        if numbers[i] < numbers[j]:
            i += 1
        else:
            j += 1
    return numbers[i]


@numba.njit(nogil=True, cache=True)
def _union(root, left, right):
    for i in range(len(left)):
        p, q = left[i], right[i]
        while root[p] != p:
            root[p] = root[root[p]]
            p = root[p]
        while root[q] != q:
            root[q] = root[root[q]]
            q = root[q]
        root[max(p, q)] = min(p, q)
    for p in range(len(root)):  # a root is smaller than its members, so one pass in order flattens all
        root[p] = root[root[p]]


@numba.njit(nogil=True, cache=True)
def _survivors(best_first, root, rank, hashes, starts, ends, threshold):
    """kept[d]: the survivor that removes d, or -1; similarity[d]: to it. best_first: documents, cluster by cluster, best first."""
    kept, similarity = np.full(len(root), -1, np.int64), np.zeros(len(root))
    first = 0
    for i in range(1, len(best_first) + 1):
        if i < len(best_first) and root[best_first[i]] == root[best_first[first]]:
            continue
        members = best_first[first:i]
        first = i
        n = len(members)
        if n > ALL_COMPARED:  # the best undecided document stays and removes its copies, again and again
            rest = members.copy()
            while len(rest):
                stays, rest = rest[0], rest[1:]
                row = np.empty(len(rest))
                jaccard(hashes, starts, ends, np.full(len(rest), stays), rest, threshold, row)
                for q in range(len(rest)):
                    if row[q] >= threshold:
                        kept[rest[q]], similarity[rest[q]] = stays, row[q]
                rest = rest[row < threshold]
            continue
        alike = np.zeros((n, n))
        for p in range(n):
            jaccard(hashes, starts, ends, np.full(n - p - 1, members[p]), members[p + 1 :], threshold, alike[p, p + 1 :])
            alike[p + 1 :, p] = alike[p, p + 1 :]
        left = np.ones(n, np.bool_)  # undecided members
        for _ in range(n):
            stays, covers = -1, -1
            for p in range(n):  # best first; of the same source the one that is similar to most others
                if left[p] and stays >= 0 and rank[members[p]] != rank[members[stays]]:
                    break
                if left[p]:
                    count = 0
                    for q in range(n):
                        count += left[q] and alike[p, q] >= threshold
                    if count > covers:
                        stays, covers = p, count
            if stays < 0:
                break
            left[stays] = False
            for q in range(n):
                if left[q] and alike[stays, q] >= threshold:
                    left[q] = False
                    kept[members[q]], similarity[members[q]] = members[stays], alike[stays, q]
    return kept, similarity


# ---------------------------------------------------------------------------------------------------- in the driver


def find_duplicates(cfg, engine, docs, signatures):
    """The partitions of pairs, and of duplicates, one for each of `docs`."""
    rows = sum(part.receipt["rows"] for part in signatures) * (cfg.dedup.bands + 1)
    buckets = 1 + rows // BAND_ROWS
    split = Step(split_bands, {"dedup": cfg.dedup, "buckets": buckets}, one_to_many=True)
    _, pairs = engine.exchange("pairs", signatures, split, Step(pair, cfg.dedup, one_to_many=True), buckets)

    buckets = 1 + sum(part.receipt["steps"][0]["bytes"] for part in signatures) // BUCKET_TEXT
    key = digest(Step(shingles).identity(), buckets, [p.content for p in pairs])

    def connected():
        yield "all", candidates(distinct(engine.read(pairs, ["left", "right"])), buckets)

    groups_of = engine.save("candidates", key, connected, "work/candidates")
    split = Step(shingles, cfg.dedup, side_inputs=True, one_to_many=True)
    merge = Step(cluster, {"dedup": cfg.dedup, "sources": [source.name for source in cfg.sources]}, one_to_many=True)
    _, clusters = engine.exchange("clusters", docs, split, merge, buckets, side_inputs=groups_of)

    def duplicates():
        """(name, DUPLICATES) of each partition of docs: copies by cluster, and records that came twice under one id."""
        found = engine.read(clusters, None)
        ids = [engine.read([part], ["id"])["id"].combine_chunks() for part in docs]
        again, start = repeated(pa.concat_arrays([pa.array([], pa.string()), *ids])), 0
        for part, own in zip(docs, ids, strict=True):
            copies = found.filter(pc.is_in(found["id"], own))
            twice = own.filter(pa.array(again[start : start + len(own)]))
            twice = twice.filter(pc.invert(pc.is_in(twice, copies["id"].combine_chunks())))
            of_itself = pa.table([twice, twice, twice, pa.array([1.0] * len(twice), pa.float32())], schema=found.schema)
            yield part.name, pa.concat_tables([copies, of_itself])
            start += len(own)

    return pairs, engine.save("duplicates", digest([p.content for p in (*docs, *clusters)]), duplicates)


def survivors(engine, signatures, dupes):
    """(id, source, bytes) of the documents that are no duplicates: some bytes of the driver's memory a document."""
    table = engine.read(signatures, ["id", "source", "bytes"])
    table = table.filter(pa.array(~repeated(table["id"].combine_chunks())))  # of a record that came twice the first stays
    gone = engine.read(dupes, ["id", "kept_id"])
    gone = gone.filter(pc.not_equal(gone["id"], gone["kept_id"]))["id"].combine_chunks()
    table = table.set_column(0, "id", unpack_ids(table["id"]))
    return table.filter(pc.invert(pc.is_in(table["id"], gone)))
