"""
What is seen and kept of an evaluation: the progress, the benchmark table with other models beside it, the JSON.

The JSON is written whole after every task. A later run of the same model (weights, config, files of the tokenizer and VERSION the
same) takes up what is in it, so a stopped run goes on at the first task that it had not finished.
"""

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from phoenix.config import UserError

VERSION = 8  # raise when a score changes for the same model and data
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


def progress(label, total):
    """advance(tokens): a bar with the time left on a terminal, else a line every 15 seconds; nothing without a label."""
    if label is None:
        return lambda tokens: None
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=total, desc=label, unit="tok", unit_scale=True)
        return lambda tokens: (bar.update(tokens), bar.n >= total and bar.close())
    start = said = time.monotonic()
    done = 0

    def advance(tokens):
        nonlocal said, done
        done += tokens
        now = time.monotonic()
        if now - said >= 15:
            said = now
            left = (now - start) * (total - done) / done
            print(f"{label}: {done:,} of {total:,} tokens, {left:,.0f} s left", file=sys.stderr, flush=True)

    return advance


def print_table(results):
    """The benchmark table; chance is that of drawing among an item's choices."""
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


def versions():
    """Of the evaluator, its commit, and the packages that make the numbers."""
    import numpy
    import tokenizers
    import torch
    import transformers

    git = ["git", "-C", str(Path(__file__).parents[1]), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    packages = {module.__name__: module.__version__ for module in (numpy, torch, tokenizers, transformers)}
    return {"evaluate": VERSION, "commit": commit or None, "python": platform.python_version(), **packages}


def results_path(model):
    """Where the results of a checkpoint or of a folder of transformers lie: checkpoints of one run have a file each."""
    model = Path(model)
    if model.is_dir():
        return model / "eval.json"
    return model.parent / ("eval.json" if model.stem == "ckpt" else f"eval-{model.stem}.json")


def check_writable(path):
    """
    UserError now, and not after an hour of scoring. What is no report of ours stays: another file, a folder, a pipe, a device.

    An empty file may be written to, as mktemp makes one; a link stays one, to the file it names.
    """
    try:
        there = path.exists()
        if there and not path.is_file():
            raise UserError(f"{path} is a folder, a pipe or a device, not a file: give another --json")
        if there and path.stat().st_size and not is_report(path):
            raise UserError(f"{path} is there and is no result of evaluate.py: give another --json")
        if there:
            path.open("ab").close()  # an earlier result stays as it is
        partial = partial_of(path)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.open("ab").close()
        partial.unlink()
    except OSError as error:
        raise UserError(f"the results cannot be written to {path} ({error.strerror}): give another --json") from error


def is_report(path):
    try:
        return json.loads(path.read_text())["format"] == FORMAT
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def earlier_results(path, about):
    """{task: result} of an earlier run of the same model; {} where there is none, or what is there is something else."""
    try:
        report = json.loads(path.read_text())
        same = all(report[name] == about[name] for name in ("weights_sha256", "tokenizer_sha256", "files_sha256"))
        known = report["format"] == FORMAT and report["version"] == FORMAT_VERSION and report["versions"]["evaluate"] == VERSION
        return dict(report["results"]) if same and known else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def partial_of(path):
    """The temporary file beside that which `path` names or links to, of this process alone."""
    path = path.resolve()
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def write_json(path, report):
    """
    The report's results and those that the file has of other tasks of the same model, of an earlier run or one beside this.

    Whole or not at all: a temporary file beside it, renamed. UserError where the disk does not take it.
    """
    report = report | {"results": earlier_results(path, report) | report["results"]}
    partial = partial_of(path)
    try:
        with partial.open("w") as stream:
            json.dump(report, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path.resolve())
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(
            f"the results cannot be written to {path} ({error.strerror}); what it held before is still there"
        ) from error
