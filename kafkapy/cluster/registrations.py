"""Which brokers the cluster has, where they were reached when they came, and which of them are fenced: not there.

Pure. A kind of metadata facts (`kinds.py`). What follows for the leaders of partitions is decided with it, in
`brokers.py`. As long as nothing is registered there is the one broker that all of this is of, and it is not fenced.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shard import Moment
from kafkapy.model import Endpoint
from kafkapy.protocol.journal.cluster_metadata import (
    BrokerRegistrationChangeRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)
from kafkapy.protocol.primitives import ZERO_UUID

RegistrationFact = RegisterBrokerRecord | UnregisterBrokerRecord | BrokerRegistrationChangeRecord

FENCE: Final = 1
UNFENCE: Final = -1
"""What a change of a registration does; 0 leaves it."""

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""By the number that records have for each."""


class Registration(NamedTuple):
    """A broker of the cluster. `epoch` is another one each time that it comes."""

    node_id: int
    epoch: int
    incarnation_id: bytes
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    is_fenced: bool


Registered = Mapping[int, Registration]
"""By node id."""

NO_REGISTRATIONS: Final[Registered] = MappingProxyType({})


def alone(config: BrokerConfig) -> Registered:
    """The brokers of a cluster in which none has registered."""
    node_id = config["node.id"]
    return {node_id: Registration(node_id, 0, ZERO_UUID, config["broker.rack"], (), is_fenced=False)}


def registration_fact(broker: Registration) -> RegisterBrokerRecord:
    """The fact that the broker has come, or was there."""
    return RegisterBrokerRecord(
        broker_id=broker.node_id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[
            RegisterBrokerRecord.BrokerEndpoint(
                name=endpoint.listener,
                host=endpoint.host,
                port=endpoint.port,
                security_protocol=_PROTOCOLS.index(endpoint.security_protocol),
            )
            for endpoint in broker.endpoints
        ],
        rack=broker.rack,
        fenced=broker.is_fenced,
    )


def fencing(broker: Registration, change: int) -> BrokerRegistrationChangeRecord:
    """The fact that the broker is fenced, or is so no longer."""
    return BrokerRegistrationChangeRecord(broker_id=broker.node_id, broker_epoch=broker.epoch, fenced=change)


class Registrations:
    """The brokers that all facts so far add up to."""

    facts: ClassVar[tuple[type[Any], ...]] = (
        RegisterBrokerRecord,
        UnregisterBrokerRecord,
        BrokerRegistrationChangeRecord,
    )
    commands: ClassVar[tuple[type[Any], ...]] = ()

    def __init__(self) -> None:
        self.shown: Registered = NO_REGISTRATIONS

    def decide(self, command: Any, moment: Moment) -> tuple[Sequence[RegistrationFact], None]:
        raise LookupError(f"{command} is not decided here")

    def apply(self, fact: RegistrationFact) -> None:
        brokers = dict(self.shown)
        match fact:
            case RegisterBrokerRecord():
                brokers[fact.broker_id] = _told(fact)
            case UnregisterBrokerRecord():
                brokers.pop(fact.broker_id, None)
            case BrokerRegistrationChangeRecord() if fact.fenced and fact.broker_id in brokers:
                brokers[fact.broker_id] = brokers[fact.broker_id]._replace(is_fenced=fact.fenced == FENCE)
        self.shown = MappingProxyType(dict(sorted(brokers.items())))

    def undo_of(self, fact: RegistrationFact) -> Callable[[], None]:
        return partial(setattr, self, "shown", self.shown)

    @staticmethod
    def snapshot(shown: Registered) -> Iterator[RegistrationFact]:
        yield from map(registration_fact, shown.values())


def _told(fact: RegisterBrokerRecord) -> Registration:
    endpoints = tuple(
        Endpoint(endpoint.name, endpoint.host, endpoint.port, _PROTOCOLS[endpoint.security_protocol])
        for endpoint in fact.end_points
    )
    return Registration(fact.broker_id, fact.broker_epoch, fact.incarnation_id, fact.rack, endpoints, fact.fenced)
