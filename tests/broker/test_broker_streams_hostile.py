"""Streams groups' APIs asked for anything at all, over a connection: each is answered, and nothing breaks behind it."""

import logging
import random
from pathlib import Path
from typing import Any

import pytest
import trio

from kafkapy.broker import open_broker
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest
from kafkapy.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatRequest as Heartbeat
from kafkapy.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateRequest,
)
from tests.broker.wire import Wire

REQUESTS = 800
SENSIBLE = ("t", "u", "a", "b", "g-log", "g-rep")
ODD = ("", "  ", ".", "..", "*", "\0", "😀", "ü" * 50, "x" * 300, "1" * 32767, "__consumer_offsets")
NUMBERS = (-(2**31), -(2**15), -3, -2, -1, 5, 100, 2**15 - 1, 2**31 - 1)
ANSWERS = {
    Error.NONE,
    Error.UNKNOWN_SERVER_ERROR,  # for what Kafka has no better error for, either
    Error.INVALID_GROUP_ID,
    Error.UNKNOWN_MEMBER_ID,
    Error.INVALID_REQUEST,
    Error.GROUP_ID_NOT_FOUND,
    Error.FENCED_INSTANCE_ID,
    Error.FENCED_MEMBER_EPOCH,
    Error.UNRELEASED_INSTANCE_ID,
    Error.STREAMS_INVALID_TOPOLOGY,
}


