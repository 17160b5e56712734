"""
Scores a language model: bits per byte on the validation shards, and six tasks equal to lm-evaluation-harness 0.4.13 item by item.

    python evaluate.py out/125m/ckpt.pt                            bits per byte, and the tasks that the Hub gives
    python evaluate.py out/125m/ckpt.pt --data=eval --limit=1000   the tasks' files in eval/, their first 1,000 items
    python evaluate.py HF_FOLDER --tasks=arc_easy:validation,piqa  a causal model of transformers that needs no code of its own

Every task is a list of requests (context, continuation); a model's answer to one is the log-likelihood of the continuation.
The straight line: files or Hub -> items with requests (eval_tasks.py) -> tokens -> log-likelihoods -> metrics -> table, JSON.

A task whose data cannot be had is named with the reason and the rest goes on; data that are there and wrong stop the run before
anything is scored. Exit code 0: all that --tasks names was scored (without --tasks: at least one thing); 1: some could not be
had, or nothing was scored; 2: a mistake in the arguments or in the data given.

Shapes: B rows of a batch, T positions, P scored positions, D width, V vocabulary.
"""

import json
import math
import os
import platform
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from config import UserError, load, main_guard
from data_engine import shards
from eval_tasks import DEFAULT_TASKS, TASKS, Unavailable, items_of, lambada_openai, wikitext
from export_hf import as_transformers, sha256_file
from model import from_checkpoint
from windows import Windows

VERSION = 1  # raise when a score changes for the same model and data


@dataclass(frozen=True)
class Evaluate:
    model: str  # a checkpoint of train.py, or a folder of transformers
    tasks: tuple[str, ...] | None = None  # None: the six that can be had; bits_per_byte alone: no task
    limit: int | None = None  # the first so many items of each task; None: all
    data: str | None = None  # folder with the tasks' files; what it lacks, or None, comes from the Hub
    shards: str | None = None  # folder with shards.json; None: the one that the checkpoint was trained on
    windows: int | None = 256  # validation windows for bits per byte, spread evenly; None: all
    json: str | None = None  # where the results go; None: eval.json beside the model
    device: str | None = None  # None: cuda where there is one, else cpu
    batch_tokens: int | None = None  # tokens of one forward pass; None: 32,768 on a GPU, 4,096 on a CPU


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclass
class LanguageModel:
    model: torch.nn.Module  # of transformers, fp32
    tokenizer: object
    context: int  # the most tokens that the model reads
    batch_tokens: int
    about: dict  # what the JSON says of it
    shares: bool = True  # several continuations behind one context give what each alone gives
    headed: bool = True  # the logits are the head's product with the last hidden state, no more


