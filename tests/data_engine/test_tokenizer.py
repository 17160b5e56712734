"""The tokenizer: same text, same bytes; the file and the ids of `tokenizers`; special tokens cannot be forged."""

import dataclasses
import hashlib
import json
import shutil
import sys
import unicodedata
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data_engine import tokenizer as stage
from data_engine.kernels import bpe_training
from data_engine.kernels.pre_tokens import add_counts
from data_engine.tokenizer import (
    SPECIALS,
    EncodeConfig,
    choose_encoder,
    cut_at_paragraph,
    encode,
    pre_tokens,
    sample,
    tokens_per_byte,
    train_tokenizer,
)
from phoenix.config import UserError
from tests import corpus
from tests.runs import result, run, run_alone, written

FOREIGN = (
    "die Wörter über größere Straßen " * 20,
    "москва и петербург " * 20,
    "東京都は日本の首都 " * 20,
    "١٢٣ ٤٥٦ عربي " * 20,
)
TRAINED_ON = (*corpus.texts()[:40], *FOREIGN, "\n\n\t\t  \n  " * 30)  # the merges go beyond ASCII


def trained(texts, vocab_size, folder, cuts=()):
    """The folder with our tokenizer, trained on partitions that end at `cuts`."""
    parts = [texts[start:end] for start, end in pairwise([0, *cuts, len(texts)])]
    counts = [pre_tokens(pa.table({"text": pa.array(part, pa.large_string())}), None)[0] for part in parts]
    train_tokenizer(add_counts(counts), vocab_size, folder)
    return folder


