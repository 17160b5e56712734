"""
Scores a language model: bits per byte on the validation shards, and six tasks equal to lm-evaluation-harness 0.4.13 item by item.

    python evaluate.py out/125m/ckpt.pt                            bits per byte, and the tasks that the Hub gives
    python evaluate.py out/125m/ckpt.pt --data=eval --limit=1000   the tasks' files in eval/, their first 1,000 items
    python evaluate.py HF_FOLDER --tasks=arc_easy:validation,piqa  a causal model of transformers that needs no code of its own

Every task is a list of items, every item a few requests (context, continuation); the model's answer to a request is the
log-likelihood of the continuation. The straight line, and where each part is:

    files or the Hub -> items          eval_tasks.py: one task a short function
    -> tokens -> answers -> metrics    this file
       the log-likelihoods             loglikelihood.py: batches, shared beginnings
    -> table, JSON                     eval_report.py

A task whose data cannot be had is named with the reason and the rest goes on; data that are there and wrong stop the run before
anything is scored. Stop it whenever you like: tasks that are done are in the JSON, and the same command takes them up. Exit code
0: all that --tasks names was scored (without --tasks: at least one thing); 1: some could not be had, or nothing was scored; 2: a
mistake in the arguments or in the data given; 130: stopped.
"""

import math
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from phoenix import loglikelihood, shards
from phoenix.batches import Windows
from phoenix.config import UserError, load, main_guard
from phoenix.loglikelihood import alone, score, score_choices
from phoenix.results import FORMAT, FORMAT_VERSION, check_writable, earlier_results, print_table, results_path, versions, write_json
from phoenix.tasks import DEFAULT_TASKS, TASKS, Unavailable, items_of, lambada_openai, wikitext


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
    batch_tokens: int | None = None  # tokens of one forward pass; None: as many as pay, fewer where memory does not take them


def load_model(cfg):
    """The model of the settings, ready to score: loglikelihood.LanguageModel."""
    return loglikelihood.load_model(cfg.model, cfg.device, cfg.batch_tokens)


# ---- from text to tokens ---------------------------------------------------------------------------------------------


def encode(lm, texts):
    """Token ids of each text, with a BOS only where the tokenizer adds one by itself."""
    return lm.tokenizer(texts, verbose=False)["input_ids"] if texts else []


def prefix_token(lm):
    """What stands before a text without context. Unavailable where the tokenizer has no such token."""
    bos, eos = lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id
    if bos is None and eos is None:
        raise Unavailable("the tokenizer has neither a BOS nor an EOS token, one of which must stand before a text without context")
    return eos if bos is None else bos


def encode_requests(lm, requests):
    """
    (context, continuation) texts -> (tokens of both, how many of them are the continuation's), cut from the left to the model's
    context and the one token that it need not read. Unavailable where a continuation alone is longer, or has no token of its own.

    The two are encoded as one text, and what lies behind as many tokens as the context has alone is the continuation's: by itself
    it would be cut into other tokens, and a space at the end of the context belongs to the next word's token. The context is read
    as it is cut alone, also where a tokenizer merges across the boundary: the rule of the harness.
    """
    contexts = [context.rstrip() for context, _ in requests]
    distinct = list(dict.fromkeys(contexts))
    ids = dict(zip(distinct, encode(lm, distinct), strict=True))
    sequences = []
    for context, request, whole in zip(contexts, requests, encode(lm, [a + b for a, b in requests]), strict=True):
        before = ids[context] if context else [prefix_token(lm)]
        after = whole[len(before) :] if context or whole[:1] == before else whole
        tokens, scored = before + after, len(after)
        if not scored:
            raise Unavailable(f"the tokenizer leaves no token to the continuation {request[1]!r} of {request[0][-40:]!r}")
        if scored > lm.context:
            raise Unavailable(f"a continuation of {scored} tokens does not fit the model's context of {lm.context}")
        sequences.append((tokens[-(lm.context + 1) :], scored))
    return sequences


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


# ---- answers: (log-likelihood, all tokens likeliest?) ----------------------------------------------------------------


