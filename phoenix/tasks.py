"""
Six tasks: a row of the data -> an item with its requests (context, continuation), those of lm-evaluation-harness 0.4.13.

All are asked 0-shot, in the order of the file. A continuation is one space and the choice, nothing stripped; the context is the
prompt. loglikelihood.py answers the requests, results.py makes metrics of the answers.
"""

import json
import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from phoenix.config import UserError
from phoenix.files import sha256

# ---- tasks: a row of the data -> its requests ------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    requests: list  # of (context, continuation); wikitext: one (page,)
    gold: object = 0  # index of the right request; wikitext: (words, bytes) of the page


class Answer(NamedTuple):
    """A model's to one request."""

    loglikelihood: float
    likeliest: bool  # each token of the continuation was the model's first choice


def hellaswag(row):
    """
    The ending of a description of an activity, among four; three are written by a machine.

    "Roof shingle removal: A man is sitting on a roof. He" -> " starts pulling up roofing on a roof."
    acc 0.25 by chance, GPT-2 124M 0.2892, acc_norm 0.3114.
    """

    def normalise(text):  # the WikiHow half has "[title]", "[step]"; the order matters, and nothing is stripped at the end
        text = text.strip().replace(" [title]", ". ")
        return re.sub(r"\[.*?\]", "", text).replace("  ", " ")

    context = normalise(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    return Item([(context, " " + normalise(ending)) for ending in row["endings"]], int(row["label"]))


def winogrande(row):
    """
    The name that fills the blank, of two; the contexts differ, the continuation is the same.

    "Sarah was a much better surgeon than Maria so Sarah", "... so Maria" -> " always got the easier cases."
    acc 0.5 by chance, GPT-2 124M 0.516: hardly moves below 1B parameters.
    """
    before, after = row["sentence"].split("_", 1)
    return Item([(before + row[o], " " + after.strip()) for o in ("option1", "option2")], int(row["answer"]) - 1)


def arc_easy(row):
    """
    Science questions of grades 3 to 9 with three to five choices, which the prompt does not list.

    "Question: Which technology was developed most recently?\\nAnswer:" -> " cellular telephone"
    acc 0.25 by chance, Pythia-160M 0.435.
    """
    labels, texts = row["choices"]["label"], row["choices"]["text"]
    context = f"Question: {row['question']}\nAnswer:"
    return Item([(context, " " + text) for text in texts], list(labels).index(row["answerKey"]))


def piqa(row):
    """
    The way that works in the physical world, of two that differ in a few words.

    "Question: dresser\\nAnswer:" -> " replace drawer with bobby pin ", " finish, woodgrain with  bobby pin "
    acc 0.5 by chance, GPT-2 124M acc_norm 0.625.
    """
    context = f"Question: {row['goal']}\nAnswer:"
    return Item([(context, " " + row["sol1"]), (context, " " + row["sol2"])], int(row["label"]))


def lambada_openai(row):
    """
    The last word of a passage, which only the whole passage determines; right when each of its tokens is the likeliest.

    "... \\"Wait here,\\" she told" -> " Liam"
    acc 0 by chance, GPT-2 124M 0.326, perplexity of the word 40.06.
    """
    context, word = row["text"].rsplit(" ", 1)
    return Item([(context, " " + word)])


def wikitext(row):
    """
    Pages of Wikipedia (the test set of WikiText-2 and of WikiText-103), of which every token is scored.

    " \\n = Robert Boulter = \\n \\n Robert Boulter is an English film , television and theatre actor . He had a guest …"
    word_perplexity 8.79 of Llama 2 7B with windows of 4,096 tokens.

    The harness detokenises a page before scoring, and counts its words and bytes before that.
    """
    page = row["page"]
    text = page.replace("s '", "s'")
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", text)  # meant as a pattern without the slashes; in effect nothing
    for mark in ("-", ",", "."):
        text = text.replace(f" @{mark}@ ", mark)
    for mark in (":", ";", ".", "!", "?", ","):
        text = text.replace(f" {mark} ", f"{mark} ")
    text = re.sub(r"\(\s*([^\)]*?)\s*\)", r"(\1)", text)
    text = re.sub(r"\[\s*([^\]]*?)\s*\]", r"[\1]", text)
    text = re.sub(r"{\s*([^}]*?)\s*}", r"{\1}", text)
    text = re.sub(r"\"\s*([^\"]*?)\s*\"", r'"\1"', text)
    text = re.sub(r"'\s*([^']*?)\s*'", r"'\1'", text)
    for old, new in (
        ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (f" {chr(176)} ", chr(176)),
        (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
    ):  # fmt: skip
        text = text.replace(old, new)
    return Item([(text,)], (len(re.split(r"\s+", page)), len(page.encode())))


@dataclass(frozen=True)
class Task:
    """A task's data, the function that makes items of its rows, and the hashes that prove them to be the right ones."""

    build: Callable
    file: str  # below --data
    hub: tuple[str, str, str]  # data set on the Hub, its revision, the Parquet files in it
    items: int
    requests_sha256: str  # of json.dumps(requests): those that lm-eval 0.4.13 makes of the same data
    gold_sha256: str  # of json.dumps(gold of each item)
    metrics: tuple[str, ...] = ("acc", "acc_norm")


ARC = ("allenai/ai2_arc", "210d026faf9955653af8916fad021475a3f00453")
TASKS = {
    "hellaswag": Task(
        hellaswag, "hellaswag/hellaswag_val.jsonl",
        ("Rowan/hellaswag", "218ec52e09a7e7462a5400043bb9a69a41d06b76", "data/*validation*.parquet"),
        10042,
        "61c897e8f259419a1bfceedf3cb7b9095813a744589f93f8d1be5d813f2f48b0",
        "db4c5fb38a362b0eb3601e6f68a78f859524b8191975975de9ebc2b69d72f86e"),
    "winogrande": Task(
        winogrande, "winogrande/dev.jsonl",
        ("allenai/winogrande", "01e74176c63542e6b0bcb004dcdea22d94fb67b5", "winogrande_xl/*validation*.parquet"),
        1267,
        "2cc3cecbcee61b541a4e75ca0e270c190016b847772717936d51154c5100f834",
        "4b03d28fbfd34471ccf24179da663f01b739aa4ae3e720e791ccba2e11125a98", ("acc",)),
    "arc_easy": Task(
        arc_easy, "arc_easy/ARC-Easy-Test.jsonl", (*ARC, "ARC-Easy/*test*.parquet"),
        2376,
        "17efe5cb96db0a727c2cf0b15d07d94781fcd7319e4e1f0161751289fee21026",
        "77a65d97110a140921701d841670c65daf626f2d885ac5bb6a789219225bd8ad"),
    "arc_easy:validation": Task(
        arc_easy, "arc_easy/ARC-Easy-Dev.jsonl", (*ARC, "ARC-Easy/*validation*.parquet"),
        570,
        "c00bc9192769924360b4a61ce0d6fd4005461211beab239f6f5ed0022c45ad09",
        "6a5379356c3412a92ca3fc2ebcebebc8f64de90430a29477b63593b78462d766"),
    "lambada_openai": Task(
        lambada_openai, "lambada_openai/lambada_test.jsonl",
        ("EleutherAI/lambada_openai", "900124bf3b8235c6daf21033af9948b3f07346c4", "default/*test*.parquet"),
        5153,
        "2b24fc3bf1b68cdcb6b69ef6ba562d70592b1d2ff83181ba567e9a5ceab37234",
        "c97129c6f3dfdf23736284b9936cf20c50b808c0fc0bf95fb844377121af703e", ("acc", "perplexity")),
    "piqa": Task(
        piqa, "piqa/valid.jsonl",
        ("baber/piqa", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1", "*validation*.parquet"),
        1838,
        "5a782cd449aa875a7f837e15268fac2d27005e1d030c5124e3bec88cdb8a5977",
        "61cc395cb4baf17a165668eae19a1d823962c210e7ae471eaf2aa896a51831a1"),
    "wikitext": Task(
        wikitext, "wikitext/wiki.test.raw",
        ("EleutherAI/wikitext_document_level", "647234772b9554e208af6c826f23b99e3cac88c8", "wikitext-2-raw-v1/*test*.parquet"),
        62,
        "f28ddbaf39d8872571fe9b9d5ae02f1775adefda7f41a8c04eca63274a050b33",
        "0a46aff4f5d49d90971828d5299346cdcfb9e76241356b260eb42d095d92c34f",
        ("word_perplexity", "byte_perplexity", "bits_per_byte")),
}  # fmt: skip


def config_and_split(wanted):
    """(config, split) of a data set on the Hub, as its files' names give them: ARC-Easy/*test*.parquet -> ARC-Easy, test."""
    *folder, file = wanted.split("/")
    return ("default" if folder in ([], ["data"]) else folder[0]), file.split("*")[1]


DEFAULT_TASKS = tuple(name for name in TASKS if ":" not in name)


# ---- the data --------------------------------------------------------------------------------------------------------


class Unavailable(Exception):
    """A task cannot be scored, for a reason that its text gives: no data, or a model that they do not fit."""


def local_rows(file):
    """The rows of a task's file: of JSON lines, with piqa's answers from the file beside it, or wikitext's pages."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".raw":
        return [{"page": page} for page in wikitext_pages(text)]
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    labels = file.with_name(f"{file.stem}-labels.lst")
    if rows and "sol1" in rows[0]:
        rows = [row | {"label": int(label)} for row, label in zip(rows, labels.read_text(encoding="utf-8").split(), strict=True)]
    return rows


def wikitext_pages(text):
    """A line " = Title = " opens a page and belongs to it; " = = Section = = " does not. Blank pages are left out."""
    pages = [[]]
    for line in text.split("\n"):
        bare = line.replace("= = =", "===").replace("= =", "==").strip()
        if bare.startswith("= ") and bare.endswith(" ="):
            pages.append([])
        pages[-1].append(line)
    return [page for page in map("\n".join, pages) if page.strip()]


SILENCE_SECS = 30  # without a byte from the Hub, after which a download is abandoned
unreachable = {}  # {address of a Hub: reason}: the next task does not wait for it again


def hub_folder(repo, revision, wanted):
    """
    The folder of these files in the Hub's cache, downloaded if they are not there. Unavailable with the reason.

    huggingface_hub retries for minutes, so it runs in a thread, which is abandoned when the cache stops growing.
    """
    import httpx2
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    result, abandoned = queue.SimpleQueue(), unreachable.get(constants.ENDPOINT)
    options = {
        "repo_type": "dataset",
        "revision": revision,
        "allow_patterns": wanted,
        "etag_timeout": 5,
        "local_files_only": bool(abandoned),
    }

    def download():
        try:
            result.put(Path(snapshot_download(repo, **options)))
        except Exception as error:  # raised by the thread that waits
            result.put(error)

    threading.Thread(target=download, daemon=True).start()
    cache = Path(constants.HF_HUB_CACHE, f"datasets--{repo.replace('/', '--')}")
    size, since = -1, time.monotonic()
    while True:
        try:
            found = result.get(timeout=min(1, SILENCE_SECS))
            break
        except queue.Empty:
            if (now := folder_bytes(cache)) != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since >= SILENCE_SECS:
                found = httpx2.TransportError(f"{constants.ENDPOINT} has sent nothing for {SILENCE_SECS:g} s")
                break
    if isinstance(found, Path):
        return found
    if not isinstance(found, OSError | ValueError | RuntimeError | httpx2.HTTPError):  # ValueError: an answer that is no JSON
        raise found
    cause = found.__cause__ or found
    reason = abandoned or " ".join((str(cause) or type(cause).__name__).split())[:300]
    if isinstance(cause, httpx2.TransportError) or isinstance(found, httpx2.TransportError | LocalEntryNotFoundError):
        unreachable[constants.ENDPOINT] = reason
        if not abandoned:
            return hub_folder(repo, revision, wanted)  # from the cache alone
    raise Unavailable(f"{repo} cannot be had from the Hub: {reason}") from found


def folder_bytes(folder):
    """Bytes of all files in a folder, whose files may come and go meanwhile."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.stat().st_size
    return total


def hub_rows(task):
    """The rows of a task from the Hub or its cache on this machine; Unavailable with the reason."""
    import pyarrow.parquet as pq

    repo, revision, wanted = task.hub
    folder = hub_folder(repo, revision, wanted)
    files = sorted(file for file in folder.rglob("*.parquet") if fnmatch(file.relative_to(folder).as_posix(), wanted))
    if not files:
        raise Unavailable(f"{repo} has no {wanted} at revision {revision}")
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def items_of(name, data):
    """
    (items, their source) of a task, proved to be the right ones by their number and hashes.

    UserError where a file of --data is wrong; Unavailable where there is no file, and the Hub has none or a wrong one.
    """
    task = TASKS[name]
    file = Path(data, task.file) if data else None
    local = file is not None and file.is_file()
    source = str(file) if local else f"{task.hub[0]} on the Hub at {task.hub[1]}"
    try:
        items = [task.build(row) for row in (local_rows(file) if local else hub_rows(task))]
        if len(items) != task.items:
            raise ValueError(f"{len(items):,} items, {task.items:,} are expected")
        if sha256_json([request for item in items for request in item.requests]) != task.requests_sha256:
            raise ValueError("the number of items is right, their text is not (requests_sha256 differs)")
        if sha256_json([item.gold for item in items]) != task.gold_sha256:
            raise ValueError("the items are right, their answers are not (gold_sha256 differs)")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        reason = f"{source} is not the data of {name}: {kind}{error}"
        raise (UserError if local else Unavailable)(reason) from error
    return items, source


def sha256_json(value):
    return sha256(json.dumps(value))
