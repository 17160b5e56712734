"""
A byte-level BPE tokenizer, trained on a sample of the documents; documents -> tokens.

The sample takes each source by its share, up to sample_bytes in all, documents chosen by hash; it is the same on any number of
cores, and so is the tokenizer. The pre-tokenizer is GPT-2's regular expression, which llama.cpp knows as "gpt-2". The text of a
special token inside a document is encoded as ordinary text: only the engine writes <|endoftext|>.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine import bpe
from data_engine.dedup import remove_duplicates
from data_engine.mix import FULL, SAMPLE, MixConfig, allocate, bytes_by_source, shares, uniform
from data_engine.records import nothing_dropped, text_buffers
from data_engine.step import Step, digest
from phoenix.config import UserError
from phoenix.files import sha256

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
    sample_bytes: int = 1_000_000_000  # text the tokenizer is trained on; up to 3.5 bytes of memory for each: dev/LOG.md
    document_bytes: int = 1_000_000  # no document gives more to the sample; cut at the end of a paragraph


@dataclass(frozen=True)
class EncodeConfig:
    sha256: str  # of tokenizer.json
    text: str = field(repr=False, metadata={"in_key": False})  # its content, which the sha256 stands for; about 2 MB


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
    """
    Documents -> TOKENS, each ended by <|endoftext|>: bpe.py's compiled pass, which has the ids of `tokenizers` at ten times its
    speed. The rare text with a character newer than Python's tables is encoded by `tokenizers` itself.
    """
    encoder, tokenizer = _encoder(cfg)
    end = SPECIALS.index(END_OF_TEXT)
    data, offsets = text_buffers(docs["text"])
    ids, ends, left = bpe.encode(data, offsets, encoder, end)
    places = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int64) * 2)
    tokens = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(docs), [None, places, pa.py_buffer(ids)])
    if len(left):
        texts = docs["text"].take(pa.array(left)).to_pylist()
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        found = pa.array([np.array([*encoding.ids, end], "<u2").tobytes() for encoding in encodings], pa.large_binary())
        here = np.zeros(len(docs), bool)
        here[left] = True
        tokens = pc.replace_with_mask(tokens, pa.array(here), found)
    lengths = pc.divide(pc.binary_length(tokens), 2)
    columns = [docs[name] for name in ("id", "source", "uri", "licence")]
    return pa.table([*columns, pa.array(np.diff(offsets)), lengths, tokens], schema=TOKENS), nothing_dropped()


@lru_cache(maxsize=1)
def _encoder(cfg):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(cfg.text)
    tokenizer.encode_special_tokens = True
    return bpe.load(cfg.text), tokenizer


# ---------------------------------------------------------------------------------------------------- in the driver


def make_tokenizer(cfg, engine, docs, dupes, sizes):
    """
    Makes the folder tokenizer/.

    sizes  (id, source, bytes) of the documents that are no duplicates
    Returns the partitions of the sample it was trained on, and the settings of `encode`.
    """
    available = bytes_by_source(cfg, sizes)
    sample_bytes = min(cfg.tokenizer.sample_bytes, sum(available.values()))
    quota = allocate(available, shares(cfg), sample_bytes, MixConfig(max_epochs=1))
    fractions = {s: quota[s] / available[s] if available[s] else 0.0 for s in quota}
    settings = {"seed": cfg.seed, "fractions": fractions, "document_bytes": cfg.tokenizer.document_bytes}
    steps = [Step(remove_duplicates, side_inputs=True, one_to_many=True), Step(sample, settings, one_to_many=True)]
    parts = engine.map("sample", docs, steps, [dupes], "work/sample", no_ledger=True)

    def train(folder):
        texts = (text for part in parts for text in engine.read([part], ["text"])["text"].to_pylist())
        train_tokenizer(texts, cfg.vocab_size, folder)

    engine.once("tokenizer", digest(Step(train_tokenizer).identity(), cfg.vocab_size, [p.content for p in parts]), train)
    text = engine.storage.read("tokenizer/tokenizer.json").decode()
    return parts, EncodeConfig(sha256(text), text)


def tokens_per_byte(cfg, engine, sampled, encoder):
    """{source: tokens a byte}, measured on up to 2 MB of each in the tokenizer's sample; 0.25 for a source without any."""
    table = engine.read(sampled, ["source", "text"])
    ratio = {source.name: 0.25 for source in cfg.sources}
    for source in pc.unique(table["source"]).to_pylist():
        texts = table.filter(pc.equal(table["source"], source))["text"]
        ends = pc.cumulative_sum(pc.binary_length(texts).cast(pa.int64())).to_numpy()
        texts = texts.slice(0, 1 + int((ends < 2_000_000).sum()))
        blank = pa.array([""] * len(texts))
        encoded = encode(pa.table({"id": blank, "source": blank, "uri": blank, "licence": blank, "text": texts}), encoder)[0]
        ratio[source] = pc.sum(encoded["length"]).as_py() / max(1, pc.sum(encoded["bytes"]).as_py())
    return ratio
