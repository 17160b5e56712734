"""Zero-shot scores of a model while it trains, by the functions that evaluate.py calls, so that they are the same numbers."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from phoenix.config import UserError
from phoenix.loglikelihood import answer, encode_requests, prepare
from phoenix.progress import say
from phoenix.results import metrics_of
from phoenix.tasks import TASKS, Unavailable, items_of, wikitext
from phoenix.transformers_model import as_transformers


def score(model, tokenizer, tasks, limit, data, device):
    """
    {"hellaswag/acc": ..., ...} of a model.Phoenix on the first `limit` items of each task; `tokenizer` is its folder.

    The run's random state is as before. A task that cannot be scored is named and left out: no error ends the run.
    """
    from transformers import AutoTokenizer  # seconds of import, for those who want the scores

    found = {}
    fork_rng = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with fork_rng, torch.compiler.set_stance("force_eager"), reported("the model"):
        lm = prepare(as_transformers(model), AutoTokenizer.from_pretrained(tokenizer), device)
        for name in tasks:
            with reported(name):
                items = items_of(name, data)[0][:limit]
                metrics = metrics_of(name, items, answer(lm, name, items))
                found |= {f"{name}/{metric}": float(value) for metric, (value, _) in metrics.items()}
    return found


@contextmanager
def reported(name):
    """Prints an error as the reason why `name` is not scored."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, (Unavailable, UserError)) else f"{type(error).__name__}: "
        say(f"{name} is not scored: {kind}{error}")


def fitting(tokenizer, cfg):
    """The tasks of a train.Train whose items fit the model, a tuple; each other one is named, before the first step."""
    from transformers import AutoTokenizer

    found = []
    with reported("the model"):
        lm = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(tokenizer), context=cfg.seq_len)
        for name in cfg.zero_shot_tasks:
            with reported(name):
                items = items_of(name, cfg.zero_shot_data)[0][: cfg.zero_shot_limit]
                if TASKS[name].build is not wikitext:  # whose pages are cut
                    encode_requests(lm, [request for item in items for request in item.requests])
                found.append(name)
    return tuple(found)


def problem(tasks, data):
    """A sentence on why these tasks cannot be scored, or None: checked before the first step."""
    for name in tasks:
        if name not in TASKS:
            return f"unknown task {name!r} in zero_shot_tasks: there are {', '.join(TASKS)}"
        try:
            items_of(name, data)
        except Unavailable as error:
            return f"zero_shot_tasks: {name}: {error}"
    return None
