"""Which brokers a topic's partitions are to have: by the request, or by the defaults.

Pure. With one broker to choose from, an assignment that passes is that broker.
"""

from collections.abc import Sequence

from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError

DEFAULT = -1
"""In place of a count: the broker's default."""

Assignments = Sequence[tuple[int, Sequence[int]]]
"""Partitions and their brokers."""

Placed = list[tuple[int, tuple[int, ...]]]


def placed_by_count(partition_count: int, replication_factor: int, config: BrokerConfig) -> Placed:
    """The brokers of each partition, where only their numbers are asked for. Raises KafkaError."""
    if replication_factor < DEFAULT or replication_factor == 0:
        raise KafkaError(
            Error.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if partition_count < DEFAULT or partition_count == 0:
        raise KafkaError(Error.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    count = config["num.partitions"] if partition_count == DEFAULT else partition_count
    factor = config["default.replication.factor"] if replication_factor == DEFAULT else replication_factor
    if factor > 1:
        raise KafkaError(
            Error.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): The target replication factor of {factor} "
            "cannot be reached because only 1 broker(s) are registered or some brokers have all their log "
            "directories cordoned.",
        )
    return [(index, (config["node.id"],)) for index in range(count)]


def placed_by_hand(
    partition_count: int, replication_factor: int, assignments: Assignments, config: BrokerConfig
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
    for index, brokers in assignments:
        if index in placed:
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {index}",
            )
        check_assignment(brokers, config["node.id"])
        placed[index] = tuple(brokers)
    if set(placed) != set(range(len(placed))):
        raise KafkaError(
            Error.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return sorted(placed.items())


def check_assignment(brokers: Sequence[int], node_id: int) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT unless a partition may have these brokers."""
    prefix = "The manual partition assignment includes"
    if not brokers:
        raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} an empty replica list.")
    for position, broker in enumerate(sorted(brokers)):
        if broker != node_id:
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT,
                f"{prefix} broker {broker}, but no such broker is registered.",
            )
        if position:
            raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} the broker {broker} more than once.")
