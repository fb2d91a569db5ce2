"""A thousand groups of ten: what it costs to hear from all of their members.

Groups share connections, their members do not: there are 20 for the first members, 20 for the second ones, and so on.
Heartbeats come as often as stock clients send them, 200 at once.
"""

import statistics
import struct
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Protocol

from brokers import Trouble
from client import PATIENCE_S, Client, frame_of
from given import Running, Side
from measure import Costing, rss_mb

from kafkapy.protocol.header import decode_response_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest

Figures = dict[str, float]
TOPIC: Final = "t"
GROUPS, MEMBERS, LANES = 1000, 10, 20
"""A lane is ten connections, one for each member of its groups."""
FIND_COORDINATOR, JOIN, SYNC, HEARTBEAT, CONSUMER_HEARTBEAT = 3, 3, 2, 2, 1
COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, LOADING = 15, 16, 14
SECONDS: Final = 30.0

Lane = list[Client]


class Beat(NamedTuple):
    """A member's heartbeat as bytes, and where in an answer's frame the error stands."""

    frame: bytes
    error_at: int


class Membership(Protocol):
    """How members join, and what they say from then on."""

    interval_s: float

    def join(self, lanes: Sequence[Lane], groups: Sequence[str]) -> list[list[Beat]]:
        """Of each group its members' heartbeats, once all of them have their partitions."""
        ...


def heartbeats(side: Side, protocol: Membership) -> Figures:
    """1,000 groups of 10 members: how many heartbeats are answered, how soon, and what they cost."""
    settings = {"group.initial.rebalance.delay.ms": "200", "group.consumer.max.size": str(MEMBERS)}
    with side.running(settings) as running, ExitStack() as closing:
        lanes = [[closing.enter_context(Client(running.port)) for _ in range(MEMBERS)] for _ in range(LANES)]
        client = lanes[0][0]
        client.make_topic(TOPIC, MEMBERS)
        groups = [f"g{number}" for number in range(GROUPS)]
        _await_coordinators(client, groups)
        before, begin = rss_mb(running.pid), time.monotonic()
        beats = protocol.join(lanes, groups)
        joined = time.monotonic() - begin
        return {
            "s until all have joined": joined,
            **_beat(running, lanes, beats, protocol.interval_s),
            "MB more than without groups": rss_mb(running.pid) - before,
        }


def _beat(running: Running, lanes: Sequence[Lane], beats: Sequence[Sequence[Beat]], interval_s: float) -> Figures:
    """Send each member's heartbeat once an interval: the lanes' first groups, then their second ones, and so on."""
    waits, errors, count, late = [], 0, 0, 0
    waves = GROUPS // LANES
    costing, begin = Costing(running.pid), time.monotonic()
    for number in range(round(SECONDS / interval_s * waves)):
        due = begin + number * interval_s / waves
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        else:
            late += 1
        wave = list(zip(lanes, beats[number % waves * LANES :][:LANES], strict=True))
        sent = time.monotonic()
        for lane, group in wave:
            for client, beat in zip(lane, group, strict=True):
                client.send(beat.frame)
        for lane, group in wave:
            for client, beat in zip(lane, group, strict=True):
                (error,) = struct.unpack_from(">h", client.receive(), beat.error_at)
                waits.append(time.monotonic() - sent)
                errors += bool(error)
                count += 1
    cost = costing.so_far()
    return {
        "heartbeats/s": count / cost.seconds,
        "errors": errors,
        "% of waves that began late": 100 * late / (count / LANES / MEMBERS),
        "ms until one of 200 at once is answered, p50": 1000 * statistics.median(waits),
        "p99": 1000 * statistics.quantiles(waits, n=100)[98],
        "% of a core": 100 * cost.busy,
    }


