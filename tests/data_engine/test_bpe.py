"""The compiled encoder: the ids of `tokenizers`, whatever the text."""

import json
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_engine import bpe
from data_engine.records import text_buffers
from data_engine.tokenizer import train_tokenizer
from tests import corpus


class Quiet(str):
    """A text of 100 kB that a failing test does not print."""

    def __repr__(self):
        return "tokenizer.json"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """`tokenizers` and our encoder with the same vocabulary, which has merges beyond ASCII too."""
    folder = tmp_path_factory.mktemp("bpe")
    foreign = [
        "die Wörter über größere Straßen " * 20,
        "москва и петербург " * 20,
        "東京都は日本の首都 " * 20,
        "١٢٣ ٤٥٦ عربي " * 20,
    ]
    train_tokenizer(iter([*corpus.texts()[:40], *foreign, "\n\n\t\t  \n  " * 30]), 1500, folder)
    text = Quiet((folder / "tokenizer.json").read_text())
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer, text


def encode(texts, encoder):
    tokens, ends, left = bpe.encode(*text_buffers(pa.array(texts, pa.large_string())), encoder, 0)
    return [tokens[start : end - 1].tolist() for start, end in pairwise([0, *ends.tolist()])], left.tolist()


def wanted(texts, tokenizer):
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def test_words_are_cut_as_the_expression_says():
    data = b"It's 2026,  isn't it?\n\nWE'LL x'lly  \t y \r"
    at, pieces, stop = 0, [], len(data)
    while at < stop:
        end = bpe.next_pre_token(np.frombuffer(data, np.uint8), at, stop, bpe.character_classes())
        pieces.append(data[at:end].decode())
        at = end
    expected = "It|'s| 2026|,| | isn|'t| it|?|\n|\n|WE|'|LL| x|'ll|y|  \t| y| \r"
    assert "|".join(pieces) == expected


def test_ids_on_real_text(oracle):
    tokenizer, text = oracle
    texts = list(corpus.texts())
    encoder = bpe.load(text)
    expected = wanted(texts, tokenizer)
    assert encode(texts, encoder) == (expected, [])
    assert encode(texts, encoder) == (expected, []), "the table of known pre-tokens changes something"


characters = st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \t\n\r'stmdrevl0aZ.,!é東\u00a0\u2003\u0301\u200d\u0378"))


@given(st.lists(st.text(characters, max_size=60), max_size=4))
def test_ids_on_any_text(oracle, texts):
    tokenizer, text = oracle
    ids, left = encode(texts, known(text))
    for i, (mine, theirs) in enumerate(zip(ids, wanted(texts, tokenizer), strict=True)):
        assert mine == ([] if i in left else theirs)
    assert all(any(unicodedata.category(c) == "Cn" for c in texts[i]) for i in left)


def known(text, cache={}):  # noqa: B006 (one encoder for all examples: what one has taught it must not change another)
    return cache.setdefault(text, bpe.load(text))


def test_every_assigned_character_has_the_class_of_tokenizers(oracle):
    tokenizer, text = oracle
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    texts = ["".join(f"a{c}a1{c}1.{c}. {c} " for c in assigned[i : i + 500]) for i in range(0, len(assigned), 500)]
    assert encode(texts, bpe.load(text)) == (wanted(texts, tokenizer), [])


def test_characters_newer_than_pythons_tables_are_left_to_the_caller(oracle):
    new = next(chr(c) for c in range(0x370, 0x400) if unicodedata.category(chr(c)) == "Cn")
    ids, left = encode(["before", f"a {new} b", "after"], bpe.load(oracle[1]))
    assert left == [1] and ids[1] == [] and ids[0] and ids[2]


@pytest.mark.parametrize("n", [1, 14, 15, 16, bpe.SHORT - 1, bpe.SHORT, bpe.SHORT + 1, 5000])
def test_pre_tokens_of_any_length(oracle, n):
    tokenizer, text = oracle
    draw = np.random.default_rng(n)
    words = ["".join(draw.choice(list("etaoinshrdluü"), n)) for _ in range(20)] + ["a" * n, "=" * n, " " * n, "ab" * n]
    assert encode(words, bpe.load(text)) == (wanted(words, tokenizer), [])


def test_a_full_table_changes_nothing(oracle):
    tokenizer, text = oracle
    encoder = bpe.load(text)
    encoder.count[0] = bpe.KNOWN
    encoder.tokens_at[bpe.KNOWN] = 0
    texts = list(corpus.texts()[:5])
    assert encode(texts, encoder) == (wanted(texts, tokenizer), []) and not encoder.slots.any()


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "é", "a b"])
def test_a_document_of_sixteen_million_characters_comes_back(oracle, unit):
    tokenizer, text = oracle
    document = unit * (16_000_000 // len(unit))
    ids, left = encode([document], bpe.load(text))
    assert left == [] and tokenizer.decode(ids[0]) == document


def test_another_kind_of_tokenizer_is_refused(oracle):
    described = json.loads(oracle[1])
    for change in ({"pre_tokenizer": None}, {"normalizer": {"type": "NFC"}}, {"model": described["model"] | {"type": "Unigram"}}):
        with pytest.raises(ValueError, match="GPT-2"):
            bpe.load(json.dumps(described | change))


def test_empty_texts_have_their_end_alone(oracle):
    tokens, ends, left = bpe.encode(*text_buffers(pa.array(["", ""], pa.large_string())), bpe.load(oracle[1]), 7)
    assert tokens.tolist() == [7, 7] and ends.tolist() == [1, 2] and len(left) == 0
    assert len(bpe.encode(*text_buffers(pa.array([], pa.large_string())), bpe.load(oracle[1]), 7)[0]) == 0
