"""
Guards against updates that would ruin a run: skipped updates and rollbacks.

An update whose loss or gradient is not finite is skipped and counted. The run goes back to an earlier checkpoint after
`rollback_after` such steps in a row, or after a loss more than `spike_z` standard deviations above the mean of the last HISTORY.
It then leaves out the data of those steps, and before a spike also that of `rollback_margin` steps, whose updates may have
caused it (PaLM, 2022, section 5.1).

All that decides is in the run's RunState, so a resumed run decides as the straight one.
"""

import math
import statistics

from phoenix import checkpoint
from phoenix.batches import data_step
from phoenix.config import UserError
from phoenix.progress import say

HISTORY = 128  # losses that a spike is compared with; none is reported before there are so many
MAX_ROLLBACKS = 5  # from the same place, before the run gives up


def check_step(state, loss, grad_norm, cfg):
    """("update", "skip" or "roll back"; the reason, None for an update). Counts in `state`."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        state.skipped += 1
        state.bad_in_a_row += 1
        reason = f"loss {loss}, gradient norm {grad_norm}"
        if state.bad_in_a_row >= cfg.rollback_after:
            return "roll back", f"{reason}, {state.bad_in_a_row} such steps in a row"
        return "skip", reason
    state.bad_in_a_row = 0
    if cfg.spike_z is not None and len(state.losses) == HISTORY:
        mean, std = statistics.fmean(state.losses), statistics.pstdev(state.losses)
        z = (loss - mean) / max(std, 1e-6)
        if z > cfg.spike_z:
            return "roll back", f"loss {loss:.4f} is {z:.1f} standard deviations above the mean of the last {HISTORY}, {mean:.4f}"
    state.losses = [*state.losses, loss][-HISTORY:]
    return "update", None


class Rollbacks:
    """Finds the checkpoints to go back to; gives up after MAX_ROLLBACKS that did not get the run past the same place."""

    def __init__(self, out, cfg):
        self.out, self.cfg = out, cfg
        self.last_rollback, self.count = -math.inf, 0  # step that sent the run back; how often that place did

    def go_back(self, state, reason):
        """
        The checkpoint to go on from after check_step asked for a rollback at step state.step + 1.

        Its left_out, rollbacks and kwh are brought up to date. UserError where the run does not get past this place.
        """
        if state.step > self.last_rollback + self.cfg.rollback_margin:
            self.last_rollback, self.count = state.step, 0
        self.count += 1
        if self.count > MAX_ROLLBACKS:
            why = f"{MAX_ROLLBACKS} rollbacks brought no way past it: a lower lr, a higher spike_z or rollback_after may"
            raise UserError(f"step {state.step + 1}: {reason}; {why}")
        first_bad, saved = self._find(state)
        bad = {data_step(step, state.left_out) for step in range(first_bad, state.step + 1)}
        checkpoint.abandon_after(self.out, saved["step"])
        left_out = sorted({*state.left_out, *bad})
        say(f"step {state.step + 1}: {reason}: back to step {saved['step']}, data of steps {left_out} left out")
        return saved | {"left_out": left_out, "rollbacks": state.rollbacks + 1, "kwh": state.kwh}

    def _find(self, state):
        """
        (the first step whose data is left out, the newest checkpoint from before it).

        So the result does not depend on when checkpoints were written.
        """
        first_bad = state.step + 1 - state.bad_in_a_row if state.bad_in_a_row else state.step - self.cfg.rollback_margin
        first_bad = max(0, first_bad)
        saved, sentences = checkpoint.newest_checkpoint(self.out, at_most=first_bad)
        if saved is None:  # none that old is kept, or whole: a later one keeps what it has learned from bad data
            saved, more = checkpoint.newest_checkpoint(self.out)
            sentences, first_bad = sentences + more, max(first_bad, saved["step"])
        for sentence in sentences:
            say(sentence)
        return first_bad, saved
