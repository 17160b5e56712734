"""The trainer: vocabulary and merges are those of BpeTrainer of `tokenizers`, whatever the text and the settings."""

import json
import tarfile
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from data_engine.kernels.bpe_training import SLICE, train
from data_engine.kernels.pre_tokens import PRE_TOKENS, count_pre_tokens
from tests import corpus
from tests.fixtures import SHARED

SPECIALS = ["<|endoftext|>", "<|reserved 0|>"]
ALL_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def of_tokenizers(texts, vocab_size, specials=SPECIALS, alphabet=ALL_BYTES, min_frequency=2):
    """(vocabulary, merges) that `tokenizers` learns."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=alphabet,
        min_frequency=min_frequency,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def ours(texts, vocab_size, specials=SPECIALS, **settings):
    return train(count_pre_tokens(pa.array(texts, pa.large_string())), vocab_size, specials, **settings)


def foreign():
    """Texts in which most characters are two to four bytes."""
    lines = [
        "die Wörter über größere Straßen ",
        "москва и петербург ",
        "東京都は日本の首都である ",
        "عربي ١٢٣ ٤٥٦ ",
        "🙂👩‍👩‍👧 🏳️‍🌈 ",
    ]
    draw = np.random.default_rng(1)
    return ["".join(draw.permutation(list(line * 20))) + line * draw.integers(20) for line in lines for _ in range(20)]


def ties():
    """Texts of few letters: long runs, pairs that overlap themselves, and many pairs with the same count."""
    draw = np.random.default_rng(2)
    runs = [letter * n for letter in "ab=" for n in range(1, 70)]
    dense = ["".join(draw.choice(list("abc"), draw.integers(1, 90))) for _ in range(300)]
    even = ["".join(draw.permutation(list("abcdefghijklmnopqrstuvwxyz"))) for _ in range(300)]
    return [*runs, *dense, *even, "abababab ababab aabaab", "aaaa aaaaa bbbb"]


@pytest.mark.parametrize("texts", [corpus.texts, foreign, ties])
@pytest.mark.parametrize(("vocab_size", "min_frequency"), [(300, 1), (1000, 5), (1000, 2), (65536, 2), (65536, 1)])
def test_vocabulary_and_merges_are_those_of_tokenizers(texts, vocab_size, min_frequency):
    texts = texts()
    found = ours(texts, vocab_size, min_frequency=min_frequency)
    assert found == of_tokenizers(texts, vocab_size, min_frequency=min_frequency)
    assert list(found[0].values()) == list(range(len(found[0])))


@pytest.mark.parametrize("texts", [corpus.texts, foreign, ties])
def test_without_an_alphabet_it_is_that_of_the_text(texts):
    texts = texts()
    assert ours(texts, 2000, alphabet=()) == of_tokenizers(texts, 2000, alphabet=[])
    some = b"\x00az\xff"
    assert ours(texts, 500, alphabet=some) == of_tokenizers(texts, 500, alphabet=["Ā", "a", "z", "ÿ"])


words = st.text(st.sampled_from("aaabc "), max_size=25)


@given(st.lists(words, max_size=12), st.integers(0, 3), st.integers(0, 60))
def test_on_any_text_of_few_letters(texts, min_frequency, merges):
    settings = {"vocab_size": 256 + merges, "specials": [], "min_frequency": min_frequency}
    assert ours(texts, **settings) == of_tokenizers(texts, **settings)


def test_by_hand():
    """hug x 10, pug x 5, hugs x 5: ug (20), then h + ug (15); hug + s and p + ug both 5, of which hug has the larger id."""
    table = pa.table([[b"hug", b"pug", b"hugs"], [10, 5, 5]], schema=PRE_TOKENS)
    vocabulary, merges = train(table, 100, alphabet=())
    assert merges == [("u", "g"), ("h", "ug"), ("p", "ug"), ("hug", "s")]
    assert vocabulary == {t: i for i, t in enumerate(["g", "h", "p", "s", "u", "ug", "hug", "pug", "hugs"])}


def test_a_vocabulary_without_room_has_no_merges():
    for vocab_size in (0, 10, 258):
        vocabulary, merges = ours(corpus.texts()[:5], vocab_size)
        assert merges == [] and list(vocabulary) == [*SPECIALS, *ALL_BYTES]
    assert ours([], 300)[1] == [] and ours([], 300, [], alphabet=()) == ({}, [])


def test_the_order_of_the_pre_tokens_has_no_effect():
    table = count_pre_tokens(pa.array(corpus.texts(), pa.large_string()))
    shuffled = table.take(np.random.default_rng(3).permutation(len(table)))
    assert train(shuffled, 3000) == train(table, 3000)
    assert train(pa.concat_tables([table[:0], table[5:]]), 1000) == train(table.take(np.arange(5, len(table))), 1000)


def test_the_text_of_a_special_token_in_a_pre_token_is_refused():
    with pytest.raises(AssertionError, match="special"):
        ours(["special"] * 5, 400, ["special"])


def test_progress_counts_the_merges():
    told = []
    _, merges = ours(corpus.texts(), 3000, progress=told.append)
    assert told == [*range(SLICE, len(merges), SLICE), len(merges)]


def test_a_pre_token_of_a_million_letters_takes_no_longer_than_its_merges():
    texts = ["a" * 1_000_000, "".join(np.random.default_rng(4).choice(list("acgt"), 1_000_000))]
    start = time.process_time()
    vocabulary, _ = ours(texts, 4000)
    assert len(vocabulary) == 4000 and time.process_time() - start < 20


@pytest.mark.slow
def test_on_books_and_pages():
    """6 MB of what real text holds: tables, many languages, mark-up. A smaller vocabulary is the beginning of this one."""
    texts = []
    for name in ("gutenberg", "langid", "stackexchange", "html"):
        path = SHARED / "corpus" / f"{name}.tar.xz"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        size = 0
        with tarfile.open(path) as archive:
            for member in archive:
                if size > 1_500_000:
                    break
                if member.isfile():
                    texts.append(archive.extractfile(member).read(500_000).decode("utf-8", "replace"))
                    size += len(texts[-1])
    assert ours(texts, 65536) == of_tokenizers(texts, 65536)
