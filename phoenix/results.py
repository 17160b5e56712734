"""
The results of an evaluation: metrics of the answers, a table beside other models' published scores, the JSON.

The JSON is written whole after every task. A later run of the same model (weights, config, tokenizer's files and VERSION the
same) reuses what is in it, so a stopped run goes on at the first task that it had not finished.
"""

import json
import math
import platform
import random
import tempfile
from pathlib import Path

import numpy as np

from phoenix.config import UserError
from phoenix.files import write_atomic
from phoenix.run_log import commit
from phoenix.tasks import TASKS, Unavailable, lambada_openai, wikitext

VERSION = 9  # raise when a score changes for the same model and data; 9: log-likelihoods agree to 1e-4 nats, no longer to the bit
FORMAT, FORMAT_VERSION = "phoenix-eval", 1

ANCHORS = ("GPT-2 124M", "Pythia-160M", "Cerebras-GPT-111M")  # 0-shot, all items, lm-eval's conventions; as published
ANCHOR_SCORES = {
    ("hellaswag", "acc"): (0.2892, None, 0.268),
    ("hellaswag", "acc_norm"): (0.3114, None, None),
    ("winogrande", "acc"): (0.516, 0.531, 0.488),
    ("arc_easy", "acc"): (None, 0.435, 0.380),
    ("arc_easy", "acc_norm"): (None, 0.397, None),
    ("lambada_openai", "acc"): (0.326, 0.328, 0.194),
    ("lambada_openai", "perplexity"): (40.06, None, None),
    ("piqa", "acc"): (None, 0.627, 0.594),
    ("piqa", "acc_norm"): (0.625, 0.616, None),
}


# ---- metrics: (value, standard error or None) ------------------------------------------------------------------------


def metrics_of(name, items, answers, draws=100_000):
    """{metric: (value, stderr)} of a task; `answers` holds an Answer for each request of each item."""
    task, lls = TASKS[name], [[ll for ll, _ in results] for results in answers]
    if task.build is wikitext:
        nats, (words, size) = -sum(ll for (ll,) in lls), np.sum([item.gold for item in items], axis=0)
        values = {"word_perplexity": exponential(nats / words), "byte_perplexity": exponential(nats / size)}
        return {metric: (value, None) for metric, value in (values | {"bits_per_byte": nats / size / math.log(2)}).items()}
    if task.build is lambada_openai:
        words = [ll for (ll,) in lls]
        mean = sum(words) / len(words)  # added one after the other, as in the harness, or the last digits differ
        perplexity = exponential(-mean), bootstrap_stderr(np.array(words), draws)
        return {"acc": mean_stderr([likeliest for ((_, likeliest),) in answers]), "perplexity": perplexity}
    golds = np.array([item.gold for item in items])
    sizes = [[len(continuation) - 1 for _, continuation in item.requests] for item in items]  # characters without the delimiter
    likeliest = [np.argmax(ll) for ll in lls]  # the first of equals
    normed = [np.argmax(np.divide(ll, size)) for ll, size in zip(lls, sizes, strict=True)]
    values = {"acc": mean_stderr(likeliest == golds), "acc_norm": mean_stderr(normed == golds)}
    return {metric: values[metric] for metric in task.metrics}


def exponential(nats):
    """e^nats; Unavailable where that overflows."""
    try:
        return math.exp(nats)
    except OverflowError:
        raise Unavailable(f"a perplexity of e^{nats:,.0f} is beyond any number: the weights are damaged or diverged") from None


def mean_stderr(right):
    """(mean, its standard error, from the sample's standard deviation with n - 1)"""
    right = np.asarray(right, dtype=np.float64)
    return float(right.mean()), float(right.std(ddof=1) / math.sqrt(len(right))) if len(right) > 1 else None


