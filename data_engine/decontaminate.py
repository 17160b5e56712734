"""
Documents -> documents that do not hold the questions the model will be asked.

in:   id, source, uri, text large_string, ...      out:  the same columns
drops a document that shares 13 words in a row with an item of the evaluation data, or half of an item's distinct runs of 8 words
      (reason "contaminated", detail "hellaswag item 12: 13 words in a row; piqa item 7: 62% of its runs of 8 words"). The detail
      names one item of every task: the first with 13 shared words, else the one with the largest share of its runs of 8.

An item is the prompt and its right answer, without the harness's own words ("Question:"); an item of wikitext is a whole page.
The 13 words are those of GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C), cut as in kernels/shingles.py. An item of fewer
than 8 words counts only where it is the document's whole text. The stage reads about 50 MB/s; most of the time goes into lookups.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from data_engine.kernels.shingles import fold_table, shingle, shingle_sets
from data_engine.records import drop, text_buffers
from data_engine.step import Step, digest
from phoenix import tasks as evaluation
from phoenix.config import UserError

VERSION = 2
LONG, SHORT = 13, 8  # words in a row
SHARE = 0.5  # an item is held where a document has this share of its runs of SHORT words
GRAMS = pa.schema(
    {
        "words": pa.int8(),  # LONG or SHORT
        "gram": pa.uint64(),  # hash of that many words; the rows are sorted by words, gram and item
        "item": pa.int32(),  # unique over all tasks
        "shorts": pa.int32(),  # the number of the item's runs of SHORT words
        "task": pa.string(),
        "number": pa.int32(),  # of the item in its task, from 0
    }
)


DEFAULT_DATA = "data/eval"


@dataclass(frozen=True)
class DecontaminateConfig:
    data: str | None = (
        DEFAULT_DATA  # folder of the evaluation data, as evaluate.py --data takes it; None, or no default folder: off
    )


def tasks_at_hand(cfg: DecontaminateConfig) -> list[str]:
    """The tasks whose files lie in cfg.data; none without the default folder. UserError where a named folder holds none."""
    if cfg.data is None or (cfg.data == DEFAULT_DATA and not Path(cfg.data).is_dir()):
        return []
    if not Path(cfg.data).is_dir():
        raise UserError(f"decontaminate.data={cfg.data} is not a folder; None turns decontamination off")
    found = [name for name, task in evaluation.TASKS.items() if Path(cfg.data, task.file).is_file()]
    if not found:
        some = ", ".join(task.file for task in list(evaluation.TASKS.values())[:3])
        raise UserError(f"decontaminate.data={cfg.data} holds none of the evaluation data ({some}, ...)")
    return found


def item_grams(tasks: list[str], data: str) -> pa.Table:
    """GRAMS of all items of these tasks."""
    columns, items = {name: [] for name in GRAMS.names}, 0
    for task in tasks:
        texts = [item_text(item) for item in evaluation.items_of(task, data)[0]]
        buffers = text_buffers(pa.array(texts, pa.large_string()))
        counts = {}
        for words in (SHORT, LONG):
            grams, ends = shingle_sets(*buffers, fold_table(), words)
            counts[words] = np.diff(ends)
            number = np.repeat(np.arange(len(texts)), counts[words])
            rows = words, grams, items + number, counts[SHORT][number], task, number
            for name, values in zip(GRAMS.names, rows, strict=True):
                columns[name].append(np.broadcast_to(values, len(grams)))
        items += len(texts)
    table = pa.table([np.concatenate(columns[name]) for name in GRAMS.names], names=GRAMS.names).cast(GRAMS)
    return table.sort_by([(name, "ascending") for name in ("words", "gram", "item")])


def item_text(item):
    """The words by which a document gives the item away."""
    if len(item.requests[0]) == 1:  # wikitext has pages, no questions
        return item.requests[0][0]
    context, continuation = item.requests[item.gold if isinstance(item.gold, int) else 0]
    return context.removeprefix("Question: ").removesuffix("\nAnswer:") + continuation


def decontaminate(docs: pa.Table, cfg, grams: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Documents that hold no item of GRAMS; the others go to the ledger with an item of every task that they hold."""
    start = int(np.searchsorted(grams["words"].to_numpy(), LONG))  # SHORT comes first
    tasks = sorted(grams["task"].unique().to_pylist())
    codes = pc.index_in(grams["task"], pa.array(tasks, pa.string()))
    index = [column.to_numpy() for column in (grams["gram"], grams["item"], grams["shorts"], codes)]
    rows, share = np.full((len(docs), len(tasks)), -1, np.int64), np.zeros((len(docs), len(tasks)))
    data, offsets = text_buffers(docs["text"])
    for words, chosen in ((LONG, slice(start, None)), (SHORT, slice(0, start))):
        part = tuple(column[chosen] for column in index)
        search(data, offsets, fold_table(), part, filter_of(part[0]), (words, chosen.start), rows, share)
    gone = (rows >= 0).any(axis=1)
    held = (zip(*pair, strict=True) for pair in zip(rows[gone], share[gone], strict=True))
    details = ["; ".join(describe_match(grams, row, part) for row, part in tasks if row >= 0) for tasks in held]
    return docs.filter(pa.array(~gone)), drop(docs.filter(pa.array(gone)), "decontaminate", "contaminated", details)


