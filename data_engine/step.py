"""
A step of the line: a stage's function with its settings, and the keys that decide whether its output is still valid.

    Step(extract, cfg.extract)     run.py lists these; worker.py applies them; engine.py hashes their identity

Imports nothing heavy, so that a stage's file can use it.
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phoenix.files import sha256


class EngineError(Exception):
    """A run that cannot go on; the text names the stage and the partition."""


@dataclass(frozen=True)
class Step:
    """
    run(table, settings, *side_inputs) -> (kept, dropped[, {file name: buffer}[, {note: JSON} for the receipt]])

    side_inputs  the function also takes the tables that map(..., side_inputs=) names for the partition
    one_to_many  it makes any number of rows of one, as a shuffle's split does: rows are not counted against each other
    atomic       its rows belong together: an error ends the run instead of quarantining a row. So it is with one_to_many
    actor        it holds a large model: it runs in processes of its own, a few for all cores or one a GPU, that load it once
    sources      it is for the partitions of these sources only; None: for all
    """

    run: Callable
    settings: Any = None
    side_inputs: bool = False
    one_to_many: bool = False
    atomic: bool = False
    actor: bool = False
    sources: frozenset[str] | None = None

    @property
    def name(self):
        return self.run.__name__

    @property
    def separable(self):
        """True if the step may get the rows of a partition one by one."""
        return not (self.atomic or self.one_to_many)

    def takes(self, source):
        """True if partitions of this source go through the step."""
        return self.sources is None or source in self.sources

    def identity(self):
        """The part of a partition's key that stands for the step: its function, the module's VERSION, the settings."""
        module = sys.modules[self.run.__module__]
        return [f"{module.__name__}.{self.name}", module.VERSION, self.settings]


def digest(*values):
    """sha256 of the canonical JSON of the values, in hex: the key of a partition."""
    return sha256(json.dumps(plain(values), sort_keys=True))


def plain(value):
    """Settings as JSON values: tuples become lists, dataclasses dicts without the fields whose metadata has in_key False."""
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("in_key", True)]
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
