"""
Documents -> documents without personal data.

in:   text large_string          out:  the same columns, text redacted, and OUT
drops nothing
"""

import re
from dataclasses import dataclass

import pyarrow as pa

from data_engine.records import nothing_dropped

VERSION = 1  # raise when the output changes for the same input
OUT = pa.schema({"pii": pa.map_(pa.string(), pa.int32())})
RULES = {
    "EMAIL": re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w"),
    "US_SSN": re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    "PHONE": re.compile(r"\+\d{1,3}[ -]?(?:\(\d{1,4}\)[ -]?)?\d[\d -]{6,}\d|\(\d{3}\) ?\d{3}-\d{4}|\b\d{3}-\d{3}-\d{4}\b"),
}


@dataclass(frozen=True)
class PiiConfig:
    redact: bool = True  # False: count, and leave the text as it is


def redact(docs: pa.Table, cfg: PiiConfig) -> tuple[pa.Table, pa.Table]:
    """Documents with tags like <EMAIL> in place of personal data, counted by type; nothing is dropped."""
    texts, counts = [], []
    for text in docs["text"].to_pylist():
        found = {}
        for tag, rule in RULES.items():
            text, n = rule.subn(f"<{tag}>", text or "")
            if n:
                found[tag] = n
        texts.append(text)
        counts.append(list(found.items()))
    if cfg.redact:
        docs = docs.set_column(docs.schema.get_field_index("text"), "text", pa.array(texts, pa.large_string()))
    return docs.append_column("pii", pa.array(counts, OUT.field("pii").type)), nothing_dropped()
