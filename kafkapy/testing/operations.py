"""What a test does with a broker: makes topics, writes, reads, looks at groups, waits, and cleans up.

Every method asks the broker over its protocol, as clients do; each is a coroutine that only awaits its connection.
Names are text, keys and values bytes (text is taken as UTF-8).
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from kafkapy.clock import ThreadClock
from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.describe_groups import DescribeGroupsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.list_groups import ListGroupsRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.batch import walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Headers, Record, read_records
from kafkapy.testing.client import Client, check
from kafkapy.testing.entries import Entry, read_entries
from kafkapy.testing.forgetting import TIMEOUT_MS, forget_all
from kafkapy.testing.keeping import group_offsets, rights_and_settings, topic_settings
from kafkapy.testing.nouns import ConsumedRecord, GroupView, ListedTopic, NotInTime
from kafkapy.testing.partitioner import partition_of
from kafkapy.testing.seeding import write_entries
from kafkapy.testing.waiting import PAUSE_SECONDS, SOON, wait_for

Text = bytes | str | None

_BY_NAME: Final = {"produce": 12, "fetch": 12, "offset_fetch": 9}
"""The last versions in which topics go by their names."""

_LATEST: Final = -1
_EARLIEST: Final = -2
_READ_COMMITTED: Final = 1
_FETCH_BYTES: Final = 16 << 20
_POLL_MS: Final = 250
_CREATION_SECONDS: Final = 3.0
_machine_now_ms: Final = ThreadClock().now_ms


class Operations:
    """What can be done with the broker behind a client. Waiting is in real time, whatever clock the broker has."""

    def __init__(
        self,
        client: Client,
        *,
        image: Callable[[], ClusterImage] | None = None,
        now_ms: Callable[[], int] = _machine_now_ms,
    ) -> None:
        self._client = client
        self._image = image  # what there is, of a broker that is the test's own
        self._now_ms = now_ms  # when a record is written, in a time that the test may have moved

    # Topics

    async def create_topic(
        self, name: str, partitions: int = 1, *, replication_factor: int = -1, config: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic. Raises KafkaError, TOPIC_ALREADY_EXISTS for one."""
        configs = [CreateTopicsRequest.CreatableTopicConfig(name=k, value=v) for k, v in (config or {}).items()]
        topic = CreateTopicsRequest.CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replication_factor, configs=configs
        )
        response = await self._client.ask(CreateTopicsRequest(topics=[topic], timeout_ms=TIMEOUT_MS))
        check(response.topics)

    async def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics. Raises KafkaError."""
        await self._delete([*names])

    async def topics(self, *, internal: bool = False) -> list[ListedTopic]:
        """The topics that there are, by name; Kafka's own only where asked for."""
        found = [ListedTopic(t.name, len(t.partitions), t.is_internal) for t in await self._metadata(None)]
        return sorted(topic for topic in found if internal or not topic.is_internal)

    # Records

    async def produce(
        self,
        topic: str,
        value: Text = None,
        *,
        key: Text = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> int:
        """Write one record, and return its offset. A topic that is not there is made, where the broker does that.

        Without a partition the key decides, as in the Java client; without a key it is the first one. Raises
        KafkaError.
        """
        encoded = _bytes(key)
        count = await self._partition_count(topic)
        if partition is None:
            partition = 0 if encoded is None else partition_of(encoded, count)
        at = self._now_ms() if timestamp is None else timestamp
        data = ProduceRequest.PartitionProduceData(
            index=partition, records=build_batch([Record(0, at, encoded, _bytes(value), headers or [])])
        )
        request = ProduceRequest(
            acks=-1,
            timeout_ms=TIMEOUT_MS,
            topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])],
        )
        response = await self._client.ask(request, most=_BY_NAME["produce"])
        [answer] = response.responses[0].partition_responses
        if answer.error_code:
            raise KafkaError(Error.of(answer.error_code), answer.error_message)
        offset: int = answer.base_offset
        return offset

    async def records(self, topic: str, partition: int | None = None) -> list[ConsumedRecord]:
        """All records of a topic, or of one of its partitions, as a consumer of committed ones sees them now."""
        found: list[ConsumedRecord] = []
        await self._read_to_the_end(topic, await self._offsets(topic, _EARLIEST, partition), found)
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def wait_records(self, topic: str, count: int = 1, *, timeout: float = 10.0) -> list[ConsumedRecord]:
        """All records of a topic, as soon as there are that many. Raises NotInTime."""
        found = await self._records_since(topic, None, count, timeout)
        if len(found) < count:
            raise NotInTime(f"{topic} has {len(found)} records after {timeout:g} s, not {count}")
        return found

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Where each partition ends for a consumer of committed records; nothing where there is no such topic."""
        try:
            return await self._offsets(topic, _LATEST, None)
        except KafkaError as problem:
            if problem.error is Error.UNKNOWN_TOPIC_OR_PARTITION:
                return {}
            raise

    async def records_since(
        self, topic: str, ends: Mapping[int, int], count: int, *, timeout: float = 10.0
    ) -> list[ConsumedRecord]:
        """All that was written behind these offsets, as soon as it is that much, or once the time is over."""
        return await self._records_since(topic, ends, count, timeout)

    # Groups

    async def groups(self) -> list[GroupView]:
        """All groups, with what they committed."""
        return [await self._looked_at(one) for one in sorted(await self._listed(), key=lambda one: str(one.group_id))]

    async def group(self, group_id: str) -> GroupView:
        """One group. Raises KafkaError GROUP_ID_NOT_FOUND."""
        for one in await self._listed():
            if one.group_id == group_id:
                return await self._looked_at(one)
        raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"there is no group {group_id}")

    async def committed(self, group_id: str) -> dict[TopicPartition, int]:
        """The offsets that the group committed."""
        group = OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group_id, topics=None)
        request = OffsetFetchRequest(groups=[group])
        [answer] = (await self._client.ask(request, most=_BY_NAME["offset_fetch"])).groups
        if answer.error_code:
            raise KafkaError(Error.of(answer.error_code))
        return {
            TopicPartition(topic.name, one.partition_index): one.committed_offset
            for topic in answer.topics
            for one in topic.partitions
            if one.committed_offset >= 0
        }

    async def wait_group(
        self, group_id: str, *, state: str | None = "Stable", members: int | None = None, timeout: float = 10.0
    ) -> GroupView:
        """The group, as soon as it is in that state and has that many members. Raises NotInTime."""
        seen = "it is not there"

        async def look() -> GroupView | None:
            nonlocal seen
            view = await self.group(group_id)
            seen = f"it is {view.state}, with {view.members} members"
            fits = state in (None, view.state) and members in (None, view.members)
            return view if fits else None

        wanted = f"{state or 'any state'}" + ("" if members is None else f" with {members} members")
        return await wait_for(self._client, look, timeout, lambda: f"group {group_id}: wanted {wanted}, {seen}")

    async def wait_committed(
        self, group_id: str, topic: str, offset: int, *, partition: int = 0, timeout: float = 10.0
    ) -> int:
        """The group's committed offset of a partition, as soon as it is at least that. Raises NotInTime."""
        at = TopicPartition(topic, partition)
        seen: int | None = None

        async def look() -> int | None:
            nonlocal seen
            seen = (await self.committed(group_id)).get(at)
            return seen if seen is not None and seen >= offset else None

        return await wait_for(
            self._client, look, timeout, lambda: f"group {group_id} committed {seen} of {at}, not {offset}"
        )

    # Cleaning up

    async def reset(self) -> None:
        """Forget topics, groups, producers, transactions, rights, users, limits and settings; clients stay connected.

        On a broker that is not ours to empty (`--kafka-bootstrap`) only topics go, but for Kafka's own, and groups
        that have no members.
        """
        if self._image is not None:
            await forget_all(self._client, self._image())
            return
        listed = [one.group_id for one in await self._listed()]
        if listed:
            answers = (await self._client.ask(DeleteGroupsRequest(groups_names=listed))).results
            check(answers, but={Error.NON_EMPTY_GROUP, Error.GROUP_ID_NOT_FOUND})
        names = [topic.name for topic in await self.topics()]
        await self._delete(names, but={Error.UNKNOWN_TOPIC_OR_PARTITION})

    # What is there, as entries

    async def seed(self, source: "str | os.PathLike[str] | Iterable[Entry]") -> None:
        """Write what a file of JSON lines says, or such entries. Raises KafkaError, BadEntry, OSError."""
        await write_entries(self._client, read_entries(source), self._now_ms)

    async def snapshot(self) -> list[Entry]:
        """What is in the broker, for `restore`, or for a file (`entries.written`); `keeping.py` says what that is."""
        topics = await self.topics()
        names = [topic.name for topic in topics]
        configs, records = await topic_settings(self._client, names), {name: await self.records(name) for name in names}
        entries: list[Entry] = [
            {"topic": topic.name, "partitions": topic.partitions, "config": configs[topic.name]} for topic in topics
        ]
        entries += [_entry_of(record) for name in names for record in records[name]]
        groups = sorted(one.group_id for one in await self._listed())
        entries += await group_offsets(self._client, groups, records)
        return [*entries, *[entry async for entry in rights_and_settings(self._client)]]

    async def restore(self, snapshot: "str | os.PathLike[str] | Iterable[Entry]") -> None:
        """Have the broker hold what it held then, and nothing else. Raises KafkaError, BadEntry, OSError.

        Passwords cannot be read, so users are gone. Only an empty group's offsets can be put back.
        """
        entries = [*read_entries(snapshot)]
        await self.reset()
        await write_entries(self._client, entries, self._now_ms)

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    # How it is done

    async def _delete(self, names: Sequence[str], but: Iterable[Error] = ()) -> None:
        if names:
            topics = [DeleteTopicsRequest.DeleteTopicState(name=name) for name in names]
            check((await self._client.ask(DeleteTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS))).responses, but)

    async def _metadata(self, names: Sequence[str] | None, *, may_create: bool = False) -> Any:
        topics = None if names is None else [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
        request = MetadataRequest(topics=topics, allow_auto_topic_creation=may_create)
        return (await self._client.ask(request)).topics

    async def _partitions(self, topic: str, *, may_create: bool = False) -> list[int]:
        [found] = await self._metadata([topic], may_create=may_create)
        if found.error_code:
            raise KafkaError(Error.of(found.error_code), f"{topic}: {Error.of(found.error_code).text}")
        return [one.partition_index for one in found.partitions]

    async def _partition_count(self, topic: str) -> int:
        """How many partitions the topic has; it is made, if it is not there and the broker does that."""

        async def look() -> int:
            return len(await self._partitions(topic, may_create=True))

        return await wait_for(self._client, look, _CREATION_SECONDS, lambda: f"there is no topic {topic}")

    async def _offsets(self, topic: str, timestamp: int, partition: int | None) -> dict[int, int]:
        numbers = await self._partitions(topic) if partition is None else [partition]
        asked = [ListOffsetsRequest.ListOffsetsPartition(partition_index=n, timestamp=timestamp) for n in numbers]
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=_READ_COMMITTED,
            topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=asked)],
        )
        [answer] = (await self._client.ask(request)).topics
        check(answer.partitions)
        return {one.partition_index: one.offset for one in answer.partitions}

    async def _records_since(
        self, topic: str, ends: Mapping[int, int] | None, count: int, timeout: float
    ) -> list[ConsumedRecord]:
        deadline = self._client.monotonic() + timeout
        found: list[ConsumedRecord] = []
        positions: dict[int, int] = {}
        while True:
            left_ms = max(int((deadline - self._client.monotonic()) * 1000), 0)
            try:
                if not positions:
                    starts = await self._offsets(topic, _EARLIEST, None)
                    positions = {n: max(start, (ends or {}).get(n, 0)) for n, start in starts.items()}
                await self._read_to_the_end(topic, positions, found)
                if len(found) >= count or not left_ms:
                    break
                await self._fetch(topic, positions, found, max_wait_ms=min(left_ms, _POLL_MS))
            except KafkaError as problem:
                if problem.error not in SOON:
                    raise
                if not (count and left_ms):
                    break
                await self._client.pause(PAUSE_SECONDS)
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def _read_to_the_end(self, topic: str, positions: dict[int, int], found: list[ConsumedRecord]) -> None:
        """Read on to where the partitions end now, and move the positions: somebody may be writing without a pause."""
        ends = await self._offsets(topic, _LATEST, None)
        while left := {n: offset for n, offset in positions.items() if offset < ends.get(n, 0)}:
            if not await self._fetch(topic, left, found, max_wait_ms=0):
                break
            positions.update(left)

    async def _fetch(
        self, topic: str, positions: dict[int, int], found: list[ConsumedRecord], *, max_wait_ms: int
    ) -> bool:
        """Read on from these positions, and move them; whether they moved."""
        partitions = [
            FetchRequest.FetchPartition(partition=n, fetch_offset=offset, partition_max_bytes=_FETCH_BYTES)
            for n, offset in positions.items()
        ]
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            isolation_level=_READ_COMMITTED,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=partitions)],
        )
        response = await self._client.ask(request, most=_BY_NAME["fetch"])
        moved = False
        for answer in response.responses[0].partitions:
            if answer.error_code:
                raise KafkaError(Error.of(answer.error_code), f"{topic}-{answer.partition_index}")
            start = positions[answer.partition_index]
            end = _take(topic, answer, start, found)
            positions[answer.partition_index] = end
            moved = moved or end > start
        return moved

    async def _listed(self) -> Any:
        return (await self._client.ask(ListGroupsRequest())).groups

    async def _looked_at(self, listed: Any) -> GroupView:
        kind = (listed.group_type or "classic").lower()
        state, members = await self._described(listed.group_id, kind)
        return GroupView(listed.group_id, kind, state, members, await self.committed(listed.group_id))

    async def _described(self, group_id: str, kind: str) -> tuple[str, int]:
        if kind == "consumer":
            [found] = (await self._client.ask(ConsumerGroupDescribeRequest(group_ids=[group_id]))).groups
        else:
            [found] = (await self._client.ask(DescribeGroupsRequest(groups=[group_id]))).groups
        check([found])
        return found.group_state, len(found.members)


def _take(topic: str, answer: Any, start: int, found: list[ConsumedRecord]) -> int:
    """Add the records of one partition that are not before `start`, nor of aborted transactions; where they end."""
    if not answer.records:
        return start
    aborted = sorted(((one.first_offset, one.producer_id) for one in answer.aborted_transactions or ()), reverse=True)
    given_up: set[int] = set()
    end, data = start, memoryview(answer.records)
    for position, header in walk(data):
        end = header.next_offset
        while aborted and aborted[-1][0] <= header.last_offset:
            given_up.add(aborted.pop()[1])
        if header.is_control:
            given_up.discard(header.producer_id)
            continue
        if header.is_transactional and header.producer_id in given_up:
            continue
        records = read_records(data[position : position + header.size_bytes])
        found += [
            ConsumedRecord(topic, answer.partition_index, *record) for record in records if record.offset >= start
        ]
    return end


def _bytes(text: Text) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _entry_of(record: ConsumedRecord) -> Entry:
    entry = {
        "topic": record.topic,
        "partition": record.partition,
        "timestamp": record.timestamp,
        "key": record.key,
        "value": record.value,
    }
    return entry | ({"headers": [[*header] for header in record.headers]} if record.headers else {})
