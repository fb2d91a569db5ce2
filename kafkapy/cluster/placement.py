"""Which brokers a topic's partitions are to have: by the request, or by the defaults.

Pure. Where only numbers are asked for, partitions are spread as Kafka's striped placer spreads them.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

from kafkapy.cluster.registrations import Registered
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NOBODY

T = TypeVar("T")

DEFAULT = -1
"""In place of a count: the broker's default."""

Assignments = Sequence[tuple[int, Sequence[int]]]
"""Partitions and their brokers."""

Placed = list[tuple[int, tuple[int, ...]]]


def placed_by_count(
    partition_count: int, replication_factor: int, config: BrokerConfig, brokers: Registered, seed: bytes
) -> Placed:
    """The brokers of each partition, where only their numbers are asked for. Raises KafkaError.

    The seed is what takes the place of chance.
    """
    if replication_factor < DEFAULT or replication_factor == 0:
        raise KafkaError(
            Error.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if partition_count < DEFAULT or partition_count == 0:
        raise KafkaError(Error.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    count = config["num.partitions"] if partition_count == DEFAULT else partition_count
    factor = config["default.replication.factor"] if replication_factor == DEFAULT else replication_factor
    return list(enumerate(striped(count, factor, brokers, seed)))


def placed_by_hand(
    partition_count: int, replication_factor: int, assignments: Assignments, brokers: Registered
) -> Placed:
    """The brokers of each partition as the request names them. Raises KafkaError."""
    if replication_factor != DEFAULT:
        raise KafkaError(
            Error.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if partition_count != DEFAULT:
        raise KafkaError(
            Error.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    placed: dict[int, tuple[int, ...]] = {}
    for index, wanted in assignments:
        if index in placed:
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {index}",
            )
        check_assignment(wanted, brokers)
        check_active(index, wanted, brokers)
        placed[index] = tuple(wanted)
    if set(placed) != set(range(len(placed))):
        raise KafkaError(
            Error.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return sorted(placed.items())


def check_assignment(wanted: Sequence[int], brokers: Registered, factor: int | None = None) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT unless a partition may have these brokers, so many if that is given."""
    prefix = "The manual partition assignment includes"
    if not wanted:
        raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} an empty replica list.")
    in_order = sorted(wanted)
    for position, broker in enumerate(in_order):
        if broker not in brokers:
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT,
                f"{prefix} broker {broker}, but no such broker is registered.",
            )
        if position and broker == in_order[position - 1]:
            raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} the broker {broker} more than once.")
    if factor is not None and len(wanted) != factor:
        raise KafkaError(
            Error.INVALID_REPLICA_ASSIGNMENT,
            f"{prefix} a partition with {len(wanted)} replica(s), but this is not consistent with previous partitions, "
            f"which have {factor} replica(s).",
        )


def check_active(index: int, wanted: Sequence[int], brokers: Registered) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT unless one of the brokers of a new partition can lead it."""
    if all(brokers[broker].is_fenced for broker in wanted):
        raise KafkaError(
            Error.INVALID_REPLICA_ASSIGNMENT,
            f"All brokers specified in the manual partition assignment for partition {index} are fenced or in "
            "controlled shutdown.",
        )


def striped(count: int, factor: int, brokers: Registered, seed: bytes) -> list[tuple[int, ...]]:
    """The replicas of so many partitions, in stripes over racks and the brokers of each, as Kafka places them.

    Who is there comes first, and leads. Raises INVALID_REPLICATION_FACTOR.
    """
    problem = None
    if all(broker.is_fenced for broker in brokers.values()):
        problem = "All brokers are currently fenced or have all their log directories cordoned."
    elif factor > len(brokers):
        problem = (
            f"The target replication factor of {factor} cannot be reached because only {len(brokers)} broker(s) are "
            "registered or some brokers have all their log directories cordoned."
        )
    if problem is not None:
        raise KafkaError(
            Error.INVALID_REPLICATION_FACTOR, f"Unable to replicate the partition {factor} time(s): {problem}"
        )
    stripes = _Stripes(brokers, Chance(seed))
    return [stripes.next(factor) for _ in range(count)]


class Chance:
    """Numbers that follow from a seed, and look as if they did not."""

    def __init__(self, seed: bytes) -> None:
        self._state = seed

    def below(self, bound: int) -> int:
        """From 0 up to, and without, `bound`."""
        self._state = sha256(self._state).digest()
        return int.from_bytes(self._state[:8]) % bound

    def shuffle(self, items: list[T]) -> None:
        """Put them in another order."""
        for position in range(len(items) - 1, 0, -1):
            other = self.below(position + 1)
            items[position], items[other] = items[other], items[position]


class _Brokers:
    """Brokers of a rack, each given out once a round; with each round another is the first."""

    def __init__(self, brokers: list[int], chance: Chance) -> None:
        self.brokers = brokers
        self._offset = chance.below(len(brokers)) if brokers else 0
        self._given = 0
        self._round = 0

    def next(self, number: int) -> int:
        """One that was not given out in this round, or -1."""
        if not self.brokers:
            return NOBODY
        if number != self._round:
            self._round, self._given = number, 0
            self._offset = (self._offset + 1) % len(self.brokers)
        if self._given == len(self.brokers):
            return NOBODY
        self._given += 1
        return self.brokers[(self._given - 1 + self._offset) % len(self.brokers)]


class _Stripes:
    """Gives out the replicas of one partition after the other."""

    def __init__(self, brokers: Registered, chance: Chance) -> None:
        self._chance = chance
        names = sorted({broker.rack for broker in brokers.values()}, key=lambda rack: (rack is not None, rack or ""))
        self._racks = [
            tuple(
                _Brokers(
                    sorted(b.node_id for b in brokers.values() if b.rack == name and b.is_fenced == fenced), chance
                )
                for fenced in (False, True)
            )
            for name in names
        ]
        self._offset = chance.below(len(names))
        self._there = sum(not broker.is_fenced for broker in brokers.values())
        self._round = 0

    def next(self, factor: int) -> tuple[int, ...]:
        if self._round == self._there > 1:  # every one of them was first: begin anew, in another order
            self._chance.shuffle(self._racks)
            for rack in self._racks:
                for brokers in rack:
                    self._chance.shuffle(brokers.brokers)
            self._round = 0
        count, number = len(self._racks), self._round
        first = at = self._offset % count
        while (leader := self._racks[first][0].next(number)) == NOBODY:
            first = (first + 1) % count
        replicas = [leader]
        while len(replicas) < factor:
            if at == first:
                first = NOBODY  # the leader's rack is passed over once
            elif (replica := self._one_of(self._racks[at], number)) != NOBODY:
                replicas.append(replica)
            at = (at + 1) % count
        self._round += 1
        self._offset = self._offset % count + 1
        return tuple(replicas)

    @staticmethod
    def _one_of(rack: tuple[_Brokers, ...], number: int) -> int:
        there = rack[0].next(number)
        return rack[1].next(number) if there == NOBODY else there
