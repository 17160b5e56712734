"""
Files that are whole or absent: written under a temporary name, fsynced, renamed; their sha256; full disks.

    with atomic(path) as temporary:     # renamed to `path` when the block ends well, removed when it raises
        temporary.write_bytes(data)
"""

import errno
import hashlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"  # prefix of files being written; hidden, so that readers of a folder pass over them


@contextmanager
def atomic(path):
    """A temporary path beside `path`, which takes its place when the block ends well and goes when it raises."""
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


def write_atomic(path, data):
    """bytes or str (as UTF-8) -> the file, whole or not at all, also when the power goes."""
    with atomic(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def publish(temporary, path):
    """Renames a finished file; its bytes and then its name are on the disk when this returns."""
    sync(temporary)
    os.replace(temporary, path)
    sync(Path(path).parent)


def sync(path):
    """Brings a file's bytes, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder):
    """Deletes, in all folders below, temporary files of processes that were killed; call it under the folder's lock."""
    for leftover in sorted(Path(folder).rglob(f"{TEMPORARY}*")):
        leftover.unlink(missing_ok=True)


def sha256(data):
    """Of bytes or of a str as UTF-8, in hex."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def sha256_file(path):
    """Of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_is_full(folder, error=None):
    """True if the error says that a disk or quota is full, or if `folder` has less than 1 MiB left."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False
