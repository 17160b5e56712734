"""numba's cache never serves a kernel that has inlined the old body of another file's kernel."""

import ast
import os
from pathlib import Path

import data_engine


def test_the_cache_of_kernels_is_named_after_every_file_whose_kernels_others_take():
    kernels, trees = {}, {}
    root = Path(data_engine.__file__).parent
    for path in root.rglob("*.py"):
        trees[path.relative_to(root).with_suffix("").as_posix()] = ast.parse(path.read_text())
    for name, tree in trees.items():
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        kernels[name] = {f.name for f in functions if any("njit" in ast.unparse(d) for d in f.decorator_list)}
    taken_from = set()
    for name, tree in trees.items():
        for node in ast.walk(tree):
            other = (getattr(node, "module", None) or "").removeprefix("data_engine.").replace(".", "/")
            if kernels[name] and other in kernels and {alias.name for alias in node.names} & kernels[other]:
                taken_from.add(f"{other}.py")
    assert taken_from == set(data_engine.TAKEN_FROM)
    assert "kernels-" in os.environ["NUMBA_CACHE_DIR"]
