"""A broker in a process of its own, controlled over HTTP: the words of Python, and what is said of wrong ones."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import confluent_kafka
import kafka
import pytest

import kafkapy
from kafkapy.clock import ThreadClock
from kafkapy.errors import Error, KafkaError
from kafkapy.testing.connection import Disconnected
from kafkapy.testing.nouns import NotInTime

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def running() -> Iterator[kafkapy.BrokerProcess]:
    with kafkapy.BrokerProcess() as broker:
        yield broker


@pytest.fixture
def broker(running: kafkapy.BrokerProcess) -> Iterator[kafkapy.BrokerProcess]:
    yield running
    running.reset()


def address(broker: kafkapy.BrokerProcess) -> tuple[str, int]:
    host, _, port = str(broker._control()).rpartition(":")
    return host, int(port)


def asked(
    broker: kafkapy.BrokerProcess, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """The status, and what came as JSON."""
    connection = http.client.HTTPConnection(*address(broker), timeout=TIMEOUT)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    with response:
        return response.status, json.loads(response.read() or b"null")


def test_a_fault_is_met_counted_and_waited_for(broker: kafkapy.BrokerProcess) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Produce", topic="t", error=Error.NOT_LEADER_OR_FOLLOWER, times=2, version=range(3, 14))
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, retry_backoff_ms=1) as producer:
        assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    rule.wait(2, timeout=TIMEOUT)
    assert (rule.hits, rule.seen) == (2, 2)
    assert str(rule) == "Produce topic=t: NOT_LEADER_OR_FOLLOWER, 2 of 2 requests"
    assert [*broker.faults] == [rule]
    with pytest.raises(NotInTime, match=r"after 0\.01 s: Produce topic=t: .* not 3"):
        rule.wait(3, timeout=0.01)
    broker.faults.remove(rule)
    assert [*broker.faults] == []
    with pytest.raises(ValueError, match="there is no rule"):
        broker.faults.remove(rule)


def test_a_request_is_held_until_it_is_let_go(broker: kafkapy.BrokerProcess) -> None:
    broker.create_topic("t")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers})
    with broker.faults.hold("Produce", when="after") as held:
        producer.produce("t", b"v")
        producer.poll(0)
        held.wait(timeout=TIMEOUT)
        assert [record.value for record in broker.records("t")] == [b"v"]
        assert len(producer) == 1
    assert producer.flush(TIMEOUT) == 0


def test_who_waits_for_a_rule_keeps_nobody_else_waiting(broker: kafkapy.BrokerProcess) -> None:
    rule = broker.faults.observe("ListGroups")
    waiting = threading.Thread(target=rule.wait, kwargs={"hits": 2, "timeout": TIMEOUT})
    waiting.start()
    broker.groups()
    assert waiting.is_alive()
    broker.groups()
    waiting.join(TIMEOUT)
    assert not waiting.is_alive()
    assert rule.hits == 2


def test_a_fault_that_must_be_met_and_was_not_is_told_of(broker: kafkapy.BrokerProcess) -> None:
    broker.faults.add("Produce", close=True, must=True)
    with pytest.raises(AssertionError, match="never fired:\n  Produce: close, 0 of 0 requests"):
        broker.faults.check()
    broker.faults.clear()
    broker.faults.check()


def test_a_script_is_set_as_a_whole_or_not_at_all(broker: kafkapy.BrokerProcess) -> None:
    errors = ["COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"]
    script = [{"api": "ListGroups", "error": error} for error in errors]
    status, told = asked(broker, "POST", "/faults", json.dumps([*script, {"api": "ListGroups", "eror": "x"}]).encode())
    assert (status, [*broker.faults]) == (400, [])
    assert told["error"].startswith("rule 3: a rule knows no 'eror'; it knows error, ")
    status, told = asked(broker, "POST", "/faults", json.dumps(script).encode())
    assert (status, [rule["hits"] for rule in told]) == (200, [0, 0])
    for error in errors:
        with pytest.raises(KafkaError) as raised:
            broker.groups()
        assert raised.value.error is Error[error]
    assert broker.groups() == []


def test_time_is_the_brokers(broker: kafkapy.BrokerProcess) -> None:
    broker.create_topic("t", config={"message.timestamp.type": "LogAppendTime"})
    broker.clock.freeze()
    assert broker.clock.is_frozen
    now_ms = broker.clock.now_ms()
    broker.produce("t", "a")
    broker.clock.advance(3600)
    broker.produce("t", "b")
    assert [record.timestamp - now_ms for record in broker.records("t")] == [0, 3_600_000]
    broker.clock.set(datetime(2200, 1, 1, tzinfo=UTC))
    assert broker.clock.now_ms() == datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000
    for seconds in (-1, 1e300, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="backwards"):
            broker.clock.advance(seconds)
    with pytest.raises(ValueError, match="backwards"):
        broker.clock.set(datetime(2030, 1, 1, tzinfo=UTC))


def test_a_record_of_a_test_bears_the_brokers_time(broker: kafkapy.BrokerProcess) -> None:
    broker.clock.advance(1_000_000)
    broker.produce("t", "a")
    assert broker.records("t")[0].timestamp > ThreadClock().now_ms() + 900_000


def test_a_reset_forgets_faults_and_has_time_go_on(broker: kafkapy.BrokerProcess) -> None:
    broker.create_topic("t")
    broker.faults.add("Metadata", drop=True, times=None)  # which a reset would have to wait for
    broker.clock.freeze()
    broker.reset()
    assert broker.topics() == []
    assert [*broker.faults] == []
    assert not broker.clock.is_frozen


def test_activity_is_followed_and_whole_when_the_block_ends(broker: kafkapy.BrokerProcess) -> None:
    heard: list[Any] = []
    with broker.activity.follow(heard.append) as requests:
        broker.produce("t", "v")
        broker.faults.add("Metadata", topic="t", error="LEADER_NOT_AVAILABLE")
        with pytest.raises(KafkaError):
            broker.records("t")
    assert requests == heard
    assert [(one.topics, one.errors) for one in requests if one.api == "Produce"] == [(("t",), ())]
    assert (("t",), ("LEADER_NOT_AVAILABLE",)) in [
        (one.topics, one.errors) for one in requests if one.api == "Metadata"
    ]
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, client_id="shop") as producer:
        producer.send("t", b"v").get(TIMEOUT)
    assert any(one.startswith("shop Produce v") for one in broker.activity.last(50))
    assert len(broker.activity.last(1)) == 1


def test_what_was_asked_by_somebody_who_has_gone_harms_nobody(broker: kafkapy.BrokerProcess) -> None:
    for question in (
        b"GET /activity/follow HTTP/1.1\r\n\r\n",
        b"POST /restore HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
    ):
        gone = socket.create_connection(address(broker), TIMEOUT)
        gone.sendall(question)
        if b"follow" in question:
            assert gone.recv(10)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        gone.close()  # with a reset
        broker.produce("t", "v")
    assert len(broker.records("t")) == 2


def test_a_snapshot_is_put_back(broker: kafkapy.BrokerProcess) -> None:
    broker.produce("t", "ä")
    written = broker._control().exchange("GET", "/snapshot")
    broker.produce("t", "second")
    status, told = asked(broker, "POST", "/restore", written)
    assert (status, told) == (200, {"entries": 2})
    assert [record.value for record in broker.records("t")] == ["ä".encode()]


RULE = b'{"api": "Produce", "close": true}'


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "why"),
    [
        ("GET", "/nothing", None, 404, "there is no /nothing"),
        ("PUT", "/faults", RULE, 405, "/faults takes GET or POST or DELETE"),
        ("POST", "/faults", b"", 400, "that is no JSON"),
        ("POST", "/faults", b"{", 400, "that is no JSON"),
        ("POST", "/faults", b"\xff", 400, "utf-8"),
        ("POST", "/faults", b"[" * 100_000, 400, "recursion"),
        ("POST", "/faults", b"5", 400, "a rule is an object, not 5"),
        ("POST", "/faults", b'{"close": true}', 400, 'a rule names an "api"'),
        ("POST", "/faults", b'{"api": "Prduce"}', 400, "no API is called 'Prduce'"),
        ("POST", "/faults", b'{"api": "Prduce\\ud800"}', 400, "no API is called"),
        ("POST", "/faults", b'{"api": "Produce", "closed": true}', 400, "a rule knows no 'closed'"),
        ("POST", "/faults", b'{"api": "Produce", "close": 1}', 400, "close cannot be 1"),
        ("POST", "/faults", b'{"api": "Produce", "times": true}', 400, "times cannot be True"),
        ("POST", "/faults", b'{"api": "Produce", "times": 0}', 400, "times is from 1 to"),
        ("POST", "/faults", b'{"api": "Produce", "delay": NaN}', 400, "delay is from 0 to 86400, not nan"),
        ("POST", "/faults", b'{"api": "Produce", "delay": 1e999}', 400, "delay is from 0 to 86400, not inf"),
        ("POST", "/faults", b'{"api": "Produce", "throttle_ms": %s}' % (b"9" * 4000), 400, "throttle_ms is from 0"),
        ("POST", "/faults", b'{"api": "Produce", "version": [0, 99999999999999]}', 200, ""),
        ("POST", "/faults", b'{"api": "Produce", "version": [9, 3]}', 400, "versions 3 to 13"),
        ("POST", "/faults", b'{"api": "Produce", "version": [9]}', 400, "the first and the last, not [9]"),
        ("POST", "/faults", b'{"api": "Produce", "when": "never"}', 400, "before or after the work, not 'never'"),
        ("POST", "/faults", b"[%s]" % b",".join([RULE] * 1001), 400, "more than 1000 rules"),
        ("DELETE", "/faults/99", None, 404, "there is no rule 99"),
        ("POST", "/faults/99/wait", b"{}", 404, "there is no rule 99"),
        ("POST", "/clock/back", None, 404, "there is no /clock/back"),
        ("POST", "/clock/freeze", b'{"x": 1}', 400, "/clock/freeze takes {}"),
        ("POST", "/clock/advance", b"{}", 400, "advance takes"),
        ("POST", "/clock/advance", b'{"seconds": -Infinity}', 400, "backwards"),
        ("POST", "/clock/advance", b'{"seconds": 1e300}', 400, "year 9999"),
        ("POST", "/clock/set", b'{"moment": "soon"}', 400, "Invalid isoformat string: 'soon'"),
        ("POST", "/restore", b'{"topic": 5}', 400, "a topic's name is text"),
        ("POST", "/restore", b"nonsense", 400, "line 1 is no JSON"),
        ("GET", "/activity?most=many", None, 400, "most is a number, not 'many'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_makes_no_sense_is_refused_in_words(
    broker: kafkapy.BrokerProcess, method: str, path: str, body: bytes | None, status: int, why: str
) -> None:
    answered, told = asked(broker, method, path, body)
    assert answered == status
    assert why in (told["error"] if status != 200 else "")
    assert broker.topics() == []


def test_who_sends_too_much_gets_to_read_that(broker: kafkapy.BrokerProcess) -> None:
    status, told = asked(broker, "POST", "/faults", bytes(32 << 20))
    assert (status, told) == (413, {"error": f"{32 << 20} bytes are more than the {1 << 20} that /faults takes"})


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /snapshot HTTP/1.1\r\nHost: attacker.example:80\r\n\r\n", b"HTTP/1.1 403 "),
        (b"POST /reset HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://attacker.example\r\n\r\n", b"HTTP/1.1 403 "),
        (b"POST /faults HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST /faults HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /clock HTTP/1.1\r\nHost: localhost:1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /clock HTTP/1.1\r\nHost: [::1]:1\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /clock HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"\xff" * 9000, b""),
    ],
)
def test_strangers_and_nonsense_are_turned_away(
    broker: kafkapy.BrokerProcess, request_head: bytes, status: bytes
) -> None:
    with socket.create_connection(address(broker), TIMEOUT) as stream:
        stream.sendall(request_head)
        try:
            answer = stream.recv(1000)
        except ConnectionResetError:  # it was not read to its end
            answer = b""
    assert answer.startswith(status) if status else answer == b""


def test_a_body_is_asked_for_where_a_client_waits_for_that(broker: kafkapy.BrokerProcess) -> None:
    with socket.create_connection(address(broker), TIMEOUT) as stream:
        stream.sendall(b"POST /faults HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(RULE))
        assert stream.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stream.sendall(RULE)
        assert stream.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len([*broker.faults]) == 1


def test_what_does_not_run_says_so() -> None:
    broker = kafkapy.BrokerProcess()
    with pytest.raises(RuntimeError, match="does not run"):
        broker.faults.add("Produce", close=True)
    broker.start()
    control = broker._control()
    broker.kill()
    with pytest.raises(Disconnected, match="no control at"):
        control.ask("GET", "/faults")
    with pytest.raises(RuntimeError, match="does not run"):
        broker.clock.freeze()


@pytest.mark.parametrize("how", ["hold", "delay"])
def test_a_broker_that_holds_requests_stops_all_the_same(how: str) -> None:
    broker = kafkapy.BrokerProcess().start()
    rule = broker.faults.add("ListGroups", hold=how == "hold", delay=60 if how == "delay" else 0)
    broker.clock.freeze()
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(broker.groups())
        except Disconnected:
            outcome.append("disconnected")

    asking = threading.Thread(target=ask)
    asking.start()
    rule.wait(timeout=TIMEOUT)
    process = broker._process
    assert process is not None
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    asking.join(TIMEOUT)
    assert outcome == ([[]] if how == "hold" else ["disconnected"])
    broker.stop()
