"""The documents describe the code as it is: commands and files of the README, rows of docs/stages.md, requirements."""

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
def test_scripts_print_their_settings():
    """Every script of the README answers --help, and every setting that the README gives it exists."""
    pipes = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = {command: subprocess.Popen([sys.executable, *shlex.split(command)[1:], "--help"], **pipes) for command in SCRIPTS}
    for command, process in running.items():
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        given = {name for c in COMMANDS if c.startswith(command) for name in re.findall(r"--([\w.]+)=", c)}
        assert given <= set(re.findall(r"--([\w.]+)=", stdout)), (command, given)


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
    used = {step for file in (ROOT / "data_engine").glob("*.py") for step in re.findall(r"\bStep\((\w+)[,)]", file.read_text())}
    assert len(used) > 10 and used <= named, used - named
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


def requirements(file):
    """Names of the packages that a requirements file lists itself."""
    return {name.lower() for name in re.findall(r"^([\w.-]+)", (ROOT / file).read_text(), re.M)} - {"-r"}


def test_every_requirement_has_its_purpose():
    rows = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.M)
    listed = {name.strip().split("[")[0].lower() for row in rows for name in row.split(",")} - {"package", "---"}
    assert listed == requirements("requirements.txt") | requirements("requirements-dev.txt")


def test_a_run_needs_no_package_of_the_tests():
    code = [*ROOT.glob("*.py"), *(ROOT / "phoenix").rglob("*.py"), *(ROOT / "data_engine").rglob("*.py")]
    imported = {name for file in code for name in re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(), re.M)}
    assert "torch" in imported and not imported & requirements("requirements-dev.txt")


def test_the_experiments_are_dated_newest_first_within_120_columns():
    lines = (ROOT / "dev" / "LOG.md").read_text().splitlines()
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d) \w", "\n".join(lines), re.M)
    assert len(dates) > 40 and dates == sorted(dates, reverse=True)
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
