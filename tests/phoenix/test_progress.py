"""The progress display: lines where there is no terminal, a bar on one, durations in words."""

import io

from phoenix import progress
from phoenix.progress import Progress, duration


def test_durations_are_rounded_to_what_a_reader_needs():
    assert [duration(secs) for secs in (12, 90, 7200)] == ["12 s", "1.5 min", "2.0 h"]


def test_without_a_terminal_it_prints_the_start_every_ten_seconds_and_the_end(monkeypatch):
    now, output = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("training", 12, file=output) as bar:
        for step in range(12):
            now[0] += 4
            if step == 5:
                bar.rewind(2)
            bar.update(loss=f"loss {step}")
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert lines[0] == "training 0/12 0 s" and lines[1].startswith("training 3/12 loss 2 12 s, 36 s left")
    assert lines[-1].startswith("training 9/12 loss 11") and len(lines) == 5


def test_what_is_done_already_prints_nothing():
    output = io.StringIO()
    with Progress("training", 3, done=3, file=output):
        pass
    assert output.getvalue() == ""


def test_a_terminal_shows_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    output = Terminal()
    with Progress("training", 2, file=output, unit="step") as bar:
        bar.update(loss="loss 3.1")
        bar.update(loss="loss 2.9")
    assert "2/2" in output.getvalue() and "loss 2.9" in output.getvalue() and "\r" in output.getvalue()
