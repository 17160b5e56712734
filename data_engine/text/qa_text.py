"""
A question of StackExchange and its answers -> plain text.

in:   JSON {"title", "body", "score", "answers": [{"id", "score", "accepted", "body"}]} of xml_dumps.py; bodies are HTML
out:  {"text", "title"} or {"reason", "detail"}; the text is title, question, and the answers, each after a line "Answer:". The
      accepted answer comes first, the others by score, then by age
drops low_score     the question has fewer votes than min_score; answers with fewer are left out
      broken        invalid JSON, or JSON of another form
"""

import json

from data_engine.text.html_text import fragment_text


def read_question(content: bytes, cfg) -> dict:
    """cfg: ExtractConfig, for min_score; None keeps all."""
    try:
        question = json.loads(content)
        least = float("-inf") if cfg.min_score is None else cfg.min_score
        if question["score"] < least:
            return {"reason": "low_score", "detail": f"{question['score']}"}
        answers = [answer for answer in question["answers"] if answer["score"] >= least or answer["accepted"]]
        answers.sort(key=lambda answer: (not answer["accepted"], -answer["score"], answer["id"]))
        parts = [question["title"], fragment_text(question["body"])]
        for answer in answers:
            parts.append("Answer:\n\n" + fragment_text(answer["body"]).strip("\n"))
        return {"text": "\n\n".join(part.strip("\n") for part in parts), "title": question["title"]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return {"reason": "broken", "detail": f"{type(error).__name__}: {error}"}
