"""The house: which file may import which, wherever in a file the import stands."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter

from tests.fixtures import ROOT

SCRIPTS = {"train", "model", "evaluate", "export_hf", "sample"}
HELPERS = {f"data_engine.{folder}" for folder in ("sources", "text", "kernels")}
LINE = {f"data_engine.{name}" for name in ("run", "engine", "worker")}


@cache
def imports():
    """{module: modules of the project that it imports, in functions too}; importing from a package imports its module."""
    paths = [*ROOT.glob("*.py"), *(ROOT / "phoenix").rglob("*.py"), *(ROOT / "data_engine").rglob("*.py")]
    modules = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for name, path in modules.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = name.split(".")[: -node.level] if node.level else []
                base = ".".join([*package, *(node.module or "").split(".")]).rstrip(".")
                names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names]
            graph[name] |= {found for found in names if found in modules} - {name}
    return graph


def test_no_module_imports_itself_by_way_of_others():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def names_no_encoding(call):
    """Whether the call opens a text file, by its name and mode, and leaves the encoding to the locale; ruff sees few of them."""
    if not isinstance(call.func, ast.Attribute) or any(k.arg == "encoding" for k in call.keywords):
        return False
    if call.func.attr == "open":
        return bool(call.args) and getattr(call.args[0], "value", None) in ("r", "w", "a", "x")
    return len(call.args) <= {"read_text": 0, "write_text": 1}.get(call.func.attr, -1)


def test_text_files_name_their_encoding():
    found = []
    for folder in (".", "phoenix", "data_engine", "benchmarks", "dev", "configs"):
        for path in (ROOT / folder).glob("*.py" if folder == "." else "**/*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
            found += [f"{path}:{call.lineno}" for call in calls if names_no_encoding(call)]
    assert not found


def test_the_root_holds_the_scripts_alone():
    assert {path.stem for path in ROOT.glob("*.py")} <= SCRIPTS


def test_what_the_scripts_share_imports_neither_a_script_nor_the_data_engine():
    wrong = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if name.split(".")[0] == "phoenix" and (other in SCRIPTS or other.split(".")[0] == "data_engine")
    }
    assert not wrong


def test_helpers_of_the_data_engine_do_not_import_its_line():
    inside = lambda name: any(name.startswith(f"{folder}.") or name == folder for folder in HELPERS)  # noqa: E731
    assert not {(name, other) for name, others in imports().items() for other in others & LINE if inside(name)}


def test_scripts_and_data_engine_meet_in_files_only():
    """The trainer reads the shards, whoever wrote them."""
    assert not {name for name, others in imports().items() if name in SCRIPTS and any(o.startswith("data_engine") for o in others)}
