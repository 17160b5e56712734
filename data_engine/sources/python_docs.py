"""
PythonDocs: the embedded default, documentation on every machine that has Python and the requirements.

drops  no_text, unreadable          a package without a description, or that is no longer installed
       bad_python, import_failed, timeout, crashed     modules that cannot be read
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, group, job_name

VERSION = 3  # raise when the records of the same packages change
LEFT_OUT = {  # of the standard library: windows, jokes, demos, tests, tables
    *("antigravity", "this", "idlelib", "lib2to3", "test", "tests", "tkinter", "turtle", "turtledemo"),
}
NOT_DOCS = {  # tests, copies of other packages, and a megabyte of generated one-line wrappers
    *("tests", "test", "testing", "_testing", "_vendor", "_vendored", "vendored", "third_party", "thirdparty_files", "mupdf.py"),
}
DOC_SHARE = 1 / 3  # least fraction of a module's source that is docstrings: its text is about code, not code
SOURCE_PER_JOB = 8_000_000  # bytes of Python; about 25 jobs with the pinned requirements, each a second or two
SOURCE_PER_TEXT = 9  # bytes of Python for one of docstrings, on average
PAGES_PER_JOB = 1_200_000  # bytes of modules that one child process renders
PDF_EVERY = 32  # one text of so many becomes a PDF, chosen by the hash of its uri
CHILD_SECS = 120  # for the pages of one job; they take 2 s on an idle core


@dataclass(frozen=True)
class PythonDocs:
    """
    pydoc:MODULE        HTML   pydoc's page of a module of the standard library, rendered in a child process
    docstrings:PATH     text   the docstrings of a module of an installed package, taken from its source without importing it
    readme:PACKAGE      text   the long description of an installed package
    One in PDF_EVERY of the texts is a PDF instead. The records depend on the installed versions only.
    """

    name: str  # names the source in every table and file
    share: float = 1.0  # fraction of the corpus' tokens
    web: ClassVar[bool] = False  # the quality filters know prose and would drop half of a documentation

    def check(self):
        check_source(self)

    def jobs(self, partition_bytes: int) -> list[Job]:
        python = (VERSION, self.name, sys.version)
        jobs = []
        for g in group(_standard_modules(), min(PAGES_PER_JOB, partition_bytes)):
            names = tuple(module for module, _ in g)
            jobs.append(Job("pydoc-" + job_name(names[0]), ("pydoc", names), digest(python, g), sum(size for _, size in g)))
        sources, readmes = [], []
        for package, dist in _packages().items():
            readmes.append((package, dist.version))
            for file in dist.files or ():
                if file.suffix == ".py" and ".." not in file.parts and not NOT_DOCS.intersection(file.parts):
                    mark = file.hash.value if file.hash else dist.version
                    sources.append((file.as_posix(), file.size or 0, package, mark))
        for g in group(sorted(sources), min(SOURCE_PER_JOB, 4 * partition_bytes)):
            spec = tuple((path, package) for path, _, package, _ in g)
            jobs.append(
                Job(
                    "docstrings-" + job_name(g[0][0]),
                    ("docstrings", spec),
                    digest(python, g),
                    sum(f[1] for f in g) // SOURCE_PER_TEXT,
                )
            )
        names = tuple(package for package, _ in readmes)
        jobs.append(Job("readmes", ("readme", names), digest(python, readmes)))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        chunk = Chunk(self.name)
        kind, items = job.spec
        if kind == "pydoc":
            for module, page, problem in _pydoc_pages(items):
                if page is None:
                    chunk.drop(f"pydoc:{module}", *problem)
                else:
                    chunk.add(f"pydoc:{module}", "text/html", page.encode("utf-8", "backslashreplace"), "PSF-2.0")
        elif kind == "docstrings":
            for path, package in items:
                _add_docstrings(chunk, path, package)
        else:
            for package in items:
                _add_readme(chunk, package)
        yield chunk.take()


def _standard_modules():
    """(name, bytes of source) of the standard library's public modules, sorted, found without an import."""
    library = sysconfig.get_path("stdlib")
    found = {name: 20_000 for name in sys.stdlib_module_names}  # those in C: pages like those of modules of this size
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if os.path.exists(os.path.join(folder, f, "__init__.py"))]
        package = os.path.relpath(folder, library).replace(os.sep, ".").removeprefix(".")
        for name in names:
            if name.endswith(".py"):
                module = f"{package}.{name[:-3]}".removeprefix(".").removesuffix(".__init__")
                found[module] = os.path.getsize(os.path.join(folder, name))
    return sorted(
        (module, size)
        for module, size in found.items()
        if not LEFT_OUT.intersection(module.split("."))
        and not module.startswith("encodings.")
        and not any(part.startswith("_") for part in module.removeprefix("__future__").split("."))
    )