class Classic:
    """Clients sort it out among themselves."""

    interval_s = 3.0

    def join(self, lanes: Sequence[Lane], groups: Sequence[str]) -> list[list[Beat]]:
        beats = []
        for first in range(0, len(groups), LANES):
            wave = groups[first : first + LANES]
            for lane, group in zip(lanes, wave, strict=True):
                for client in lane:
                    client.send(frame_of(self._joining(group), JOIN))
            for lane, group in zip(lanes, wave, strict=True):
                beats.append(self._sync(lane, group))
        return beats

    @staticmethod
    def _joining(group: str) -> JoinGroupRequest:
        subscription = struct.pack(">hih", 0, 1, len(TOPIC)) + TOPIC.encode() + struct.pack(">i", -1)
        return JoinGroupRequest(
            group_id=group,
            session_timeout_ms=300_000,
            rebalance_timeout_ms=60_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=subscription)],
        )

    @staticmethod
    def _sync(lane: Lane, group: str) -> list[Beat]:
        joined = [_answer(client, JoinGroupRequest, JOIN) for client in lane]
        generations = {one.generation_id for one in joined}
        if len(generations) != 1 or len(next(one for one in joined if one.leader == one.member_id).members) != MEMBERS:
            raise Trouble(f"{group} was not joined by all at once: {generations}")
        for client, one in zip(lane, joined, strict=True):
            of_all = [
                SyncGroupRequest.SyncGroupRequestAssignment(member_id=member.member_id, assignment=b"a" * 20)
                for member in one.members  # of the leader
            ]
            request = SyncGroupRequest(
                group_id=group, generation_id=one.generation_id, member_id=one.member_id, assignments=of_all
            )
            client.send(frame_of(request, SYNC))
        for client in lane:
            _answer(client, SyncGroupRequest, SYNC)
        return [
            Beat(
                frame_of(
                    HeartbeatRequest(group_id=group, generation_id=one.generation_id, member_id=one.member_id),
                    HEARTBEAT,
                ),
                8,  # behind a correlation id and a throttle time
            )
            for one in joined
        ]


class Member:
    """One of the consumer protocol (KIP-848)."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.id = str(uuid.uuid4())
        self.epoch = 0
        self.owned: list[ConsumerGroupHeartbeatRequest.TopicPartitions] = []

    @property
    def has_its_share(self) -> bool:
        return sum(len(one.partitions) for one in self.owned) == 1

    def says(self) -> ConsumerGroupHeartbeatRequest:
        joins = self.epoch == 0
        return ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=self.id,
            member_epoch=self.epoch,
            rebalance_timeout_ms=60_000 if joins else -1,
            subscribed_topic_names=[TOPIC] if joins else None,
            topic_partitions=self.owned,
        )

    def hears(self, answer: Any) -> None:
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.owned = [
                ConsumerGroupHeartbeatRequest.TopicPartitions(topic_id=one.topic_id, partitions=one.partitions)
                for one in answer.assignment.topic_partitions
            ]


class Consumer:
    """The coordinator sorts it out (KIP-848)."""

    interval_s = 5.0

    def join(self, lanes: Sequence[Lane], groups: Sequence[str]) -> list[list[Beat]]:
        members = [[Member(group) for _ in range(MEMBERS)] for group in groups]
        unsettled, deadline = list(range(len(groups))), time.monotonic() + PATIENCE_S
        while unsettled:
            if time.monotonic() > deadline:
                raise Trouble(f"{len(unsettled)} groups are not settled")
            for first in range(0, len(unsettled), LANES):
                wave = unsettled[first : first + LANES]
                for lane, number in zip(lanes, wave, strict=False):
                    for client, member in zip(lane, members[number], strict=True):
                        client.send(frame_of(member.says(), CONSUMER_HEARTBEAT))
                for lane, number in zip(lanes, wave, strict=False):
                    for client, member in zip(lane, members[number], strict=True):
                        member.hears(_answer(client, ConsumerGroupHeartbeatRequest, CONSUMER_HEARTBEAT))
            unsettled = [number for number in unsettled if not self._is_settled(members[number])]
        return [[self._beat(member) for member in group] for group in members]

    @staticmethod
    def _is_settled(members: Sequence[Member]) -> bool:
        return len({member.epoch for member in members}) == 1 and all(member.has_its_share for member in members)

    @staticmethod
    def _beat(member: Member) -> Beat:
        request = ConsumerGroupHeartbeatRequest(
            group_id=member.group,
            member_id=member.id,
            member_epoch=member.epoch,
            rebalance_timeout_ms=-1,
            subscribed_topic_names=None,
            topic_partitions=None,
        )
        return Beat(frame_of(request, CONSUMER_HEARTBEAT), 9)  # behind correlation id, tags and a throttle time


def _answer(client: Client, request: Any, version: int) -> Any:
    frame = client.receive()
    _, offset = decode_response_header(request.API_KEY, version, frame)
    answer: Any = response_class(request.API_KEY).decode(version, frame, offset)[0]
    if answer.error_code:
        raise Trouble(f"{request.__name__} is answered with error {answer.error_code}")
    return answer


def _await_coordinators(client: Client, groups: Sequence[str]) -> None:
    """Return when each has one that answers: to ask makes the topic where groups are kept."""
    deadline = time.monotonic() + PATIENCE_S
    for group in groups:
        beat = HeartbeatRequest(group_id=group, generation_id=0, member_id="nobody")
        while client.ask(FindCoordinatorRequest(key=group), FIND_COORDINATOR).error_code or client.ask(
            beat, HEARTBEAT
        ).error_code in (COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, LOADING):
            if time.monotonic() > deadline:
                raise Trouble(f"{group} has no coordinator")
            time.sleep(0.05)
