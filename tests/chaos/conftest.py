"""Lets the modules of this folder be found as `chaos`, and the others' as `support`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
