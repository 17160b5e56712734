"""
The data engine: raw documents -> tokenised shards. run.py is the line of its stages.

numba's cache knows a kernel by its own file: it would go on using one that has inlined the old body of a kernel of another file. So
the cached kernels lie in a folder named after the content of the files from which others take kernels.
"""

import hashlib
import os
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
if os.access(_cache if _cache.exists() else _here, os.W_OK):
    _content = hashlib.sha256(b"".join((_here / name).read_bytes() for name in TAKEN_FROM)).hexdigest()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_cache / f"kernels-{_content[:12]}"))
