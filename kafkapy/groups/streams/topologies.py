"""What a topology needs of the cluster: how many tasks, which topics, and which of them are still to be made. Pure.

Topics that the application reads must exist; those it needs for itself get as many partitions as follow from these, and
are made by the broker. Steps, checks and words are Kafka's. Called by `groups/streams/protocol.py`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.java_order import hash_of_text, in_order
from kafkapy.groups.streams.facts import InternalTopic, Subtopology, Topology

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

T = TypeVar("T")

_NAMED_TOPICS: Final = 3
"""A status names so many of the topics that are missing."""


class StatusCode(IntEnum):
    """What a member is told beside its tasks; the values are those of the wire."""

    STALE_TOPOLOGY = 0
    MISSING_SOURCE_TOPICS = 1
    INCORRECTLY_PARTITIONED_TOPICS = 2
    MISSING_INTERNAL_TOPICS = 3
    SHUTDOWN_APPLICATION = 4
    ASSIGNMENT_DELAYED = 5
    MISSING_CLIENT_TAGS = 6


class Status(NamedTuple):
    """What a member is told, and why."""

    code: StatusCode
    detail: str


class ConfiguredSubtopology(NamedTuple):
    """A subtopology with the numbers of partitions that its internal topics have or are to have."""

    spec: Subtopology
    task_count: int
    changelogs: tuple[InternalTopic, ...]
    repartition_sources: tuple[InternalTopic, ...]


class ConfiguredTopology(NamedTuple):
    """A topology as the cluster has it. `problem`: why nothing can be assigned yet; `missing`: what is to be made."""

    epoch: int
    subtopologies: Mapping[str, ConfiguredSubtopology] | None = None
    missing: Mapping[str, InternalTopic] = {}
    problem: Status | None = None


class _Problem(Exception):
    def __init__(self, code: StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.status = Status(code, detail)


PartitionCount = Callable[[str], int | None]


def configure(topology: Topology, image: "ClusterImage") -> ConfiguredTopology:
    """Raises STREAMS_INVALID_TOPOLOGY for what no cluster could satisfy, UNKNOWN_SERVER_ERROR for nonsense."""
    for subtopology in topology.subtopologies:
        if any(topic.partition_count < 0 for topic in subtopology.repartition_sources):
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "Number of partitions must be at least 1.")
    decided: dict[str, int] = {}

    def count_of(name: str) -> int | None:
        topic = image.topic(name)
        return decided.get(name) if topic is None else len(topic.partitions)

    try:
        _require_source_topics(topology, image)
        decided |= _repartition_counts(topology, count_of)
        _copartition(topology, decided, count_of)
        for subtopology in topology.subtopologies:
            count = _task_count(subtopology, count_of)
            decided |= {topic.name: count for topic in subtopology.changelogs}
        found = {
            subtopology.subtopology_id: ConfiguredSubtopology(
                subtopology,
                _task_count(subtopology, count_of),
                _with_counts(subtopology.changelogs, decided),
                _with_counts(subtopology.repartition_sources, decided),
            )
            for subtopology in sorted(topology.subtopologies)
        }
        missing = _missing(found.values(), topology, image)
    except _Problem as problem:
        return ConfiguredTopology(topology.epoch, problem=problem.status)
    status = None
    if missing:
        status = Status(
            StatusCode.MISSING_INTERNAL_TOPICS,
            f"Internal topics are missing: {_summary(in_order(missing, hash_of_text))}",
        )
    return ConfiguredTopology(topology.epoch, found, missing, status)


def _require_source_topics(topology: Topology, image: "ClusterImage") -> None:
    named = {name for each in topology.subtopologies for name in each.source_topics}
    if missing := sorted(name for name in named if image.topic(name) is None):
        raise _Problem(StatusCode.MISSING_SOURCE_TOPICS, f"Source topics {_summary(missing)} are missing.")


def _repartition_counts(topology: Topology, count_of: PartitionCount) -> dict[str, int]:
    """The partitions of topics between subtopologies: as many as the widest input of who writes them."""
    counts = {
        topic.name: topic.partition_count
        for each in topology.subtopologies
        for topic in each.repartition_sources
        if topic.partition_count
    }
    readers: dict[str, list[int]] = {}
    for place, each in enumerate(topology.subtopologies):
        for topic in each.repartition_sources:
            readers.setdefault(topic.name, []).append(place)
    # Kafka goes over all subtopologies again and again. One is decided as soon as any of its inputs is: so each waits
    # for the round and place at which Kafka would come to it, and is looked at once.
    due = [(0, place) for place, each in enumerate(topology.subtopologies) if _known_counts(each, counts, count_of)]
    decided: set[int] = set()
    while due:
        turn, place = heappop(due)
        if place in decided:
            continue
        decided.add(place)
        known = _known_counts(topology.subtopologies[place], counts, count_of)
        for name in topology.subtopologies[place].repartition_sinks:
            if name not in counts:
                counts[name] = max(known)
                for reader in readers.get(name, ()):
                    if reader not in decided:
                        heappush(due, (turn + (reader <= place), reader))
    if any(name not in counts for each in topology.subtopologies for name in each.repartition_sinks):
        raise _invalid(
            "Failed to compute number of partitions for all repartition topics. There may be loops in the topology "
            "that cannot be resolved."
        )
    if any(topic.name not in counts for each in topology.subtopologies for topic in each.repartition_sources):
        raise _invalid(
            "Failed to compute number of partitions for all repartition topics, because a repartition source topic is "
            "never used as a sink topic."
        )
    return counts


def _known_counts(subtopology: Subtopology, counts: Mapping[str, int], count_of: PartitionCount) -> list[int]:
    known = [counts[topic.name] for topic in subtopology.repartition_sources if topic.name in counts]
    return known + [count for name in subtopology.source_topics if (count := count_of(name)) is not None]


def _copartition(topology: Topology, decided: dict[str, int], count_of: PartitionCount) -> None:
    """Topics that are joined must be partitioned alike; internal ones that may follow do."""
    internal = [topic for each in topology.subtopologies for topic in each.repartition_sources]
    fixed = {topic.name for topic in internal if topic.partition_count}
    flexible = {topic.name for topic in internal if not topic.partition_count}
    fixed_counts = {_known(name, count_of) for name in fixed}  # which stay what they are
    for each in topology.subtopologies:
        for group in each.copartition_groups:
            names = {_at(each.source_topics, place) for place in group.source_topics}
            names |= {_at(each.repartition_sources, place).name for place in group.repartition_sources}
            if names:
                decided |= _copartitioned(names, fixed, fixed_counts, flexible, count_of)


def _at(items: Sequence[T], place: int) -> T:
    """As in Kafka, places that are not there are nothing that it has a better error for."""
    if not 0 <= place < len(items):
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR, f"Index {place} out of bounds for length {len(items)}")
    return items[place]


def _copartitioned(
    names: Collection[str],
    fixed: Collection[str],
    fixed_counts: Collection[int],
    flexible: Collection[str],
    count_of: PartitionCount,
) -> dict[str, int]:
    counts = {name: _known(name, count_of) for name in names}
    repartitioned = {name: count for name, count in counts.items() if name in fixed or name in flexible}
    others = {name: count for name, count in counts.items() if name not in repartitioned}
    if others:
        wanted = _same(others.values(), others)
    elif fixed:
        wanted = _same(fixed_counts, repartitioned)
    else:
        wanted = max(repartitioned.values())
    for name, count in repartitioned.items():
        if name in fixed and count != wanted:
            raise _Problem(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Number of partitions [{count}] of repartition topic [{name}] doesn't match number of partitions "
                f"[{wanted}] of the source topic.",
            )
    return dict.fromkeys(repartitioned, wanted)


def _same(counts: Collection[int], told: Mapping[str, int]) -> int:
    found = set(counts)
    if len(found) > 1:
        listed = ", ".join(f"{name}={told[name]}" for name in sorted(told))
        raise _Problem(
            StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
            f"Following topics do not have the same number of partitions: [{{{listed}}}]",
        )
    return found.pop()


def _known(name: str, count_of: PartitionCount) -> int:
    count = count_of(name)
    if count is None:
        raise _invalid(f"Number of partitions is not set for topic: {name}")
    return count


def _task_count(subtopology: Subtopology, count_of: PartitionCount) -> int:
    if not subtopology.inputs:
        raise _invalid(f"No source topics found for subtopology {subtopology.subtopology_id}")
    return max(_known(name, count_of) for name in subtopology.inputs)


def _with_counts(topics: Iterable[InternalTopic], decided: Mapping[str, int]) -> tuple[InternalTopic, ...]:
    return tuple(
        topic if topic.partition_count else topic._replace(partition_count=decided[topic.name]) for topic in topics
    )


def _missing(
    subtopologies: Iterable[ConfiguredSubtopology], topology: Topology, image: "ClusterImage"
) -> dict[str, InternalTopic]:
    """The internal topics that are still to be made; those that are there must be as they are needed."""
    needed = {topic.name: topic for each in subtopologies for topic in (*each.repartition_sources, *each.changelogs)}
    for name in sorted(topology.required_topics):
        topic = image.topic(name)
        expected = None if topic is None else needed.pop(name, None)
        if topic is not None and expected is not None and len(topic.partitions) != expected.partition_count:
            raise _Problem(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Existing topic {name} has different number of partitions: expected {expected.partition_count}, "
                f"found {len(topic.partitions)}",
            )
    return needed


def _summary(names: Collection[str]) -> str:
    left = len(names) - _NAMED_TOPICS
    more = f" and {left} additional topics" if left > 0 else ""
    return ", ".join(list(names)[:_NAMED_TOPICS]) + more


def _invalid(why: str) -> KafkaError:
    return KafkaError(Error.STREAMS_INVALID_TOPOLOGY, why)
