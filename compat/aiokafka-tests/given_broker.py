"""A pytest plugin: aiokafka's functional tests against a broker that runs already, instead of one in a container.

Loaded with `-p given_broker`; `GIVEN_BROKER` names the broker, host:port. Fixtures of a conftest win over those of a
plugin, so this one puts its own into the conftest before pytest looks for fixtures there.

Tests that ask for no broker are left out, and one that asks for it and then never connects to it is no pass: it would
say nothing about a broker.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

RELEASE = "4.4.0"  # the tests ask it which features to expect


class Missing:
    """What only the tests' own container has: a test that asks for it is skipped, and says for what."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        pytest.skip(f"needs {self.what}")


class Connections:
    """Notes whether the running test has connected to the broker, by whatever means; told by the port alone."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.made = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            _, address = arguments
            self.made = self.made or (isinstance(address, tuple) and address[1] == self.port)


HOST, PORT = os.environ["GIVEN_BROKER"].rsplit(":", 1)
connections = Connections(int(PORT))


@pytest.hookimpl(tryfirst=True)
def pytest_plugin_registered(plugin: Any) -> None:
    path = getattr(plugin, "__file__", None)
    if path and Path(path).name == "conftest.py":
        plugin.kafka_server = kafka_server
        plugin.setup_test_class = setup_test_class


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needs_none = [item for item in items if "kafka_server" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=needs_none)
    items[:] = [item for item in items if item not in needs_none]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed and not connections.made:
        path, line, _ = item.location
        report.outcome, report.longrepr = "skipped", (path, line or 0, "passes without a connection to the broker")
    if report.when == "teardown":
        connections.made = False
    return report


@pytest.fixture(scope="session")
def kafka_server() -> SimpleNamespace:
    return SimpleNamespace(host=HOST, port=int(PORT), hosts=[f"{HOST}:{PORT}"])


@pytest.fixture(scope="class")
def setup_test_class(request: pytest.FixtureRequest, loop: object, kafka_server: SimpleNamespace) -> None:
    tests = request.cls
    tests.loop = loop
    tests.kafka_host = kafka_server.host
    tests.kafka_port = kafka_server.port
    tests.hosts = kafka_server.hosts
    tests.kafka_version = RELEASE
    tests.kafka_ssl_port = tests.ssl_folder = Missing("a TLS listener")
    tests.kafka_sasl_plain_port = tests.kafka_sasl_ssl_port = Missing("a SASL listener")
    tests.acl_manager = Missing("a SASL listener and ACLs")
    tests.kafka_config = Missing("a SASL listener and SCRAM credentials")
    tests.kerberos_utils = Missing("a Kerberos server")
