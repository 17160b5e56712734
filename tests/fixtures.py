"""Where the project and the shared facts lie; tests of the shared facts skip with a message where they are absent."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PHOENIX_SHARED", ROOT.parent / "shared"))
