"""
Scores a language model: bits per byte on the validation shards, and six tasks equal to lm-evaluation-harness 0.4.13 item by item.

    python evaluate.py out/125m/ckpt.pt                            bits per byte, and the tasks that the Hub gives
    python evaluate.py out/125m/ckpt.pt --data=eval --limit=1000   the tasks' files in eval/, their first 1,000 items
    python evaluate.py HF_FOLDER --tasks=arc_easy:validation,piqa  a causal model of transformers that needs no code of its own

Every task is a list of items, every item a few requests (context, continuation); the model's answer to a request is the
log-likelihood of the continuation. The straight line, and where each part is:

    a checkpoint or a folder -> model      load_model, in this file
    files or the Hub -> items              phoenix/tasks.py: one task a short function
    -> tokens -> log-likelihoods           phoenix/loglikelihood.py
    -> metrics, table, JSON                phoenix/results.py

A task whose data cannot be had is named with the reason, and the others are scored; data that are there and wrong stop the
run before anything is scored. A stopped run goes on with the same command: finished tasks are in the JSON. Exit code 0: all
that --tasks names was scored (without --tasks: at least one thing); 1: some could not be had, or nothing was scored; 2: a
mistake in the arguments or in the data given; 130: stopped.
"""

import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix.signals import exit_on_ctrl_c

if __name__ == "__main__":
    exit_on_ctrl_c()  # the imports below take seconds
import numpy as np

from model import from_checkpoint
from phoenix import shards
from phoenix.batches import Windows
from phoenix.config import UserError, load, main_guard
from phoenix.files import sha256_file
from phoenix.loglikelihood import Sequence, answer, prepare, score
from phoenix.results import (
    FORMAT,
    FORMAT_VERSION,
    check_writable,
    earlier_results,
    exponential,
    metrics_of,
    print_table,
    results_path,
    versions,
    write_json,
)
from phoenix.tasks import DEFAULT_TASKS, TASKS, Answer, Unavailable, items_of
from phoenix.transformers_model import as_transformers, load_folder
from phoenix.validation import token_bytes


@dataclass(frozen=True)
class Evaluate:
    model: str  # a checkpoint of train.py, or a folder of transformers
    tasks: tuple[str, ...] | None = None  # bits_per_byte and names of tasks; None: all that can be had
    limit: int | None = None  # the first so many items of each task; None: all
    data: str | None = None  # folder with the tasks' files; what it lacks, or None, comes from the Hub
    shards: str | None = None  # folder with shards.json; None: the one that the checkpoint was trained on
    windows: int | None = 256  # validation windows for bits per byte, spread evenly; None: all
    json: str | None = None  # where the results go; None: eval.json beside the model, eval-NAME.json beside another than ckpt.pt
    device: str | None = None  # None: cuda where there is one, else cpu
    batch_tokens: int | None = None  # tokens of one forward pass; None: 32,768 on a GPU, 512 on a CPU; halved if memory is short


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_model(cfg):
    """
    (loglikelihood.LanguageModel, what the JSON says of it) for a checkpoint or a folder of transformers.

    A checkpoint's weights go into transformers' class of the same architecture: one scorer serves every model, and what is
    scored is what export_hf.py exports. UserError where neither can be loaded.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = Path(cfg.model)
    if path.is_dir():
        model, tokenizer, unused = load_folder(path)
        weights, tokenizer_json = sorted([*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin")]), path / "tokenizer.json"
        about = {"model": str(path), "checkpoint": None, "unused_weights": unused}
    else:
        phoenix, checkpoint = from_checkpoint(path)
        model, weights, tokenizer_json = as_transformers(phoenix), [path], path.parent / "tokenizer" / "tokenizer.json"
        if not tokenizer_json.is_file() or sha256_file(tokenizer_json) != checkpoint["tokenizer_sha256"]:
            raise UserError(f"{tokenizer_json} is not the tokenizer that {path} was trained with: copy it from the run's data")
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_json.parent)
        about = {"model": str(path), "checkpoint": {k: checkpoint[k] for k in ("step", "tokens", "settings", "model_config")}}
    about |= {
        "parameters": model.num_parameters(),
        "weights_sha256": {file.name: sha256_file(file) for file in weights},
        "tokenizer_sha256": sha256_file(tokenizer_json) if tokenizer_json.is_file() else None,
        "files_sha256": {file.name: sha256_file(file) for file in files_of(tokenizer_json.parent)},
    }
    return prepare(model, tokenizer, cfg.device, cfg.batch_tokens), about


def files_of(folder):
    """The files beside the weights on which a score depends: the config, and all that a tokenizer is read from."""
    patterns = ("config.json", "*token*.json", "vocab*", "merges*", "*.model", "*.tiktoken", "*.spm", "*.bpe")
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


# ---- bits per byte ---------------------------------------------------------------------------------------------------


def validation_windows(cfg, lm, about):
    """The checkpoint's own validation tokens, or those of --shards. Unavailable, or UserError for --shards, with the reason."""
    if cfg.shards is None and not about["checkpoint"]:
        raise UserError("bits_per_byte of a folder of transformers needs --shards: the folder with shards.json")
    folder = Path(cfg.shards or Path(about["checkpoint"]["settings"]["data"], "shards"))
    if cfg.shards is None and not (folder / "shards.json").is_file():
        raise Unavailable(f"{folder}/shards.json, which the checkpoint was trained on, is not here: give --shards")
    split = shards.open(folder, "val", verify=True)
    if split.meta["tokenizer_sha256"] != about["tokenizer_sha256"]:
        reason = f"the shards in {folder} were made with another tokenizer than that of {cfg.model}"
        raise (UserError if cfg.shards else Unavailable)(reason)
    if not (windows := Windows(split, lm.context)).count:
        raise Unavailable(f"the validation shards in {folder} do not fill one window of {lm.context}")
    return windows, {"source": str(folder), "shards": split.meta["shards"]["val"]}


