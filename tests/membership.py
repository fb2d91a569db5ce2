"""A broker that is alone, for tests that put rooms together by hand."""

from typing import Any

from kafkapy.cluster.membership import Membership
from kafkapy.handlers.peers import LocalPeers
from kafkapy.handlers.registry import Registry
from kafkapy.model import Endpoint
from kafkapy.storage.base import LiveBroker
from tests.handlers.two_brokers import LiveBrokers

US = 1


def alone(logs: Any, rooms: Any, rack: str | None = None) -> Membership:
    """Broker 1, reached at broker.test. It asks itself by `rooms`, which may be filled later."""
    endpoint = Endpoint("PLAINTEXT", "broker.test", 9092, "PLAINTEXT")
    peers = LocalPeers()
    peers.add(US, Registry(rooms).ask)
    return Membership(US, logs.leases, LiveBrokers([LiveBroker(US, rack, (endpoint,))]), peers)