def answer(lm, name, items):
    """For each item of a task, for each of its requests, (log-likelihood, whether each of its tokens was the likeliest)."""
    if TASKS[name].build is wikitext:  # a page is encoded once; its log-likelihood is the sum over its windows
        texts = encode(lm, [item.requests[0][0] for item in items])
        pages = [rolling_windows(tokens, prefix_token(lm), lm.context) for tokens in texts]
        windows = iter(score(alone(lm), [[(context + target, len(target))] for page in pages for context, target in page], name))
        return [[(sum(float(next(windows)[0][0].sum()) for _ in page), False)] for page in pages]
    sequences = iter(encode_requests(lm, [request for item in items for request in item.requests]))
    if TASKS[name].build is lambada_openai:  # nothing to share, and its perplexity is printed in more digits than 1e-4 gives
        words = score(alone(lm), [[sequence] for sequence in sequences], name)
        return [[(float(logps.sum()), likeliest)] for ((logps, likeliest),) in words]
    return score_choices(lm, [[next(sequences) for _ in item.requests] for item in items], name)


# ---- metrics: (value, standard error or None) ------------------------------------------------------------------------


def metrics_of(name, items, answers, draws=100_000):
    """{metric: (value, stderr)} of a task; `answers` as from `answer`."""
    task, lls = TASKS[name], [[ll for ll, _ in results] for results in answers]
    if task.build is wikitext:
        nats, (words, size) = -sum(ll for (ll,) in lls), np.sum([item.gold for item in items], axis=0)
        values = {"word_perplexity": exponential(nats / words), "byte_perplexity": exponential(nats / size)}
        return {metric: (value, None) for metric, value in (values | {"bits_per_byte": nats / size / math.log(2)}).items()}
    if task.build is lambada_openai:
        words = [ll for (ll,) in lls]
        mean = sum(words) / len(words)  # added one after the other, as there, or the last digits differ
        perplexity = exponential(-mean), bootstrap_stderr(np.array(words), draws)
        return {"acc": mean_stderr([likeliest for ((_, likeliest),) in answers]), "perplexity": perplexity}
    golds = np.array([item.gold for item in items])
    sizes = [[len(continuation) - 1 for _, continuation in item.requests] for item in items]  # characters without the delimiter
    likeliest = [np.argmax(ll) for ll in lls]  # the first of equals
    normed = [np.argmax(np.divide(ll, size)) for ll, size in zip(lls, sizes, strict=True)]
    values = {"acc": mean_stderr(likeliest == golds), "acc_norm": mean_stderr(normed == golds)}
    return {metric: values[metric] for metric in task.metrics}


def exponential(nats):
    """e^nats; Unavailable where that is beyond any number."""
    try:
        return math.exp(nats)
    except OverflowError:
        raise Unavailable(f"a perplexity of e^{nats:,.0f} is beyond any number: the weights are damaged or diverged") from None


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


def validation_windows(cfg, lm):
    """The checkpoint's own validation tokens, or those of --shards. Unavailable, or UserError for --shards, with the reason."""
    if cfg.shards is None and not lm.about["checkpoint"]:
        raise UserError("bits_per_byte of a folder of transformers needs --shards: the folder with shards.json")
    folder = Path(cfg.shards or Path(lm.about["checkpoint"]["settings"]["data"], "shards"))
    if cfg.shards is None and not (folder / "shards.json").is_file():
        raise Unavailable(f"{folder}/shards.json, which the checkpoint was trained on, is not here: give --shards")
    split = shards.open(folder, "val")
    if split.meta["tokenizer_sha256"] != lm.about["tokenizer_sha256"]:
        reason = f"the shards in {folder} were made with another tokenizer than that of {cfg.model}"
        raise (UserError if cfg.shards else Unavailable)(reason)
    if not (windows := Windows(split, lm.context)).count:
        raise Unavailable(f"the validation shards in {folder} do not fill one window of {lm.context}")
    return windows, {"source": str(folder), "shards": split.meta["shards"]["val"]}


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
    nats = -np.concatenate([item[0][0] for item in score(lm, [[(tokens, cut.seq_len)] for tokens in chosen], "bits_per_byte")])
    nats, sizes = nats.astype(np.float64), token_bytes(lm.tokenizer)[np.concatenate([tokens[1:] for tokens in chosen])]
    values = {"bits_per_byte": nats[sizes > 0].sum() / math.log(2) / sizes.sum(), "loss": nats.mean()}
    values["perplexity"] = exponential(values["loss"])
    counts = {"items": count, "of": cut.count, "tokens": len(nats), "bytes": int(sizes.sum())}
    return {metric: (float(value), None) for metric, value in values.items()}, counts


