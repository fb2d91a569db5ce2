"""The pytest plugin: a Kafka broker for every test that names one of its fixtures.

`kafka` is the one to use: a broker that is there within milliseconds, empty at the beginning of each test. With
`--kafka-bootstrap=host:port` the same tests run against a broker that is there already, an Apache Kafka for one.
Nothing but pytest is imported before a fixture is used.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kafkapy.testing.embedded import Broker
    from kafkapy.testing.fault_proxy import FaultProxy
    from kafkapy.testing.faults import Faults
    from kafkapy.testing.handle import BrokerHandle
    from kafkapy.testing.time_travel import TimeTravel

_held = pytest.StashKey["BrokerHandle"]()
_SHOWN_RECORDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kafka", "Kafka broker (kafkapy)")
    group.addoption("--kafka-bootstrap", metavar="HOST:PORT", help="test against the broker there, not one of our own")
    group.addoption("--kafka-data-dir", metavar="DIR", help="keep the data of the tests' broker below this directory")
    group.addoption("--kafka-keep", action="store_true", help="leave topics and groups as a test left them")


def pytest_configure(config: pytest.Config) -> None:
    # pytest rewrites all modules of what brings a plugin. Ours gain nothing, and the broker's thread imports while
    # tests do: parsers in two threads at a time fail in Python 3.11 ("AST constructor recursion depth mismatch").
    hook = config.pluginmanager.rewrite_hook
    getattr(hook, "_must_rewrite", set()).discard("kafkapy")
    getattr(hook, "_marked_for_rewrite_cache", {}).clear()


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest) -> "Iterator[BrokerHandle]":
    """One broker for all tests of this process, on a port of its own; nobody empties it."""
    bootstrap = request.config.getoption("--kafka-bootstrap")
    if bootstrap:
        yield _given(bootstrap)
        return
    from kafkapy.testing.embedded import Broker

    directory = request.config.getoption("--kafka-data-dir")
    # Processes of pytest-xdist run at the same time, and a directory belongs to one broker.
    data_dir = Path(directory) / _worker(request.config) if directory else None
    with Broker(data_dir=data_dir) as broker:
        yield broker


@pytest.fixture(scope="session")
def _kafka_proxy(request: pytest.FixtureRequest) -> "Iterator[FaultProxy]":
    """What stands before a broker that is given, for tests with faults."""
    from kafkapy.testing.fault_proxy import FaultProxy

    with FaultProxy(request.config.getoption("--kafka-bootstrap")) as proxy:
        yield proxy


@pytest.fixture
def kafka(request: pytest.FixtureRequest, kafka_broker: "BrokerHandle") -> "Iterator[BrokerHandle]":
    """The broker, which forgets everything after the test (see `--kafka-keep`)."""
    if request.config.getoption("--kafka-bootstrap") and "kafka_faults" in request.fixturenames:
        kafka_broker = request.getfixturevalue("_kafka_proxy")
    request.node.stash[_held] = kafka_broker
    keeps = request.config.getoption("--kafka-keep")
    if not keeps and not request.config.getoption("--kafka-bootstrap"):
        kafka_broker.reset()  # a client that the last test left behind may have made its topics anew
    yield kafka_broker
    if not keeps:
        kafka_broker.reset()


@pytest.fixture
def kafka_bootstrap_servers(kafka: "BrokerHandle") -> str:
    """host:port of the broker, which forgets everything after the test."""
    return kafka.bootstrap_servers


@pytest.fixture
def kafka_faults(kafka: "BrokerHandle") -> "Iterator[Faults]":
    """What goes wrong with requests during this test; rules that must act and never did fail it.

    Before a broker that is given they act in a proxy, at whose address `kafka` is then.
    """
    from kafkapy.testing.embedded import Broker
    from kafkapy.testing.fault_proxy import FaultProxy

    assert isinstance(kafka, Broker | FaultProxy)
    yield kafka.faults
    kafka.faults.check()
    kafka.faults.clear()


@pytest.fixture
def kafka_clock(kafka: "BrokerHandle") -> "TimeTravel":
    """The broker's time, to be stopped and moved; it goes on after the test."""
    from kafkapy.testing.embedded import Broker

    if not isinstance(kafka, Broker):
        pytest.skip("a broker that is given with --kafka-bootstrap has no clock to move")
    return kafka.clock


@pytest.fixture
def kafka_topic(request: pytest.FixtureRequest, kafka: "BrokerHandle") -> str:
    """A topic of one partition, named after the test."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in request.node.name)[:200]
    kafka.create_topic(name)
    return name


@pytest.fixture
def kafka_broker_factory(request: pytest.FixtureRequest) -> "Iterator[Callable[..., Broker]]":
    """Starts further brokers, with settings of their own, as `kafkapy.Broker` takes them; they end with the test."""
    if request.config.getoption("--kafka-bootstrap"):
        pytest.skip("a broker that is given with --kafka-bootstrap cannot be started with other settings")
    from kafkapy.testing.embedded import Broker

    with ExitStack() as stack:

        def start(settings: dict[str, str] | None = None, **options: Any) -> Broker:
            return stack.enter_context(Broker(settings, **options))

        yield start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed and (broker := item.stash.get(_held, None)) is not None:
        report.sections.append(("Kafka broker", _told(broker)))
    return report


def _given(bootstrap: str) -> "BrokerHandle":
    from kafkapy.testing.handle import BrokerHandle

    host, _, port = bootstrap.rpartition(":")
    if not host or not port.isdigit():
        raise pytest.UsageError(f"--kafka-bootstrap takes HOST:PORT, not {bootstrap!r}")
    return BrokerHandle(host.strip("[]"), int(port))


def _worker(config: pytest.Config) -> str:
    return str(getattr(config, "workerinput", {}).get("workerid", "main"))


def _told(broker: "BrokerHandle") -> str:
    """What is in the broker: topics with their last records, groups with what they have yet to read."""
    from kafkapy.testing.telling import told_broker

    try:
        return told_broker(broker, _SHOWN_RECORDS)
    except Exception as problem:  # noqa: BLE001  a test that failed is not to be hidden by its report
        return f"{broker.bootstrap_servers} could not be asked: {problem}"
