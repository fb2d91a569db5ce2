"""What a handler is given beside the request: who asks, over which connection, and the rooms to ask.

Authorization: with this context everything is allowed, as in Kafka without an authorizer. In a broker that has one,
clients' requests come with another (`guarded.py`).
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kafkapy.cluster.machine import freely
from kafkapy.model import ANONYMOUS, Endpoint, Principal
from kafkapy.model import CLUSTER_NAME as CLUSTER_NAME
from kafkapy.model import Operation as Operation
from kafkapy.model import ResourceType as ResourceType

if TYPE_CHECKING:
    from kafkapy.clock import Clock
    from kafkapy.cluster.registrations import Registration
    from kafkapy.cluster.service import ClusterService
    from kafkapy.config.layers import BrokerConfig
    from kafkapy.groups.service import GroupService
    from kafkapy.groups.share.service import ShareGroups
    from kafkapy.groups.streams.service import StreamsGroups
    from kafkapy.handlers.forwarding import Forwarding
    from kafkapy.handlers.observing import Observed
    from kafkapy.log.fetch_session import FetchSessionCache
    from kafkapy.metrics import RequestMetrics
    from kafkapy.quotas.service import Quotas
    from kafkapy.security.authorizer import Authorizer
    from kafkapy.security.tokens import TokenSecret
    from kafkapy.sharing.partitions import SharePartitions
    from kafkapy.sharing.sessions import ShareSession, ShareSessions
    from kafkapy.sharing.state.service import ShareStateService
    from kafkapy.storage.base import LiveBroker, Logs
    from kafkapy.telemetry.service import Telemetry
    from kafkapy.transactions.producer_ids import ProducerIds
    from kafkapy.transactions.service import TransactionService
    from kafkapy.transactions.verifying import Verifier
    from kafkapy.turns import Turns


OPERATIONS = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DESCRIBE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DESCRIBE,
        Operation.DELETE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
        Operation.ALTER,
        Operation.DESCRIBE,
    ),
    ResourceType.TRANSACTIONAL_ID: (Operation.DESCRIBE, Operation.WRITE, Operation.TWO_PHASE_COMMIT),
}
"""What there is to be allowed on a resource, as APIs that tell authorized operations know it."""


@dataclass(slots=True)
class Session:
    """One connection, as handlers see it."""

    listener: str
    security_protocol: str
    local_host: str
    local_port: int
    peer_host: str
    peer_port: int
    principal: Principal = ANONYMOUS
    token_authenticated: bool = False
    """Whether it was a delegation token that told who it is: such a client gets no further tokens."""
    is_forwarded: bool = False
    """Whether it is another broker's client, which that broker has let in: of this connection only the listener."""
    software_name: str = "unknown"
    software_version: str = "unknown"
    share_sessions: "frozenset[ShareSession]" = frozenset()
    """Those that were opened on this connection: they end with it."""
    mute: Callable[[float], None] = field(default=lambda until: None, repr=False)
    """Answers what is under way, and hears nothing more of this client before that moment of the clock (KIP-219)."""
    _address: str | None = field(default=None, init=False, repr=False)

    @property
    def address(self) -> str:
        """The client's address in Java's text form, which never shortens IPv6: so ACLs and group members have it."""
        if self._address is None:
            self._address = _in_java(self.peer_host)
        return self._address


@dataclass(slots=True)
class Rooms:
    """The rooms that handlers may ask."""

    clock: "Clock"
    turns: "Turns"
    logs: "Logs"
    cluster: "ClusterService"
    groups: "GroupService"
    share_groups: "ShareGroups"
    streams_groups: "StreamsGroups"
    transactions: "TransactionService"
    producer_ids: "ProducerIds"
    verifier: "Verifier"
    fetch_sessions: "FetchSessionCache"
    share_state: "ShareStateService"
    share_partitions: "SharePartitions"
    share_sessions: "ShareSessions"
    quotas: "Quotas"
    telemetry: "Telemetry"
    metrics: "RequestMetrics | None" = None
    authorizer: "Authorizer | None" = None
    token_secret: "TokenSecret | None" = None
    forwarding: "Forwarding | None" = None
    """What brokers of several processes have; None where all are in this one."""

    @property
    def config(self) -> "BrokerConfig":
        """The broker's settings as they are now."""
        return self.cluster.image.config


@dataclass(slots=True)
class Context:
    """One request's surroundings."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    session: Session = field(repr=False)
    rooms: Rooms = field(repr=False)
    observed: "Observed | None" = field(default=None, repr=False)
    """While there are quotas, or metrics are told, what sees to them."""

    def spending(self, strict_from: int) -> Callable[[int], None]:
        """Counts the partitions that this request creates or deletes; from that version on it may refuse (KIP-599)."""
        return freely if self.observed is None else self.observed.spending(strict=self.api_version >= strict_from)

    def endpoint_of(self, broker: "LiveBroker | Registration") -> Endpoint | None:
        """Where this client reaches a broker: by the listener that it came in on; None when the broker has no such."""
        return endpoint_of(broker, self.session)

    def require(self, operation: Operation, resource_type: ResourceType, name: str) -> None:
        """Raise the resource type's authorization error unless the principal may do `operation` on the resource."""

    def permits(
        self, operation: Operation, resource_type: ResourceType, name: str, *, denial_is_logged: bool = True
    ) -> bool:
        """Whether the principal may do `operation` on the resource, for APIs that answer each resource by itself.

        With `denial_is_logged` off nothing was refused yet: something else may allow it, or it is left out.
        """
        return True

    def permits_somewhere(self, operation: Operation, resource_type: ResourceType) -> bool:
        """Whether there may be a resource of this type on which the principal may do `operation`."""
        return True

    def authorized_operations(self, resource_type: ResourceType, name: str) -> int:
        """What the principal may do on the resource, as the bitfield of KIP-430."""
        bits = 0
        for operation in OPERATIONS[resource_type]:
            bits |= 1 << operation
        return bits

    def cluster_authorized_operations(self) -> int:
        """What the principal may do on the cluster; nothing when it may not even know."""
        if not self.permits(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME):
            return 0
        return self.authorized_operations(ResourceType.CLUSTER, CLUSTER_NAME)


def endpoint_of(broker: "LiveBroker | Registration", session: Session) -> Endpoint | None:
    """Where the client of this session reaches a broker."""
    for listener, host, port, security_protocol in broker.endpoints:
        if listener == session.listener:
            return Endpoint(listener, host or session.local_host, port or session.local_port, security_protocol)
    return None


def _in_java(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return ":".join(f"{int(group, 16):x}" for group in address.exploded.split(":"))
