"""Topologies of thousands of parts: held against the cluster with work that grows as they do, or refused before any."""

from collections import Counter

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.streams import targeting
from kafkapy.groups.streams.facts import CopartitionGroup, InternalTopic, Subtopology, Topology
from kafkapy.groups.streams.topologies import ConfiguredTopology, configure
from tests.groups.consumers import image_of
from tests.groups.streams import StreamsCoordinator, StreamsMember
from tests.scale.counting import SCALE, counted_calls

PARTS = 200 * SCALE


def chain(count: int, *, is_closed: bool = True) -> Topology:
    """Each part reads what the next one writes, and only the last of them, if any, a topic that is there."""
    return Topology(
        0,
        tuple(
            Subtopology(
                f"{place:06}",
                ("t",) if place == count - 1 and is_closed else (),
                repartition_sinks=(f"r{place}",),
                repartition_sources=() if place == count - 1 else (InternalTopic(f"r{place + 1}"),),
            )
            for place in range(count)
        ),
    )


def joined(count: int) -> Topology:
    """As many topics of a fixed width, each of which is to be partitioned as the first."""
    sources = tuple(InternalTopic(f"r{place}", 3) for place in range(count))
    sinks = tuple(topic.name for topic in sources)
    groups = tuple(CopartitionGroup(repartition_sources=(0, place)) for place in range(count))
    return Topology(0, (Subtopology("0", ("t",), (), (), sinks, sources, groups),))


def configured(topology: Topology) -> tuple[ConfiguredTopology | Error, Counter[str]]:
    image = image_of({"t": 3})
    with counted_calls() as calls:
        try:
            found: ConfiguredTopology | Error = configure(topology, image)
        except KafkaError as refusal:
            found = refusal.error
    return found, calls


def test_parts_that_wait_for_one_another_are_looked_at_once_each() -> None:
    found, calls = configured(chain(PARTS))
    assert isinstance(found, ConfiguredTopology)
    assert set(found.missing) == {f"r{place}" for place in range(1, PARTS)}
    assert {topic.partition_count for topic in found.missing.values()} == {3}
    assert calls.total() <= 60 * PARTS, calls.most_common(5)


def test_topics_that_are_joined_are_counted_once_each() -> None:
    found, calls = configured(joined(PARTS))
    assert isinstance(found, ConfiguredTopology) and len(found.missing) == PARTS
    assert calls.total() <= 60 * PARTS, calls.most_common(5)


def test_more_tasks_than_kafka_could_write_down_are_refused_before_any_is_assigned() -> None:
    coordinator = StreamsCoordinator()
    coordinator.set_topics(t=1000)
    many = Topology(0, tuple(Subtopology(f"{place:03}", ("t",)) for place in range(targeting.MOST_TASKS // 1000 + 1)))
    member, other = StreamsMember(coordinator, "a", many), StreamsMember(coordinator, "b", group="h")
    with counted_calls() as calls:
        member.join()
        coordinator.advance(10_000)
        assert coordinator.streams_beat("a", member.epoch) is Error.UNKNOWN_SERVER_ERROR
    assert calls["assign_sticky"] == 0
    assert calls.total() <= 200 * len(many.subtopologies), calls.most_common(5)
    member.leave()
    assert coordinator.describe_streams().state == "Empty"
    other.join()
    assert len(coordinator.describe_streams("h").members) == 1


def test_as_many_tasks_as_that_are_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targeting, "MOST_TASKS", 3)
    coordinator = StreamsCoordinator()
    member = StreamsMember(coordinator, "a")
    member.join()
    coordinator.advance(10_000)
    member.beat()
    assert member.active == {("0", 0), ("0", 1), ("0", 2)}
