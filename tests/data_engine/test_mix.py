"""The mix: budgets and shares met by tokens, choices that depend on ids alone."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_engine.mix import MixConfig, allocate, choose, is_validation, place, take_fraction, uniform
from data_engine.records import record_id
from phoenix.config import UserError


def counts(n=4000, sources=("a", "b"), seed=1):
    draw = np.random.default_rng(seed)
    ids = [record_id("s", str(i), b"") for i in range(n)]
    return pa.table({"id": ids, "source": [sources[i % len(sources)] for i in range(n)], "tokens": draw.integers(50, 2000, n)})


def train_tokens(table, seed, val_fraction):
    """{source: tokens of its train documents}"""
    train = table.filter(pa.array(~is_validation(table["id"], seed, val_fraction)))
    return {row["source"]: row["tokens_sum"] for row in train.group_by("source").aggregate([("tokens", "sum")]).to_pylist()}


def placed(table, targets, seed=1, val_fraction=0.05, shards=3):
    selection = choose(table, targets, train_tokens(table, seed, val_fraction), seed, val_fraction)
    docs = table.append_column("uri", table["id"])
    settings = {"seed": seed, "val_fraction": val_fraction, "selection": selection, "train_shards": shards, "val_shards": 1}
    return place(docs, settings)


def tokens_of(rows, shards=3):
    train = rows.filter(pa.array(rows["bucket"].to_numpy() < shards))
    sums = train.group_by("source").aggregate([("tokens", "sum")])
    return dict(zip(sums["source"].to_pylist(), sums["tokens_sum"].to_pylist(), strict=True))


def test_hashes_are_uniform_and_differ_by_seed_and_epoch():
    ids = counts()["id"]
    first = uniform(ids, 1, 0)
    shares = np.histogram(first.astype(float), 10, (0, 2.0**64))[0]
    assert abs(shares - 400).max() < 100  # 5 standard deviations of a binomial of mean 400
    for other in (uniform(ids, 2, 0), uniform(ids, 1, 1), uniform(ids, 1, -1)):
        assert abs(np.corrcoef(first.astype(float), other.astype(float))[0, 1]) < 0.08
    assert np.array_equal(uniform(ids.combine_chunks().slice(5, 9), 1, 0), first[5:14])


def test_without_a_budget_no_document_is_taken_twice_and_shares_hold():
    assert allocate({"a": 100, "b": 300}, {"a": 0.5, "b": 0.5}, None, MixConfig()) == {"a": 100, "b": 100}


def test_without_a_budget_a_source_without_documents_has_no_share():
    targets = allocate({"a": 100, "b": 300, "c": 0}, {"a": 0.4, "b": 0.4, "c": 0.2}, None, MixConfig())
    assert targets == {"a": 100, "b": 100, "c": 0}
    assert allocate({"a": 0}, {"a": 1.0}, None, MixConfig()) == {"a": 0}


def test_a_source_that_runs_short_gives_its_share_to_the_others():
    targets = allocate({"a": 100, "b": 10_000, "c": 10_000}, {"a": 0.5, "b": 0.25, "c": 0.25}, 4000, MixConfig(max_epochs=4))
    assert targets == {"a": 400, "b": 1800, "c": 1800}


def test_a_source_that_runs_short_fails_where_the_config_says_so():
    with pytest.raises(UserError, match="source a has 100 tokens"):
        allocate({"a": 100, "b": 10_000}, {"a": 0.5, "b": 0.5}, 4000, MixConfig(short="fail"))


def test_the_targets_are_met_within_half_a_percent_of_each_source():
    table = counts()
    for targets in ({"a": 400_000, "b": 900_000}, {"a": 5_000_000, "b": 2_345_678}, {"a": 0, "b": 1_000_000}):
        found = tokens_of(placed(table, targets)[0])
        for source, target in targets.items():
            assert abs(found.get(source, 0) - target) <= max(1000, 0.005 * target)


def test_whole_epochs_take_every_train_document_and_a_part_of_one_more():
    table = counts(500, ("a",))
    train = table.filter(pa.array(~is_validation(table["id"], 1, 0.05)))
    total = int(train["tokens"].to_numpy().sum())
    rows, unused = placed(table, {"a": 2 * total + total // 2})
    times = rows.filter(pa.array(rows["bucket"].to_numpy() < 3)).group_by("id").aggregate([("epoch", "count")])
    assert set(times["epoch_count"].to_pylist()) == {2, 3} and len(times) == len(train) and len(unused) == 0


def test_validation_documents_are_never_trained_on_and_come_once():
    table = counts()
    rows, _ = placed(table, {"a": 5_000_000, "b": 5_000_000})
    in_val = rows["bucket"].to_numpy() >= 3
    train, val = (set(np.array(rows["id"].to_pylist())[mask].tolist()) for mask in (~in_val, in_val))
    assert not train & val and len(val) == in_val.sum() and 0.03 < len(val) / len(table) < 0.07


def test_every_document_is_placed_or_in_the_ledger():
    table = counts()
    rows, unused = placed(table, {"a": 300_000, "b": 700_000})
    assert set(rows["id"].to_pylist()) | set(unused["id"].to_pylist()) == set(table["id"].to_pylist())
    assert not set(rows["id"].to_pylist()) & set(unused["id"].to_pylist())


def test_choices_do_not_depend_on_order_or_cut():
    table = counts()
    shuffled = table.take(pa.array(np.random.default_rng(3).permutation(len(table))))
    targets = {"a": 300_000, "b": 700_000}
    available = train_tokens(table, 1, 0.05)
    selection = choose(table, targets, available, 1, 0.05)
    assert choose(shuffled, targets, available, 1, 0.05) == selection
    docs = table.append_column("uri", table["id"])
    settings = {"seed": 1, "val_fraction": 0.05, "selection": selection, "train_shards": 3, "val_shards": 1}
    whole = place(docs, settings)[0].sort_by("id").to_pylist()
    halves = pa.concat_tables([place(docs.slice(0, 999), settings)[0], place(docs.slice(999), settings)[0]])
    assert halves.sort_by("id").to_pylist() == whole


def test_a_larger_budget_only_adds_documents():
    table = counts()
    small, large = (set(placed(table, {"a": n, "b": n})[0]["id"].to_pylist()) for n in (200_000, 600_000))
    assert small < large


def test_taking_a_fraction_keeps_what_the_exact_choice_may_need():
    table = counts(3000).append_column("uri", counts(3000)["id"])
    kept, lost = take_fraction(table, {"seed": 1, "fractions": {"a": 0.5, "b": 1.0}})
    assert len(kept) + len(lost) == len(table)
    sources = kept["source"].to_pylist()
    assert sources.count("b") == 1500 and 650 < sources.count("a") < 850
    selection = choose(table, {"a": 300_000, "b": 100_000}, train_tokens(table, 1, 0.05), 1, 0.05)["a"]
    assert selection["epochs"] == 0 and selection["threshold"] < 2**63


def test_empty_input_keeps_types():
    empty = counts(3).slice(0, 0).append_column("uri", pa.array([], pa.string()))
    selection = {"a": {"epochs": 1, "threshold": 5}}
    rows, lost = place(empty, {"seed": 1, "val_fraction": 0.1, "selection": selection, "train_shards": 2, "val_shards": 1})
    assert len(rows) == len(lost) == 0 and rows.schema.field("key").type == pa.uint64()
    kept, lost = take_fraction(empty, {"seed": 1, "fractions": {}})
    assert kept.schema == empty.schema and len(lost) == 0


@pytest.mark.parametrize("documents_of_b", [9000, 60_000])
def test_validation_has_the_mix_of_the_corpus_where_sources_are_repeated(documents_of_b):
    """Also where of a large source only as much has been encoded as the budget needs."""
    shares, sizes = {"a": 0.5, "b": 0.4, "c": 0.1}, {"a": 3000, "b": documents_of_b, "c": 800}
    ids = [record_id(s, str(i), b"") for s, n in sizes.items() for i in range(n)]
    sources = [s for s, n in sizes.items() for _ in range(n)]
    docs = pa.table({"id": ids, "source": sources, "uri": ids, "tokens": [100] * len(ids)})
    available = {s: 80 * n for s, n in sizes.items()}
    targets = allocate(available, shares, 1_000_000, MixConfig(max_epochs=4))
    fractions = {s: min(1.0, 1.1 * targets[s] / available[s]) for s in shares}
    docs, _ = take_fraction(docs, {"seed": 1, "fractions": fractions})
    selection = choose(docs, targets, available, 1, 0.2)
    settings = {"seed": 1, "val_fraction": 0.2, "selection": selection, "train_shards": 1, "val_shards": 1}
    placed = place(docs, settings)[0]
    for bucket in (0, 1):
        rows = placed.filter(pc.equal(placed["bucket"], bucket))
        achieved = {s: pc.sum(pc.equal(rows["source"], s)).as_py() / len(rows) for s in shares}
        wanted = {s: targets[s] / sum(targets.values()) for s in shares}
        assert all(abs(achieved[s] - wanted[s]) < 0.04 for s in shares), (bucket, achieved, wanted)
    train, held_out = (placed.filter(pc.equal(placed["bucket"], bucket))["id"].to_pylist() for bucket in (0, 1))
    assert len(held_out) == len(set(held_out)) and not set(held_out) & set(train)
