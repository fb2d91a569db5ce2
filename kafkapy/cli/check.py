"""`kafkapy check`: names every broken invariant of a data directory."""

from pathlib import Path

from kafkapy.cli.failures import complain
from kafkapy.storage.embedded.check import NotADataDirectory, check
from kafkapy.storage.embedded.directory import DirectoryInUse


def run(directory: str) -> int:
    """Print the findings; 0 when there are none, 1 when there are, 2 when the directory cannot be read."""
    try:
        findings = 0
        for finding in check(Path(directory)):
            findings += 1
            print(f"{finding.path}: {finding.problem}")
    except (NotADataDirectory, DirectoryInUse) as problem:
        complain(str(problem))
        return 2
    except OSError as problem:
        complain(f"cannot read {directory}: {problem.strerror}")
        return 2
    print(f"{findings} findings" if findings else "sound")
    return 1 if findings else 0
