"""The documents say what the code does: every command of the README, every row of docs/stages.md."""

import dataclasses
import importlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.fixtures import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("#")[0].strip() for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]

SCRIPTS = sorted({" ".join(c.split()[: 3 if "-m" in c else 2]) for c in COMMANDS if c.startswith("python ")})


def test_the_readme_names_its_commands():
    assert {"make quickstart", "make test"} <= set(COMMANDS) and len(COMMANDS) >= 6


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command):
    done = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", SCRIPTS)
def test_scripts_print_their_settings(command):
    """Every script of the README answers --help, and every setting that the README gives it exists."""
    done = subprocess.run([sys.executable, *shlex.split(command)[1:], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given = {name for c in COMMANDS if c.startswith(command) for name in re.findall(r"--([\w.]+)=", c)}
    assert given <= set(re.findall(r"--([\w.]+)=", done.stdout)), given


def test_the_readmes_files_exist():
    for path in re.findall(r"`([\w/]+\.(?:py|md))`|\]\(([\w/.]+)\)", README):
        path = path[0] or path[1]
        if not path.startswith("http") and path not in ("configs/mine.py",):
            assert (ROOT / path).exists(), path
    for path in re.findall(r"configs/\w+\.py", README):
        assert path == "configs/mine.py" or (ROOT / path).is_file(), path


def stages():
    lines = (ROOT / "docs" / "stages.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]
    return [row for row in rows if len(row) == 6]


def test_the_table_of_stages_is_true():
    rows = stages()
    assert len(rows) >= 10
    for steps, file, _, settings, _, test in rows:
        module = importlib.import_module(file.strip("`").removesuffix(".py").replace("/", "."))
        assert isinstance(module.VERSION, int) and (ROOT / test.strip("`")).is_file()
        for step in re.findall(r"`(\w+)`", steps):
            assert hasattr(module, step), f"{file} has no {step}"
        known = {f.name for cls in vars(module).values() if dataclasses.is_dataclass(cls) for f in dataclasses.fields(cls)}
        assert set(re.findall(r"`(\w+)`", settings)) <= known, (file, settings)


def test_every_step_of_the_line_and_every_setting_of_a_stage_is_in_the_table():
    rows = stages()
    named = {step for row in rows for step in re.findall(r"`(\w+)`", row[0])}
    line = (ROOT / "data_engine" / "run.py").read_text()
    assert set(re.findall(r"Step\((\w+)", line)) <= named
    from data_engine.run import Settings

    shown = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "stages.md").read_text()))
    for field in dataclasses.fields(Settings):
        if field.default_factory is not dataclasses.MISSING:
            assert {f.name for f in dataclasses.fields(field.default_factory)} <= shown, field.name


def test_reasons_in_the_code_are_in_the_table():
    """Every reason that a source or a stage gives stands in the row of its file."""
    patterns = (r'\bdrop\([^"\n\[]+"\w+", "(\w+)"', r'chunk\.drop\([^,]+, "(\w+)"', r'"reason": "(\w+)"')
    for _, file, _, _, dropped, _ in stages():
        source = (ROOT / file.strip("`")).read_text()
        said = {reason for pattern in patterns for reason in re.findall(pattern, source)}
        rows = [row[4] for row in stages() if row[1] == file]
        assert said <= set(re.findall(r"\w+", " ".join(rows))), (file, said, dropped)
