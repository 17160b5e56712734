"""
A byte-level BPE tokenizer, trained on a sample of the documents; documents -> tokens.

in:   id, source, uri, licence, text large_string, ...          out:  TOKENS
drops nothing

The sample holds each source by its share, up to sample_bytes in all. A hash chooses its documents, so sample and tokenizer are the
same on any number of cores. Workers count the pre-tokens of the sample, partition by partition; the driver adds the counts and
learns the merges. tokenizer.json is that of BpeTrainer in `tokenizers`, byte for byte.

`fastokens` encodes, with the ids of `tokenizers` at some fifty times the speed. At the start of a run `choose_encoder` encodes the
first texts with both: where they differ, or where fastokens has no wheel, `tokenizers` encodes the whole run.

The pre-tokenizer is GPT-2's regular expression, which llama.cpp knows as "gpt-2". The text of a special token inside a document is
encoded as ordinary text: only the engine writes <|endoftext|>.
"""

import dataclasses
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.dedup import remove_duplicates
from data_engine.kernels import bpe_training
from data_engine.kernels.pre_tokens import add_counts, count_pre_tokens
from data_engine.mix import FULL, SAMPLE, MixConfig, allocate, bytes_by_source, shares, uniform
from data_engine.records import nothing_dropped, text_buffers
from data_engine.step import Step, digest
from phoenix.config import UserError
from phoenix.files import sha256

VERSION = 1
END_OF_TEXT = "<|endoftext|>"
COMPARED_CHARS = 500_000  # of text that a run encodes by both libraries; `tokenizers` takes 0.4 s for it
SPECIALS = [END_OF_TEXT, *(f"<|reserved_{i}|>" for i in range(7))]  # ids 0 to 7
UNMERGED = len(SPECIALS) + 256  # entries of the vocabulary that no merge makes: these and the bytes
MEASURED_BYTES = 2_000_000  # of each source, to estimate its tokens a byte
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
    sample_bytes: int = 1_000_000_000  # text the tokenizer is trained on; takes about one byte of memory for each: dev/LOG.md
    document_bytes: int = 1_000_000  # no document gives more to the sample; cut at the end of a paragraph


@dataclass(frozen=True)
class EncodeConfig:
    sha256: str  # of tokenizer.json
    text: str = field(repr=False, metadata={"in_key": False})  # its content, which the sha256 stands for; about 2 MB
    fast: bool = field(default=True, metadata={"in_key": False})  # False: by `tokenizers`; the ids are the same


def sample(docs, settings):
    """(source, text) of the documents below settings["fractions"][source] by hash, long ones cut."""
    hashes = uniform(docs["id"], settings["seed"], SAMPLE)
    sources, limit = docs["source"].to_pylist(), settings["document_bytes"]
    chosen = [i for i, s in enumerate(sources) if int(hashes[i]) < settings["fractions"].get(s, 0) * FULL]
    rows = docs.take(pa.array(chosen, pa.int64()))
    texts = [cut_at_paragraph(text, limit) for text in rows["text"].to_pylist()]
    return pa.table({"source": rows["source"], "text": pa.array(texts, pa.large_string())}), nothing_dropped()


