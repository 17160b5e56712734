"""Files that are whole or absent."""

import errno

import pytest

from phoenix.files import atomic, disk_is_full, remove_leftovers, sha256, sha256_file, temporary_of, write_atomic


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half of the new", encoding="utf-8")
        raise ZeroDivisionError
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]
    write_atomic(path, b"new")
    assert path.read_text(encoding="utf-8") == "new" and sha256_file(path) == sha256("new") == sha256(b"new")


def test_temporary_files_of_killed_processes_are_removed_and_no_others(tmp_path):
    (tmp_path / "below").mkdir()
    leftovers = [temporary_of(tmp_path / "a"), temporary_of(tmp_path / "below" / "b")]
    for path in [*leftovers, tmp_path / "c.tmp"]:
        path.write_text("half", encoding="utf-8")
    remove_leftovers(tmp_path, below=False)
    assert [path.exists() for path in leftovers] == [False, True]
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "c.tmp"] and not leftovers[1].exists()


def test_a_full_disk_is_recognised_by_its_error(tmp_path):
    assert disk_is_full(tmp_path, OSError(errno.ENOSPC, "")) and disk_is_full(tmp_path, OSError(errno.EDQUOT, ""))
    assert not disk_is_full(tmp_path, OSError(errno.EACCES, ""))
