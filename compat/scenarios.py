"""What every client is put through: the same checks for all of them, spoken in each client's own words.

A client's run.py gives a `Client` (below) and chooses from the groups of checks at the end of this file: what a client
cannot do it leaves out, and the report shows that as such. Every topic and group name is fresh, so that checks neither
need an order nor a clean broker. Standard library only.
"""

import collections
import json
import os
import signal
import socket
import struct
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from harness import Check, Lines, fork, restart_broker

PARTITION_COUNT = 6  # what the harness' brokers give an auto-created topic too
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


class Message(NamedTuple):
    """What to produce."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None
    timestamp_ms: int | None = None


class Record(NamedTuple):
    """What a consumer got."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Member:
    """A member of a group, in a process of its own, which consumes and commits until told to leave.

    The process writes a JSON object a line to `descriptor`: `{"assigned": [partitions]}` or `{"ids": [numbers]}`.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.assigned: set[int] = set()
        self.ids: list[int] = []
        self._pid = pid
        self._lines = Lines(descriptor)
        self._gone = False

    def pump(self, timeout_s: float) -> None:
        """Take in what it reported; waits at most `timeout_s`."""
        for line in self._lines.read(timeout_s):
            self.take(line)

    def take(self, line: bytes) -> None:
        report = json.loads(line)
        if "assigned" in report:
            self.assigned = set(report["assigned"])
        self.ids += report.get("ids", ())

    def leave(self) -> None:
        """Close as a client closes: the group hears of it."""
        self._end(signal.SIGTERM)

    def crash(self) -> None:
        """SIGKILL: the group learns of it when the session runs out."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._gone:
            return
        self._gone = True
        os.kill(self._pid, number)
        while not self._lines.ended:
            self.pump(1)
        os.waitpid(self._pid, 0)


def forked_member(body: Callable[[Callable[[object], None], Callable[[], bool]], None]) -> Member:
    """A member whose process runs `body(report, told_to_leave)`."""

    def in_child(report: Callable[[object], None]) -> None:
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        body(report, lambda: bool(told))

    return Member(*fork(in_child))


class Client:
    """What a client must be able to do. A method that a client has no feature for is never called."""

    bootstrap: str
    errors: type[Exception]  # what it raises when the broker refuses something

    def produce(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        compression: str = "none",
        idempotent: bool = False,
        acks: str = "all",
    ) -> None:
        """Produce all with one producer and return when every one is acknowledged; raises if one failed."""
        raise NotImplementedError

    def read(self, topic: str) -> list[Record]:
        """Everything in the topic, without a group."""
        raise NotImplementedError

    def consume(self, topic: str, group: str, count: int) -> list[Record]:
        """Join the group, get exactly so many records, commit, leave."""
        raise NotImplementedError

    def member(self, topic: str, group: str) -> Member:
        """Session timeout 6 s; partitions spread evenly; commits what it consumed."""
        raise NotImplementedError

    def create_topic(self, topic: str, partition_count: int, configs: dict[str, str] | None = None) -> None:
        raise NotImplementedError

    def list_topics(self) -> Collection[str]:
        raise NotImplementedError

    def partition_count(self, topic: str) -> int:
        raise NotImplementedError

    def create_partitions(self, topic: str, total_count: int) -> None:
        raise NotImplementedError

    def delete_topic(self, topic: str) -> None:
        raise NotImplementedError

    def topic_configs(self, topic: str) -> dict[str, str | None]:
        raise NotImplementedError

    def broker_configs(self) -> dict[str, str | None]:
        raise NotImplementedError

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Of the first record with that timestamp or a later one; None when there is none."""
        raise NotImplementedError

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the one that the next record gets."""
        raise NotImplementedError

    def list_groups(self) -> Collection[str]:
        raise NotImplementedError

    def describe_group(self, group: str) -> tuple[str, int]:
        """Its state, in lower case letters alone, and how many members it has."""
        raise NotImplementedError

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Committed offset per partition, without those that have none."""
        raise NotImplementedError

    def delete_group(self, group: str) -> None:
        raise NotImplementedError

    def error_code(self, error: Any) -> int | None:
        """The broker's error code behind one of `errors`; None when there is none."""
        raise NotImplementedError


def fresh(stem: str) -> str:
    return f"{stem}-{uuid.uuid4().hex[:8]}"


def numbered(ids: Iterable[int]) -> Iterator[Message]:
    """Messages that say which one they are, in value and key."""
    for number in ids:
        yield Message(key=b"key-%d" % number, value=b"%d" % number)