def cut_at_paragraph(text, limit):
    """The whole paragraphs within the first `limit` bytes; a longer first paragraph is cut itself."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head = data[:limit].decode(errors="ignore")
    end = head.rfind("\n\n")
    return head[:end] if end > 0 else head


def pre_tokens(rows, settings):
    """How often each pre-token occurs in the sample of one partition."""
    return count_pre_tokens(rows["text"]), nothing_dropped()


def train_tokenizer(counts, vocab_size, folder, progress=None):
    """
    Writes tokenizer.json and tokenizer_config.json to `folder`; UserError where the text is too little for vocab_size.

    counts    PRE_TOKENS of the whole sample
    progress  progress(merges made so far), from time to time
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = bpe_training.train(counts, vocab_size, SPECIALS, progress=progress)
    if len(vocabulary) < vocab_size:
        raise UserError(f"vocab_size={vocab_size} is more than the documents give ({len(vocabulary)}): lower it or add text")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
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
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def encode(docs, cfg):
    """Documents -> TOKENS, each ended by <|endoftext|>; a null text is empty. One call of the library a document."""
    ids_of, end = _encoder(cfg), np.uint32(SPECIALS.index(END_OF_TEXT)).tobytes()
    data, offsets = text_buffers(docs["text"])
    text = memoryview(data)
    pieces = [ids_of(str(text[start:stop], "utf-8")) + end for start, stop in pairwise(offsets.tolist())]
    lengths = np.array([len(piece) // 4 for piece in pieces], np.int64)
    ids = np.frombuffer(b"".join(pieces), np.uint32)
    assert ids.max(initial=0) < 1 << 16, f"{ids.max()} does not fit two bytes"
    ends = pa.py_buffer(np.concatenate([[0], np.cumsum(2 * lengths)]))
    tokens = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(docs), [None, ends, pa.py_buffer(ids.astype("<u2"))])
    columns = [docs[name] for name in ("id", "source", "uri", "licence")]
    return pa.table([*columns, pa.array(np.diff(offsets)), pa.array(lengths), tokens], schema=TOKENS), nothing_dropped()


def choose_encoder(cfg, texts):
    """
    The settings with `fast` off where fastokens cannot be loaded, or gives other ids than `tokenizers` for the first
    COMPARED_CHARS of these texts; then one sentence on stderr says so. The driver asks once, so all workers do the same.
    """
    reference = _encoder(dataclasses.replace(cfg, fast=False))
    try:
        ids_of, left = _fastokens(cfg.text), COMPARED_CHARS
        for text in texts:
            if left <= 0:
                break
            if ids_of(text[:left]) != reference(text[:left]):
                raise ValueError("its ids differ")
            left -= len(text)
        return cfg
    except Exception as error:  # ImportError, or whatever a version of the library makes of a tokenizer.json
        print(f"tokenizer: tokenizers encodes in place of fastokens, some fifty times slower: {error}", file=sys.stderr)
        return dataclasses.replace(cfg, fast=False)


@lru_cache(maxsize=2)
def _encoder(cfg):
    """A function from a text to its ids, as the bytes of native uint32."""
    if cfg.fast:
        return _fastokens(cfg.text)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(cfg.text)
    tokenizer.encode_special_tokens = True
    return lambda text: np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.uint32).tobytes()


def _fastokens(tokenizer_json):
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # a run has a worker for each core
    from fastokens import Tokenizer

    tokenizer = Tokenizer.from_json_str(tokenizer_json)
    return lambda text: tokenizer.encode_batch_flat([text], split_special_tokens=True)[0]


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

    key = digest(Step(train_tokenizer).identity(), cfg.vocab_size, [p.content for p in parts])
    counting = [Step(pre_tokens, one_to_many=True)]
    done = engine.is_made("tokenizer", key)
    counted = [] if done else engine.map("pre_tokens", parts, counting, folder="work/pre_tokens", no_ledger=True)

    def train(folder, progress):
        counts = add_counts(engine.read([part], None) for part in counted)
        train_tokenizer(counts, cfg.vocab_size, folder, lambda merges: progress.update(merges - progress.done))

    engine.once("tokenizer", key, train, cfg.vocab_size - UNMERGED)
    text = engine.storage.read("tokenizer/tokenizer.json").decode()
    texts = (text for part in parts for text in engine.read([part], ["text"])["text"].to_pylist())
    return parts, choose_encoder(EncodeConfig(sha256(text), text), texts)


def tokens_per_byte(cfg, engine, sampled, encoder):
    """{source: tokens a byte} of its first MEASURED_BYTES in the tokenizer's sample; 0.25 for a source without any."""
    sizes, lengths = Counter(), Counter()
    for part in sampled:
        source = part.receipt["source"]
        if sizes[source] >= MEASURED_BYTES:
            continue
        texts = engine.read([part], ["text"])["text"]
        ends = pc.cumulative_sum(pc.binary_length(texts).cast(pa.int64())).to_numpy()
        texts = texts.slice(0, 1 + int((ends < MEASURED_BYTES - sizes[source]).sum()))
        blank = pa.array([""] * len(texts))
        encoded = encode(pa.table({"id": blank, "source": blank, "uri": blank, "licence": blank, "text": texts}), encoder)[0]
        sizes[source] += pc.sum(encoded["bytes"]).as_py() or 0
        lengths[source] += pc.sum(encoded["length"]).as_py() or 0
    return {s.name: lengths[s.name] / max(1, sizes[s.name]) if lengths[s.name] else 0.25 for s in cfg.sources}
