"""
A byte-level BPE tokenizer, trained on a sample of the documents; documents -> tokens.

The sample takes each source by its share, up to sample_bytes in all, documents chosen by hash; it is the same on any number of
cores, and so is the tokenizer. The pre-tokenizer is GPT-2's regular expression, which llama.cpp knows as "gpt-2". The text of a
special token inside a document is encoded as ordinary text: only the engine writes <|endoftext|>.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from config import UserError
from data_engine.mix import FULL, SAMPLE, uniform
from data_engine.records import nothing_dropped

VERSION = 1
END_OF_TEXT = "<|endoftext|>"
SPECIALS = [END_OF_TEXT, *(f"<|reserved_{i}|>" for i in range(7))]  # ids 0 to 7
TOKENS = pa.schema(
    {
        **{name: pa.string() for name in ("id", "source", "uri", "licence")},
        "bytes": pa.int64(),  # of the text in UTF-8
        "length": pa.int64(),  # tokens with the closing <|endoftext|>
        "tokens": pa.large_binary(),  # little-endian uint16
    }
)


@dataclass(frozen=True)
class TokenizerConfig:
    sample_bytes: int = 1_000_000_000  # text the tokenizer is trained on; about ten times this is used in memory
    document_bytes: int = 1_000_000  # no document gives more to the sample; cut at the end of a paragraph


@dataclass(frozen=True)
class EncodeConfig:
    sha256: str  # of tokenizer.json
    path: str = field(metadata={"in_key": False})  # where it lies: not part of what it does


def sample(docs, settings):
    """(source, text) of the documents below settings["fractions"][source] by hash, long ones cut."""
    hashes = uniform(docs["id"], settings["seed"], SAMPLE)
    sources, limit = docs["source"].to_pylist(), settings["document_bytes"]
    chosen = [i for i, s in enumerate(sources) if int(hashes[i]) < settings["fractions"].get(s, 0) * FULL]
    rows = docs.take(pa.array(chosen, pa.int64()))
    texts = [cut_at_paragraph(text, limit) for text in rows["text"].to_pylist()]
    return pa.table({"source": rows["source"], "text": pa.array(texts, pa.large_string())}), nothing_dropped()


def cut_at_paragraph(text, limit):
    """The longest run of whole paragraphs from the start within `limit` bytes; a first paragraph longer than that is cut in it."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head = data[:limit].decode(errors="ignore")
    end = head.rfind("\n\n")
    return head[:end] if end > 0 else head


def train_tokenizer(texts, vocab_size, folder):
    """tokenizer.json and tokenizer_config.json in `folder`, from an iterator of texts; UserError where there is too little text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIALS, initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"vocab_size={vocab_size} is more than the documents give ({tokenizer.get_vocab_size()}): lower it or add text"
        )
    tokenizer.save(str(Path(folder) / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def encode(docs, cfg):
    """Documents -> TOKENS, each ended by <|endoftext|>."""
    tokenizer = _tokenizer(cfg.path, cfg.sha256)
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts = docs["text"].to_pylist()
    tokens = []
    for start in range(0, len(texts), 256):  # encodings hold far more than their ids: a few hundred at a time
        for encoding in tokenizer.encode_batch_fast(texts[start : start + 256], add_special_tokens=False):
            tokens.append(np.array([*encoding.ids, end], "<u2").tobytes())
    lengths = np.array([len(t) // 2 for t in tokens], np.int64)
    sizes = np.array([len(t.encode()) for t in texts], np.int64)
    columns = [docs[name] for name in ("id", "source", "uri", "licence")]
    return pa.table([*columns, sizes, lengths, pa.array(tokens, pa.large_binary())], schema=TOKENS), nothing_dropped()


@cache
def _tokenizer(path, sha256):
    from tokenizers import Tokenizer

    text = Path(path).read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == sha256, f"{path} changed during the run"
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer
