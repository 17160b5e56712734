"""
Documents that fastText is unsure of -> documents with XLM-RoBERTa's label, where it can be right.

in:   text, language, language_score, unsure, ... of identify_language, when cfg.second is set
out:  the same columns without unsure
drops an unsure document whose language is not in `keep`          (reason "language", detail "fr 0.98": label and score)

The model is XLM-RoBERTa (Conneau et al. 2020, arXiv:1911.02116) with a classification head, by default papluca's: 20 languages,
accuracy 0.996 on its own test set. It has no answer for "none of these": it takes Oromo and Old English for English with a score
of 0.99. So a document keeps fastText's label where the model does not know that language (Scots, Norwegian). For the others,
"und" included, the model's label and score replace fastText's when the score reaches SURE.

A document costs a core 0.1 to 0.3 s, thousands of times fastText's cost; hence only the one per cent that is unsure. It computes
in float32, on a GPU too. The rows' length fixes a batch's shape, so a document's bits depend on no other document.
"""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.language import UNDETERMINED, LanguageConfig, Weights, keep_languages

VERSION = 1  # raise when the output changes for the same input

SURE = 0.9  # score from which the model's label replaces fastText's
PIECES = 5  # read of a long text, evenly spaced
PIECE_CHARS = 100  # length of each; 500 characters of prose are about 128 tokens
LENGTHS = (32, 64, 96, 128)  # tokens; a row is padded to the next length, or cut to the last
ROWS = 8  # of a batch; a core is 1.4 times as fast as with one row, and no faster with 16
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")  # safetensors: nothing is unpickled


def second_opinion(docs: pa.Table, cfg: LanguageConfig) -> tuple[pa.Table, pa.Table]:
    """Documents in the languages to keep, and the ledger rows of the others. Without an unsure document no model is loaded."""
    unsure = docs["unsure"].combine_chunks()
    docs = docs.drop_columns("unsure")
    doubtful = docs.select(["text", "language", "language_score"]).filter(unsure)
    if len(doubtful):
        label, score = relabel(doubtful, load(cfg.second.path))
        docs = replace(docs, "language", unsure, pa.array(label, pa.string()))
        docs = replace(docs, "language_score", unsure, pa.array(score, pa.float32()))
    return keep_languages(docs, cfg.keep)


def replace(docs, name, mask, values):
    at = docs.schema.get_field_index(name)
    return docs.set_column(at, name, pc.replace_with_mask(docs[name].combine_chunks(), mask, values))


def relabel(docs, model):
    """Documents with fastText's label and score -> labels and scores, the model's where it is sure."""
    label, score = np.array(docs["language"].to_pylist(), object), docs["language_score"].to_numpy().copy()
    known = np.flatnonzero(np.isin(label, [*model.labels, UNDETERMINED]))
    found, sureness = classify([sample(text) for text in docs["text"].take(known).to_pylist()], model)
    sure = sureness >= SURE
    label[known[sure]], score[known[sure]] = found[sure], sureness[sure]
    return label, score


def sample(text):
    """The part of a text that the model reads: words but no addresses or links, of a long text from PIECES places."""
    if len(text) > PIECES * PIECE_CHARS:
        starts = [len(text) * i // PIECES for i in range(PIECES)]
        text = " ".join(text[start : start + PIECE_CHARS] for start in starts)
    return " ".join(word for word in text.split() if "@" not in word and "://" not in word) or text


def classify(texts, model):
    """Texts -> the model's best labels, and their probabilities."""
    label, score = np.empty(len(texts), object), np.zeros(len(texts), np.float32)
    rows = model.tokenizer(texts, truncation=True, max_length=LENGTHS[-1])["input_ids"] if texts else []
    length = np.array(LENGTHS)[np.searchsorted(LENGTHS, [len(row) for row in rows])]
    for tokens in LENGTHS:
        of_length = np.flatnonzero(length == tokens)
        for start in range(0, len(of_length), ROWS):
            batch = of_length[start : start + ROWS]
            best, score[batch] = forward([rows[doc] for doc in batch], tokens, model.network)
            label[batch] = [model.labels[i] for i in best]
    return label, score


def forward(rows, tokens, network):
    """At most ROWS rows of token ids, padded to a batch (ROWS, tokens) -> numbers of the best labels, their probabilities."""
    import torch

    pad = network.config.pad_token_id
    ids = torch.full((ROWS, tokens), pad)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    mask = (ids != pad).long()
    mask[len(rows) :, 0] = 1  # attention over no token at all gives NaN
    with torch.inference_mode():
        logits = network(ids.to(network.device), attention_mask=mask.to(network.device)).logits
        score, best = logits[: len(rows)].softmax(-1).max(-1)
    return best.cpu().numpy(), score.cpu().numpy()


# --- The model -------------------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    labels: list[str]
    tokenizer: Any
    network: Any


@functools.cache
def load(path):
    """The classifier in a folder of find_weights, on the GPU where there is one."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    from phoenix.device import default_device

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the engine starts a process for every few cores
    network = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True, local_files_only=True, dtype="float32")
    network = network.eval().to(default_device())
    labels = [network.config.id2label[i] for i in range(network.config.num_labels)]
    return Model(labels, AutoTokenizer.from_pretrained(path, local_files_only=True), network)


def find_weights(cfg: LanguageConfig, offline: bool = False) -> Weights | None:
    """
    The weights that cfg.xlm_roberta names: a folder, or a model of the Hub, from its cache or, if not offline, downloaded (1.1 GB).

    None where it names none. None and one printed sentence where they cannot be had: fastText alone does nearly as well.
    """
    if cfg.xlm_roberta is None:
        return None
    try:
        folder = Path(cfg.xlm_roberta)
        if not folder.is_dir():
            folder = from_hub(*cfg.xlm_roberta.partition("@")[::2], offline)
        labels = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8")).get("id2label", {}).values()
        if "en" not in labels:
            raise ValueError(f"its labels are not language codes: {', '.join(labels) or 'none'}")
        content = hashlib.sha256()
        for name in FILES:
            with open(folder / name, "rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        return Weights(str(folder), content.hexdigest())
    except Exception as error:  # OSError, ValueError, or whatever the Hub's HTTP client raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"language: XLM-RoBERTa's weights cannot be had ({reason}); fastText decides alone")
        return None


def from_hub(name, revision, offline):
    """The folder of a model in the Hub's cache; downloads the files that are missing, unless offline."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"{name} is neither a folder nor a model of the Hub")
    revision = revision or "main"
    if not offline and not all(try_to_load_from_cache(name, file, revision=revision) for file in FILES):
        get_hf_file_metadata(hf_hub_url(name, FILES[0], revision=revision), timeout=5)  # a download tries 23 s for a network
    paths = [hf_hub_download(name, file, revision=revision, etag_timeout=5, local_files_only=offline) for file in FILES]
    return Path(paths[0]).parent
