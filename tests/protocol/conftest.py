"""Lets the tests here import the generator (`codegen`), `facts`, and the helpers that stand beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

for folder in (str(ROOT / "scripts"), str(ROOT / "compat"), str(HERE)):
    if folder not in sys.path:
        sys.path.insert(0, folder)
