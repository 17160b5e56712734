import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.extract import ExtractConfig
from data_engine.text.qa_text import read_question


def answer(number, score, body, accepted=False):
    return {"id": number, "score": score, "accepted": accepted, "body": f"<p>{body}</p>"}


QUESTION = {
    "title": "How to add?",
    "tags": ["maths"],
    "score": 3,
    "body": "<p>I have <b>two</b> numbers &amp; code:</p>\n<pre><code>def f(a):\n    return a  # &lt;b&gt;\n</code></pre>",
    "answers": [
        answer(7, 1, "later"),
        answer(3, 1, "earlier"),
        answer(5, -1, "wrong"),
        answer(9, 8, "best"),
        answer(8, -2, "taken", True),
    ],
}


def read(question, **settings):
    return read_question(json.dumps(question).encode(), ExtractConfig(**settings))


def test_a_question_by_hand():
    found = read(QUESTION)
    assert found["title"] == "How to add?"
    assert found["text"] == (
        "How to add?\n\nI have two numbers & code:\n\ndef f(a):\n    return a  # <b>\n\n"
        "Answer:\n\ntaken\n\nAnswer:\n\nbest\n\nAnswer:\n\nearlier\n\nAnswer:\n\nlater"
    )


def test_the_order_of_the_answers_in_the_file_does_not_matter():
    assert read(QUESTION | {"answers": QUESTION["answers"][::-1]}) == read(QUESTION)


def test_votes_under_the_minimum_are_left_out():
    assert read(QUESTION | {"score": -1}) == {"reason": "low_score", "detail": "-1"}
    assert "wrong" in read(QUESTION | {"score": -1}, min_score=None)["text"]
    assert read(QUESTION, min_score=2)["text"].count("Answer:") == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"title": 1, "score": "x"}', b"null"])
def test_what_is_no_question_is_broken(content):
    assert read_question(content, ExtractConfig())["reason"] == "broken"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9
    )
)
def test_no_json_raises(value):
    assert "reason" in read({**QUESTION, "answers": [value]}) or value == []
    assert "reason" in read(value)
