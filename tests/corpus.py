"""A small real corpus for the tests: the docstrings of the standard library, as files of every kind that Local reads."""

import ast
import json
import sysconfig
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@cache
def texts():
    """English texts of 400 to 8,000 characters, about 300 of them, in a fixed order."""
    found = []
    library = Path(sysconfig.get_path("stdlib"))
    packages = (
        "",
        "asyncio",
        "concurrent/futures",
        "email",
        "http",
        "importlib",
        "logging",
        "multiprocessing",
        "unittest",
        "urllib",
    )
    for path in (path for package in ["", *packages] for path in sorted((library / package).glob("*.py"))):
        tree = ast.parse(path.read_bytes())
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        text = "\n\n".join(doc for node in nodes if (doc := ast.get_docstring(node)))
        found += [text[i : i + 8000] for i in range(0, len(text), 8000) if len(text[i : i + 8000]) >= 400]
    return tuple(found)


def write(folder, part=slice(None)):
    """Writes texts into `folder`: half as JSON lines, the rest as text, HTML and Parquet, and near copies of two of them."""
    folder.mkdir(parents=True, exist_ok=True)
    some = list(texts()[part])
    rows = [json.dumps({"text": text, "url": f"u{i}"}) for i, text in enumerate(some[::2])]
    (folder / "half.jsonl").write_text("\n".join(rows) + "\n")
    for i, text in enumerate(some[1::4]):
        (folder / f"{i:03d}.txt").write_text(text)
    (folder / "copy.txt").write_text(some[0].upper())
    (folder / "copy2.txt").write_text(some[1] + "\nOne more sentence at the end.\n")
    for i, text in enumerate(some[3::8]):
        body = "".join(f"<p>{line.replace('&', '&amp;').replace('<', '&lt;')}</p>" for line in text.split("\n\n"))
        (folder / f"{i:03d}.html").write_text(f"<html><head><title>Page {i}</title></head><body>{body}</body></html>")
    pq.write_table(pa.table({"text": some[7::8]}), folder / "rest.parquet")
    return folder


def write_bad(folder):
    """Writes a file for each kind of bad input; returns {file name: (records in it, reason in the ledger)}."""
    import pymupdf

    folder.mkdir(parents=True, exist_ok=True)
    good = json.dumps({"text": texts()[5]})
    files = {
        "empty.txt": (b"", 1, "empty"),
        "zero.parquet": (b"", 1, "empty"),
        "garbage.parquet": (b"PAR1 this is no parquet file PAR1", 1, "broken_parquet"),
        "unreadable.pdf": (b"%PDF-1.7\nnothing of a document", 1, "broken"),
        "long_line.html": (b"<p>" + b"word " * 10_000_000 + b"</p>", 1, "too_large"),
        "latin.txt": (("é" * 400).encode("latin-1"), 1, "language"),
        "half.jsonl": ((good + "\n" + good[: len(good) // 2]).encode(), 2, "bad_json"),
        "no_text.jsonl": ((json.dumps({"title": "no text"}) + "\n" + good + "\n").encode(), 2, "no_text"),
    }
    document = pymupdf.open()
    document.new_page()
    files["blank.pdf"] = (document.tobytes(), 1, "no_text")
    locked = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret", owner_pw="secret")
    files["locked.pdf"] = (locked, 1, "encrypted")
    for name, (content, _, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: (records, reason) for name, (_, records, reason) in files.items()}