def bootstrap_stderr(lls, draws):
    """
    The standard deviation of exp(-mean(lls)) over `draws` resamples with replacement, draw for draw the harness's.

    The harness calls random.Random(i).choices for 1,000 draws of all documents at a time: 515 million numbers for LAMBADA.
    numpy's RandomState is the same Mersenne Twister: it takes over the state and gives the same numbers 20 times as fast.
    """
    per_seed = min(1000, draws)
    perplexities = []
    for seed in range(draws // per_seed):
        _, (*key, position), _ = random.Random(seed).getstate()
        twister = np.random.RandomState()
        twister.set_state(("MT19937", key, position))
        drawn = (twister.random_sample((per_seed, len(lls))) * len(lls)).astype(np.int64)
        perplexities.append(np.exp(-lls[drawn].mean(axis=1)))
    return float(np.std(np.concatenate(perplexities), ddof=1))


# ---- the table -------------------------------------------------------------------------------------------------------


def print_table(results):
    """Prints the benchmark table; chance is the accuracy of guessing among an item's choices."""
    widths = [max(8, len(name)) for name in ANCHORS]
    names = (f"{name:>{width}}" for name, width in zip(ANCHORS, widths, strict=True))
    print(f"\n{'task':20} {'metric':16} {'value':>10}   {'stderr':9} {'items':>14} {'chance':>7} ", *names)
    for name, result in results.items():
        for metric, (value, stderr) in result["metrics"].items():
            chance = result["chance"] if metric.startswith("acc") else None
            shown = ["–" if n is None else f"{n:.4g}" for n in ANCHOR_SCORES.get((name, metric), (None,) * len(ANCHORS))]
            error = f"± {stderr:.4f}" if stderr is not None else ""
            items = f"{result['items']:,}" + (f" of {result['of']:,}" if result["items"] < result["of"] else "")
            print(
                f"{name:20} {metric:16} {value:10.4f}   {error:9} {items:>14} {'–' if chance is None else f'{chance:.4g}':>7} ",
                *(f"{text:>{width}}" for text, width in zip(shown, widths, strict=True)),
            )


# ---- the JSON --------------------------------------------------------------------------------------------------------


def versions():
    """Versions of the evaluator, its commit, Python, and the packages that make the numbers."""
    import tokenizers
    import torch
    import transformers

    packages = {module.__name__: module.__version__ for module in (np, torch, tokenizers, transformers)}
    return {"evaluate": VERSION, "commit": commit(), "python": platform.python_version(), **packages}


def results_path(model):
    """The file for the results of a checkpoint or a folder of transformers; each checkpoint of a run has its own."""
    model = Path(model)
    if model.is_dir():
        return model / "eval.json"
    return model.parent / ("eval.json" if model.stem == "ckpt" else f"eval-{model.stem}.json")


def check_writable(path):
    """
    UserError now rather than after an hour of scoring. Another file, a folder, a pipe or a device is never replaced.

    An empty file may be written to, as mktemp makes one; a link stays a link, and the file it names is written.
    """
    try:
        exists = path.exists()
        if exists and not path.is_file():
            raise UserError(f"{path} is a folder, a pipe or a device, not a file: give another --json")
        if exists and path.stat().st_size and not is_report(path):
            raise UserError(f"{path} is there and is no result of evaluate.py: give another --json")
        if exists:
            path.open("ab").close()  # an earlier result stays as it is
        folder = path.resolve().parent
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"the results cannot be written to {path} ({error.strerror}): give another --json") from error


def is_report(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def earlier_results(path, about):
    """{task: result} of an earlier run of the same model; {} where there is none, or the file is of something else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        same = all(report[name] == about[name] for name in ("weights_sha256", "tokenizer_sha256", "files_sha256"))
        known = report["format"] == FORMAT and report["version"] == FORMAT_VERSION and report["versions"]["evaluate"] == VERSION
        return dict(report["results"]) if same and known else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_json(path, report):
    """
    Writes the report whole or not at all, with the results of other tasks of the same model that the file already has.

    UserError where the disk does not take it.
    """
    report = report | {"results": earlier_results(path, report) | report["results"]}
    try:
        write_atomic(path.resolve(), json.dumps(report))
    except OSError as error:
        reason = f"({error.strerror}); what it held before is still there"
        raise UserError(f"the results cannot be written to {path} {reason}") from error