def bits_per_byte(lm, windows, most):
    """
    ({metric: (value, None)}, counts of what was scored) of up to `most` windows, spread evenly as train.py spreads them.

    bits_per_byte leaves out special tokens, which stand for no text; loss (nats) and perplexity are per token, all counted.
    """
    chosen = [windows.read(i).tolist() for i in windows.spread(windows.count if most is None else most)]
    items = [[Sequence(tuple(tokens), windows.seq_len)] for tokens in chosen]
    nats = -np.concatenate([item[0].logps_N for item in score(lm, items, "bits_per_byte")]).astype(np.float64)
    sizes = token_bytes(lm.tokenizer.backend_tokenizer).numpy()[np.concatenate([tokens[1:] for tokens in chosen])]
    values = {"bits_per_byte": nats[sizes > 0].sum() / math.log(2) / sizes.sum(), "loss": nats.mean()}
    values["perplexity"] = exponential(values["loss"])
    counts = {"items": len(chosen), "of": windows.count, "tokens": len(nats), "bytes": int(sizes.sum())}
    return {metric: (float(value), None) for metric, value in values.items()}, counts


# ---- the run ---------------------------------------------------------------------------------------------------------


def score_task(lm, name, dataset, count, source, answers=None):
    """
    A task's entry in the JSON, for the first `count` items of its dataset. The answers are the model's unless given.

    The dataset of bits_per_byte is Windows, of which it reads `count`.
    """
    if name == "bits_per_byte":
        values, counts = bits_per_byte(lm, dataset, count)
        return {"metrics": values, **counts, "chance": None, **source}
    items = dataset[:count]
    answers = answers or answer(lm, name, items)
    choices = np.array([len(item.requests) for item in items])
    return {
        "metrics": metrics_of(name, items, answers),
        "items": len(items),
        "of": len(dataset),
        "chance": float((1 / choices).mean()) if choices.max() > 1 else 0.0,
        "source": source,
        "requests_sha256": TASKS[name].requests_sha256,
        "gold_sha256": TASKS[name].gold_sha256,
        "gold": [item.gold for item in items],
        "loglikelihoods": [[ll for ll, _ in item] for item in answers],
        "likeliest": [[likeliest for _, likeliest in item] for item in answers],
    }


