"""
Renders pydoc's HTML pages of the modules on the command line, in a process of its own because it imports them.

    python -S -s -P pydoc_child.py json json.decoder

Prints one line of JSON a module, in order: [page, null], or [null, why the import failed]. Pages show no values of data, for these
hold addresses, paths and the environment of this machine.
"""

import importlib
import json
import os
import pydoc
import re
import sys
import sysconfig
import warnings

LIBRARY = sysconfig.get_path("stdlib")


class Pages(pydoc.HTMLDoc):
    def docother(self, object, name=None, mod=None, *ignored):
        return f"<strong>{self.escape(name)}</strong>" if name else ""

    def filelink(self, url, path):
        return self.escape(os.path.relpath(path, LIBRARY))


def render(name):
    try:
        module = importlib.import_module(name)
        pages = Pages()
        page = pages.page(pydoc.describe(module), pages.document(module, name))
    except Exception as error:  # an import may raise anything; the parent writes it to the ledger
        return None, without_machine(f"{type(error).__name__}: {error}")
    except SystemExit as error:
        return None, f"SystemExit: {error}"
    return without_machine(page), None


def without_machine(text):
    """The text without memory addresses and Python's own paths."""
    text = text.replace(LIBRARY, "lib").replace(sys.executable, "python")  # the executable is a default value in `platform`
    return re.sub(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9A-Fa-f]+", "", text)


def main(names):
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # modules may print on import
    os.dup2(1, 2)
    warnings.simplefilter("ignore")
    for name in names:
        out.write(json.dumps(render(name)).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
