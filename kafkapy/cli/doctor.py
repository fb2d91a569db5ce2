"""`kafkapy doctor`: goes the way that clients go, to every address that a broker tells them, and says what is wrong."""

import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

from kafkapy.cli.failures import complain
from kafkapy.config.hosts import told_address
from kafkapy.errors import KafkaError
from kafkapy.protocol.header import API_VERSIONS
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, Disconnected, NoBroker, driven

_TIMEOUT_SECONDS: Final = 5.0
_TLS_ALERT: Final = b"\x15\x03"
_ADVICE: Final = (
    "clients go where the broker tells them, not where they began: set advertised.listeners (or --advertise HOST) to "
    "an address that they can reach"
)


class Finding(NamedTuple):
    """One step of the way, and whether it can be gone."""

    is_fine: bool
    text: str


def run(address: str) -> int:
    """Print what was found at each step; 0 when a client could work, 1 when not, 2 when that is no address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        complain(f"an address is HOST:PORT, not {address!r}")
        return 2
    is_fine = True
    for finding in examine(host.strip("[]"), int(port)):
        print(f"{'ok ' if finding.is_fine else 'BAD'} {finding.text}", flush=True)
        is_fine = is_fine and finding.is_fine
    return 0 if is_fine else 1


def examine(host: str, port: int) -> Iterator[Finding]:
    """The way of a client that begins there, step by step; it ends where a client's would."""
    problem = _unreachable(host, port)
    if problem is not None:
        yield Finding(False, f"{told_address(host, port)}: {problem}")
        return
    yield Finding(True, f"{told_address(host, port)}: something listens")
    client = Client(BlockingConnection(host, port, _TIMEOUT_SECONDS))
    problem = _silent(client)
    if problem is not None:
        yield Finding(False, f"{told_address(host, port)}: {problem}")
        return
    yield Finding(True, f"{told_address(host, port)}: a Kafka broker answers")
    try:
        metadata = driven(client.ask(MetadataRequest(topics=[])))
    except Disconnected:
        yield Finding(
            False,
            f"{told_address(host, port)}: the connection is closed when a client asks for metadata without having "
            "logged in: the listener wants SASL "
            "(security.protocol=SASL_PLAINTEXT, and a mechanism with name and password)",
        )
        return
    except KafkaError as refusal:
        yield Finding(False, f"{told_address(host, port)}: metadata is refused: {refusal}")
        return
    finally:
        driven(client.close())
    yield Finding(
        True, f"cluster {metadata.cluster_id}, {len(metadata.brokers)} brokers, controller {metadata.controller_id}"
    )
    if not metadata.brokers:
        yield Finding(False, "the broker tells clients of no broker: it has not joined its cluster yet, or never will")
    for broker in metadata.brokers:
        yield _examined(broker.node_id, broker.host, broker.port, (host, port))


def _examined(node_id: int, host: str, port: int, began: tuple[str, int]) -> Finding:
    """Whether a client reaches a broker where it is told that it is."""
    at = f"broker {node_id} is told to be at {told_address(host, port)}"
    problem = None if (host, port) == began else _unreachable(host, port)
    if problem is not None:
        return Finding(False, f"{at}: {problem}; {_ADVICE}")
    client = Client(BlockingConnection(host, port, _TIMEOUT_SECONDS))
    try:
        problem = _silent(client)
    finally:
        driven(client.close())
    return Finding(problem is None, f"{at}: {problem or 'it answers there'}")


def _unreachable(host: str, port: int) -> str | None:
    """Why nobody can connect there, in words; None when one can."""
    try:
        socket.create_connection((host, port), _TIMEOUT_SECONDS).close()
    except socket.gaierror as problem:
        return f"the name cannot be resolved from here ({problem.strerror})"
    except TimeoutError:
        return f"nobody answers within {_TIMEOUT_SECONDS:g} s: a firewall, or a host that is down"
    except ConnectionRefusedError:
        return "the connection is refused: no broker listens on that port, or only on another address of that host"
    except OSError as problem:
        return f"cannot connect: {problem.strerror or problem}"
    return None


def _silent(client: Client) -> str | None:
    """Why what listens there is no broker that a plain client could talk to; None when it is one."""
    try:
        driven(client.serves(API_VERSIONS))
    except NoBroker as stranger:
        if stranger.beginning.startswith(_TLS_ALERT):
            return "it wants TLS: clients need security.protocol=SSL (or SASL_SSL) and to trust its certificate"
        if stranger.beginning == b"HTTP":
            return "it speaks HTTP: that is no port of a broker"
        return f"{stranger}"
    except Disconnected as problem:
        return (
            "it takes the connection and does not answer as a broker does "
            f"({problem.__cause__ or problem}): another service, or a listener with TLS"
        )
    except (ProtocolError, KafkaError, AssertionError) as problem:
        return f"its answer makes no sense: {problem}"
    return None
