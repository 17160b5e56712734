"""Files on disk: whole or not at all, and one run at a time."""

import numpy as np
import pyarrow as pa
import pytest

from data_engine.storage import Storage
from phoenix.config import UserError


def test_a_failing_write_leaves_neither_file_nor_remains(tmp_path):
    where = Storage(str(tmp_path))
    where.write("a/x.bin", b"before")
    with pytest.raises(RuntimeError, match="in the middle"), where.writing("a/x.bin") as sink:
        sink.write(b"half")
        raise RuntimeError("in the middle")
    assert where.read("a/x.bin") == b"before" and [p.name for p in (tmp_path / "a").iterdir()] == ["x.bin"]


def test_what_is_not_there_is_said_in_a_value(tmp_path):
    where = Storage(str(tmp_path))
    assert where.size("no.bin") is None and where.names("no") == [] and where.read_receipt("no.parquet") is None
    assert where.dataset("no") is None
    where.remove("no.bin")
    with pytest.raises(FileNotFoundError):
        where.read("no.bin")


def test_an_address_that_holds_keys_is_refused_and_not_repeated():
    with pytest.raises(UserError, match="do not belong") as refused:
        Storage("s3://AKIA:se/cr+et@bucket/x")
    assert "cr+et" not in str(refused.value)


def test_tables_keep_rows_receipt_and_row_groups(tmp_path):
    where, table = Storage(str(tmp_path)), pa.table({"a": [1, 2, 3]})
    where.write_table("t/one.parquet", table, {"key": "k"}, [0, 1, 3])
    where.write_table("t/many.parquet", (table.slice(i, 1) for i in range(3)), {"key": "m"})
    assert where.read_table("t/one.parquet") == table == where.read_table("t/many.parquet")
    assert where.read_receipt("t/one.parquet") == {"key": "k"} and where.names("t") == ["many.parquet", "one.parquet"]
    assert where.dataset("t").count_rows() == 6
    (tmp_path / "t" / "one.parquet").write_bytes(b"PAR1 damaged")
    assert where.read_receipt("t/one.parquet") is None


@pytest.mark.parametrize(("groups", "start"), [(None, 100), ([1], 9_500)])
def test_a_flipped_byte_in_a_page_is_no_other_data(tmp_path, groups, start):
    where, table = Storage(str(tmp_path)), pa.table({"a": np.random.default_rng(0).integers(0, 1 << 60, 2_000)})
    where.write_table("t.parquet", table, {"key": "k"}, [0, 1_000, 2_000])
    path = tmp_path / "t.parquet"
    whole = path.read_bytes()
    for at in range(start, start + 7_800, 97):  # in the page of 8 kB that each row group has; nothing guards headers and footer
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(OSError, match=r"t\.parquet cannot be read .* delete it"):
            where.read_table("t.parquet", groups=groups)
    path.write_bytes(whole)
    assert where.read_table("t.parquet") == table


def test_leftovers_of_killed_runs_go_when_a_run_begins(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".tmp-123-a.parquet").write_bytes(b"half")
    (tmp_path / "raw" / "a.parquet").write_bytes(b"whole")
    with Storage(str(tmp_path)).claim(0), pytest.raises(UserError, match="another run"):
        Storage(str(tmp_path)).claim(0)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["a.parquet"]
