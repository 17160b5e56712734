"""Decontamination: what holds a question of the evaluation goes, and nothing else."""

import json
import random

import pyarrow as pa
import pytest

from data_engine import decontaminate as stage
from data_engine.decontaminate import GRAMS, DecontaminateConfig, decontaminate, item_text, items_in_detail, tasks_at_hand
from data_engine.kernels.shingles import fold_table, shingle_sets
from data_engine.records import LEDGER
from phoenix.config import UserError
from phoenix.tasks import Item

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(draw, n):
    return ["".join(draw.choices(LETTERS, k=6)) for _ in range(n)]


def documents(texts):
    ids = [f"{i:032x}" for i in range(len(texts))]
    return pa.table({"id": ids, "source": ["s"] * len(ids), "uri": ids, "text": pa.array(texts, pa.large_string())})


@pytest.fixture(scope="module")
def items():
    """Items of a task: one of 40 words, one of 20, one of 5, and one that shares its first 20 words with the first."""
    draw = random.Random(1)
    first = words(draw, 40)
    return [first, words(draw, 20), words(draw, 5), first[:20] + words(draw, 30)]


@pytest.fixture(scope="module")
def grams(items):
    made = [Item([(f"Question: {' '.join(item[:-1])}\nAnswer:", " " + item[-1])]) for item in items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.evaluation, "items_of", lambda task, data: (made, "here"))
        return stage.item_grams(["quiz"], "here")


def verdicts(texts, grams):
    kept, lost = decontaminate(documents(texts), None, grams)
    assert len(kept) + len(lost) == len(texts) and lost.schema == LEDGER
    return {int(row["uri"], 16): row["detail"] for row in lost.to_pylist()}


@pytest.fixture(scope="module")
def two_tasks(items):
    """GRAMS of two tasks that have the same items, and one more each."""
    draw = random.Random(9)
    more = {task: [*items, words(draw, 30)] for task in ("quiz", "exam")}
    made = {task: [Item([(" ".join(item[:-1]), " " + item[-1])]) for item in some] for task, some in more.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.evaluation, "items_of", lambda task, data: (made[task], "here"))
        return stage.item_grams(["quiz", "exam"], "here"), more


def test_every_task_of_which_a_document_holds_an_item_is_named(two_tasks, items):
    index, more = two_tasks
    both, one = " ".join(more["quiz"][4]) + " . " + " ".join(more["exam"][4][:20]), " ".join(more["exam"][4])
    shared, parts = " ".join(items[0]), " ".join([*items[1][:11], "and", *items[1][-11:]])
    assert verdicts([both, one, "nothing", shared, parts], index) == {
        0: "exam item 4: 13 words in a row; quiz item 4: 13 words in a row",
        1: "exam item 4: 13 words in a row",
        3: "exam item 0: 13 words in a row; quiz item 0: 13 words in a row",
        4: "exam item 1: 62% of its runs of 8 words; quiz item 1: 62% of its runs of 8 words",
    }


def test_the_report_counts_the_items_that_the_ledger_names():
    detail = "arc_easy:validation item 3: all of it; quiz item 12: 62% of its runs of 8 words"
    assert items_in_detail(detail) == [("arc_easy:validation", "3"), ("quiz", "12")]


def test_thirteen_words_in_a_row_are_too_many_and_twelve_are_not(items, grams):
    draw = random.Random(2)
    around = lambda part: " ".join([*words(draw, 50), *part, *words(draw, 50)])  # noqa: E731
    texts = [around(items[0][20:33]), around(items[0][20:32]), around([])]
    assert verdicts(texts, grams) == {0: "quiz item 0: 13 words in a row"}


def test_half_of_an_items_runs_of_eight_words(items, grams):
    """Item 1 has 20 words, 13 runs of eight: two pieces of eleven words hold eight of them, two of ten only six."""
    draw = random.Random(3)
    piece = lambda n: " ".join([*items[1][:n], *words(draw, 9), *items[1][-n:], *words(draw, 9)])  # noqa: E731
    assert verdicts([piece(9), piece(10), piece(11)], grams) == {2: "quiz item 1: 62% of its runs of 8 words"}