def load_model(cfg):
    """
    A checkpoint's weights in transformers' class of the same architecture (their names are the same), or a folder's model.

    So one scorer serves every model, and what is scored is what export_hf.py exports.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from modeling_phoenix import PhoenixConfig, PhoenixForCausalLM, PhoenixQKNormConfig, PhoenixQKNormForCausalLM

    logging.disable_progress_bar()
    path = Path(cfg.model)
    device = cfg.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{path} is a folder without config.json: give a checkpoint (ckpt.pt) or a folder of transformers")
        for config, model in ((PhoenixConfig, PhoenixForCausalLM), (PhoenixQKNormConfig, PhoenixQKNormForCausalLM)):
            AutoConfig.register(config.model_type, config, exist_ok=True)  # our own exports need no code from the folder
            AutoModelForCausalLM.register(config, model, exist_ok=True)
        try:
            closed = {"trust_remote_code": False, "local_files_only": True}
            model, report = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True, **closed)
            tokenizer = AutoTokenizer.from_pretrained(path, **closed)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{path} cannot be loaded by transformers: {str(error).splitlines()[0]}") from error
        if report["missing_keys"]:  # transformers only warns, and draws them at random
            raise UserError(f"{path} lacks weights that its config.json asks for: {', '.join(sorted(report['missing_keys'])[:3])}")
        weights, tokens = sorted([*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin")]), path / "tokenizer.json"
        about = {"model": str(path), "checkpoint": None}
    else:
        phoenix, checkpoint = from_checkpoint(path)
        model, weights, tokens = as_transformers(phoenix), [path], path.parent / "tokenizer" / "tokenizer.json"
        if not tokens.is_file() or sha256_file(tokens) != checkpoint["tokenizer_sha256"]:
            raise UserError(f"{tokens} is not the tokenizer that {path} was trained with: copy it from the run's data")
        tokenizer = AutoTokenizer.from_pretrained(tokens.parent)
        about = {"model": str(path), "checkpoint": {k: checkpoint[k] for k in ("step", "tokens", "settings", "model_config")}}
    about |= {
        "parameters": model.num_parameters(),
        "weights_sha256": {file.name: sha256_file(file) for file in weights},
        "tokenizer_sha256": sha256_file(tokens) if tokens.is_file() else None,
    }
    context = getattr(model.config, "max_position_embeddings", None) or 2048
    batch_tokens = cfg.batch_tokens or (32768 if device.startswith("cuda") else 4096)
    try:
        lm = LanguageModel(model.eval().to(device), tokenizer, context, batch_tokens, about)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    check_shortcuts(lm)
    return lm


def check_shortcuts(lm):
    """
    Tries on random tokens whether the two shortcuts of `score` are exact for this model, and leaves them off where not:
    positions that do not come from position_ids (ALiBi, recurrence) forbid sharing a context, a softcap forbids the bare head.
    """
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(lm.model.config.get_text_config().vocab_size, (4, 8), generator=draw).tolist()
    context, continuations = tokens[0], tokens[1:]
    lm.headed = False
    want = score(lm, [(context, [c]) for c in continuations])
    lm.headed = True
    lm.headed = agrees(lm, [(context, [c]) for c in continuations], want)
    lm.shares = agrees(lm, [(context, continuations)], want)


def agrees(lm, rows, want):
    """Whether the rows give the log-probabilities of `want`; no, too, where the model does not take its inputs."""
    try:
        got = [logps for row in score(lm, rows) for logps, _ in row]
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False
    return all(torch.allclose(a, b[0][0], rtol=0, atol=1e-4) for a, b in zip(got, want, strict=True))


# ---- from text to tokens ---------------------------------------------------------------------------------------------


def encode(lm, texts):
    """Token ids of each text, with a BOS only where the tokenizer adds one by itself."""
    return lm.tokenizer(texts, verbose=False)["input_ids"] if texts else []


def prefix_token(lm):
    """What stands before a text without context."""
    bos, eos = lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id
    return eos if bos is None else bos


def encode_requests(lm, requests):
    """
    (context, continuation) texts -> (context ids, continuation ids), the two encoded as one text and then cut.

    The continuation alone would be cut into other tokens; a space at the end of the context belongs to the next word's token.
    """
    contexts = [context.rstrip() for context, _ in requests]
    distinct = list(dict.fromkeys(contexts))
    ids = dict(zip(distinct, encode(lm, distinct), strict=True))
    pairs = []
    for context, whole in zip(contexts, encode(lm, [a + b for a, b in requests]), strict=True):
        prefix = ids[context] if context else [prefix_token(lm)]
        if context or whole[0] == prefix[0]:
            pairs.append((prefix, whole[len(prefix) :]))
        else:
            pairs.append((prefix, whole))
    return pairs


def rolling_windows(tokens, prefix, length):
    """
    (context ids, continuation ids) that score each token once with as much context as there is, at most `length` inputs each.

    1..10, prefix 0, length 4 -> [0]|1-4, [4]|5-8, [6,7,8]|9,10
    """
    windows = [([prefix], tokens[:length])] if tokens else []
    for seen in range(length, len(tokens), length):
        end = min(seen + length, len(tokens))
        windows.append((tokens[end - length - 1 : seen], tokens[seen:end]))
    return windows


def rows_of(lm, pairs):
    """
    Neighbours with the same context become one row (context ids, [continuation ids, ...]).

    Where a continuation would not fit behind the whole context, each stands alone behind its end of the context.
    """
    rows = []
    for context, group in groupby(pairs, key=lambda pair: pair[0]):
        continuations = [continuation for _, continuation in group]
        if max(map(len, continuations)) > lm.context:
            raise UserError(f"a continuation of {max(map(len, continuations))} tokens does not fit a context of {lm.context}")
        if lm.shares and len(context) + max(map(len, continuations)) <= lm.context + 1:
            rows.append((context, continuations))
        else:
            rows += [((context + c)[-(lm.context + 1) :][: -len(c)], [c]) for c in continuations]
    return rows


# ---- log-likelihoods -------------------------------------------------------------------------------------------------


def score(lm, rows, label=None):
    """
    rows (context ids, [continuation ids, ...]) -> for each row and continuation (log-probability of each token, all likeliest?).

    Rows of like length share a batch, so little is padded; the longest go first, so that a batch too large fails at once.
    """
    sizes = [len(context) + sum(len(c) - 1 for c in continuations) for context, continuations in rows]
    order = sorted(range(len(rows)), key=lambda i: -sizes[i])
    scored = [None] * len(rows)
    advance = progress(label, sum(sizes))
    while order:
        count = max(1, lm.batch_tokens // sizes[order[0]])
        batch, order = order[:count], order[count:]
        for i, result in zip(batch, score_batch(lm, [rows[i] for i in batch]), strict=True):
            scored[i] = result
        advance(sum(sizes[i] for i in batch))
    return scored


HEAD_LOGITS = 2**22  # logits that exist at a time: 16 MB


@torch.inference_mode()
def score_batch(lm, rows):
    """
    What `score` says, in one forward pass.

    A row's inputs are the context (branch 0) and behind it every continuation (branch 1, 2, ...) without its last token. Each
    sees the context and its own branch, and its position is counted as if the other branches were not there.
    """
    columns, places, targets = [], [], []  # (token, position, branch) of each input; (row, column) that predicts each target
    for b, (context, continuations) in enumerate(rows):
        row = [(token, t, 0) for t, token in enumerate(context)]
        for branch, continuation in enumerate(continuations, 1):
            places += [(b, len(context) - 1)] + [(b, len(row) + t) for t in range(len(continuation) - 1)]
            targets += continuation
            row += [(token, len(context) + t, branch) for t, token in enumerate(continuation[:-1])]
        columns.append(row)
    longest = max(map(len, columns))
    device = lm.model.device
    padded = torch.tensor([row + [(0, 0, -1)] * (longest - len(row)) for row in columns], device=device)
    tokens_BT, positions_BT, branch_BT = padded.unbind(-1)
    inputs = {"input_ids": tokens_BT, "use_cache": False}
    if any(len(continuations) > 1 for _, continuations in rows):  # else plain causal: padding behind a token does not touch it
        same_BTT = branch_BT[:, None, :] == branch_BT[:, :, None]
        sees_BTT = (same_BTT | (branch_BT[:, None, :] == 0)).tril()
        mask_BTT = torch.zeros(sees_BTT.shape, device=device).masked_fill(~sees_BTT, torch.finfo(torch.float32).min)
        inputs |= {"attention_mask": mask_BTT[:, None], "position_ids": positions_BT}

    row_P, column_P = torch.tensor(places, device=device).T
    if lm.headed:  # most positions only carry context: the head, a fifth of a small model's work, is left out there
        states, head = lm.model.base_model(**inputs).last_hidden_state, lm.model.get_output_embeddings()
    else:
        states, head = lm.model(**inputs).logits, torch.nn.Identity()
    chunk = max(1, HEAD_LOGITS // lm.model.config.get_text_config().vocab_size)
    logps, likeliest = [], []
    for state, target in zip(states[row_P, column_P].split(chunk), torch.tensor(targets, device=device).split(chunk), strict=True):
        logits_PV = head(state).float()
        logps.append(logits_PV.gather(-1, target[:, None]).squeeze(-1) - logits_PV.logsumexp(-1))
        likeliest.append(logits_PV.argmax(-1) == target)
    lengths = [len(continuation) for _, continuations in rows for continuation in continuations]
    logps, likeliest = (torch.cat(chunks).cpu().split(lengths) for chunks in (logps, likeliest))
    results = zip(logps, (bool(tokens.all()) for tokens in likeliest), strict=True)
    return [[next(results) for _ in continuations] for _, continuations in rows]


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


def answer(lm, name, items):
    """For each item, for each of its requests (log-likelihood, all tokens likeliest?)."""
    if TASKS[name].build is wikitext:  # a page is encoded once; its log-likelihood is the sum over its windows
        prefix = prefix_token(lm)
        pages = [rolling_windows(ids, prefix, lm.context) for ids in encode(lm, [item.requests[0][0] for item in items])]
        windows = iter(score(lm, [(context, [target]) for page in pages for context, target in page], name))
        return [[(sum(float(next(windows)[0][0].sum()) for _ in page), False)] for page in pages]
    pairs = encode_requests(lm, [request for item in items for request in item.requests])
    results = (result for row in score(lm, rows_of(lm, pairs), name) for result in row)
    return [[(float(logps.sum()), likeliest) for logps, likeliest in (next(results) for _ in item.requests)] for item in items]


# ---- metrics: (value, standard error or None) ------------------------------------------------------------------------


def metrics_of(name, items, answers, draws=100_000):
    """{metric: (value, stderr)} of a task; `answers` as from `answer`."""
    task, lls = TASKS[name], [[ll for ll, _ in results] for results in answers]
    if task.build is wikitext:
        nats, (words, size) = -sum(ll for (ll,) in lls), np.sum([item.gold for item in items], axis=0)
        values = {"word_perplexity": math.exp(nats / words), "byte_perplexity": math.exp(nats / size)}
        return {metric: (value, None) for metric, value in (values | {"bits_per_byte": nats / size / math.log(2)}).items()}
    if task.build is lambada_openai:
        words = np.array(lls)[:, 0]
        perplexity = (math.exp(-words.mean()), bootstrap_stderr(words, draws))
        return {"acc": mean_stderr([likeliest for ((_, likeliest),) in answers]), "perplexity": perplexity}
    golds = np.array([item.gold for item in items])
    sizes = [[len(continuation) - 1 for _, continuation in item.requests] for item in items]  # characters without the delimiter
    likeliest = [np.argmax(ll) for ll in lls]  # the first of equals
    normed = [np.argmax(np.divide(ll, size)) for ll, size in zip(lls, sizes, strict=True)]
    values = {"acc": mean_stderr(likeliest == golds), "acc_norm": mean_stderr(normed == golds)}
    return {metric: values[metric] for metric in task.metrics}


def mean_stderr(right):
    """The mean and its standard error, from the sample's standard deviation (n - 1)."""
    right = np.asarray(right, dtype=np.float64)
    return float(right.mean()), float(right.std(ddof=1) / math.sqrt(len(right))) if len(right) > 1 else None


