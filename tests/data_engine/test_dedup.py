"""Near-duplicate removal against datasketch, Python's own words, and exact Jaccard."""

import json
import random
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine import dedup
from data_engine.dedup import (
    DedupConfig,
    candidates,
    chance,
    choose_bands,
    cluster,
    components,
    distinct,
    pack_ids,
    pair,
    remove_duplicates,
    repeated,
    shingles,
    sign,
    split_bands,
    unpack_ids,
)
from data_engine.kernels.shingles import fold_table, jaccard, shingle_sets
from data_engine.records import record_id, text_buffers
from phoenix.config import UserError
from tests.fixtures import SHARED, labelled_cases

CFG = choose_bands(DedupConfig())


def documents(texts, source="a"):
    ids = [record_id(source, f"u{i}", text.encode("utf-8", "surrogatepass")) for i, text in enumerate(texts)]
    columns = [ids, [source] * len(texts), [f"u{i}" for i in range(len(texts))]]
    columns = [pa.array(column, pa.string()) for column in columns] + [pa.array(texts, pa.large_string())]
    return pa.table(columns, names=["id", "source", "uri", "text"])


def words(text):
    """Python's words, each character lower-cased by itself where that gives one character."""
    return ["".join(c.lower() if len(c.lower()) == 1 else c for c in word) for word in re.findall(r"\w+", text)]


def grams(text, n=5):
    """The set of word n-grams, the oracle of shingle_sets; of a text without words the one set of its bytes above the blank."""
    found = words(text) or ["".join(chr(b) for b in text.encode() if b > 32)]
    found = found if found != [""] else []
    size = min(n, len(found))
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)} if found else set()


def find(texts, cfg=CFG, sources=("a",), docs=None):
    """The whole search on one partition: DUPLICATES rows with indices into texts instead of ids."""
    docs, cfg = documents(texts) if docs is None else docs, choose_bands(cfg)
    signatures, _ = sign(docs, cfg)
    rows, _ = split_bands(signatures, {"dedup": cfg, "buckets": 3})
    pairs = [pair(rows.filter(pc.equal(rows["bucket"], b)), cfg)[0] for b in range(3)]
    pairs = distinct(pa.concat_tables(pairs))
    sets, _ = shingles(docs, cfg, candidates(pairs, 3))
    settings = {"dedup": cfg, "sources": list(sources)}
    found = pa.concat_tables([cluster(sets.filter(pc.equal(sets["bucket"], b)), settings)[0] for b in range(3)])
    index = {value: i for i, value in enumerate(docs["id"].to_pylist())}
    return {index[r["id"]]: (index[r["kept_id"]], r["similarity"]) for r in found.to_pylist()}


def sentence(draw, n):
    return " ".join(f"w{draw.randrange(3000)}" for _ in range(n))