def _pydoc_pages(modules):
    """(module, page, None) or (module, None, (reason, detail)) for each: a module that hangs or kills the child costs one."""
    child = Path(__file__).with_name("pydoc_child.py")
    # a fixed hash seed and an empty environment keep set orders, addresses and secrets of this machine out of a page
    env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}
    if "LD_LIBRARY_PATH" in os.environ:
        env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    modules = list(modules)
    while modules:
        command = [sys.executable, "-S", "-s", "-P", "-B", str(child), *modules]
        try:
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, timeout=CHILD_SECS)
            lines, problem = run.stdout, ("crashed", f"pydoc's process left with code {run.returncode}")
        except subprocess.TimeoutExpired as error:
            lines, problem = error.stdout or b"", ("timeout", f"over {CHILD_SECS} s")
        for line in lines.splitlines(keepends=True):
            if line.endswith(b"\n"):
                page, failure = json.loads(line)
                yield modules.pop(0), page, failure and ("import_failed", failure)
        if modules:
            yield modules.pop(0), None, problem


@cache
def _packages():
    """{normalised name: distribution} of this environment, sorted; not of sys.path, to which programs add."""
    folders = list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
    found = {}
    for dist in importlib.metadata.distributions(path=folders):
        if dist.name:
            found.setdefault(re.sub(r"[-_.]+", "-", dist.name).lower(), dist)
    return dict(sorted(found.items()))


@cache
def _package_licence(package):
    meta = _packages()[package].metadata
    stated = meta.get("License-Expression") or (meta.get("License") or "").strip().partition("\n")[0]
    if not stated or len(stated) > 80:  # some packages put the whole text there
        kinds = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License :: ")]
        stated = " AND ".join(kinds)
    return stated


def _add_readme(chunk, package):
    dist = _packages().get(package)
    if dist is None:
        return chunk.drop(f"readme:{package}", "unreadable", f"{package} is not installed here")
    meta = dist.metadata
    text = meta.get("Description") or meta.get_payload() or ""
    if text.strip() and text.strip() != "UNKNOWN":
        return _add_text(chunk, f"readme:{package}", f"{meta['Name']}\n\n{text}", _package_licence(package))
    return chunk.drop(f"readme:{package}", "no_text", "no long description")


def _add_docstrings(chunk, path, package):
    uri = f"docstrings:{path}"
    dist = _packages().get(package)
    if dist is None:  # uninstalled since, or on another node of a cluster
        return chunk.drop(uri, "unreadable", f"{package} is not installed here")
    try:
        source = Path(dist.locate_file(path)).read_bytes()
    except OSError as error:
        return chunk.drop(uri, "unreadable", f"{type(error).__name__}: {error.strerror}")
    quoted = sum(m.end() - m.start() for m in re.finditer(rb'"""(?s:.*?)"""|\'\'\'(?s:.*?)\'\'\'', source))
    if quoted < DOC_SHARE * len(source):  # cheaper than parsing
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about "\d" in a string that is not raw
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return chunk.drop(uri, "bad_python", f"{type(error).__name__}: {error}", source)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = _docstrings(tree, module)
    if found:
        _add_text(chunk, uri, "\n\n".join(f"{name}\n\n{doc}" for name, doc in found), _package_licence(package))


def _docstrings(tree, module):
    """[(qualified name, docstring)] of a module and its public classes and functions, in the order of the source."""
    found, stack = [], [(tree, module)]
    while stack:
        node, name = stack.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node)
            if doc and doc.strip():
                found.append((name, doc.strip()))
        inside = [*getattr(node, "body", ()), *getattr(node, "orelse", ())]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.If, ast.Try)):
            for child in reversed(inside):
                if isinstance(child, (ast.If, ast.Try)):
                    stack.append((child, name))
                elif isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and child.name[0] != "_":
                    stack.append((child, f"{name}.{child.name}"))
    return found


def _add_text(chunk, uri, text, licence):
    text = text.replace("\r\n", "\n")
    chosen = int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest()) % PDF_EVERY == 0
    if chosen and 2_000 < len(text) < 200_000 and text.isascii():  # the font has no other letters
        chunk.add(uri, "application/pdf", typeset(text), licence)
    else:
        chunk.add(uri, "text/plain", text.encode("utf-8", "backslashreplace"), licence)


def typeset(text: str) -> bytes:
    """A PDF of the text with the first line as its title: A4, Courier 9, 100 columns, 66 lines; always the same bytes."""
    import pymupdf

    lines = []
    for line in text.expandtabs().split("\n"):
        lines += textwrap.wrap(line, 100, drop_whitespace=False, replace_whitespace=False) or [""]
    document = pymupdf.open()
    for first in range(0, len(lines), 66):
        page = document.new_page(width=595, height=842)
        page.insert_text((28, 48), lines[first : first + 66], fontname="cour", fontsize=9, lineheight=1.25)
    document.set_metadata({"title": lines[0].strip()})
    data = document.tobytes(garbage=3, deflate=True, no_new_id=True)
    document.close()
    return data
