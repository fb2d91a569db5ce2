"""`kafkapy doctor`: what it says of brokers that clients can use, and of those that they cannot."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import kafkapy
from kafkapy.cli.main import main


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """The port of something that gives everybody this answer, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    if peer.recv(1000):
                        peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def said(capsys: pytest.CaptureFixture[str], address: str) -> tuple[int, str]:
    code = main(["doctor", address])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_broker_that_clients_can_use(capsys: pytest.CaptureFixture[str]) -> None:
    with kafkapy.Broker() as broker:
        code, text = said(capsys, broker.bootstrap_servers)
        assert code == 0
        assert "BAD" not in text
        assert f"cluster {broker.cluster_id}, 1 brokers" in text
        assert f"broker 1 is told to be at {broker.bootstrap_servers}: it answers there" in text


def test_an_address_that_clients_are_told_and_cannot_reach(capsys: pytest.CaptureFixture[str]) -> None:
    for told, why in (("no-such-host.invalid:9092", "cannot be resolved"), ("127.0.0.1:1", "is refused")):
        with kafkapy.Broker({"advertised.listeners": f"PLAINTEXT://{told}"}) as broker:
            code, text = said(capsys, f"127.0.0.1:{broker.bound_port}")
            assert code == 1
            assert f"BAD broker 1 is told to be at {told}" in text
            assert why in text
            assert "advertised.listeners" in text


def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, text = said(capsys, f"127.0.0.1:{port}")
    assert code == 1
    assert "the connection is refused" in text


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "wants TLS"),
        (b"\xff\xff\xff\xff", "none of a Kafka broker"),
        (b"\x00\x00\x00\x02no", "makes no sense"),
        (b"", "does not answer as a broker does"),
    ],
)
def test_something_else_listens_there(capsys: pytest.CaptureFixture[str], answer: bytes, why: str) -> None:
    with listening(answer) as port:
        code, text = said(capsys, f"127.0.0.1:{port}")
        assert code == 1
        assert why in text


def test_a_listener_that_wants_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_a="b";'
        ),
    }
    with kafkapy.Broker(settings) as broker:
        code, text = said(capsys, f"127.0.0.1:{broker.bound_port}")
        assert code == 1
        assert "wants SASL" in text


@pytest.mark.parametrize("address", ["9092", "host", "host:", ":9092", "host:99999"])
def test_what_is_no_address(capsys: pytest.CaptureFixture[str], address: str) -> None:
    code, text = said(capsys, address)
    assert code == 2
    assert "an address is HOST:PORT" in text
