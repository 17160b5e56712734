"""
Renders pydoc's HTML pages of the modules named on the command line: a process of its own, since it imports them.

    python -S -s -P pydoc_child.py json json.decoder

For each module, in order, one line of JSON on stdout: [page, null], or [null, why it could not be imported].
Values of data are left out of the pages: they hold addresses, paths and the environment of this machine.
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
    except Exception as error:  # importing may raise anything; the reader of our output writes it to the ledger
        return None, without_machine(f"{type(error).__name__}: {error}")
    except SystemExit as error:
        return None, f"SystemExit: {error}"
    return without_machine(page), None


def without_machine(text):
    """Text without addresses in memory and without the places that Python lives in."""
    text = text.replace(LIBRARY, "lib").replace(sys.executable, "python")  # the latter is a default in platform
    return re.sub(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9A-Fa-f]+", "", text)


def main(names):
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what modules print on import is not ours to pass on
    os.dup2(1, 2)
    warnings.simplefilter("ignore")
    for name in names:
        out.write(json.dumps(render(name)).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