def same(got: object, wanted: object, what: str) -> None:
    assert got == wanted, f"{what}: got {got!r}, not {wanted!r}"


# --- records --------------------------------------------------------------------------------------------------------


def round_trip(client: Client, compression: str) -> str:
    """Everything comes back as it was sent, in order, and lies on the broker in the codec the producer chose."""
    topic = fresh(f"codec-{compression}")
    client.create_topic(topic, PARTITION_COUNT)
    sent = [
        Message(b"key-%d" % number, b"value %d " % number * (1 + number % 50), partition=number % PARTITION_COUNT)
        for number in range(1200)
    ]
    # idempotent: without it a retry (the topic is brand-new) may overtake, and order is part of what is checked
    client.produce(topic, sent, compression=compression, idempotent=True)
    records = client.read(topic)
    for partition in range(PARTITION_COUNT):
        there = [record for record in records if record.partition == partition]
        same([record.offset for record in there], list(range(200)), "offsets")
        wanted = [(message.key, message.value) for message in sent if message.partition == partition]
        assert [(record.key, record.value) for record in there] == wanted, f"partition {partition} came back changed"
    batches = [
        codec for partition in range(PARTITION_COUNT) for codec in stored_codecs(client.bootstrap, topic, partition)
    ]
    same(set(batches), {compression}, "codecs of the stored batches")
    return f"{len(sent)} records in {len(batches)} batches"


def shapes(client: Client) -> None:
    """Keys, headers, timestamps, nothing and next to nothing: each comes back as what it was."""
    topic = fresh("shapes")
    client.create_topic(topic, PARTITION_COUNT)
    now = int(time.time() * 1000)
    headers = (("trace", b"1"), ("empty", b""), ("trace", b"2"), ("schlüssel", "wert ✓".encode()))
    sent = [
        Message(b"key", b"value", partition=0, timestamp_ms=now - 86_400_000),
        Message(None, b"no key", partition=0, timestamp_ms=now),
        Message(b"", b"empty key", partition=0, timestamp_ms=now),
        Message(b"null value", None, partition=0, timestamp_ms=now),
        Message(b"empty value", b"", partition=0, timestamp_ms=now),
        Message(b"key", b"with headers", headers, partition=0, timestamp_ms=now),
        Message("ключ".encode(), "значение ✓".encode(), partition=0, timestamp_ms=now + 3_000),
    ]
    client.produce(topic, sent)
    got = [Message(r.key, r.value, r.headers, r.partition, r.timestamp_ms) for r in client.read(topic)]
    for one, other in zip(got, sent, strict=True):
        same(one, other, "record")


def one_megabyte(client: Client) -> None:
    """Records as large as the default message.max.bytes lets through."""
    topic = fresh("megabyte")
    client.create_topic(topic, PARTITION_COUNT)
    sent = [Message(b"%d" % number, b"%d" % number * 1_000_000, partition=number % 2) for number in range(10)]
    client.produce(topic, sent)
    got = sorted(client.read(topic), key=lambda record: record.key or b"")
    same([len(record.value or b"") for record in got], [1_000_000] * 10, "sizes")
    assert [(record.key, record.value) for record in got] == [(m.key, m.value) for m in sent], (
        "a value came back changed"
    )


def too_large(client: Client) -> None:
    """A record above message.max.bytes is refused by its name, and the next one passes."""
    topic = fresh("too-large")
    client.create_topic(topic, PARTITION_COUNT)
    refused(client, 10, lambda: client.produce(topic, [Message(None, b"x" * 1_200_000, partition=0)]))
    client.produce(topic, [Message(None, b"small", partition=0)])
    same([record.value for record in client.read(topic)], [b"small"], "what is there")


def idempotent(client: Client) -> str:
    """An idempotent producer's records are there once, in the order of sending."""
    topic = fresh("idempotent")
    client.create_topic(topic, PARTITION_COUNT)
    client.produce(
        topic,
        (Message(None, b"%d" % number, partition=number % PARTITION_COUNT) for number in range(6000)),
        idempotent=True,
    )
    records = client.read(topic)
    for partition in range(PARTITION_COUNT):
        there = [int(record.value or b"") for record in records if record.partition == partition]
        assert there == list(range(partition, 6000, PARTITION_COUNT)), f"partition {partition} is not in order"
    return f"{len(records)} records"


