"""The kernels that all others share, against Python's dict, str and sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_engine.kernels.hash_tables import find, fnv1a_bytes, hash_bytes, hash_table, set_size, slot_of
from data_engine.kernels.utf8 import char_at, char_before, count_chars

KEYS = st.integers(0, 2**64 - 1) | st.integers(0, 40)


@given(st.dictionaries(KEYS, st.integers(0, 2**62), max_size=60), st.lists(KEYS, max_size=20))
def test_a_table_is_a_dict(known, others):
    table = hash_table(list(known), list(known.values()))
    assert all(find(table, np.uint64(key)) == known.get(key, -1) for key in [*known, *others])


@given(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 40), max_size=40))
def test_a_set_holds_what_was_put_in_it(keys):
    slots = np.zeros(set_size(len(keys)), np.uint64)
    for i, key in enumerate(keys):
        at = slot_of(slots, np.uint64(key))
        assert (slots[at] == key) == (key in keys[:i])
        slots[at] = key


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_characters_are_pythons(text):
    data = np.frombuffer(text.encode(), np.uint8)
    found, at = [], 0
    while at < len(data):
        code, at = char_at(data, at)
        found.append(chr(code))
        assert char_before(data, at, 0)[0] == code
    assert "".join(found) == text and count_chars(data, 0, len(data)) == len(text)


def test_hashes_tell_bytes_and_lengths_apart():
    texts = [b"", b"\0\0", *(b"abcdefgh" * n + bytes([last]) for n in range(4) for last in range(256))]
    arrays = [np.frombuffer(text, np.uint8) for text in texts]
    assert len({hash_bytes(array, 0, len(array)) for array in arrays}) == len(texts)
    assert fnv1a_bytes(np.frombuffer(b"foobar", np.uint8)) == 0x85944171F73967E8  # from the authors' test vectors