def test_a_run_that_is_said_twice_counts_once(items, grams):
    assert verdicts([" . ".join([" ".join(items[1][:9])] * 9)], grams) == {}


def test_words_that_two_items_share_count_for_both(items, grams):
    """The first twelve words are 5 of 33 runs of item 0 and 5 of 43 of item 3: neither is half."""
    assert verdicts([" ".join(items[0][:12])], grams) == {}
    assert verdicts([" ".join(items[3])], grams)[0] in ("quiz item 0: 13 words in a row", "quiz item 3: 13 words in a row")


def test_short_items_count_only_where_they_are_all_that_is_said(items, grams):
    assert verdicts([" ".join(items[2]), " ".join([*items[2], "more"])], grams) == {0: "quiz item 2: all of it"}


def test_punctuation_and_case_make_no_difference(items, grams):
    assert verdicts([", ".join(items[1]).upper()], grams)


def test_the_rows_are_what_a_search_by_hand_finds(items, grams):
    """Against Python's own sets of runs, on texts patched together from pieces of the items."""
    draw = random.Random(5)
    texts = []
    for _ in range(200):
        item = draw.choice(items)
        cuts = sorted(draw.choices(range(len(item) + 1), k=4))
        texts.append(" ".join([*item[cuts[0] : cuts[1]], *words(draw, 3), *item[cuts[2] : cuts[3]], *words(draw, 3)]))
    runs = lambda some, n: {tuple(some[i : i + n]) for i in range(len(some) - n + 1)}  # noqa: E731
    expected = set()
    for i, text in enumerate(texts):
        mine = text.split()
        for item in items:
            part = len(runs(mine, 8) & runs(item, 8)) / max(1, len(runs(item, 8)))
            if runs(mine, 13) & runs(item, 13) or part >= 0.5:
                expected.add(i)
    assert set(verdicts(texts, grams)) == expected and 20 < len(expected) < 180


def test_cut_anywhere_gives_the_same_rows(items, grams):
    texts = [" ".join(items[i % 4]) if i % 3 else "nothing of the kind" for i in range(9)]
    whole = decontaminate(documents(texts), None, grams)
    for cut in range(10):
        parts = [decontaminate(documents(texts).slice(*where), None, grams) for where in ((0, cut), (cut,))]
        for k in range(2):
            assert pa.concat_tables([part[k] for part in parts]).equals(whole[k])


def test_empty_keeps_types(grams):
    docs = documents(["a"])
    for some, index in ((docs.slice(0, 0), grams), (docs, GRAMS.empty_table())):
        kept, lost = decontaminate(some, None, index)
        assert kept.equals(some) and lost.schema == LEDGER and len(lost) == 0


def test_an_item_is_its_prompt_and_right_answer():
    assert item_text(Item([("Question: why?\nAnswer:", " no"), ("Question: why?\nAnswer:", " so")], 1)) == "why? so"
    assert item_text(Item([("she told", " Liam")])) == "she told Liam"
    assert item_text(Item([("a whole page",)], (3, 12))) == "a whole page"


def test_the_index_has_the_runs_of_every_item(items, grams):
    runs, _ = shingle_sets(*stage.text_buffers(pa.array([" ".join(items[1])])), fold_table(), 8)
    mine = [row for row in grams.to_pylist() if row["item"] == 1 and row["words"] == 8]
    assert {row["gram"] for row in mine} == set(runs.tolist()) and {row["shorts"] for row in mine} == {13}
    keys = [(row["words"], row["gram"], row["item"]) for row in grams.to_pylist()]
    assert keys == sorted(keys) and grams.schema == GRAMS


def test_without_data_there_is_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no data/eval is
    assert tasks_at_hand(DecontaminateConfig(None)) == tasks_at_hand(DecontaminateConfig()) == []
    with pytest.raises(UserError, match="none is not a folder"):
        tasks_at_hand(DecontaminateConfig(str(tmp_path / "none")))
    with pytest.raises(UserError, match="none of the evaluation data"):
        tasks_at_hand(DecontaminateConfig(str(tmp_path)))
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa" / "valid.jsonl").write_text(json.dumps({}))
    assert tasks_at_hand(DecontaminateConfig(str(tmp_path))) == ["piqa"]
