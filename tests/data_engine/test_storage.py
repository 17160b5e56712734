"""Files on disk: whole or not at all, and one run at a time."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_engine.storage import Storage
from phoenix.config import UserError


def test_a_failing_write_changes_nothing(tmp_path):
    store = Storage(str(tmp_path))
    store.write("a/x.bin", b"before")
    with pytest.raises(RuntimeError, match="in the middle"), store.writing("a/x.bin") as sink:
        sink.write(b"half")
        raise RuntimeError("in the middle")
    assert store.read("a/x.bin") == b"before" and [p.name for p in (tmp_path / "a").iterdir()] == ["x.bin"]


def test_a_missing_file_gives_none_or_an_empty_list(tmp_path):
    store = Storage(str(tmp_path))
    assert store.size("no.bin") is None and store.names("no") == [] and store.read_receipt("no.parquet") is None
    assert store.dataset("no") is None
    store.remove("no.bin")
    with pytest.raises(FileNotFoundError):
        store.read("no.bin")


def test_an_address_with_keys_is_refused_and_not_printed():
    with pytest.raises(UserError, match="do not belong") as refused:
        Storage("s3://AKIA:se/cr+et@bucket/x")
    assert "cr+et" not in str(refused.value)


def test_tables_keep_rows_receipt_and_row_groups(tmp_path):
    store, table = Storage(str(tmp_path)), pa.table({"a": [1, 2, 3]})
    store.write_table("t/one.parquet", table, {"key": "k"}, [0, 1, 3])
    store.write_table("t/many.parquet", (table.slice(i, 1) for i in range(3)), {"key": "m"})
    assert store.read_table("t/one.parquet") == table == store.read_table("t/many.parquet")
    assert store.read_receipt("t/one.parquet") == {"key": "k"} and store.names("t") == ["many.parquet", "one.parquet"]
    assert store.dataset("t").count_rows() == 6
    (tmp_path / "t" / "one.parquet").write_bytes(b"PAR1 damaged")
    assert store.read_receipt("t/one.parquet") is None


@pytest.mark.parametrize(("groups", "start"), [(None, 100), ([1], 9_500)])
def test_a_flipped_byte_in_a_page_is_an_error(tmp_path, groups, start):
    store, table = Storage(str(tmp_path)), pa.table({"a": np.random.default_rng(0).integers(0, 1 << 60, 2_000)})
    store.write_table("t.parquet", table, {"key": "k"}, [0, 1_000, 2_000])
    path = tmp_path / "t.parquet"
    whole = path.read_bytes()
    for at in range(start, start + 7_800, 97):  # in the page of 8 kB that each row group has; nothing guards headers and footer
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(OSError, match=r"t\.parquet cannot be read .* delete it"):
            store.read_table("t.parquet", groups=groups)
    path.write_bytes(whole)
    assert store.read_table("t.parquet") == table


def test_a_run_removes_temporary_files_of_killed_runs_and_excludes_others(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".tmp-123-a.parquet").write_bytes(b"half")
    (tmp_path / "raw" / "a.parquet").write_bytes(b"whole")
    with Storage(str(tmp_path)).claim(0), pytest.raises(UserError, match="another run"):
        Storage(str(tmp_path)).claim(0)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["a.parquet"]


def test_no_flipped_bit_of_a_receipt_is_believed(tmp_path):
    store, receipt = Storage(str(tmp_path)), {"stage": "s", "name": "n", "key": "k" * 64, "rows": 3, "steps": [{"in": 3, "out": 3}]}
    store.write_table("t.parquet", pa.table({"a": [1, 2, 3]}), receipt)
    assert store.read_receipt("t.parquet") == receipt
    path = tmp_path / "t.parquet"
    whole = path.read_bytes()
    for at in range(4, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 7]) + whole[at + 1 :])
        found = store.read_receipt("t.parquet")
        assert found is None or receipt.items() <= found.items(), at
    for text in (b"[]", b"3", b'"\xff"', b'{"rows": 4}', b"{"):
        pq.write_table(pa.table({"a": [1, 2, 3]}).replace_schema_metadata({"phoenix": text}), path)
        assert store.read_receipt("t.parquet") is None
    pq.write_table(pa.table({"a": [1, 2, 3]}).replace_schema_metadata({"phoenix": b'{"rows": 3}'}), path)
    assert store.read_receipt("t.parquet") == {"rows": 3}, "of a run that was made before receipts had a mark"


def test_a_dataset_checks_its_pages(tmp_path):
    store, table = Storage(str(tmp_path)), pa.table({"a": np.random.default_rng(0).integers(0, 1 << 60, 1_000)})
    store.write_table("t/t.parquet", table, {"key": "k"})
    path = tmp_path / "t" / "t.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:4_000] + bytes([whole[4_000] ^ 4]) + whole[4_001:])
    with pytest.raises(OSError, match="could not verify page integrity"):
        store.dataset("t").to_table()
