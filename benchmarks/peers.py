"""Virtual environments of the peers: each benchmark pins its peers and installs them into a venv of their own."""

import subprocess
import venv
from pathlib import Path


def python(folder, pins):
    """The Python of the venv in `folder`. The venv is remade when `pins`, a requirements file, has changed."""
    folder, pins = Path(folder), Path(pins)
    made, found = folder / "made_from.txt", folder / "bin/python"
    if not made.exists() or made.read_text(encoding="utf-8") != pins.read_text(encoding="utf-8"):
        print(f"installing the peers into {folder}", flush=True)
        venv.create(folder, clear=(folder / "pyvenv.cfg").exists(), with_pip=True)  # never empties another folder
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        for packages in (["--upgrade", "pip"], ["-r", pins]):  # the pip that comes with Python 3.11 fails on the extras of lxml
            subprocess.run([found, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        made.write_text(pins.read_text(encoding="utf-8"), encoding="utf-8")
    return found
