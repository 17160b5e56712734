import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.text.normalise import character_classes, joins, normalise


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("a\r\nb \x00\n\n\n\nc", "a\nb\n\nc"),
        ("a\rb\fc\x85d\u2028e\vf", "a\nb\nc\nd\ne\nf"),
        ("\ufeffe\u0301\x07\x7f\x81", "é"),
        ("e\x00\u0301", "é"),
        ("\n \n  indented\n\tby tab  \n", "  indented\n\tby tab"),
        ("a\xa0b\u2009c\u3000d\u202f\n", "a b c d"),
        ("ex\xadam\u200bple \u200eof\u202c direction\u2069", "example of direction"),
        ("no\u200cjoin a\u200d b", "nojoin a b"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("👩\u200d💻 ❤\ufe0f\u200d🔥", "👩\u200d💻 ❤\ufe0f\u200d🔥"),
        ("itâ€™s cafÃ© at Ã\xa0 la carte\nnaïve – not â€œbroken", "it’s café at à la carte\nnaïve – not “broken"),
        ("the \x93quotes\x94 of windows-1252", "the “quotes” of windows-1252"),
        ("SÃO PAULO, ÂNGELA, maçã", "SÃO PAULO, ÂNGELA, maçã"),
        ("", ""),
    ],
)
def test_normalise(found, wanted):
    assert normalise(pa.array([found], pa.large_string())).to_pylist() == [wanted]


PIECES = st.sampled_from(
    [
        *"\r\n\t \x00\x85\u2029e\u0301\u1100\u1161Å\U0001d15ex\xa0\xad\u200d\u200c",
        *"\u064e\u0915\u094d\u0483👩\ufe0f\u2126\u0323\u0f73\u2000",
        *"ÃÂ©\x83â€™\x92ƒ\x81",
    ]
)


@settings(max_examples=40)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20), max_size=12))
def test_normalise_is_nfc_idempotent_and_without_control_characters(texts):
    once = normalise(pa.array(texts, pa.large_string()))
    assert normalise(once).equals(once)
    for text in once.to_pylist():
        assert unicodedata.is_normalized("NFC", text) and "\n\n\n" not in text and " \n" not in text
        assert not any(unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp") and c not in "\n\t " for c in text)


@settings(max_examples=40)
@given(st.lists(st.none() | st.text(alphabet="aé \n\xa0\u0301", max_size=9), max_size=6), st.integers(0, 5))
def test_a_slice_is_normalised_as_the_whole(texts, first):
    whole = pa.array(texts, pa.large_string())
    found = normalise(whole).to_pylist()
    assert normalise(whole.slice(first)).to_pylist() == found[first:]
    assert [text is None for text in found] == [text is None for text in texts]


def test_inert_characters_are_the_same_in_nfc_after_any_other():
    """By brute force: what is not sent to NFC needs none, alone or behind a letter, a mark or a syllable."""
    for code in np.flatnonzero(character_classes() == 0).tolist():
        if not 0xD800 <= code <= 0xDFFF:
            assert unicodedata.is_normalized("NFC", f"{chr(code)}e{chr(code)}가{chr(code)}α{chr(code)}か{chr(code)}"), hex(code)


def test_composing_does_not_change_what_a_joiner_means():
    """clean_characters judges joiners before NFC: a letter must count as the same script when an accent has become part of it."""
    for code in range(0xA0, 0x30000):
        parts = unicodedata.normalize("NFD", chr(code)) if not 0xD800 <= code <= 0xDFFF else ""
        composed = unicodedata.normalize("NFC", parts)
        if parts != composed:
            last = [[ord(c) for c in text if not unicodedata.combining(c)][-1:] for text in (parts, composed)]
            for joiner in (0x200C, 0x200D):
                assert len({joins.py_func(joiner, base) for bases in last for base in bases}) <= 1, hex(code)


@pytest.mark.parametrize("n", [29, 30, 31, 70, 300_000])
def test_marks_without_end_take_no_time_and_are_cut(n):
    once = normalise(pa.array(["x" + "\u0301\u0323" * n + "y", "e\u0301"], pa.large_string()))
    assert once[1].as_py() == "é" and normalise(once).equals(once)
    assert len(once[0].as_py()) <= 32 and once[0].as_py()[-1] == "y"