def reuse_result(name, before, dataset, count, source):
    """
    score_task's entry from an earlier run's, its metrics made anew from its log-likelihoods.

    None where that entry has fewer items or other ones, or is damaged.
    """
    if not isinstance(before, dict):
        return None
    if name == "bits_per_byte":
        same = {"items": count, "of": dataset.count, "shards": source["shards"]}
        return before if all(before.get(key) == value for key, value in same.items()) else None
    if any(before.get(key) != getattr(TASKS[name], key) for key in ("requests_sha256", "gold_sha256")):
        return None
    try:
        both = zip(before["loglikelihoods"][:count], before["likeliest"][:count], strict=True)
        answers = [[Answer(*pair) for pair in zip(*item, strict=True)] for item in both]
    except (KeyError, TypeError, ValueError):
        return None
    typed = all(type(ll) is float and type(likeliest) is bool for item in answers for ll, likeliest in item)
    whole = [len(item) for item in answers] == [len(item.requests) for item in dataset[:count]]
    return score_task(None, name, dataset, count, source, answers) if typed and whole else None


def check(cfg):
    """The names of what is to be scored; UserError for a mistake in the settings."""
    default = DEFAULT_TASKS if Path(cfg.model).is_dir() and not cfg.shards else ("bits_per_byte", *DEFAULT_TASKS)
    names = list(dict.fromkeys(default if cfg.tasks is None else cfg.tasks))
    if not names:
        raise UserError(f"--tasks names no task: there are {', '.join(TASKS)} and bits_per_byte")
    unknown = [name for name in names if name not in TASKS and name != "bits_per_byte"]
    if unknown:
        raise UserError(f"unknown task {unknown[0]!r}: there are {', '.join(TASKS)} and bits_per_byte")
    if min(n for n in (cfg.limit, cfg.windows, cfg.batch_tokens, 1) if n is not None) < 1:
        raise UserError("limit, windows and batch_tokens must be at least 1; None takes the default")
    if not Path(cfg.model).exists():
        raise UserError(f"{cfg.model} does not exist: give a checkpoint (ckpt.pt) or a folder of transformers")
    if cfg.data is not None and not Path(cfg.data).is_dir():
        raise UserError(f"--data={cfg.data} is not a folder")
    return names


def main(argv):
    cfg = load(Evaluate, argv, positional="model")
    names = check(cfg)
    path = Path(cfg.json) if cfg.json else results_path(cfg.model)
    check_writable(path)

    data, missing = {}, {}  # all data before the model: what is wrong is known in seconds
    for name in names:
        if name in TASKS:
            try:
                data[name] = items_of(name, cfg.data)
            except Unavailable as error:
                missing[name] = str(error)

    lm, about = load_model(cfg)
    if "bits_per_byte" in names:
        try:
            data["bits_per_byte"] = validation_windows(cfg, lm, about)
        except Unavailable as error:
            missing["bits_per_byte"] = str(error)

    before, results = earlier_results(path, about), {}
    report = {"format": FORMAT, "version": FORMAT_VERSION, **about, "settings": asdict(cfg), "versions": versions()}
    report |= {"device": str(lm.model.device), "dtype": "float32"}
    report |= {"shortcuts": {"context": lm.shortcuts, "head": lm.shortcuts}, "results": results, "missing": missing}
    print(f"{cfg.model}: {about['parameters'] / 1e6:.1f} M parameters, context {lm.context}, on {lm.model.device}, fp32")
    done = {}  # task: what the table shows of it
    try:
        for name in [name for name in names if name in data]:
            start, (dataset, source) = time.monotonic(), data[name]
            count, most = (dataset.count, cfg.windows) if name == "bits_per_byte" else (len(dataset), cfg.limit)
            count = count if most is None else min(most, count)
            try:
                known = reuse_result(name, before.get(name), dataset, count, source)
                done[name] = known or score_task(lm, name, dataset, count, source)
            except Unavailable as error:
                missing[name] = str(error)
                continue
            if known:  # the JSON keeps the earlier result, which may cover more items
                print(f"{name}: {count:,} items, scored before")
                continue
            secs = time.monotonic() - start
            results[name] = done[name] | {"secs": secs, "versions": report["versions"]}
            write_json(path, report)
            print(f"{name}: {count:,} items in {secs:.1f} s", flush=True)
    except KeyboardInterrupt:
        names = ", ".join(done) or "no task"
        print(f"\nstopped; the scores of {names} are in {path}: the same command goes on from there", file=sys.stderr)
        return 130
    if done:
        write_json(path, report)
        print_table(done)
        print(f"every item's log-likelihoods: {path}")
    for name, reason in missing.items():
        print(f"not scored: {name}: {reason}")
    return 1 if not done or (cfg.tasks is not None and missing) else 0


if __name__ == "__main__":
    main_guard(main)