def acks(client: Client, level: str) -> None:
    """Fewer acknowledgements: the records arrive all the same."""
    topic = fresh(f"acks-{level}")
    client.create_topic(topic, PARTITION_COUNT)
    # acknowledged, so that every partition is known to be up: without acknowledgements nobody would send again
    client.produce(topic, [Message(None, b"0", partition=number) for number in range(PARTITION_COUNT)])
    client.produce(topic, numbered(range(1, 501)), acks=level)
    deadline = time.monotonic() + 10
    got: list[int] = []
    while len(got) < 500 + PARTITION_COUNT and time.monotonic() < deadline:  # nothing says when those are in either
        got = sorted(int(record.value or b"") for record in client.read(topic))
    assert got == [0] * PARTITION_COUNT + list(range(1, 501)), f"{len(got)} of {500 + PARTITION_COUNT} records arrived"


def auto_created(client: Client) -> None:
    """Producing to a topic that nobody made makes it, with the broker's number of partitions."""
    topic = fresh("auto")
    client.produce(topic, numbered(range(100)))
    records = client.read(topic)
    same(sorted(int(record.value or b"") for record in records), list(range(100)), "records")
    used = {record.partition for record in records}
    assert used <= set(range(PARTITION_COUNT)) and len(used) > 1, f"records lie in partitions {used}"


# --- groups ---------------------------------------------------------------------------------------------------------


def group_of_three(client: Client) -> str:
    """Three members, one leaves, one joins, one crashes: the assignment covers all partitions, every record arrives."""
    topic, group = fresh("three"), fresh("three")
    client.create_topic(topic, PARTITION_COUNT)
    produced = 0

    def produce() -> None:
        nonlocal produced
        client.produce(topic, numbered(range(produced, produced + 300)))
        produced += 300

    produce()
    everyone = [client.member(topic, group) for _ in range(3)]
    try:
        _settle(everyone, everyone, 300)
        produce()
        _settle(everyone, everyone, 600)
        everyone[0].leave()
        produce()
        _settle(everyone[1:3], everyone, 900)
        everyone.append(client.member(topic, group))
        produce()
        _settle(everyone[1:4], everyone, 1200)
        orderly = _doubled(everyone)
        everyone[1].crash()
        produce()
        _settle(everyone[2:4], everyone, 1500)
        for member in everyone[2:4]:
            member.leave()
    finally:
        for member in everyone:
            member.crash()
    return f"1500 records, {orderly} consumed twice before the crash, {_doubled(everyone) - orderly} after it"


def _settle(present: Sequence[Member], everyone: Sequence[Member], record_count: int, patience_s: float = 25) -> None:
    """Until those present share all partitions evenly and everyone together has seen the first so many records."""
    share = PARTITION_COUNT // len(present)
    deadline = time.monotonic() + patience_s
    while True:
        for member in everyone:
            member.pump(0.02)
        shares = [sorted(member.assigned) for member in present]
        seen = {number for member in everyone for number in member.ids}
        covered = sorted(partition for partitions in shares for partition in partitions) == list(range(PARTITION_COUNT))
        if covered and all(len(partitions) == share for partitions in shares) and len(seen) >= record_count:
            same(seen, set(range(record_count)), "records seen")
            return
        missing = sorted(set(range(record_count)) - seen)
        assert time.monotonic() < deadline, f"assigned {shares}; {len(missing)} records not seen, first {missing[:5]}"


def _doubled(members: Sequence[Member]) -> int:
    counts = collections.Counter(number for member in members for number in member.ids)
    return sum(count - 1 for count in counts.values())