@given(st.lists(st.text(max_size=60), max_size=6))
def test_shingles_are_those_of_pythons_words(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    _, ends = shingle_sets(*text_buffers(pa.array(texts, pa.large_string())), fold_table(), 5)
    assert np.diff(ends).tolist() == [len(grams(text)) for text in texts]


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_texts_share_shingles_exactly_when_their_words_agree(left, right):
    texts = [t.encode("utf-8", "ignore").decode() for t in (left, right)]
    hashes, ends = shingle_sets(*text_buffers(pa.array(texts, pa.large_string())), fold_table(), 2)
    first, second = set(hashes[: ends[1]].tolist()), set(hashes[ends[1] :].tolist())
    assert len(first & second) == len(grams(texts[0], 2) & grams(texts[1], 2))


def test_signatures_equal_datasketch():
    from datasketch import MinHash

    draw = random.Random(1)
    texts = [sentence(draw, n) for n in (1, 4, 5, 60, 3000)] + ["Ünïcode Straße, ΣΑΣ; 世界! " * 20]
    signatures, _ = sign(documents(texts), CFG)
    hashes, ends = shingle_sets(*text_buffers(pa.array(texts)), fold_table(), CFG.ngram)
    for i, signature in enumerate(signatures["signature"].to_pylist()):
        oracle = MinHash(CFG.bands * CFG.rows, seed=1, scheme="affine32", hashfunc=lambda h: int(h) & 0xFFFFFFFF)
        oracle.update_batch(hashes[ends[i] : ends[i + 1]])
        assert np.array_equal(np.frombuffer(signature, np.uint32), oracle.hashvalues)


def test_estimates_stay_within_theory_of_exact_jaccard():
    draw, size = random.Random(2), 480
    cfg, errors = DedupConfig(bands=size, rows=1), []
    for _ in range(60):
        left = sentence(draw, 400).split()
        right = [word if draw.random() < draw.choice((0.99, 0.95)) else "x" for word in left]
        texts = [" ".join(left), " ".join(right)]
        exact = len(grams(texts[0]) & grams(texts[1])) / len(grams(texts[0]) | grams(texts[1]))
        a, b = (np.frombuffer(s, np.uint32) for s in sign(documents(texts), cfg)[0]["signature"].to_pylist())
        errors.append((a == b).mean() - exact)
    # standard error of one estimate is sqrt(J (1 - J) / size) <= 0.0228; of the mean of 60 0.003
    assert abs(np.mean(errors)) < 0.012 and np.std(errors) < 0.03


def test_copies_and_near_copies_are_found_and_unrelated_texts_are_not():
    draw = random.Random(3)
    base = [sentence(draw, 300) for _ in range(40)]
    near = [text.replace(text.split()[10], "changed", 1) for text in base[:20]]
    found = find([*base, *near, base[0].upper() + " !!"])
    assert set(found) <= set(range(61)) and len(found) == 21
    for gone, (kept, similarity) in found.items():
        texts = [*base, *near, base[0]]
        exact = len(grams(texts[gone]) & grams(texts[kept])) / len(grams(texts[gone]) | grams(texts[kept]))
        assert similarity == pytest.approx(exact, abs=1e-6) and exact >= 0.8


def test_of_a_chain_the_document_stays_that_the_others_resemble():
    """a~b and b~c, but not a~c: b stands for both; were a kept, c would have to stay too, for nothing kept is like it."""
    draw = random.Random(4)
    words = sentence(draw, 1300).split()
    texts = [" ".join(words[start : start + 1000]) for start in (0, 90, 180)]
    found = find(texts, DedupConfig(threshold=0.8))
    assert {gone: kept for gone, (kept, _) in found.items()} == {0: 1, 2: 1}
    assert all(similarity >= 0.8 for _, similarity in found.values())
    longer = find([texts[0], texts[2]], DedupConfig(threshold=0.8))
    assert longer == {}, "a chain of resemblances removes nothing without its middle"
    straight = len(grams(texts[0]) & grams(texts[2])) / len(grams(texts[0]) | grams(texts[2]))
    assert straight < 0.8, "the example is no chain"


def test_the_survivor_is_of_the_first_source_then_the_longest_then_the_smallest_id():
    text = sentence(random.Random(5), 200)
    docs = pa.concat_tables([documents([text, text + "!"], "second"), documents([text, text + "!?", text + "?!"], "first")])
    found = find(None, docs=docs, sources=("first", "second"))
    survivor = {kept for kept, _ in found.values()}
    assert len(found) == 4 and len(survivor) == 1
    ids = docs["id"].to_pylist()
    assert survivor == {ids.index(min(ids[3], ids[4]))}


def test_texts_without_words_are_no_copies_of_each_other():
    assert find(["!!!", "???", "", "..."]) == {}


def test_the_same_text_without_words_is_kept_once():
    assert find(["★★★ ──── ★★★\n" * 9, "? ! ?", "★★★──── ★★★" * 9, "…"]).keys() in ({0}, {2})


def test_short_texts_are_copies_only_when_all_their_words_agree():
    assert set(find(["one two", "One, two!", "one three"])) in ({0}, {1})


def test_large_buckets_still_find_all_copies():
    text = sentence(random.Random(6), 100)
    assert len(find([text + " " + "!" * i for i in range(200)])) == 199


def test_a_key_of_many_documents_is_capped_and_noted(monkeypatch):
    monkeypatch.setattr(dedup, "ALL_PAIRS", 16)
    monkeypatch.setattr(dedup, "NEIGHBOURS", 8)
    ids = sorted(bytes.fromhex(record_id("s", str(i), b"")) for i in range(104))
    keys = [7] * 100 + [8, 8, 9, 10]  # one of a hundred documents, one of two, two that nobody shares
    order = random.Random(12).sample(range(104), 104)
    rows = pa.table(
        {"key": pa.array([keys[i] for i in order], pa.uint64()), "id": pa.array([ids[i] for i in order], pa.binary(16))}
    )
    pairs, _, _, notes = pair(rows, CFG)
    assert notes == {"keys": 2, "largest": 100, "capped": 1, "capped_rows": 100}
    found = {(ids.index(p["left"]), ids.index(p["right"])) for p in pairs.to_pylist()}
    assert {(0, i) for i in range(1, 100)} | {(100, 101)} <= found and all(p < q for p, q in found)
    met = Counter(i for pair in found for i in pair)
    assert all(16 <= met[i] <= 17 for i in range(1, 100)), "eight in front, eight behind, and the first"


def rows_of(members):
    """(key, id) rows as pair() takes them; members: for each key the numbers of its documents."""
    ids = [bytes.fromhex(record_id("s", str(i), b"")) for i in range(1 + max(i for some in members for i in some))]
    keys = [key for key, some in enumerate(members) for _ in some]
    return pa.table({"key": pa.array(keys, pa.uint64()), "id": pa.array([ids[i] for some in members for i in some], dedup.ID)})


def test_of_documents_that_share_large_keys_every_pair_is_made_once(monkeypatch):
    """1,500 documents in one key, two thirds of them in a second, 50 in a third that is small; a pair is made in the first."""
    made, pairs_of = [], dedup._pairs
    monkeypatch.setattr(dedup, "_pairs", lambda *arguments: made.append(pairs_of(*arguments)) or made[-1])
    pairs, _, _, notes = pair(rows_of([range(1500), range(500, 1500), range(50)]), CFG)
    assert len(pairs) == 1500 * 1499 // 2 and notes["capped"] == 0
    assert [len(left) for left, _ in made] == [1500 * 1499 // 2 + 50 * 49 // 2]


def test_a_bucket_of_keys_makes_no_more_pairs_than_it_may(monkeypatch):
    monkeypatch.setattr(dedup, "MOST_PAIRS", 300_000)
    members = [range(2), range(3), range(1000), range(1000, 4000)]
    pairs, _, _, notes = pair(rows_of(members), CFG)  # all pairs, then 512 neighbours of each of 3,000, 256, 128: at last 64
    assert notes == {"keys": 4, "largest": 3000, "capped": 2, "capped_rows": 4000}
    assert 200_000 < len(pairs) <= 300_000
    assert len(pair(rows_of([[0]]), CFG)[0]) == 0


@pytest.mark.slow
def test_copies_among_documents_of_one_template_are_found(documents=1_000):
    """Twins of similarity 0.83 that have 880 of their 1,000 words in common with all others, to which they have 0.79."""
    common, texts = sentence(random.Random(1), 880), []
    for i in range(documents // 2):
        own = [f"w{i}x{k}" for k in range(120)]
        texts += [common + " " + " ".join(own), common + " " + " ".join(own[:30] + [f"v{i}x{k}" for k in range(90)])]
    found = find(texts)
    missed = sum(1 for i in range(0, documents, 2) if not {i, i + 1} & set(found))
    assert missed <= 0.005 * documents / 2, missed
    assert all(i // 2 == kept // 2 for i, (kept, _) in found.items())


def test_bands_and_rows_on_request_are_those_of_datasketch():
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=0.7, num_perm=128)
    chosen = choose_bands(DedupConfig(threshold=0.7, optimise=True, hashes=128))
    assert (chosen.bands, chosen.rows) == (lsh.b, lsh.r) and choose_bands(CFG) is CFG
    assert chance(0.8, CFG) > 0.99 and chance(0.8, DedupConfig(bands=14, rows=8)) == pytest.approx(0.924, abs=0.001)


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_follow_the_threshold(threshold):
    chosen = choose_bands(DedupConfig(threshold=threshold))
    assert chance(threshold, chosen) >= 0.99 and chosen.bands * chosen.rows <= 120
    more = DedupConfig(bands=120 // (chosen.rows + 1), rows=chosen.rows + 1)  # fewer pairs to verify, but too few found
    assert threshold == 1 or chance(threshold, more) < 0.99
    assert threshold != 0.8 or (chosen.bands, chosen.rows) == (20, 6)


def test_a_threshold_that_the_hashes_cannot_serve_is_refused():
    with pytest.raises(UserError, match=r"120 hashes do not find 99% of the pairs at 0\.01"):
        choose_bands(DedupConfig(threshold=0.01))


def test_sets_whose_sizes_differ_too_much_are_not_compared():
    hashes = np.arange(100, dtype=np.uint64)
    starts, ends = np.array([0, 0, 0]), np.array([100, 55, 54])
    found = np.empty(2)
    jaccard(hashes, starts, ends, np.array([0, 0]), np.array([1, 2]), 0.55, found)
    assert found.tolist() == [0.55, 0.0]


def test_empty_input_keeps_types():
    docs = documents([])
    signatures, lost = sign(docs, CFG)
    rows, _ = split_bands(signatures, {"dedup": CFG, "buckets": 2})
    parts = [split_bands(signatures.slice(*cut), {"dedup": CFG, "buckets": 2})[0] for cut in ((0, 1), (1,))]
    order = [("key", "ascending"), ("id", "ascending")]
    assert pa.concat_tables(parts).sort_by(order).equals(rows.sort_by(order))
    pairs, *_ = pair(rows.select(["bucket", "key", "id"]), CFG)
    sets, _ = shingles(docs, CFG, candidates(pairs, 2))
    found, _ = cluster(sets, {"dedup": CFG, "sources": ["a"]})
    assert (len(signatures), len(rows), len(pairs), len(sets), len(found), len(lost)) == (0,) * 6
    kept, lost = remove_duplicates(docs, None, found)
    assert kept.schema == docs.schema and len(lost) == 0


def test_signatures_do_not_depend_on_how_the_batch_is_cut():
    docs = documents([sentence(random.Random(i), 50) for i in range(20)])
    whole = sign(docs, CFG)[0]
    parts = pa.concat_tables([sign(docs.slice(0, 7), CFG)[0], sign(docs.slice(7, 1), CFG)[0], sign(docs.slice(8), CFG)[0]])
    assert whole.to_pylist() == parts.to_pylist()


def test_documents_that_pairs_connect_share_a_bucket():
    draw = random.Random(11)
    ids = sorted(bytes.fromhex(record_id("s", str(i), b"")) for i in range(300))
    some = sorted({tuple(sorted(draw.sample(range(300), 2))) for _ in range(150)})
    pairs = pa.table({side: pa.array([ids[p[k]] for p in some], pa.binary(16)) for k, side in enumerate(("left", "right"))})
    rows = candidates(pairs, 7).to_pylist()
    bucket = {row["id"]: row["bucket"] for row in rows}
    assert [row["id"] for row in rows] == sorted({ids[i] for p in some for i in p}) and len(set(bucket.values())) == 7
    assert sorted((row["id"], other) for row in rows for other in row["others"]) == [(ids[p], ids[q]) for p, q in some]
    assert all(bucket[ids[p]] == bucket[ids[q]] for p, q in some)


def test_removed_documents_go_to_the_ledger_with_their_survivor():
    text = sentence(random.Random(8), 100)
    docs = documents([text, "other words altogether here", text + "."])
    table = pa.table({"id": [docs["id"][2].as_py()], "kept_id": [docs["id"][0].as_py()], "cluster": ["c"], "similarity": [1.0]})
    kept, lost = remove_duplicates(docs, None, table)
    assert kept["uri"].to_pylist() == ["u0", "u1"] and lost["uri"].to_pylist() == ["u2"]
    assert docs["id"][0].as_py() in lost["detail"][0].as_py() and lost["reason"][0].as_py() == "duplicate"


def test_components_equal_a_search_of_the_graph():
    draw = np.random.default_rng(9)
    left, right = draw.integers(0, 300, 200), draw.integers(0, 300, 200)
    seen = list(range(300))
    for _ in range(300):
        for p, q in zip(left, right, strict=True):
            seen[p] = seen[q] = min(seen[p], seen[q])
    assert components(300, left, right).tolist() == seen


def test_ids_pack_and_unpack():
    ids = pa.array([record_id("s", str(i), b"") for i in range(5)])
    assert unpack_ids(pack_ids(ids)).equals(ids) and unpack_ids(pack_ids(ids.slice(2))).equals(ids.slice(2))


def test_ids_that_came_before_are_marked_whatever_the_order():
    draw = random.Random(10)
    ids = [record_id("s", str(draw.randrange(60)), b"") for _ in range(200)]
    seen, expected = set(), []
    for value in ids:
        expected.append(value in seen)
        seen.add(value)
    assert repeated(pa.array(ids)).tolist() == expected and repeated(pa.array([], pa.string())).tolist() == []


@pytest.mark.slow
def test_every_pair_is_found_and_nothing_else_removed(tmp_path):
    """16,101 documents with all their pairs: recall at least 0.995, kept within 0.5 % of the ideal, no false removal."""
    folder = labelled_cases("neardup", tmp_path)
    rows = [json.loads(line) for line in (folder / "docs.jsonl").open()]
    found = find([row["text"] for row in rows])
    assert min(similarity for _, similarity in found.values()) >= CFG.threshold
    assert not {kept for kept, _ in found.values()} & found.keys()  # a survivor survives
    kept, clusters = tmp_path / "kept.jsonl", tmp_path / "clusters.jsonl"
    kept.write_text("".join(json.dumps({"id": row["id"]}) + "\n" for i, row in enumerate(rows) if i not in found))
    named = ({"id": row["id"], "cluster": found.get(i, (i,))[0]} for i, row in enumerate(rows))
    clusters.write_text("".join(json.dumps(row) + "\n" for row in named))
    scorer = [sys.executable, SHARED / "scorers" / "dedup.py", folder, kept, clusters]
    said = subprocess.run(scorer, capture_output=True, text=True, check=True).stdout
    _, _, recall, documents, _, _, of_ideal, false, _ = next(line for line in said.splitlines() if line.startswith("all ")).split()
    assert float(recall) >= 0.995 and abs(float(of_ideal) - 1) <= 0.005 and false == "0" and documents == f"{len(rows)}", said
