"""A broker that is alone, for tests that put rooms together by hand."""

from typing import Any

from kafkapy.cluster.membership import Membership
from kafkapy.handlers.peers import SolePeers
from kafkapy.handlers.registry import Registry
from kafkapy.model import Endpoint
from kafkapy.storage.sole import SoleBroker

US = 1


def alone(logs: Any, rooms: Any, rack: str | None = None) -> Membership:
    """Broker 1, reached at broker.test. It asks itself by `rooms`, which may be filled later."""
    endpoint = Endpoint("PLAINTEXT", "broker.test", 9092, "PLAINTEXT")
    return Membership(US, logs.leases, SoleBroker(US, rack, [endpoint]), SolePeers(US, Registry(rooms).ask))
