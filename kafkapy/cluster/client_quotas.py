"""Client quotas (KIP-546, KIP-612): what whom is limited to, as facts, and who may be limited to what.

Pure. A kind of metadata facts (`kinds.py`). An entity is a user, a client id, both, or an IP address; each may be the
default one, for whoever has none of its own. What comes of a limit is for others to see to.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from math import fmod, inf, isfinite
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.journal.cluster_metadata import ClientQuotaRecord

USER: Final = "user"
CLIENT_ID: Final = "client-id"
IP: Final = "ip"

PRODUCER_BYTE_RATE: Final = "producer_byte_rate"
CONSUMER_BYTE_RATE: Final = "consumer_byte_rate"
REQUEST_PERCENTAGE: Final = "request_percentage"
CONTROLLER_MUTATION_RATE: Final = "controller_mutation_rate"
CONNECTION_CREATION_RATE: Final = "connection_creation_rate"

Entity = tuple[tuple[str, str | None], ...]
"""Types of an entity and their names, in the order of the types; the name of a default is None."""

QuotaTable = Mapping[Entity, Mapping[str, float]]
"""Each entity's limits by their keys."""


class _Limit(NamedTuple):
    """What a limit may be. `kind`, when it must be a whole number, is the name of the type that it must fit into."""

    most: float = inf
    kind: str | None = None


_LONG: Final = _Limit(float(2**63), "a LONG")
_OF_CLIENTS: Final = {
    PRODUCER_BYTE_RATE: _LONG,
    CONSUMER_BYTE_RATE: _LONG,
    REQUEST_PERCENTAGE: _Limit(),
    CONTROLLER_MUTATION_RATE: _Limit(),
}
_OF_IPS: Final = {CONNECTION_CREATION_RATE: _Limit(float(2**31 - 1), "an INT")}
_FRACTION: Final = 1e-6


class QuotaAlteration(NamedTuple):
    """What is asked for one entity: keys and their limits, None to have no limit of its own."""

    entity: Entity
    limits: Sequence[tuple[str, float | None]]


@dataclass(slots=True)
class AlterClientQuotas:
    """Answered by a dict: for each entity None, or the `KafkaError` that refuses it.

    `unresolvable` are those names of IP entities that are neither addresses nor known hosts.
    """

    alterations: Sequence[QuotaAlteration]
    unresolvable: frozenset[str] = frozenset()
    validate_only: bool = False


class ClientQuotas:
    """The limits that all facts so far add up to."""

    facts: ClassVar[tuple[type[Any], ...]] = (ClientQuotaRecord,)
    commands: ClassVar[tuple[type[Any], ...]] = (AlterClientQuotas,)

    def __init__(self) -> None:
        self.shown: QuotaTable = {}

    def decide(
        self, command: AlterClientQuotas, moment: Moment
    ) -> tuple[list[ClientQuotaRecord], dict[Entity, KafkaError | None]]:
        facts: list[ClientQuotaRecord] = []
        results: dict[Entity, KafkaError | None] = {}
        for entity, limits in command.alterations:
            # As in Kafka, what is asked for an entity that is named twice is done the first time all the same.
            if entity in results or len(dict(limits)) < len(limits):
                message = f"Ignoring duplicate entity ClientQuotaEntity(entries={_told(entity)})"
                results[entity] = KafkaError(Error.INVALID_REQUEST, message)
                continue
            try:
                facts += list(self._altered(entity, limits, command.unresolvable))
            except KafkaError as refusal:
                results[entity] = refusal
            else:
                results[entity] = None
        return [] if command.validate_only else facts, results

    def _altered(
        self, entity: Entity, limits: Sequence[tuple[str, float | None]], unresolvable: frozenset[str]
    ) -> Iterator[ClientQuotaRecord]:
        allowed = _allowed(entity, unresolvable)
        own = self.shown.get(entity, {})
        for key, limit in limits:
            if limit is None:
                if key in own:
                    yield _fact(entity, key, None)
            else:
                _check(allowed, key, limit)
                if own.get(key) != limit:
                    yield _fact(entity, key, limit)

    def apply(self, fact: ClientQuotaRecord) -> None:
        self._set(_entity_of(fact), fact.key, None if fact.remove else fact.value)

    def undo_of(self, fact: ClientQuotaRecord) -> Callable[[], None]:
        entity = _entity_of(fact)
        return partial(self._set, entity, fact.key, self.shown.get(entity, {}).get(fact.key))

    def _set(self, entity: Entity, key: str, limit: float | None) -> None:
        own = dict(self.shown.get(entity, {}))
        if limit is None:
            own.pop(key, None)
        else:
            own[key] = limit
        table = {**self.shown, entity: own}
        if not own:
            del table[entity]
        self.shown = table

    @staticmethod
    def snapshot(shown: QuotaTable) -> Iterator[ClientQuotaRecord]:
        for entity, limits in shown.items():
            for key, limit in limits.items():
                yield _fact(entity, key, limit)


def entity_of(names: Iterable[tuple[str, str | None]]) -> Entity:
    """The entity of these types and names; of a type that comes twice, the last name counts."""
    return tuple(sorted(dict(names).items()))


def is_address(name: str) -> bool:
    """Whether it is an IP address, and not the name of a host."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _allowed(entity: Entity, unresolvable: frozenset[str]) -> Mapping[str, _Limit]:
    """The limits that the entity may have."""
    if not entity:
        raise KafkaError(Error.INVALID_REQUEST, "Invalid empty client quota entity")
    for kind, name in entity:
        if kind not in (USER, CLIENT_ID, IP):
            raise KafkaError(Error.INVALID_REQUEST, f"Unhandled client quota entity type: {kind}")
        if name == "":
            raise KafkaError(Error.INVALID_REQUEST, f"Empty {kind} not supported")
    names = dict(entity)
    if IP not in names:
        return _OF_CLIENTS
    if len(names) > 1:
        # As Kafka says it.
        raise KafkaError(
            Error.INVALID_REQUEST,
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        )
    if names[IP] in unresolvable:
        raise KafkaError(Error.INVALID_REQUEST, f"{names[IP]} is not a valid IP or resolvable host.")
    return _OF_IPS


def _check(allowed: Mapping[str, _Limit], key: str, limit: float) -> None:
    if key not in allowed:
        raise KafkaError(Error.INVALID_REQUEST, f"Invalid configuration key {key}")
    if not isfinite(limit):
        raise KafkaError(Error.INVALID_REQUEST, f"Quota {key} must be a finite number")
    if limit <= 0:
        raise KafkaError(Error.INVALID_REQUEST, f"Quota {key} must be greater than 0")
    most, kind = allowed[key]
    if kind is None:
        return
    if limit > most:
        raise KafkaError(Error.INVALID_REQUEST, f"Proposed value for {key} is too large for {kind}.")
    if fmod(limit, 1.0) > _FRACTION:
        raise KafkaError(Error.INVALID_REQUEST, f"{key} cannot be a fractional value.")


def _fact(entity: Entity, key: str, limit: float | None) -> ClientQuotaRecord:
    names = [ClientQuotaRecord.EntityData(entity_type=kind, entity_name=name) for kind, name in entity]
    return ClientQuotaRecord(entity=names, key=key, value=limit or 0.0, remove=limit is None)


def _entity_of(fact: ClientQuotaRecord) -> Entity:
    return entity_of((part.entity_type, part.entity_name) for part in fact.entity)


def _told(entity: Entity) -> str:
    return "{" + ", ".join(f"{kind}={'null' if name is None else name}" for kind, name in entity) + "}"
