"""`kafkapy check`: names every broken invariant of a data directory, or of a database."""

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


def run_database(url: str) -> int:
    """The same for a cluster in a database, which may be in use."""
    import trio

    from kafkapy.clock import SystemClock
    from kafkapy.storage.shared.problems import DatabaseError

    async def print_findings() -> int:
        from kafkapy.storage.shared.check import check as check_database  # which needs psycopg
        from kafkapy.storage.shared.store import SCHEMA

        count = 0
        async for problem in check_database(url, SCHEMA, SystemClock()):
            count += 1
            print(problem)
        return count

    try:
        findings = trio.run(print_findings)
    except ModuleNotFoundError as missing:
        complain(f'a database needs the extra "cluster" of kafkapy-broker: {missing}')
        return 2
    except DatabaseError as problem:
        complain(f"cannot read {url.rpartition('@')[2]}: {problem}")
        return 2
    print(f"{findings} findings" if findings else "sound")
    return 1 if findings else 0
