"""
The tables that move through the engine: records, and the ledger of dropped ones.

    RAW     one row a record as downloaded          raw/
    LEDGER  one row a record that is not in the corpus, with stage, reason and detail          dropped/

A stage is a pure function `f(batch, settings) -> (kept, dropped)`; `drop` makes `dropped`, which has the schema LEDGER.
"""

import hashlib
import json

import numpy as np
import pyarrow as pa

RAW = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "uri": pa.string(),
        "media_type": pa.string(),
        "content": pa.large_binary(),
        "licence": pa.string(),
        "revision": pa.string(),  # commit or version of its data set; "" for files on disk
        "fetched_at": pa.timestamp("s", tz="UTC"),
        "meta": pa.string(),  # JSON object
    }
)
LEDGER = pa.schema({name: pa.string() for name in ("id", "source", "uri", "stage", "reason", "detail")})


def record_id(source, uri, content):
    """The id of a record: 32 hex digits, the first 16 bytes of blake2b(source, uri, blake2b(content))."""
    inner = hashlib.blake2b(content, digest_size=32).digest()
    return hashlib.blake2b(b"\0".join([source.encode(), uri.encode("utf-8", "surrogatepass"), inner])).digest()[:16].hex()


def drop(rows, stage, reason, detail=""):
    """
    Ledger rows for a table (or record batch) that has id, source and uri.

    stage, reason, detail  a str for all rows, or one str a row
    """
    n = rows.num_rows
    columns = [rows.column(name).cast(pa.string()) for name in ("id", "source", "uri")]
    for value in (stage, reason, detail):
        columns.append(pa.array([value] * n if isinstance(value, str) else value, pa.string()))
    return pa.table(columns, schema=LEDGER)


def nothing_dropped():
    return LEDGER.empty_table()


def to_json(value):
    """The bytes of a JSON file that people read."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def one_array(column):
    """A column as one array; not copied if it is one chunk, where combine_chunks may copy."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_buffers(text):
    """Array of strings, chunked or sliced -> its bytes as uint8, and int64 offsets into them; a null is empty."""
    text = one_array(text).cast(pa.large_string())
    if text.null_count:
        text = text.fill_null("")
    _, offsets, data = text.buffers()
    offsets = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1] if len(text) else np.zeros(1, np.int64)
    data = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    offsets.flags.writeable = data.flags.writeable = False  # always, because numba would compile for each case
    return data, offsets
