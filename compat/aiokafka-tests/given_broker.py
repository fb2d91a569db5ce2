"""A pytest plugin: aiokafka's functional tests against a broker that runs already, instead of one in a container.

Loaded with `-p given_broker`; `GIVEN_BROKER` names the broker, host:port. Fixtures of a conftest win over those of a
plugin, so this one puts its own into the conftest before pytest looks for fixtures there. Tests that need no broker
are left out: they would say nothing about one.
"""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

RELEASE = "4.3.1"  # the tests ask it which features to expect


class Missing:
    """What only the tests' own container has: a test that asks for it is skipped, and says for what."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        pytest.skip(f"needs {self.what}")


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


@pytest.fixture(scope="session")
def kafka_server() -> SimpleNamespace:
    host, _, port = os.environ["GIVEN_BROKER"].rpartition(":")
    return SimpleNamespace(host=host, port=int(port), hosts=[f"{host}:{port}"])


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