def bootstrap_stderr(lls, draws):
    """
    The spread of exp(-mean(lls)) when the documents are drawn anew with replacement, draw for draw that of the harness.

    It asks random.Random(i).choices for 1,000 draws of all documents at a time: 515 million numbers for LAMBADA. numpy's
    RandomState is the same Mersenne Twister, so it takes over the state and gives the same numbers twenty times as fast.
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


# ---- bits per byte ---------------------------------------------------------------------------------------------------


def token_bytes(tokenizer):
    """Bytes of text that each token stands for; 0 for special tokens. A ByteLevel vocabulary writes a byte as one character."""
    sizes = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    for i, added in tokenizer.added_tokens_decoder.items():
        sizes[i] = 0 if added.special else len(added.content.encode())
    return sizes


def bits_per_byte(lm, cut, windows):
    """
    {metric: (value, None)} and what was scored: `windows` of the validation tokens, evenly spread, the ones that train.py takes.

    bits_per_byte leaves special tokens out, which stand for no text; loss (nats) and perplexity are per token, all counted.
    """
    count = cut.count if windows is None else min(windows, cut.count)
    chosen = [cut.read(i * cut.count // count).tolist() for i in range(count)]
    logps = torch.cat([logps for ((logps, _),) in score(lm, [(tokens[:1], [tokens[1:]]) for tokens in chosen], "bits_per_byte")])
    sizes = token_bytes(lm.tokenizer)[np.concatenate([tokens[1:] for tokens in chosen])]
    nats = -logps.double().numpy()
    bits = nats[sizes > 0].sum() / math.log(2) / sizes.sum()
    values = {"bits_per_byte": bits, "loss": nats.mean(), "perplexity": math.exp(nats.mean())}
    counts = {"items": count, "of": cut.count, "tokens": len(nats), "bytes": int(sizes.sum())}
    return {metric: (float(value), None) for metric, value in values.items()}, counts


# ---- the run ---------------------------------------------------------------------------------------------------------

ANCHORS = ("GPT-2 124M", "Pythia-160M", "Cerebras-111M")  # 0-shot, all items, lm-eval's conventions
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


def print_table(results):
    """The benchmark table; chance is that of drawing among an item's choices."""
    print(f"\n{'task':20} {'metric':16} {'value':>10}   {'stderr':8} {'items':>8} {'chance':>8}", *(f"{a:>14}" for a in ANCHORS))
    for name, result in results.items():
        for metric, (value, stderr) in result["metrics"].items():
            chance = result["chance"] if metric.startswith("acc") else None
            numbers = [chance, *ANCHOR_SCORES.get((name, metric), (None,) * len(ANCHORS))]
            shown = [f"{'–' if number is None else f'{number:.4g}'}" for number in numbers]
            error = f"± {stderr:.4f}" if stderr is not None else ""
            print(
                f"{name:20} {metric:16} {value:10.4f}   {error:8} {result['items']:8,} {shown[0]:>8}",
                *(f"{a:>14}" for a in shown[1:]),
            )
    for name, result in results.items():
        if result["items"] < result["of"]:
            print(f"{name}: {result['items']:,} of {result['of']:,} {'windows' if name == 'bits_per_byte' else 'items'}")


