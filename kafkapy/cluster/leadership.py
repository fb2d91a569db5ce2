"""Who leads which partition, and which brokers there are: a view of leases and live brokers, never a fact.

Nothing of it is written down, so a log that moves to another broker changes no topic. Handlers ask when they answer;
what they make of a topic and its leaders is kept here until a lease moves or a broker comes or goes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from kafkapy.cluster.image import METADATA_LOG, PartitionInfo, TopicInfo
from kafkapy.log.fetching import Epochs, leaders_only
from kafkapy.model import NO_LEADER_EPOCH, NOBODY, LogId
from kafkapy.storage.base import Brokers, Holder, Leases, LiveBroker

_UNLED: Final = Holder(NOBODY, NO_LEADER_EPOCH)

T = TypeVar("T")


class PartitionState(NamedTuple):
    """A partition's leader, since which epoch, and which replicas are in sync, and which are on brokers that are not
    there. Without a leader that is there, the leader is -1. `replicas`: the brokers that are said to have it.
    """

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    offline: tuple[int, ...]
    replicas: tuple[int, ...]


class Leadership:
    """The brokers of the cluster, and what each leads, as far as this broker knows."""

    def __init__(
        self,
        node_id: int,
        leases: Leases,
        brokers: Brokers,
        topic: Callable[[bytes], TopicInfo | None],
        in_turn: Callable[[LogId], Sequence[int]] | None = None,
    ) -> None:
        """`topic` finds one by its id. `in_turn`: all brokers, in the order in which they come to lead a log, where
        leases alone decide that; else a partition's replicas are those that the facts name.
        """
        self.node_id = node_id
        self.epoch = leases.epoch
        """The leader epoch under which this broker leads a log; None when it does not."""
        self.of_leaders, self.of_replicas = leaders_only(self.epoch), Epochs(self.epoch, self.replica_epoch)
        """What is read here by clients that read from leaders alone, and by others."""
        self._topic = topic
        self._in_turn = in_turn
        self._leases = leases
        self._brokers = brokers
        self._there = {broker.node_id: broker for broker in brokers.live()}
        self._made: dict[bytes, tuple[TopicInfo, Any]] = {}
        self._made_of_all: tuple[Mapping[str, TopicInfo], Any] | None = None
        self._made_at = leases.moves
        self._watch = brokers.watch(self._brokers_changed)

    def close(self) -> None:
        """Look no more who comes and goes."""
        self._watch.close()

    def holder(self, log: LogId) -> Holder:
        """Who leads a log; node -1 when nobody does."""
        return self._leases.holder(log) or _UNLED

    @property
    def controller_id(self) -> int:
        """The broker that changes the cluster's metadata."""
        return self.holder(METADATA_LOG).node_id

    def brokers(self) -> Iterable[LiveBroker]:
        """Those that are there, by node id."""
        return self._there.values()

    def broker(self, node_id: int) -> LiveBroker | None:
        """A broker that is there."""
        return self._there.get(node_id)

    def of(self, partition: PartitionInfo) -> PartitionState:
        """Who leads a partition. In sync are the leader, and the replicas whose brokers are there."""
        leader, epoch = self.holder(partition.log)
        there = self._there
        if leader not in there:
            leader = NOBODY
        replicas = partition.replicas if self._in_turn is None else self._spread(partition, leader)
        if leader in replicas and len(replicas) == 1:
            return PartitionState(leader, epoch, replicas, (), replicas)
        isr = tuple(replica for replica in replicas if replica in there)
        if leader != NOBODY and leader not in isr:
            isr = (leader, *isr)
        offline = tuple(replica for replica in replicas if replica not in there)
        return PartitionState(leader, epoch, isr, offline, replicas)

    def _spread(self, partition: PartitionInfo, leader: int) -> tuple[int, ...]:
        """As many as were asked for: those who come to lead it first, and the leader."""
        assert self._in_turn is not None
        in_turn, factor = self._in_turn(partition.log), len(partition.replicas)
        replicas = tuple(in_turn[:factor])
        return replicas if leader in replicas or leader == NOBODY else (leader, *replicas[: factor - 1])

    def replica_epoch(self, log: LogId) -> int | None:
        """The leader epoch of a log of which this broker has a replica that is in sync, led here or not; else None."""
        topic = self._topic(log.topic_id)
        if topic is None or log.partition >= len(topic.partitions):
            return None
        partition = topic.partitions[log.partition]
        if self._in_turn is not None:  # nobody has a log but its leader, be its lease in doubt or not
            leader, epoch = self.holder(log)
            return epoch if leader == self.node_id else None
        leader, epoch, isr, *_ = self.of(partition)
        return epoch if leader in partition.replicas and self.node_id in isr else None

    def has_replica(self, partition: PartitionInfo) -> bool:
        """Whether this broker has what is in a partition, in sync or not."""
        if self._in_turn is not None:
            return self.holder(partition.log).node_id == self.node_id
        return self.node_id in partition.replicas

    def preferred_replica(self, partition: PartitionInfo, rack: str) -> int | None:
        """The replica in sync that a client of this rack best reads from; None when that is the leader (KIP-392)."""
        if self._in_turn is not None:
            return None
        leader, _, isr, *_ = self.of(partition)
        near = [node_id for node_id in isr if self._there[node_id].rack == rack]
        return None if not near or leader in near else near[0]

    def in_sync_count(self, partition: PartitionInfo) -> int:
        """How many replicas of a partition that this broker leads are in sync."""
        factor = len(partition.replicas)
        return factor if factor == 1 or self._in_turn is not None else len(self.of(partition).isr)

    def forget(self) -> None:
        """What was made of topics may be other now."""
        self._made.clear()
        self._made_of_all = None

    def kept(self, topic: TopicInfo, make: Callable[[TopicInfo, "Leadership"], T]) -> T:
        """What `make`, of which there may be one for all topics, makes of a topic; anew when leaders may have changed.

        Clients ask for the same topics over and over, and a topic may have a thousand partitions.
        """
        self._forget_if_moved()
        known = self._made.get(topic.topic_id)
        if known is not None and known[0] is topic:
            found: T = known[1]
            return found
        made = make(topic, self)
        self._made[topic.topic_id] = topic, made
        return made

    def kept_of_all(
        self, topics: Mapping[str, TopicInfo], make: Callable[[Mapping[str, TopicInfo], "Leadership"], T]
    ) -> T:
        """The same of all topics of an image; there may be one `make`."""
        self._forget_if_moved()
        known = self._made_of_all
        if known is not None and known[0] is topics:
            found: T = known[1]
            return found
        made = make(topics, self)
        self._made_of_all = topics, made
        return made

    def _forget_if_moved(self) -> None:
        if self._made_at != self._leases.moves:
            self.forget()
            self._made_at = self._leases.moves

    def _brokers_changed(self) -> None:
        self._there = {broker.node_id: broker for broker in self._brokers.live()}
        self.forget()
