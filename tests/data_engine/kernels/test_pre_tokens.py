"""Pre-tokens and their counts: those of `tokenizers`, however a text is cut into partitions."""

import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from data_engine.kernels import pre_tokens
from data_engine.kernels.bpe_training import byte_letters
from data_engine.kernels.pre_tokens import PRE_TOKENS, add_counts, character_classes, count_pre_tokens, next_pre_token
from tests import corpus

BYTES = {letter: byte for byte, letter in enumerate(byte_letters())}


def counted(texts):
    table = count_pre_tokens(pa.array(texts, pa.large_string()))
    assert table.schema == PRE_TOKENS
    return as_dict(table)


def as_dict(table):
    found = dict(zip(table["pre_token"].to_pylist(), table["count"].to_pylist(), strict=True))
    assert len(found) == len(table), "a pre-token has two rows"
    return found


def wanted(texts):
    cut = ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str
    spelled = Counter(piece for text in texts for piece, _ in cut(text))
    return {bytes(BYTES[letter] for letter in piece): count for piece, count in spelled.items()}


def test_pre_tokens_are_cut_as_the_expression_says():
    data = b"It's 2026,  isn't it?\n\nWE'LL x'lly  \t y \r"
    at, pieces, stop = 0, [], len(data)
    while at < stop:
        end = next_pre_token(np.frombuffer(data, np.uint8), at, stop, character_classes())
        pieces.append(data[at:end].decode())
        at = end
    expected = "It|'s| 2026|,| | isn|'t| it|?|\n|\n|WE|'|LL| x|'ll|y|  \t| y| \r"
    assert "|".join(pieces) == expected


def test_counts_of_real_text_are_those_of_tokenizers():
    assert counted(corpus.texts()) == wanted(corpus.texts())


characters = st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \t\n\r'stmdrevl0aZ.,!é東\u00a0\u2003\u0301\u200d\u0378"))


@given(st.lists(st.text(characters, max_size=60), max_size=4))
def test_counts_of_any_text_are_those_of_tokenizers(texts):
    assert counted(texts) == wanted(texts)


def test_every_character_has_the_class_that_it_has_for_tokenizers():
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    unassigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn" and c % 97 == 0]
    letters = [*assigned, *unassigned]
    texts = ["".join(f"a{c}a1{c}1.{c}. {c} " for c in letters[i : i + 500]) for i in range(0, len(letters), 500)]
    assert counted(texts) == wanted(texts)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, pre_tokens.KEY_BYTES, pre_tokens.KEY_BYTES + 1, 5000])
def test_pre_tokens_of_any_length(n):
    draw = np.random.default_rng(n)
    texts = ["".join(draw.choice(list(letters), n)) for letters in ("ab", "\x00\x01\x02\x03\x07\x0f=]") for _ in range(300)]
    texts += ["a" * n, "=" * n, "\x00" * n, " " * n, "é" * n] * 2
    assert counted(texts) == wanted(texts)


def test_texts_cut_anywhere_have_the_same_counts():
    texts = pa.array(corpus.texts(), pa.large_string())
    cuts = [0, 1, 1, 60, 200, len(texts)]
    parts = [count_pre_tokens(texts[start:end]) for start, end in pairwise(cuts)]
    whole = count_pre_tokens(texts)
    assert add_counts(parts).equals(whole), "the order is that of first appearance"
    assert count_pre_tokens(pa.chunked_array([texts[:60], texts[60:]])).equals(whole)


def test_counts_are_added_in_any_portions(monkeypatch):
    parts = [count_pre_tokens(pa.array([text])) for text in corpus.texts()[:60]]
    together = add_counts(parts)
    monkeypatch.setattr(pre_tokens, "ADD_ROWS", 100)
    assert add_counts(iter(parts)).equals(together)


def test_no_text_has_no_pre_tokens_and_keeps_the_types():
    for texts in ([], [""], [None, ""]):
        assert count_pre_tokens(pa.array(texts, pa.large_string())).equals(PRE_TOKENS.empty_table())
    assert add_counts([]).equals(PRE_TOKENS.empty_table())
