"""The tokenizer: same text, same bytes; every text comes back; special tokens cannot be forged."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.tokenizer import SPECIALS, EncodeConfig, cut_at_paragraph, encode, sample, train_tokenizer
from phoenix.config import UserError
from tests import corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(iter(corpus.texts()[:60]), 1000, path)
    return path


@pytest.fixture(scope="module")
def cfg(folder):
    text = (folder / "tokenizer.json").read_text()
    return EncodeConfig(hashlib.sha256(text.encode()).hexdigest(), text)


def documents(texts):
    n = len(texts)
    ids = [f"{i:032x}" for i in range(n)]
    return pa.table({"id": ids, "source": ["a"] * n, "uri": ids, "licence": [""] * n, "text": pa.array(texts, pa.large_string())})


def tokens(texts, cfg):
    return [np.frombuffer(t, np.uint16) for t in encode(documents(texts), cfg)[0]["tokens"].to_pylist()]


def test_the_same_text_in_any_order_gives_the_same_tokenizer(folder, tmp_path):
    train_tokenizer(iter(corpus.texts()[:60][::-1]), 1000, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@given(st.lists(st.text(), max_size=5))
def test_every_text_comes_back(cfg, texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(cfg.text)
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    for text, ids in zip(texts, tokens(texts, cfg), strict=True):
        assert ids[-1] == 0 and tokenizer.decode(ids[:-1], skip_special_tokens=False) == text


def test_the_text_of_a_special_token_never_becomes_its_id(cfg):
    for special in SPECIALS:
        (ids,) = tokens([f"before {special} after {special}"], cfg)
        assert (ids[:-1] >= len(SPECIALS)).all() and ids[-1] == 0


def test_specials_have_the_first_ids_and_the_vocabulary_its_size(folder):
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocab) == 1000 and [vocab[s] for s in SPECIALS] == list(range(8))


def test_the_pretokenizer_is_gpt2s(cfg, folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("It's 2026,  isn't it?\n\nYes")]
    assert pieces == ["It", "'s", "Ġ2026", ",", "Ġ", "Ġisn", "'t", "Ġit", "?", "Ċ", "Ċ", "Yes"]


def test_transformers_loads_it_and_encodes_alike(cfg, folder):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    texts = [*corpus.texts()[60:70], " leading\tand  trailing  ", "naïve 世界 🙂"]
    for text, ids in zip(texts, tokens(texts, cfg), strict=True):
        assert loaded.encode(text, add_special_tokens=False) == ids[:-1].tolist()
    assert loaded.eos_token == loaded.bos_token == "<|endoftext|>" and loaded.eos_token_id == 0


def test_counts_are_those_of_the_tokens_and_bytes(cfg):
    table, lost = encode(documents(["a text", "", "ünï"]), cfg)
    assert table["bytes"].to_pylist() == [6, 0, 5] and len(lost) == 0
    assert table["length"].to_pylist() == [len(t) // 2 for t in table["tokens"].to_pylist()]


def test_too_large_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(UserError, match="vocab_size=5000"):
        train_tokenizer(iter(["a few words only"]), 5000, tmp_path)


def test_long_documents_are_cut_at_a_paragraph():
    assert cut_at_paragraph("one\n\ntwo\n\nthree", 9) == "one"
    assert cut_at_paragraph("one\n\ntwo\n\nthree", 100) == "one\n\ntwo\n\nthree"
    assert cut_at_paragraph("é" * 10, 5) == "éé"


def test_the_sample_follows_the_fractions():
    docs = documents(["text"] * 2000)
    kept, _ = sample(docs, {"seed": 1, "fractions": {"a": 0.3}, "document_bytes": 100})
    assert 500 < len(kept) < 700
    again, _ = sample(docs, {"seed": 1, "fractions": {"a": 0.6}, "document_bytes": 100})
    assert len(again) > len(kept)