def resume_after_kill(client: Client) -> str:
    """Consume a part and commit; kill -9 the broker; the group goes on where it was, nothing lost, nothing skipped."""
    topic, group = fresh("resume"), fresh("resume")
    client.create_topic(topic, PARTITION_COUNT)
    client.produce(topic, numbered(range(1000)))
    before = client.consume(topic, group, 400)
    same(len(before), 400, "records before")
    restart_broker()
    client.produce(topic, numbered(range(1000, 1500)))
    after = client.consume(topic, group, 1100)
    ids = [int(record.value or b"") for record in before + after]
    same(sorted(ids), list(range(1500)), "records before and after")
    for partition in range(PARTITION_COUNT):
        offsets = [record.offset for record in before + after if record.partition == partition]
        same(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    return "400 before, 1100 after"


def live_through_kill(client: Client) -> str:
    """kill -9 the broker under an idempotent producer and a member at work: both go on, every record arrives."""
    topic, group = fresh("through"), fresh("through")
    client.create_topic(topic, PARTITION_COUNT)
    member = client.member(topic, group)
    try:
        client.produce(topic, numbered(range(300)))
        _settle([member], [member], 300)

        def with_a_kill() -> Iterator[Message]:
            yield from numbered(range(300, 600))
            restart_broker()
            yield from numbered(range(600, 900))

        client.produce(topic, with_a_kill(), idempotent=True)
        same(len(client.read(topic)), 900, "records in the topic")
        _settle([member], [member], 900)
        member.leave()
    finally:
        member.crash()
    return f"900 records, {_doubled([member])} consumed twice"


# --- admin ----------------------------------------------------------------------------------------------------------


def topics(client: Client) -> None:
    """Create, list, describe, delete; and the names of the errors."""
    topic = fresh("admin")
    client.create_topic(topic, 3)
    known(lambda: topic in client.list_topics(), True, "a new topic is listed")
    known(lambda: client.partition_count(topic), 3, "partitions")
    refused(client, 36, lambda: client.create_topic(topic, 3))
    refused(client, 17, lambda: client.create_topic("not/a/name", 3))
    refused(client, 37, lambda: client.create_topic(fresh("none"), 0))
    refused(client, 40, lambda: client.create_topic(fresh("bad"), 1, {"retention.ms": "soon"}))
    client.produce(topic, numbered(range(10)))
    client.delete_topic(topic)
    known(lambda: topic in client.list_topics(), False, "a deleted topic is listed")
    refused(client, 3, lambda: client.delete_topic(topic))
    client.create_topic(topic, 2)
    same(client.read(topic), [], "records of a topic made anew")


def more_partitions(client: Client) -> None:
    """A topic grows at once; it does not shrink."""
    topic = fresh("grows")
    client.create_topic(topic, 2)
    client.create_partitions(topic, 5)
    known(lambda: client.partition_count(topic), 5, "partitions")
    client.produce(topic, [Message(None, b"in the last", partition=4)])
    known(lambda: [record.partition for record in client.read(topic)], [4], "partitions with records")
    refused(client, 37, lambda: client.create_partitions(topic, 3))


def configs(client: Client) -> None:
    """A topic shows its own settings and Kafka's defaults; the broker shows its own."""
    topic = fresh("configs")
    client.create_topic(topic, 1, {"retention.ms": "123456", "max.message.bytes": "2000000"})
    shown = client.topic_configs(topic)
    wanted = {"retention.ms": "123456", "max.message.bytes": "2000000", "cleanup.policy": "delete"}
    same({name: shown.get(name) for name in wanted}, wanted, "topic settings")
    broker = client.broker_configs()
    same(broker.get("num.partitions"), str(PARTITION_COUNT), "num.partitions")
    same(broker.get("auto.create.topics.enable"), "true", "auto.create.topics.enable")


def offsets_by_time(client: Client) -> None:
    """The first offset at or after a time, inside batches too; and the ends of a partition."""
    topic = fresh("times")
    client.create_topic(topic, 1)
    base = int(time.time() * 1000) - 1_000_000
    times = [base + 1000 * number for number in range(100)]
    client.produce(topic, (Message(None, b"x", partition=0, timestamp_ms=at) for at in times), compression="gzip")
    same(client.offset_at(topic, 0, base), 0, "offset at the first timestamp")
    same(client.offset_at(topic, 0, base + 41_500), 42, "offset between two timestamps")
    same(client.offset_at(topic, 0, base + 99_000), 99, "offset at the last timestamp")
    same(client.offset_at(topic, 0, base + 99_001), None, "offset after the last timestamp")
    same(client.watermarks(topic, 0), (0, 100), "watermarks")


def groups(client: Client) -> None:
    """List, describe and delete groups; a group with members is not deleted."""
    topic, group = fresh("groups"), fresh("groups")
    client.create_topic(topic, PARTITION_COUNT)
    client.produce(topic, numbered(range(60)))
    member = client.member(topic, group)
    try:
        _settle([member], [member], 60)
        assert group in client.list_groups(), "a group with a member is not listed"
        same(client.describe_group(group), ("stable", 1), "the group with its member")
        refused(client, 68, lambda: client.delete_group(group))
        member.leave()
    finally:
        member.crash()
    same(client.describe_group(group), ("empty", 0), "the group without members")
    same(sum(client.committed(group, topic).values()), 60, "sum of the committed offsets")
    client.delete_group(group)
    assert group not in client.list_groups(), "a deleted group is still listed"
    same(client.committed(group, topic), {}, "committed offsets of a deleted group")


def known(ask: Callable[[], object], wanted: object, what: str, patience_s: float = 5) -> None:
    """The same, once all brokers know: each learns in its own time, and clients ask any."""
    deadline = time.monotonic() + patience_s
    while (found := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    same(found, wanted, what)


def refused(client: Client, code: int, action: Callable[[], object]) -> None:
    """The action must fail with this error code of the broker's."""
    try:
        action()
    except client.errors as error:
        same(client.error_code(error), code, f"error code of {error!r}")
        return
    raise AssertionError(f"it was let through; error {code} was expected")


# --- what lies on the broker ----------------------------------------------------------------------------------------


def stored_codecs(bootstrap: str, topic: str, partition: int) -> list[str]:
    """The codec of every batch of a partition, by a Fetch (version 4) written by hand, to the broker that leads it."""
    found = [codecs for address in bootstrap.split(",") if (codecs := _stored(address, topic, partition)) is not None]
    same(len(found), 1, f"brokers that lead {topic}-{partition}")
    return found[0]


def _stored(address: str, topic: str, partition: int) -> list[str] | None:
    """None where another broker leads the partition."""
    host, port = address.rsplit(":", 1)
    name = topic.encode()
    codecs: list[str] = []
    offset = 0
    with socket.create_connection((host, int(port)), 10) as connection:
        while True:
            request = (
                struct.pack(">hhihx", 1, 4, 1, 1)
                + struct.pack(">iiiibi", -1, 0, 0, 1 << 24, 0, 1)
                + struct.pack(">h", len(name))
                + name
                + struct.pack(">iiqi", 1, partition, offset, 1 << 24)
            )
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = _exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0])
            # correlation id, throttle time, one topic by name, one partition: index, error, two offsets
            position = 4 + 4 + 4 + 2 + len(name) + 4 + 4
            (error,) = struct.unpack_from(">h", answer, position)
            if error == 6:  # NOT_LEADER_OR_FOLLOWER
                return None
            assert error == 0, f"fetch of {topic}-{partition} at {offset}: error {error}"
            position += 2 + 8 + 8
            (aborted_count,) = struct.unpack_from(">i", answer, position)
            position += 4 + 16 * max(0, aborted_count) + 4
            if position >= len(answer):
                return codecs
            while position < len(answer):
                base_offset, length = struct.unpack_from(">qi", answer, position)
                attributes, last_offset_delta = struct.unpack_from(">hi", answer, position + 21)
                codecs.append(COMPRESSIONS[attributes & 7])
                offset = base_offset + last_offset_delta + 1
                position += 12 + length


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        assert chunk, "the broker closed the connection"
        data += chunk
    return bytes(data)


