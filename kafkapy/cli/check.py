"""`kafkapy check`: names every broken invariant of a data directory."""

import sys
from pathlib import Path

from kafkapy.storage.embedded.check import check


def run(directory: str) -> int:
    """Print the findings; 0 when there are none, 1 when there are, 2 when the directory cannot be read."""
    try:
        findings = 0
        for finding in check(Path(directory)):
            findings += 1
            print(f"{finding.path}: {finding.problem}")
    except OSError as problem:
        print(f"kafkapy: cannot read {directory}: {problem.strerror}", file=sys.stderr)
        return 2
    print(f"{findings} findings" if findings else "sound")
    return 1 if findings else 0
