#!/usr/bin/env python3
"""Our generated codecs beside kafka-python's, on the same bytes, in the same run.

    python benchmarks/codecs.py [--rounds N]

Each round times both sides of each case one after the other, in an order that alternates, so that a slow moment of the
machine meets both. The figure is the median over the rounds of theirs / ours: above 1, ours is faster. Encoding
includes joining our buffers into one, which the broker never does.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kafkapy.protocol.messages import request_class, response_class
from kafkapy.protocol.primitives import Message

UUID = bytes(range(16))
RECORDS = bytes(1000)


class Case(NamedTuple):
    """A message in one version, and the module of kafka-python that has its like."""

    message: Message
    version: int
    module: str


def cases() -> Iterator[Case]:
    """What a busy client and its broker exchange: 10 topics of 10 partitions, and 1 kB of records for each."""
    produce, fetch, metadata, commit = (request_class(key) for key in (0, 1, 3, 8))
    produced, fetched, described, committed = (response_class(key) for key in (0, 1, 3, 8))
    numbers = range(10)
    names = [f"orders-{number}" for number in numbers]

    def topics(struct: Any, partitions: str, make: Callable[[int], Any], **more: Any) -> list[Any]:
        return [struct(**more, **{partitions: [make(number) for number in numbers]}) for _ in names]

    def named(struct: Any, partitions: str, make: Callable[[int], Any]) -> list[Any]:
        return [struct(name=name, **{partitions: [make(number) for number in numbers]}) for name in names]

    def part(struct: Any, **fields: Any) -> Callable[[int], Any]:
        key = next(name for name in ("partition", "index", "partition_index") if name in struct.__slots__)
        return lambda number: struct(**{key: number}, **fields)

    p: Any = produce
    data = named(p.TopicProduceData, "partition_data", part(p.PartitionProduceData, records=RECORDS))
    yield Case(p(acks=-1, timeout_ms=30000, topic_data=data), 9, "producer")
    p = produced
    data = named(p.TopicProduceResponse, "partition_responses", part(p.PartitionProduceResponse, base_offset=12345))
    yield Case(p(responses=data), 9, "producer")

    p = fetch
    asked = part(p.FetchPartition, fetch_offset=12345, current_leader_epoch=3, partition_max_bytes=1 << 20)
    data = topics(p.FetchTopic, "partitions", asked, topic_id=UUID)
    yield Case(p(max_wait_ms=500, min_bytes=1, topics=data), 13, "consumer")
    p = fetched
    answered = part(p.PartitionData, high_watermark=99, last_stable_offset=99, log_start_offset=0, records=RECORDS)
    data = topics(p.FetchableTopicResponse, "partitions", answered, topic_id=UUID)
    yield Case(p(responses=data), 13, "consumer")

    p = metadata
    data = [p.MetadataRequestTopic(name=name) for name in names]
    yield Case(p(topics=data), 12, "metadata")
    p = described
    known = part(p.MetadataResponsePartition, leader_id=1, leader_epoch=3, replica_nodes=[1, 2, 3], isr_nodes=[1, 2, 3])
    data = named(p.MetadataResponseTopic, "partitions", known)
    brokers = [p.MetadataResponseBroker(node_id=number, host=f"broker-{number}", port=9092) for number in range(3)]
    yield Case(p(brokers=brokers, cluster_id="cluster", controller_id=1, topics=data), 12, "metadata")

    p = commit
    offset = part(p.OffsetCommitRequestPartition, committed_offset=12345, committed_leader_epoch=3)
    data = named(p.OffsetCommitRequestTopic, "partitions", offset)
    yield Case(p(group_id="billing", generation_id_or_member_epoch=4, member_id="member-1", topics=data), 8, "consumer")
    p = committed
    data = named(p.OffsetCommitResponseTopic, "partitions", part(p.OffsetCommitResponsePartition, error_code=0))
    yield Case(p(topics=data), 8, "consumer")


def contenders(case: Case) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """The two operations of a case, each as (name, ours, theirs)."""
    ours, version = type(case.message), case.version
    theirs = getattr(import_module(f"kafka.protocol.{case.module}"), ours.__name__)
    encoded = b"".join(case.message.encode(version, bytearray()))
    message = theirs.decode(encoded, version=version)
    message._header = None
    assert message.encode(version=version) == encoded
    frame = memoryview(encoded)
    yield "decode", lambda: ours.decode(version, frame), lambda: theirs.decode(frame, version=version)
    yield (
        "encode",
        lambda: b"".join(case.message.encode(version, bytearray())),
        lambda: message.encode(version=version),
    )


def timed(operation: Callable[[], object], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        operation()
    return (time.perf_counter() - started) / repeat * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    print(f"{'message':24} {'version':>7} {'':6} {'ours, us':>9} {'theirs, us':>10} {'ratio':>6}")
    for case in cases():
        for name, ours, theirs in contenders(case):
            repeat = max(1, int(5000 / timed(ours, 3)))
            pairs = []
            for number in range(rounds):
                if number % 2:
                    mine, other = timed(ours, repeat), timed(theirs, repeat)
                else:
                    other, mine = timed(theirs, repeat), timed(ours, repeat)
                pairs.append((mine, other))
            mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = statistics.median(other / mine for mine, other in pairs)
            title = type(case.message).__name__
            print(f"{title:24} {case.version:7} {name:6} {mine:9.1f} {other:10.1f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