def write_json(path, report):
    """Whole or not at all: a temporary file beside it, renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as stream:
        json.dump(report, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def versions():
    import tokenizers
    import transformers

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    packages = {module.__name__: module.__version__ for module in (np, torch, tokenizers, transformers)}
    return {"evaluate": VERSION, "commit": commit or None, "python": platform.python_version(), **packages}


def main(argv):
    cfg = load(Evaluate, argv, positional="model")
    names = list(dict.fromkeys(DEFAULT_TASKS if cfg.tasks is None else cfg.tasks))
    unknown = [name for name in names if name not in TASKS and name != "bits_per_byte"]
    if unknown:
        raise UserError(f"unknown task {unknown[0]!r}: there are {', '.join(TASKS)} and bits_per_byte")
    if min(n for n in (cfg.limit, cfg.windows, cfg.batch_tokens, 1) if n is not None) < 1:
        raise UserError("limit, windows and batch_tokens must be at least 1; None takes the default")
    if not Path(cfg.model).exists():
        raise UserError(f"{cfg.model} does not exist: give a checkpoint (ckpt.pt) or a folder of transformers")
    if cfg.data is not None and not Path(cfg.data).is_dir():
        raise UserError(f"--data={cfg.data} is not a folder")

    path = Path(cfg.json or Path(cfg.model if Path(cfg.model).is_dir() else Path(cfg.model).parent, "eval.json"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()  # an earlier result stays as it is
        if not path.stat().st_size:
            path.unlink()
    except OSError as error:
        raise UserError(f"the results cannot be written to {path} ({error.strerror}): give another --json") from error

    data, missing = {}, {}
    for name in names:
        if name in TASKS:
            try:
                data[name] = items_of(name, cfg.data)
            except Unavailable as error:
                missing[name] = str(error)

    lm = load_model(cfg)
    folder = cfg.shards
    if folder is None and lm.about["checkpoint"]:
        folder = Path(lm.about["checkpoint"]["settings"]["data"], "shards")
        if not (folder / "shards.json").is_file():
            missing["bits_per_byte"] = f"{folder}/shards.json, which the checkpoint was trained on, is not here: give --shards"
            folder = None
    elif folder is None and "bits_per_byte" in names:
        raise UserError("bits_per_byte of a folder of transformers needs --shards: the folder with shards.json")
    val = None
    if folder is not None:
        split = shards.open(folder, "val")
        val = Windows(split, lm.context)
        if split.meta["tokenizer_sha256"] != lm.about["tokenizer_sha256"]:
            reason = f"the shards in {folder} were made with another tokenizer than that of {cfg.model}"
            if cfg.shards:
                raise UserError(reason)
            missing["bits_per_byte"], val = reason, None
        elif val.count == 0:
            missing["bits_per_byte"], val = f"the validation shards in {folder} do not fill one window of {lm.context}", None

    results = {}
    report = {"format": "phoenix-eval", "version": 1, **lm.about, "settings": asdict(cfg), "versions": versions()}
    report |= {"device": str(lm.model.device), "dtype": "float32", "shortcuts": {"context": lm.shares, "head": lm.headed}}
    report |= {"results": results, "missing": missing}
    print(f"{cfg.model}: {lm.about['parameters'] / 1e6:.1f} M parameters, context {lm.context}, on {lm.model.device}, fp32")
    try:
        if val is not None:
            start = time.monotonic()
            values, counts = bits_per_byte(lm, val, cfg.windows)
            source = {"source": str(folder), "shards": split.meta["shards"]["val"]}
            results["bits_per_byte"] = {"metrics": values, **counts, "chance": None, **source, "secs": time.monotonic() - start}
            write_json(path, report)
        for name, (items, source) in data.items():
            start = time.monotonic()
            taken = items[: cfg.limit]
            answers = answer(lm, name, taken)
            choices = np.array([len(item.requests) for item in taken])
            results[name] = {
                "metrics": metrics_of(name, taken, answers),
                "items": len(taken),
                "of": len(items),
                "chance": float((1 / choices).mean()) if choices.max() > 1 else 0.0,
                "source": source,
                "requests_sha256": TASKS[name].requests_sha256,
                "gold_sha256": TASKS[name].gold_sha256,
                "secs": time.monotonic() - start,
                "gold": [item.gold for item in taken],
                "loglikelihoods": [[ll for ll, _ in given] for given in answers],
                "likeliest": [[likeliest for _, likeliest in given] for given in answers],
            }
            write_json(path, report)
            print(f"{name}: {len(taken):,} items in {results[name]['secs']:.1f} s", flush=True)
    except KeyboardInterrupt:
        print(f"\nstopped; the scores of {', '.join(results) or 'no task'} are in {path}", file=sys.stderr)
        return 130
    if results:
        write_json(path, report)
        print_table(results)
        print(f"every item's log-likelihoods: {path}")
    for name, reason in missing.items():
        print(f"not scored: {name}: {reason}")
    return 1 if not results or (cfg.tasks is not None and missing.keys() & set(names)) else 0


if __name__ == "__main__":
    main_guard(main)