def describe_match(grams, row, part):
    """The detail of a ledger row: the item in this row of GRAMS, and how much of it a document holds (part: of its short runs)."""
    match = grams.slice(row, 1).to_pylist()[0]
    whole = match["shorts"] <= LONG - SHORT  # fewer than LONG words: the one long run is the item
    long = "all of it" if whole else f"{LONG} words in a row"
    what = long if match["words"] == LONG else f"{part:.0%} of its runs of {SHORT} words"
    return f"{match['task']} item {match['number']}: {what}"


def items_in_detail(detail):
    """The detail of a ledger row -> [(task, number of the item)]."""
    return re.findall(r"(?:^|; )(\S+) item (\d+):", detail)


FILTER_BITS = 24  # the filter then takes 2 MB of a core's cache, and passes one in nine hashes that no item has


def filter_of(grams):
    """uint8[2^21]: a bit for the lowest FILTER_BITS bits of each hash."""
    low = (grams & np.uint64((1 << FILTER_BITS) - 1)).astype(np.int64)
    bits = np.zeros(1 << FILTER_BITS, np.uint8)
    bits[low] = 1
    return np.packbits(bits, bitorder="little")


@njit(cache=True)
def repeats(grams, at):
    """The number of rows from `at` on with the same hash: the items that share these words."""
    end = at + 1
    while end < len(grams) and grams[end] == grams[at]:
        end += 1
    return end - at


@njit(cache=True)
def search(data, offsets, fold, index, bits, runs, row, share):
    """
    Fills row[d, t] and share[d, t] where text d holds an item of task t: the row of one of the item's runs, the share of its runs.

    index  arrays in order of their hashes: hash, item, the item's number of short runs, the task's number
    bits   filter_of the hashes
    runs   words of a run, and the number of the index's first row
    """
    grams, items, shorts, tasks = index
    words, first_row = runs
    longest = 0
    for d in range(len(row)):
        longest = max(longest, offsets[d + 1] - offsets[d])
    scratch, hashes = np.empty(longest // 2 + 1, np.uint64), np.empty(longest // 2 + 1, np.uint64)
    mask = np.uint64((1 << FILTER_BITS) - 1)
    for d in range(len(row)):
        if len(grams) == 0:
            continue
        count = 0
        for j in range(shingle(data, offsets[d], offsets[d + 1], fold, words, scratch, hashes)):
            low = np.int64(hashes[j] & mask)
            if bits[low >> 3] >> (low & 7) & 1:
                at = np.searchsorted(grams, hashes[j])
                if at < len(grams) and grams[at] == hashes[j]:
                    hashes[count] = np.uint64(at)
                    count += 1
        if count == 0:
            continue
        if words == LONG:
            for j in range(count):
                at = np.int64(hashes[j])
                for k in range(at, at + repeats(grams, at)):
                    if row[d, tasks[k]] < 0:
                        row[d, tasks[k]], share[d, tasks[k]] = first_row + k, 1.0
            continue
        found = np.unique(hashes[:count]).astype(np.int64)
        rows = np.empty(sum([repeats(grams, at) for at in found]), np.int64)
        n = 0
        for at in found:
            for k in range(repeats(grams, at)):
                rows[n] = at + k
                n += 1
        held = items[rows]
        order = np.argsort(held, kind="mergesort")
        run = 0
        for j in range(n + 1):
            if j < n and held[order[j]] == held[order[run]]:
                continue
            first = rows[order[run]]
            part, task = (j - run) / shorts[first], tasks[first]
            if part >= SHARE and part > share[d, task]:
                row[d, task], share[d, task] = first_row + first, part
            run = j


# ---------------------------------------------------------------------------------------------------- in the driver


def evaluation_grams(cfg, engine):
    """GRAMS of the evaluation data as the one partition in a list; an empty list if there are no data."""
    tasks = tasks_at_hand(cfg.decontaminate)
    if not tasks:
        return []
    content = [(task, evaluation.TASKS[task].requests_sha256, evaluation.TASKS[task].gold_sha256) for task in tasks]
    key = digest(Step(decontaminate).identity(), content)
    return engine.save("evaluation", key, lambda: [("all", item_grams(tasks, cfg.decontaminate.data))], "work/evaluation")