# --- the groups of checks from which a client's run.py chooses ------------------------------------------------------


def data_checks(client: Client, *, quick_compressions: Collection[str] = ("none", "gzip")) -> list[Check]:
    return [
        *(
            Check(f"compression {name}", lambda name=name: round_trip(client, name), quick=name in quick_compressions)
            for name in COMPRESSIONS
        ),
        Check("keys, headers, empty and null", lambda: shapes(client), quick=True),
        Check("records of 1 MB", lambda: one_megabyte(client), quick=True),
        Check("acks=1", lambda: acks(client, "1")),
        Check("acks=0", lambda: acks(client, "0")),
        Check("auto-created topic", lambda: auto_created(client), quick=True),
    ]


def refusal_checks(client: Client) -> list[Check]:
    return [Check("record too large is refused", lambda: too_large(client))]


def idempotence_checks(client: Client) -> list[Check]:
    return [Check("idempotent producer", lambda: idempotent(client), quick=True)]


def group_checks(client: Client) -> list[Check]:
    return [
        Check("group of three, leaving and joining", lambda: group_of_three(client), limit_s=120, quick=True),
        Check("commit, kill -9, resume", lambda: resume_after_kill(client), limit_s=90, quick=True, restarts=True),
        Check("at work through a kill -9", lambda: live_through_kill(client), limit_s=120, restarts=True),
    ]


def admin_checks(client: Client) -> list[Check]:
    return [
        Check("topics: create, list, describe, delete", lambda: topics(client), quick=True),
        Check("topics: add partitions", lambda: more_partitions(client)),
        Check("configs: describe", lambda: configs(client), quick=True),
    ]


def time_checks(client: Client) -> list[Check]:
    return [Check("offsets by time", lambda: offsets_by_time(client), quick=True)]


def group_admin_checks(client: Client) -> list[Check]:
    return [Check("groups: list, describe, delete", lambda: groups(client), limit_s=60, quick=True)]