# ---- the run ---------------------------------------------------------------------------------------------------------


def score_task(lm, name, items, count, source, answers=None):
    """
    The entry in the JSON of a task, of its first `count` items, or of bits_per_byte, of so many windows. The answers are the
    model's unless given.
    """
    if name == "bits_per_byte":
        values, counts = bits_per_byte(lm, items, count)
        return {"metrics": values, **counts, "chance": None, **source}
    taken = items[:count]
    answers = answers or answer(lm, name, taken)
    choices = np.array([len(item.requests) for item in taken])
    return {
        "metrics": metrics_of(name, taken, answers),
        "items": len(taken),
        "of": len(items),
        "chance": float((1 / choices).mean()) if choices.max() > 1 else 0.0,
        "source": source,
        "requests_sha256": TASKS[name].requests_sha256,
        "gold_sha256": TASKS[name].gold_sha256,
        "gold": [item.gold for item in taken],
        "loglikelihoods": [[ll for ll, _ in given] for given in answers],
        "likeliest": [[likeliest for _, likeliest in given] for given in answers],
    }


def taken_up(name, before, items, count, source):
    """
    What an earlier run's entry says of the first `count` items, its metrics made anew from its log-likelihoods. None where it is
    of fewer or other items, or is damaged.
    """
    if not isinstance(before, dict):
        return None
    if name == "bits_per_byte":
        same = {"items": count, "of": items.count, "shards": source["shards"]}
        return before if all(before.get(key) == value for key, value in same.items()) else None
    if any(before.get(key) != getattr(TASKS[name], key) for key in ("requests_sha256", "gold_sha256")):
        return None
    try:
        both = zip(before["loglikelihoods"][:count], before["likeliest"][:count], strict=True)
        answers = [list(zip(*pair, strict=True)) for pair in both]
    except (KeyError, TypeError, ValueError):
        return None
    numbers = all(type(ll) is float and type(likeliest) is bool for given in answers for ll, likeliest in given)
    whole = [len(given) for given in answers] == [len(item.requests) for item in items[:count]]
    return score_task(None, name, items, count, source, answers) if numbers and whole else None


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

    lm = load_model(cfg)
    if "bits_per_byte" in names:
        try:
            data["bits_per_byte"] = validation_windows(cfg, lm)
        except Unavailable as error:
            missing["bits_per_byte"] = str(error)

    before, results = earlier_results(path, lm.about), {}
    report = {"format": FORMAT, "version": FORMAT_VERSION, **lm.about, "settings": asdict(cfg), "versions": versions()}
    shortcuts = {"context": lm.shares > 0, "head": lm.headed, "onednn": bool(lm.onednn)}
    report |= {"device": str(lm.model.device), "dtype": "float32", "shortcuts": shortcuts, "results": results, "missing": missing}
    print(f"{cfg.model}: {lm.about['parameters'] / 1e6:.1f} M parameters, context {lm.context}, on {lm.model.device}, fp32")
    done = {}  # task: what the table shows of it
    try:
        for name in [name for name in names if name in data]:
            start, (items, source) = time.monotonic(), data[name]
            count, most = (items.count, cfg.windows) if name == "bits_per_byte" else (len(items), cfg.limit)
            taken = count if most is None else min(most, count)
            try:
                known = taken_up(name, before.get(name), items, taken, source)
                done[name] = known or score_task(lm, name, items, taken, source)
            except Unavailable as error:
                missing[name] = str(error)
                continue
            if known:  # where it has more items, the longer result stays in the JSON
                print(f"{name}: {taken:,} items, scored before")
                continue
            secs = time.monotonic() - start
            results[name] = done[name] | {"secs": secs, "versions": report["versions"]}
            write_json(path, report)
            print(f"{name}: {taken:,} items in {secs:.1f} s", flush=True)
    except KeyboardInterrupt:
        print(f"\nstopped; the scores of {', '.join(done) or 'no task'} are in {path}, and are taken up there", file=sys.stderr)
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
