"""The pytest plugin, as a project that uses it sees it: pytest is run on files of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kafkapy

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import kafka as client

def test_one(kafka, kafka_topic):
    kafka.produce(kafka_topic, "v")
    assert len(kafka.records(kafka_topic)) == 1

def test_another(kafka, kafka_bootstrap_servers):
    assert "test_one" not in [topic.name for topic in kafka.topics(internal=True)]
    with client.KafkaProducer(bootstrap_servers=kafka_bootstrap_servers) as producer:
        with kafka.assert_produced("t", "v"):
            producer.send("t", b"v")
"""

KEPT = """
def test_it(kafka, kafka_topic):
    kafka.produce(kafka_topic, "v")
    assert len(kafka.topics()) == 2
"""

FAILS = """
from kafka import KafkaProducer

def test_it(kafka, kafka_faults):
    KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, client_id="shop").close()
    for i in range(7):
        kafka.produce("orders", str(i))
    kafka_faults.add("Produce", close=True)
    assert False
"""

FURTHER = """
def test_it(kafka_broker_factory, kafka_broker):
    broker = kafka_broker_factory({"num.partitions": "4"})
    broker.produce("t", "v")
    assert broker.topics()[0].partitions == 4
    assert broker.port != kafka_broker.port
"""


FAULTS = """
def test_met(kafka, kafka_faults, kafka_clock):
    kafka_clock.advance(3600)
    kafka.produce("t", "v")
    kafka_faults.add("ListGroups", error="COORDINATOR_NOT_AVAILABLE", must=True)
    try:
        kafka.groups()
    except Exception as problem:
        assert problem.error.name == "COORDINATOR_NOT_AVAILABLE"

def test_not_met(kafka_faults):
    assert [*kafka_faults] == []
    kafka_faults.add("ListGroups", close=True, must=True)
"""


FAULTS_ANYWHERE = """
import kafka as client

def test_met(kafka, kafka_faults):
    kafka.create_topic("t")
    rule = kafka_faults.add("Produce", topic="t", error="NOT_LEADER_OR_FOLLOWER", times=2, must=True)
    with client.KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, retry_backoff_ms=10) as producer:
        producer.send("t", b"v").get(20)
    assert rule.hits == 2
    assert [record.value for record in kafka.records("t")] == [b"v"]

def test_not_met(kafka, kafka_faults):
    assert [*kafka_faults] == []
    assert kafka.topics() == []

def test_time(kafka_clock):
    kafka_clock.advance(1)
"""


def run_pytest(directory: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_user.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "kafkapy.testing.plugin", "-p", "no:cacheprovider", "-q", *options]
    # Whether or not kafkapy is installed here, the plugin is the one beside these tests, and the only one.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("tests", [TESTS, FURTHER])
def test_each_test_has_a_broker(tmp_path: Path, tests: str) -> None:
    ended = run_pytest(tmp_path, tests)
    assert ended.returncode == 0, ended.stdout


def test_the_same_tests_run_against_a_broker_that_is_there(tmp_path: Path) -> None:
    with kafkapy.Broker() as broker:
        broker.produce("somebody-elses", "v")
        ended = run_pytest(tmp_path, KEPT, f"--kafka-bootstrap={broker.bootstrap_servers}", "--kafka-keep")
        assert ended.returncode == 0, ended.stdout
        assert {topic.name for topic in broker.topics()} == {"somebody-elses", "test_it"}
        ended = run_pytest(tmp_path, FURTHER, f"--kafka-bootstrap={broker.bootstrap_servers}", "-rs")
        assert "1 skipped" in ended.stdout
        assert "cannot be started with other settings" in ended.stdout


def test_faults_of_a_broker_that_is_there_are_met_on_the_way(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, FAULTS_ANYWHERE)
    assert "3 passed" in ended.stdout
    with kafkapy.Broker() as broker:
        ended = run_pytest(tmp_path, FAULTS_ANYWHERE, f"--kafka-bootstrap={broker.bootstrap_servers}", "-rs")
        assert "2 passed, 1 skipped" in ended.stdout, ended.stdout
        assert "has no clock to move" in ended.stdout


def test_a_failing_test_shows_what_is_in_the_broker(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, FAILS)
    assert ended.returncode == 1
    assert "Kafka broker" in ended.stdout
    assert "topic orders: 1 partitions, 7 records" in ended.stdout
    assert re.findall(r"value=b'(\d)'", ended.stdout) == ["2", "3", "4", "5", "6"]
    assert re.search(r"last requests:\n(  .*\n)*  shop Metadata v\d+\n", ended.stdout)
    assert "a fault that never fired: Produce: close, 0 of 0 requests" in ended.stdout


def test_a_fault_that_never_fires_fails_its_test(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, FAULTS)
    assert re.search(r"faults that never fired:\nE +ListGroups: close, 0 of 0 requests", ended.stdout), ended.stdout
    assert "2 passed, 1 error" in ended.stdout


def test_data_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ended = run_pytest(tmp_path, TESTS, f"--kafka-data-dir={data}")
    assert ended.returncode == 0, ended.stdout
    assert (data / "main" / "meta.properties").exists()


def test_nothing_is_imported_before_a_fixture_is_used() -> None:
    code = "import sys, kafkapy.testing.plugin; print([m for m in sys.modules if m.split('.')[0] == 'trio'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_what_comes_late_is_not_in_the_next_test(tmp_path: Path) -> None:
    tests = """
import pytest

@pytest.fixture
def late(kafka_broker):
    yield
    kafka_broker.produce("left", "behind")

def test_one(late, kafka):
    pass

def test_another(kafka):
    assert kafka.topics() == []
"""
    ended = run_pytest(tmp_path, tests)
    assert ended.returncode == 0, ended.stdout


def test_the_broker_is_imported_as_it_is_written(tmp_path: Path) -> None:
    tests = """
def test_it(kafka):
    import kafkapy.broker
    assert "AssertionRewritingHook" not in repr(kafkapy.broker.__loader__)
"""
    # As pytest does with whatever is installed and brings a plugin.
    (tmp_path / "conftest.py").write_text("import pytest; pytest.register_assert_rewrite('kafkapy')")
    ended = run_pytest(tmp_path, tests, "-W", "ignore")
    assert ended.returncode == 0, ended.stdout