class Stranger:
    """Makes requests that are sensible often enough to get somewhere; everything random comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.epochs: dict[tuple[str, str], int] = {}

    def text(self) -> str:
        return self.rng.choice(SENSIBLE if self.rng.random() < 0.9 else ODD)

    def number(self, *, bits: int = 32) -> int:
        number = self.rng.choice((0, 0, 1, 2, 3) if self.rng.random() < 0.8 else NUMBERS)
        return max(-(2 ** (bits - 1)), min(number, 2 ** (bits - 1) - 1))

    def maybe(self, value: Any, chance: float = 0.5) -> Any:
        return value if self.rng.random() < chance else None

    def some(self, make: Any, most: int = 2) -> list[Any]:
        return [make() for _ in range(self.rng.randrange(most + 1))]

    def tags(self) -> list[Heartbeat.KeyValue]:
        names = ("cleanup.policy", "retention.ms", "no.such.setting", self.text())
        values = ("compact", "-1", "", "9" * 30, self.text())
        return self.some(lambda: Heartbeat.KeyValue(key=self.rng.choice(names), value=self.rng.choice(values)))

    def topic(self, partitions: int) -> Heartbeat.TopicInfo:
        name, replicas = self.text(), self.number(bits=16)
        return Heartbeat.TopicInfo(
            name=name, partitions=partitions, replication_factor=replicas, topic_configs=self.tags()
        )

    def subtopology(self, name: str) -> Heartbeat.Subtopology:
        places = [self.number(bits=16)]
        group = Heartbeat.CopartitionGroup(source_topics=places, source_topic_regex=[], repartition_source_topics=[])
        return Heartbeat.Subtopology(
            subtopology_id=name,
            source_topics=["t", *self.some(self.text, 1)] if self.rng.random() < 0.8 else [],
            source_topic_regex=self.some(self.text) if self.rng.random() < 0.03 else [],
            state_changelog_topics=self.some(lambda: self.topic(self.rng.choice((0, 0, 0, self.number()))), 1),
            repartition_sink_topics=self.some(self.text, 1),
            repartition_source_topics=self.some(lambda: self.topic(self.number()), 1),
            copartition_groups=[group] if self.rng.random() < 0.2 else [],
        )

    def topology(self) -> Heartbeat.Topology:
        names = [*self.some(lambda: self.rng.choice(("0", "1", "")), 1), "2"]
        epoch = self.number() if self.rng.random() < 0.1 else 0
        return Heartbeat.Topology(epoch=epoch, subtopologies=[self.subtopology(name) for name in names])

    def tasks(self) -> list[Heartbeat.TaskIds]:
        return self.some(
            lambda: Heartbeat.TaskIds(
                subtopology_id=self.rng.choice(("0", "2", self.text())), partitions=self.some(self.number)
            )
        )

    def offsets(self) -> list[Heartbeat.TaskOffset]:
        far = self.rng.choice((-(2**63), 0, 1, 2**63 - 1))
        return self.some(lambda: Heartbeat.TaskOffset(subtopology_id="2", partition=self.number(), offset=far))

    def heartbeat(self, group_id: str) -> Heartbeat:
        joins, member_id = self.rng.random() < 0.5, self.rng.choice(("m", "n", self.text()))
        epoch = 0 if joins else self.epochs.get((group_id, member_id), self.number())
        is_sensible = self.rng.random() < 0.9
        lists = [[] if joins and is_sensible else self.maybe(self.tasks(), 0.9) for _ in range(3)]
        endpoint = Heartbeat.Endpoint(host=self.text(), port=self.rng.choice((0, 65535)))
        return Heartbeat(
            group_id=group_id,
            member_id=member_id,
            member_epoch=epoch if is_sensible else self.number(),
            endpoint_information_epoch=self.number(),
            instance_id=self.maybe(self.text(), 0.2),
            rack_id=self.maybe(self.text(), 0.2),
            rebalance_timeout_ms=self.rng.choice((0, 1, 1000, self.number())) if joins else -1,
            topology=self.topology() if joins == is_sensible else None,
            active_tasks=lists[0],
            standby_tasks=lists[1],
            warmup_tasks=lists[2],
            process_id=self.maybe(self.text()),
            user_endpoint=self.maybe(endpoint),
            client_tags=self.maybe(self.tags()),
            task_offsets=self.maybe(self.offsets()),
            task_end_offsets=self.maybe(self.offsets()),
            shutdown_application=self.rng.random() < 0.05,
        )


async def serve_and_ask(data: Path, stranger: Stranger) -> set[int]:
    """All the requests, a few groups at a time; the codes that came."""
    flags = {"listeners": "PLAINTEXT://127.0.0.1:0", "group.streams.initial.rebalance.delay.ms": "0"}
    config = BrokerConfig.load(flags=flags)
    codes = set()
    async with open_broker(config, data_dir=data) as broker, await Wire.connect(broker.port) as wire:
        topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=3, replication_factor=1)
        await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5)
        while (await wire.ask(FindCoordinatorRequest(key="g"), 0)).error_code:
            await trio.lowlevel.checkpoint()
        for number in range(REQUESTS):
            group_id = f"g{number // 100}{number % 3}" if number % 50 else stranger.text()
            answer = await wire.ask(stranger.heartbeat(group_id), number % 2)
            codes.add(answer.error_code)
            if not answer.error_code:
                stranger.epochs[group_id, answer.member_id] = answer.member_epoch
            if number % 5 == 0:
                asked = StreamsGroupDescribeRequest(group_ids=[group_id, stranger.text()])
                codes |= {group.error_code for group in (await wire.ask(asked, number % 2)).groups}
        update = StreamsGroupTopologyDescriptionUpdateRequest(group_id=stranger.text())
        assert (await wire.ask(update, 0)).error_code == Error.UNSUPPORTED_VERSION
    return codes


@pytest.mark.parametrize("seed", [1, 2])
async def test_hostile_members_of_streams_groups(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codes = await serve_and_ask(tmp_path, Stranger(seed))
    # what they left behind is loaded again
    codes |= await serve_and_ask(tmp_path, Stranger(seed + 100))
    assert codes <= ANSWERS, codes
    assert {Error.NONE, Error.INVALID_REQUEST, Error.STREAMS_INVALID_TOPOLOGY, Error.FENCED_MEMBER_EPOCH} <= codes
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
