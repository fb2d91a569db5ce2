"""What becomes of a partition when a broker goes or comes back, when its leader is elected, when it is to move.

Pure. The rules are those of Kafka's controller (KIP-455, KIP-966): a leader is one of those in sync, or, where none is,
of those who were when there became too few (eligible leader replicas). In one point it is simpler here: one store lies
behind all brokers of a process, so a replica whose broker is there is in sync at once (`settled`).
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from kafkapy.cluster.image import PartitionInfo
from kafkapy.cluster.partitions import ANY_DIRECTORY, changed
from kafkapy.model import NOBODY
from kafkapy.protocol.journal.cluster_metadata import PartitionChangeRecord


class Election(Enum):
    """Who may come to lead: members of the ISR, the preferred replica before all others, or anybody who is there."""

    ONLINE = "online"
    PREFERRED = "preferred"
    UNCLEAN = "unclean"


class Voters(NamedTuple):
    """What a decision on a topic's partitions goes by: who is there, and its min.insync.replicas."""

    is_there: Callable[[int], bool]
    min_isr: int
    election: Election = Election.ONLINE


class Target(NamedTuple):
    """What a partition is to be: None leaves it as it is."""

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding: Sequence[int] | None = None
    removing: Sequence[int] | None = None


_AS_IT_IS = Target()


def change_of(partition: PartitionInfo, voters: Voters, target: Target = _AS_IT_IS) -> PartitionChangeRecord | None:
    """The fact that takes the partition there, with the leader that it then has; None when nothing changes."""
    isr = partition.isr if target.isr is None else tuple(target.isr)
    replicas = partition.replicas if target.replicas is None else tuple(target.replicas)
    adding = partition.adding if target.adding is None else tuple(target.adding)
    removing = partition.removing if target.removing is None else tuple(target.removing)
    if adding or removing:
        staying = tuple(replica for replica in replicas if replica not in removing)
        in_sync = tuple(replica for replica in isr if replica not in removing)
        if staying and in_sync and set(staying) <= set(in_sync):
            isr, replicas, adding, removing = in_sync, staying, (), ()
    elr: tuple[int, ...] = ()
    if len(isr) < min(voters.min_isr, len(replicas)):
        elr = tuple(replica for replica in dict.fromkeys((*partition.elr, *partition.isr)) if replica not in isr)
    leader = _elected(partition.leader, replicas, isr or elr, voters)
    fact = PartitionChangeRecord(partition_id=partition.log.partition, topic_id=partition.log.topic_id)
    if leader != partition.leader:
        fact.leader = leader
        if leader != NOBODY and leader not in isr:
            isr = (leader,)
            elr = tuple(replica for replica in elr if replica != leader)
    elif not set(partition.replicas) <= set(replicas):
        fact.leader = leader  # who no longer has it must hear of another epoch
    if isr != partition.isr:
        fact.isr = list(isr)
    if elr != partition.elr:
        fact.eligible_leader_replicas = list(elr)
    if replicas != partition.replicas:
        fact.replicas = list(replicas)
        fact.directories = [ANY_DIRECTORY] * len(replicas)
    if adding != partition.adding:
        fact.adding_replicas = list(adding)
    if removing != partition.removing:
        fact.removing_replicas = list(removing)
    after = changed(partition, fact)._replace(partition_epoch=partition.partition_epoch)
    return None if after == partition else fact


def changes_of(partition: PartitionInfo, voters: Voters, target: Target = _AS_IT_IS) -> list[PartitionChangeRecord]:
    """The same, and then what follows of itself: with a leader, all replicas that are there are in sync."""
    facts = []
    if first := change_of(partition, voters, target):
        facts.append(first)
        partition = changed(partition, first)
    back = [replica for replica in partition.replicas if replica not in partition.isr and voters.is_there(replica)]
    if partition.leader != NOBODY and back:
        settled = change_of(partition, voters._replace(election=Election.ONLINE), Target(isr=(*partition.isr, *back)))
        if settled:
            facts.append(settled)
    return facts


def _elected(leader: int, replicas: Sequence[int], eligible: Sequence[int], voters: Voters) -> int:
    def may_lead(replica: int) -> bool:
        return replica in eligible and voters.is_there(replica)

    candidates = replicas if voters.election is Election.PREFERRED else (leader, *replicas)
    if voters.election is Election.PREFERRED and not may_lead(replicas[0]) and may_lead(leader):
        return leader
    for candidate in candidates:
        if may_lead(candidate):
            return candidate
    if voters.election is Election.UNCLEAN:
        return next((replica for replica in replicas if voters.is_there(replica)), NOBODY)
    return NOBODY
