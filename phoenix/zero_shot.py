"""Zero-shot scores of a model while it trains, by the functions that evaluate.py calls, so that they are the same numbers."""

import torch

from phoenix.loglikelihood import answer, prepare
from phoenix.progress import say
from phoenix.results import metrics_of
from phoenix.tasks import TASKS, Unavailable, items_of
from phoenix.transformers_model import as_transformers


def score(model, tokenizer, tasks, limit, data, device):
    """
    {"hellaswag/acc": ..., ...} of a model.Phoenix on the first `limit` items of each task; `tokenizer` is its folder.

    The run's random state is as before.
    """
    from transformers import AutoTokenizer  # seconds of import, for those who want the scores

    found = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.compiler.set_stance("force_eager"):
        lm = prepare(as_transformers(model), AutoTokenizer.from_pretrained(tokenizer), device)
        for name in tasks:
            try:
                items = items_of(name, data)[0][:limit]
                metrics = metrics_of(name, items, answer(lm, name, items))
            except Unavailable as error:  # no reason to end the run: the Hub may be gone, an item may not fit the context
                say(f"{name} is not scored: {error}")
                continue
            found |= {f"{name}/{metric}": float(value) for metric, (value, _) in metrics.items()}
    return found


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
