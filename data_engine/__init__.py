"""
The data engine: raw documents -> tokenised shards. run.py is the line of its stages.

numba's cache only notices changes of a kernel's own file, not of the kernels that it inlines from other files. So the cache's
folder is named after the content of all files that others take kernels from.
"""

import hashlib
import os
import tempfile
from pathlib import Path

TAKEN_FROM = (  # a test keeps this list complete
    "kernels/hash_tables.py",
    "kernels/shingles.py",
    "kernels/utf8.py",
    "kernels/words.py",
    "text/html_blocks.py",
)

_here = Path(__file__).parent
_cache = _here / "__pycache__"
if not os.access(_cache if _cache.exists() else _here, os.W_OK):
    _cache = Path(tempfile.gettempdir(), f"phoenix-{os.getuid()}")
    _cache.mkdir(mode=0o700, exist_ok=True)
    if _cache.stat().st_uid != os.getuid():  # numba runs what it finds there
        _cache = Path(tempfile.mkdtemp())
if "NUMBA_CACHE_DIR" not in os.environ:
    _content = hashlib.sha256(b"".join((_here / name).read_bytes() for name in TAKEN_FROM)).hexdigest()
    os.environ["NUMBA_CACHE_DIR"] = str(_cache / f"kernels-{_content[:12]}")
