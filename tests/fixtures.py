"""Where the project and the shared facts lie; tests of the shared facts skip with a message where they are absent."""

import os
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PHOENIX_SHARED", ROOT.parent / "shared"))


def labelled_cases(name, folder):
    """Unpacks the file or folder `name` of the labelled cases into `folder`. -> its path"""
    archive = SHARED / "cases.tar.xz"
    if not archive.is_file():
        pytest.skip(f"labelled cases are not at {archive}: set PHOENIX_SHARED")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if f"/{name}/" in f"/{member.name}/"]
        tar.extractall(folder, members, filter="data")
    return Path(folder, name)
