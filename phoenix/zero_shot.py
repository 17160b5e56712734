"""Zero-shot scores of a checkpoint while training goes on, by evaluate.py's own functions, so that they are the same numbers."""

import torch

from phoenix.progress import say


def score(path, tasks, limit, data, device):
    """{"hellaswag/acc": ..., ...} of a checkpoint on the first `limit` items of each task; the run's random state is as before."""
    import evaluate  # transformers is seconds of import, for those who want it
    from phoenix.tasks import Unavailable, items_of

    found = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.compiler.set_stance("force_eager"):
        lm = evaluate.load_model(evaluate.Evaluate(str(path), device=str(device)))
        for name in tasks:
            try:
                items = items_of(name, data)[0][:limit]
            except Unavailable as error:  # the Hub was there when the run began: no reason to end it
                say(f"{name} is not scored: {error}")
                continue
            for metric, (value, _) in evaluate.metrics_of(name, items, evaluate.answer(lm, name, items)).items():
                found[f"{name}/{metric}"] = float(value)
    return found


def problem(tasks, data):
    """What stands in the way of scoring these tasks, a sentence, or None: better known before the first step than after many."""
    from phoenix.tasks import TASKS, Unavailable, items_of

    for name in tasks:
        if name not in TASKS:
            return f"unknown task {name!r} in zero_shot_tasks: there are {', '.join(TASKS)}"
        try:
            items_of(name, data)
        except Unavailable as error:
            return f"zero_shot_tasks: {name}: {error}"
    return None
