"""Plays cases against one broker and returns normalised traces; loads every case on import."""

import importlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normalise import Normaliser
from probe import Probe
from registry import CASES, Case, Scene

for module in sorted((Path(__file__).parent / "cases").glob("*.py")):
    importlib.import_module(f"cases.{module.stem}")

_numbers = itertools.count()
_stamp = f"d{os.getpid()}{time.time_ns() // 1_000_000 % 1_000_000}"


def chosen(text: str) -> Iterator[tuple[str, str, int, Case]]:
    """API, what the case is about, version, case: for every case whose name contains the text."""
    for api, about, versions, function in CASES:
        if text.lower() in f"{api}: {about}".lower():
            for version in versions:
                yield api, about, version, function


def unused_prefix() -> str:
    """What the names of nothing begin with yet, on any broker."""
    return f"{_stamp}-{next(_numbers)}"


def play(function: Case, host: str, port: int, version: int) -> list[Any]:
    """One case against one broker; its names are used by no other case, and by no earlier run."""
    prefix = unused_prefix()
    probe = Probe(host, port)
    try:
        function(Scene(probe, version, prefix))
    except Exception as error:  # noqa: BLE001  a case that breaks on one broker only is a difference
        probe.trace.append({"case": f"{type(error).__name__}: {error}"})
    finally:
        probe.close()
    normalise = Normaliser(prefix)
    return [normalise(answer) for answer in probe.trace]
