"""
Guards against updates that would ruin a run. What they know is in the run's state, so a resumed run judges as the straight one.

A loss or gradient that is not finite: the update is skipped and counted. `rollback_after` of them in a row, or a loss more than
`spike_z` standard deviations above the mean of the last HISTORY: the run goes back to a checkpoint from before and leaves the
data of those steps out, and with a spike that of the `rollback_margin` steps before it, whose updates may have been its cause
(PaLM, 2022, section 5.1).
"""

import math
import statistics

from phoenix import checkpoint
from phoenix.batches import data_step
from phoenix.run_log import say

HISTORY = 128  # losses that a spike is measured against; none is called before there are so many
MAX_ROLLBACKS = 5  # with no way past the same place, before the run gives up


def new_state():
    return {"skipped": 0, "bad_in_a_row": 0, "losses": [], "left_out": []}


def judge(state, loss, grad_norm, cfg):
    """(what to do: "update", "skip" or "roll back"; why, a sentence or None). Counts and remembers in `state`."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        state["skipped"] += 1
        state["bad_in_a_row"] += 1
        reason = f"loss {loss}, gradient norm {grad_norm}"
        if state["bad_in_a_row"] >= cfg.rollback_after:
            return "roll back", f"{reason}, {state['bad_in_a_row']} such steps in a row"
        return "skip", reason
    state["bad_in_a_row"] = 0
    if cfg.spike_z is not None and len(state["losses"]) == HISTORY:
        mean, std = statistics.fmean(state["losses"]), statistics.pstdev(state["losses"])
        z = (loss - mean) / max(std, 1e-6)
        if z > cfg.spike_z:
            return "roll back", f"loss {loss:.4f} is {z:.1f} standard deviations above the mean of the last {HISTORY}, {mean:.4f}"
    state["losses"] = [*state["losses"], loss][-HISTORY:]
    return "update", None


def roll_back(out, state, cfg):
    """
    The checkpoint to go on from when the step after state["step"] was judged bad, its left_out and rollbacks brought up to date.

    It is the newest one from before the steps whose data is left out, so that it changes nothing when a checkpoint happened to be
    made; those after it belong to a way that is not gone on with, and are removed.
    """
    last, in_a_row = state["step"], state["bad_in_a_row"]
    first = max(0, last + 1 - in_a_row if in_a_row else last - cfg.rollback_margin)
    saved, refused = checkpoint.newest_checkpoint(out, at_most=first)
    for sentence in refused:
        say(sentence)
    if saved is None:  # none as old is kept, or whole: what a later one has learned from stays in it
        saved, refused = checkpoint.newest_checkpoint(out)
        for sentence in refused:
            say(sentence)
        first = max(first, saved["step"])
    bad = {data_step(step, state["left_out"]) for step in range(first, last + 1)}
    checkpoint.abandon_after(out, saved["step"])
    return saved | {"left_out": sorted({*state["left_out"], *bad}), "rollbacks": state["rollbacks"] + 1}
