"""Partitions as facts: which brokers are to have one, which of them are in sync, who leads it, and how that changes.

Pure. What is decided of a partition (`electing.py`) becomes a record, and records become what images show of it.
"""

from typing import Final

from kafkapy.cluster.image import PartitionInfo
from kafkapy.model import LogId
from kafkapy.protocol.journal.cluster_metadata import PartitionChangeRecord, PartitionRecord
from kafkapy.protocol.primitives import ZERO_UUID

ANY_DIRECTORY: Final = ZERO_UUID
"""The broker chooses where a replica lies, as Kafka writes of one that has several directories."""

UNCHANGED: Final = -2
"""In place of a leader: it is as it was."""


def partition_fact(partition: PartitionInfo) -> PartitionRecord:
    """The fact that brings the partition into being as it is."""
    return PartitionRecord(
        partition_id=partition.log.partition,
        topic_id=partition.log.topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.isr),
        removing_replicas=list(partition.removing),
        adding_replicas=list(partition.adding),
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        directories=[ANY_DIRECTORY] * len(partition.replicas),
        eligible_leader_replicas=list(partition.elr) or None,
        epoch_origin=partition.epoch_origin,
    )


def told(fact: PartitionRecord, topic: str) -> PartitionInfo:
    """The partition that a fact tells of."""
    replicas, isr = tuple(fact.replicas), tuple(fact.isr)
    return PartitionInfo(
        LogId(topic, fact.partition_id, fact.topic_id),
        replicas,
        replicas if isr == replicas else isr,
        fact.leader,
        fact.leader_epoch,
        fact.partition_epoch,
        tuple(fact.eligible_leader_replicas or ()),
        tuple(fact.adding_replicas),
        tuple(fact.removing_replicas),
        fact.epoch_origin,
    )


def changed(partition: PartitionInfo, fact: PartitionChangeRecord) -> PartitionInfo:
    """What a partition is after a change. A leader that is named, be it the same, leads in a new epoch."""
    return PartitionInfo(
        partition.log,
        _changed(partition.replicas, fact.replicas),
        _changed(partition.isr, fact.isr),
        partition.leader if fact.leader == UNCHANGED else fact.leader,
        partition.leader_epoch + (fact.leader != UNCHANGED),
        partition.partition_epoch + 1,
        _changed(partition.elr, fact.eligible_leader_replicas),
        _changed(partition.adding, fact.adding_replicas),
        _changed(partition.removing, fact.removing_replicas),
        partition.epoch_origin,
    )


def _changed(present: tuple[int, ...], new: list[int] | None) -> tuple[int, ...]:
    return present if new is None else tuple(new)