def of_tokenizers(texts, vocab_size):
    """The tokenizer that `tokenizers` itself trains with the settings of the stage."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    settings = {"special_tokens": SPECIALS, "initial_alphabet": alphabet, "min_frequency": 2, "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **settings))
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(TRAINED_ON, 1000, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def cfg(folder):
    text = (folder / "tokenizer.json").read_text()
    return EncodeConfig(hashlib.sha256(text.encode()).hexdigest(), text)


@pytest.fixture(scope="module")
def oracle(cfg):
    tokenizer = Tokenizer.from_str(cfg.text)
    tokenizer.encode_special_tokens = True
    return tokenizer


def documents(texts):
    n = len(texts)
    ids = [f"{i:032x}" for i in range(n)]
    return pa.table({"id": ids, "source": ["a"] * n, "uri": ids, "licence": [""] * n, "text": pa.array(texts, pa.large_string())})


def tokens(texts, cfg):
    return [np.frombuffer(t, np.uint16).tolist() for t in encode(documents(texts), cfg)[0]["tokens"].to_pylist()]


def wanted(texts, oracle):
    return [[*encoding.ids, 0] for encoding in oracle.encode_batch_fast(texts, add_special_tokens=False)]


# --- The file of `tokenizers` ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (1, 1, 7, 40)])
def test_the_same_text_in_any_order_and_partitions_gives_the_same_tokenizer(folder, tmp_path, cuts):
    trained(TRAINED_ON[::-1], 1000, tmp_path, cuts)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("texts", "vocab_size"),
    [
        (TRAINED_ON, 1000),
        ((corpus.texts()[3],), 300),
        (("0123456789 " * 9, "31415926535897932384626433 " * 9, "٣٣٣٣ ⅷ½" * 9), 300),
        ((" \n\t\u2003" * 50, " " * 999), 300),
        (tuple(f"{special} {special}" for special in SPECIALS), 300),
        (("a b c",), 300),
        (("", ""), 300),
        ((), 300),
    ],
    ids=["many", "one", "digits", "whitespace", "specials", "short", "empty", "none"],
)
def test_tokenizer_json_is_that_of_tokenizers_or_the_text_is_too_little(tmp_path, texts, vocab_size):
    expected = of_tokenizers(texts, vocab_size)
    if expected.get_vocab_size() < vocab_size:
        with pytest.raises(UserError, match=rf"vocab_size=300 .*\({expected.get_vocab_size()}\)"):
            trained(texts, vocab_size, tmp_path)
        assert not list(tmp_path.iterdir())
    else:
        expected.save(str(tmp_path / "expected.json"))
        trained(texts, vocab_size, tmp_path)
        assert (tmp_path / "tokenizer.json").read_bytes() == (tmp_path / "expected.json").read_bytes()


@pytest.mark.slow
def test_a_runs_tokenizer_is_that_of_tokenizers_on_its_sample(corpora):
    files = sorted((corpora / "straight" / "work" / "sample").glob("*.parquet"))
    texts = [text for file in files for text in pq.read_table(file)["text"].to_pylist()]
    assert len(files) > 1 and sum(map(len, texts)) > 100_000
    tokenizer = (corpora / "straight" / "tokenizer" / "tokenizer.json").read_text()
    assert tokenizer == of_tokenizers(texts, 512).to_str(pretty=True)


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_counts_or_trains_goes_on(corpora, tmp_path, monkeypatch):
    out = shutil.copytree(corpora / "straight", tmp_path / "out")
    counts = sorted((out / "work" / "pre_tokens").glob("*.parquet"))
    (out / "tokenizer" / "tokenizer.json").unlink()
    counts[0].unlink()
    before = written(out)

    def stopped(table, vocab_size, specials, progress):
        progress(10)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bpe_training, "train", stopped)
        assert run(corpora / "one.py", out, check=False).returncode == 130
    after = written(out)
    assert {path for path in after if after[path] != before.get(path)} == {str(counts[0].relative_to(out))}
    assert not (out / "tokenizer" / "tokenizer.json").exists() and not (out / "shards" / "shards.json").exists()
    done = run(corpora / "one.py", out)
    assert "pre_tokens" not in done.stdout and "tokenizer " in done.stdout
    assert result(out) == result(corpora / "straight")


@pytest.mark.slow
def test_nothing_is_counted_for_a_tokenizer_that_is_there(corpora, tmp_path):
    """As for the runs of older versions, which have no counts."""
    out = shutil.copytree(corpora / "straight", tmp_path / "out")
    shutil.rmtree(out / "work" / "pre_tokens")
    before = written(out)
    done = run_alone(corpora / "one.py", out, "--ray_address=127.0.0.1:1")  # no Ray listens there
    assert "all was done before" in done.stdout and written(out) == before


# --- The ids of `tokenizers` -----------------------------------------------------------------------------------------------


def test_ids_on_real_text(cfg, oracle):
    texts = [*corpus.texts(), *FOREIGN]
    expected = wanted(texts, oracle)
    assert tokens(texts, cfg) == expected
    assert tokens(texts, cfg) == expected, "what the encoder remembers of the first pass changes the second"
    assert tokens(texts[:20], dataclasses.replace(cfg, fast=False)) == expected[:20]


characters = st.one_of(
    st.characters(codec="utf-8"), st.sampled_from(" \t\n\r'stmdrevl0aZ.,!é東\u00a0\u2003\u0301\u200d\u0378<|endoftext|>")
)


@given(st.lists(st.text(characters, max_size=60), max_size=4))
def test_any_text_has_their_ids_and_comes_back(cfg, oracle, texts):
    found = tokens(texts, cfg)
    assert found == wanted(texts, oracle)
    assert [oracle.decode(ids[:-1], skip_special_tokens=False) for ids in found] == texts


def test_ids_around_every_assigned_character(cfg, oracle):
    kinds = [unicodedata.category(chr(c)) for c in range(0x110000)]
    some = [chr(c) for c, kind in enumerate(kinds) if kind not in ("Cn", "Co", "Cs") or (kind != "Cs" and c % 64 == 0)]
    texts = ["".join(f"a{c}1{c}. " for c in some[i : i + 1000]) for i in range(0, len(some), 1000)]
    assert tokens(texts, cfg) == wanted(texts, oracle)


@pytest.mark.parametrize("n", [1, 14, 15, 16, 47, 48, 49, 5000])
def test_words_of_any_length(cfg, oracle, n):
    draw = np.random.default_rng(n)
    words = ["".join(draw.choice(list("etaoinshrdluü"), n)) for _ in range(20)] + ["a" * n, "=" * n, " " * n, "ab" * n]
    assert tokens(words, cfg) == wanted(words, oracle)


@pytest.mark.parametrize("unit", ["a", "é", "a b"])
def test_a_document_of_two_million_characters_comes_back(cfg, oracle, unit):
    document = unit * (2_000_000 // len(unit))
    (ids,) = tokens([document], cfg)
    assert oracle.decode(ids[:-1]) == document


def test_the_text_of_a_special_token_never_becomes_its_id(cfg):
    for fast in (True, False):
        for special in SPECIALS:
            (ids,) = tokens([f"before {special} after {special}"], dataclasses.replace(cfg, fast=fast))
            assert min(ids[:-1]) >= len(SPECIALS) and ids[-1] == 0


def test_an_encoder_that_differs_or_is_missing_gives_way_with_a_sentence(cfg, monkeypatch, capsys):
    texts = list(corpus.texts()[:5])
    assert choose_encoder(cfg, texts) == cfg and capsys.readouterr().err == ""
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_fastokens", lambda text: lambda one: b"")
        slow = choose_encoder(cfg, texts)
    assert not slow.fast and capsys.readouterr().err.count("\n") == 1
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fastokens", None)
        assert choose_encoder(cfg, texts) == slow and "fastokens" in capsys.readouterr().err
    assert encode(documents(texts), slow)[0].equals(encode(documents(texts), cfg)[0])


# --- The files, the columns, the sample ------------------------------------------------------------------------------------


def test_specials_have_the_first_ids_and_the_vocabulary_its_size(folder):
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocab) == 1000 and [vocab[s] for s in SPECIALS] == list(range(8))


def test_the_pretokenizer_is_gpt2s(oracle):
    pieces = [piece for piece, _ in oracle.pre_tokenizer.pre_tokenize_str("It's 2026,  isn't it?\n\nYes")]
    assert pieces == ["It", "'s", "Ġ2026", ",", "Ġ", "Ġisn", "'t", "Ġit", "?", "Ċ", "Ċ", "Yes"]


def test_transformers_loads_it_and_encodes_alike(cfg, folder):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    texts = [*corpus.texts()[60:70], " leading\tand  trailing  ", "naïve 世界 🙂"]
    for text, ids in zip(texts, tokens(texts, cfg), strict=True):
        assert loaded.encode(text, add_special_tokens=False) == ids[:-1]
    assert loaded.eos_token == loaded.bos_token == "<|endoftext|>" and loaded.eos_token_id == 0


def test_counts_are_those_of_the_tokens_and_bytes(cfg):
    table, lost = encode(documents(["a text", "", "ünï", None]), cfg)
    assert table["bytes"].to_pylist() == [6, 0, 5, 0] and len(lost) == 0
    assert table["length"].to_pylist() == [len(t) // 2 for t in table["tokens"].to_pylist()]
    assert table["length"].to_pylist()[1::2] == [1, 1]
    assert encode(documents([]), cfg)[0].schema == table.schema


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


def test_tokens_a_byte_are_those_of_the_first_texts_of_each_source(cfg, monkeypatch):
    monkeypatch.setattr(stage, "MEASURED_BYTES", 20_000)
    texts = corpus.texts()
    tables = [("a", texts[:2]), ("a", ()), ("b", texts[2:3]), ("a", texts[3:40]), ("a", texts[40:41])]
    parts = [SimpleNamespace(receipt={"source": source}, texts=part) for source, part in tables]
    read = []

    def reader(some, columns):
        read.extend(some)
        return pa.table({"text": pa.array([text for part in some for text in part.texts], pa.large_string())})

    sources = SimpleNamespace(sources=[SimpleNamespace(name=name) for name in "abc"])
    found = tokens_per_byte(sources, SimpleNamespace(read=reader), parts, cfg)
    of_a, size = [], 0
    for text in (*texts[:2], *texts[3:40]):
        if size < 20_000:
            of_a.append(text)
            size += len(text.encode())
    assert found == {
        "a": sum(map(len, tokens(of_a, cfg))) / size,
        "b": len(tokens(texts[2:3], cfg)[0]) / len(texts[2].encode()),
        "c": 0.25,
    }
    assert read == parts[:4], "a source that is measured is read no further"
