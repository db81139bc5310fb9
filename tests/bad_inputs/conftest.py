"""What a bad input says: `implicit run s.yaml -o out.h5` in a folder that holds it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
