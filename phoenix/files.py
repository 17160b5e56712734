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

TEMPORARY = ".tmp-"  # prefix of files being written, before the process' id; hidden, so readers of a folder skip them


def temporary_of(path):
    """The temporary name of `path` in this process, in the same folder."""
    return Path(path).with_name(f"{TEMPORARY}{os.getpid()}-{Path(path).name}")


@contextmanager
def atomic(path):
    """Yields a temporary path beside `path`, renamed to it when the block ends well and removed when it raises."""
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)  # a killed process of the same id may have left one
    try:
        yield temporary
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


def write_atomic(path, data):
    """Writes bytes, or a str as UTF-8, whole or not at all, even in a power cut."""
    with atomic(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def publish(temporary, path):
    """Renames a finished file; its bytes and then its name are on the disk when this returns."""
    sync(temporary)
    os.replace(temporary, path)
    sync(Path(path).parent)


def sync(path):
    """Flushes a file's bytes, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder, below=True):
    """Deletes temporary files of killed processes in `folder`, and in all folders below; call it under the folder's lock."""
    for leftover in sorted(Path(folder).glob(f"{'**/' if below else ''}{TEMPORARY}*")):
        leftover.unlink(missing_ok=True)


def sha256(data):
    """bytes, or a str as UTF-8 -> hex digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def sha256_file(path):
    """path -> hex digits."""
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
