"""Settings: file and command line, types, and one sentence for every mistake."""

import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from phoenix.config import UserError, help_text, load
from tests.fixtures import ROOT


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5  # part of the whole
    names: tuple[str, ...] = ("en",)  # what to keep


@dataclass(frozen=True)
class Outer:
    out: str | None = None  # folder
    steps: int = 10  # how many
    lr: float = 1e-3  # peak
    fast: bool = False  # quick
    parts: tuple = ()  # anything
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("arg", "name", "value"),
    [
        ("--steps=20", "steps", 20),
        ("--steps=1e3", "steps", 1000),
        ("--steps=1_000", "steps", 1000),
        ("--lr=1", "lr", 1.0),
        ("--fast", "fast", True),
        ("--fast=false", "fast", False),
        ("--out=x=y", "out", "x=y"),
        ("--out=None", "out", None),
        ("--out=7", "out", "7"),
        ("--inner.rate=0.25", "inner", Inner(rate=0.25)),
        ("--inner.names=de,fr", "inner", Inner(names=("de", "fr"))),
        ("--inner.names=()", "inner", Inner(names=())),
    ],
)
def test_command_line_values_get_their_types(arg, name, value):
    assert getattr(load(Outer, [arg]), name) == value


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("import math\n_hidden = 3\nsteps = 5\nlr = 1\ninner = dict(rate=1)\ndef helper(): pass\n", encoding="utf-8")
    cfg = load(Outer, [str(path), "--steps=7", "--inner.names=it"])
    assert cfg == Outer(steps=7, lr=1.0, inner=Inner(1.0, ("it",)))


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("--stepz=1", "did you mean 'steps'"),
        ("--steps=many", "steps must be int, not 'many'"),
        ("--steps=1.5", "steps must be int"),
        ("--steps=True", "steps must be int"),
        ("--steps", "needs a value"),
        ("--fast=2", "fast must be bool"),
        ("--inner=3", "--inner has parts"),
        ("--inner.rat=3", "did you mean 'rate'"),
        ("--steps.x=3", "has no parts"),
        ("-x", "not understood"),
        ("--lr 3e-4", "--lr 3e-4 is not understood: settings are given as --name=value, so --lr=3e-4"),
        ("--fast False", "so --fast=False"),
        ("--inner.rate 3", "so --inner.rate=3"),
        ("--out x --steps 3", "so --out=x"),
        ("nowhere.py", "nowhere.py does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(arg, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as caught:
        load(Outer, arg.split())
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for text, words in (("steps = 1 +", "SyntaxError"), ("stepz = 1", "did you mean"), ("lr = 'high'", "lr must be float")):
        (tmp_path / "c.py").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            load(Outer, [str(tmp_path / "c.py")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources = []\ntokens = 5", "it is a config of the data engine: python -m data_engine.run {path}"),
        ("n_layer = 5", "it is a config of the trainer: python train.py {path}"),
        ("stepz = 5", "unknown setting 'stepz'; did you mean 'steps'?"),
    ],
)
def test_a_config_of_another_program_is_told_by_name(tmp_path, text, words):
    (tmp_path / "c.py").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load(Outer, [str(tmp_path / "c.py")])
    assert str(error.value) == f"settings file {tmp_path / 'c.py'}: " + words.format(path=tmp_path / "c.py")


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "c.py").write_text("out = '~/run'", encoding="utf-8")
    assert load(Outer, [str(tmp_path / "c.py")]).out == load(Outer, ["--out=~/run"]).out == "/home/me/run"
    assert load(Outer, ["--out=~run"]).out == "~run"


def test_a_bare_flag_may_stand_before_the_config_file(tmp_path):
    (tmp_path / "c.py").write_text("steps = 3", encoding="utf-8")
    assert load(Outer, ["--fast", str(tmp_path / "c.py")]) == Outer(fast=True, steps=3)


def test_help_shows_every_setting_with_its_default_and_comment():
    text = help_text(Outer)
    for words in ("--steps=10", "how many", "--inner.rate=0.5", "part of the whole", "--inner.names=('en',)"):
        assert words in text


def test_a_positional_argument_fills_its_setting():
    assert load(Outer, ["ckpt.pt", "--fast"], positional="out").out == "ckpt.pt"
    with pytest.raises(UserError, match="one out"):
        load(Outer, ["a", "b"], positional="out")


@dataclass(frozen=True)
class Two:
    model: str  # file
    prompt: str | None = None  # text


def test_two_positional_arguments_fill_their_settings_in_order(capsys):
    assert load(Two, ["ckpt.pt", "None"], positional="model prompt") == Two("ckpt.pt", "None")  # a text, not parsed
    assert load(Two, ["ckpt.pt"], positional="model prompt") == Two("ckpt.pt", None)
    with pytest.raises(UserError, match=r"at most 2 arguments \(model prompt\) are expected, 3 were given"):
        load(Two, ["a", "b", "c"], positional="model prompt")
    with pytest.raises(SystemExit):
        load(Two, ["--help"], positional="model prompt")
    assert "arguments: MODEL [PROMPT] [--setting=value ...]" in capsys.readouterr().out


def test_an_output_that_is_closed_ends_the_program_with_one_line():
    read, write = os.pipe()
    os.close(read)
    code = "from phoenix.config import main_guard; main_guard(lambda _: print('help'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "stopped: the output was closed\n")


def test_an_output_that_has_no_such_character_does_not_end_the_program():
    code = "import sys; from phoenix.config import main_guard; main_guard(lambda _: print('2 – 3 ± 1'))"
    env = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 ? 3 ± 1\n".encode("latin-1"), b"")
