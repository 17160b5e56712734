"""
The data engine: raw documents -> tokenised shards. run.py is the line of its stages.

numba's cache only notices changes of a kernel's own file, not of the kernels that it inlines from other files. So the cache's
folder is named after the content of all files that others take kernels from.
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
