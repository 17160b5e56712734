import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data_engine.download import PythonDocs
from data_engine.sources import python_docs
from data_engine.sources.python_docs import typeset
from data_engine.sources.source import Job
from tests.fixtures import ROOT

MODULE = '''"""About the module."""
import os
class Public:
    """About the class.

    More.
        indented
    """
    def method(self):
        "About the method."
        def inner(): "never"
    def _private(self): "never"
class _Private:
    "never"
    def method(self): "never"
if os.name:
    async def conditional(): "About the condition."
else:
    def other(): "About the other."
def silent(): pass
'''


def test_docstrings_are_those_of_public_names_in_order():
    assert python_docs._docstrings(python_docs.ast.parse(MODULE), "m") == [
        ("m", "About the module."),
        ("m.Public", "About the class.\n\nMore.\n    indented"),
        ("m.Public.method", "About the method."),
        ("m.conditional", "About the condition."),
        ("m.other", "About the other."),
    ]


def test_pydoc_pages_hold_nothing_of_this_machine(monkeypatch):
    monkeypatch.setenv("PHOENIX_TEST_SECRET", "hunter2-in-the-environment")
    pages = {module: page for module, page, _ in python_docs._pydoc_pages(["os", "sys", "site", "ftplib", "json.decoder"])}
    assert "Simple&nbsp;JSON" in pages["json.decoder"]
    for page in pages.values():
        assert "hunter2" not in page and "0x7" not in page
        assert sys.prefix not in page and str(Path(os.__file__).parent) not in page


def test_a_module_that_cannot_be_rendered_costs_one_row(monkeypatch):
    found = list(python_docs._pydoc_pages(["json", "no_such_module", "abc"]))
    assert [(module, page is not None, problem and problem[0]) for module, page, problem in found] == [
        ("json", True, None),
        ("no_such_module", False, "import_failed"),
        ("abc", True, None),
    ]
    monkeypatch.setattr(python_docs, "CHILD_SECS", 0.001)
    assert [problem[0] for _, _, problem in python_docs._pydoc_pages(["json", "abc"])] == ["timeout"] * 2


def test_a_package_that_is_gone_costs_its_rows_only():
    spec = ("docstrings", [["gone/a.py", "no-such-package"], ["pip/gone.py", "pip"], ["pip/__init__.py", "pip"]])
    ((kept, lost),) = PythonDocs("p").read(Job("j", spec, ""))
    assert lost["uri"].to_pylist() == ["docstrings:gone/a.py", "docstrings:pip/gone.py"]
    assert set(lost["reason"].to_pylist()) == {"unreadable"} and len(kept) <= 1


def test_a_typeset_document_is_the_same_bytes_and_the_same_text():
    import pymupdf

    text = "A title\n\n" + "\n".join(f"    line {i} of the text (with brackets)" for i in range(200)) + "\n" + "long " * 60
    data = typeset(text)
    assert data == typeset(text)
    with pymupdf.open(stream=data) as document:
        assert len(document) == 4 and document.metadata["title"] == "A title"
        assert " ".join(page.get_text() for page in document).split() == text.split()


def test_the_jobs_of_the_docs_are_many_and_alike():
    jobs = PythonDocs("p").jobs(64 << 20)
    assert len({job.name for job in jobs}) == len(jobs)
    kinds = Counter(job.spec[0] for job in jobs)
    assert kinds["pydoc"] >= 4 and kinds["docstrings"] >= 4 and kinds["readme"] == 1
    assert len(PythonDocs("p").jobs(1 << 20)) > len(jobs)


DIGEST = """
import hashlib
import json
import sys
from data_engine.download import PythonDocs
jobs = PythonDocs("p").jobs(64 << 20)
print(hashlib.sha256(json.dumps([(j.name, j.spec, j.state) for j in jobs]).encode()).hexdigest())
every, backwards = int(sys.argv[1]), int(sys.argv[2])
some = jobs[::every]
found = {}
for job in some[::-1] if backwards else some:
    for records, dropped in PythonDocs("p").read(job):
        rows = records.drop_columns("fetched_at").to_pylist() + dropped.to_pylist()
        found.setdefault(job.name, []).extend(repr(row) for row in rows)
print(hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest(), sum(map(len, found.values())))
"""


@pytest.mark.slow
def test_the_docs_are_the_same_in_every_process(tmp_path):
    """A thirteenth of the jobs, in both orders, under other hash seeds, folders, homes and time zones."""
    runs = []
    for seed, backwards, zone in (("1", "0", "UTC"), ("2", "1", "Asia/Kolkata")):
        env = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(ROOT),
            "TZ": zone,
            "HOME": str(tmp_path),
            "COLUMNS": seed * 2,
        }
        command = [sys.executable, "-c", DIGEST, "13", backwards]
        runs.append(subprocess.Popen(command, env=env, cwd=tmp_path if seed == "2" else ROOT, stdout=subprocess.PIPE, text=True))
    first, second = (run.communicate()[0] for run in runs)
    assert first == second and int(first.split()[-1]) > 200
