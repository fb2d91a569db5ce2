"""Writes entries into a broker: many records with one request, whatever their topics."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.create_acls import CreateAclsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.testing.client import Client, check
from kafkapy.testing.entries import BadEntry, Entry, content_of, headers_of
from kafkapy.testing.partitioner import partition_of
from kafkapy.testing.waiting import wait_for

_BY_NAME: Final = {"produce": 12, "offset_commit": 9}
"""The last versions in which topics go by their names."""

_TIMEOUT_MS: Final = 10_000
_PATIENCE_SECONDS: Final = 10.0
_BATCH_BYTES: Final = 256 << 10
"""A batch takes no further record beyond that: well within what a topic allows, if it allows more than one."""
_RECORD_BYTES: Final = 64
"""What a record takes beside its key and value, about."""


async def write_entries(client: Client, entries: Iterable[tuple[str, Entry]], now_ms: Callable[[], int]) -> None:
    """Write all of these: topics first, records last. Raises KafkaError, BadEntry.

    A topic that is there already is left as it is.
    """
    by_kind: defaultdict[str, list[Entry]] = defaultdict(list)
    for kind, entry in entries:
        by_kind[kind].append(entry)
    named = [*by_kind["topic"], *({"topic": entry["topic"]} for entry in [*by_kind["record"], *by_kind["group"]])]
    counts = await _make_topics(client, {entry["topic"]: entry for entry in reversed(named)})
    if acls := by_kind["acl"]:
        creations = [_from(CreateAclsRequest.AclCreation, entry["acl"]) for entry in acls]
        check((await client.ask(CreateAclsRequest(creations=creations))).results)
    if limits := by_kind["limit"]:
        check((await client.ask(AlterClientQuotasRequest(entries=[_limit(one) for one in limits]))).entries)
    if settings := by_kind["setting"]:
        resources = [_setting(one) for one in settings]
        check((await client.ask(IncrementalAlterConfigsRequest(resources=resources))).responses)
    # Before there are records: a member that is at work finds its group as it was.
    for group in sorted({str(entry["group"]) for entry in by_kind["group"]}):
        await _commit(client, group, [entry for entry in by_kind["group"] if entry["group"] == group])
    await _produce(client, by_kind["record"], counts, now_ms)


async def _make_topics(client: Client, topics: dict[str, Entry]) -> dict[str, int]:
    """How many partitions each of them has, once they all are there."""
    if not topics:
        return {}
    cls = CreateTopicsRequest
    wanted = [
        cls.CreatableTopic(
            name=name,
            num_partitions=entry.get("partitions", -1),
            replication_factor=-1,
            configs=[cls.CreatableTopicConfig(name=k, value=str(v)) for k, v in (entry.get("config") or {}).items()],
        )
        for name, entry in topics.items()
    ]
    answer = await client.ask(cls(topics=wanted, timeout_ms=_TIMEOUT_MS))
    check(answer.topics, but={Error.TOPIC_ALREADY_EXISTS})

    async def look() -> dict[str, int]:
        asked = [MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
        found = (await client.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=False))).topics
        check(found)
        return {topic.name: len(topic.partitions) for topic in found}

    return await wait_for(client, look, _PATIENCE_SECONDS, lambda: f"not all of {', '.join(topics)} are there")


async def _produce(client: Client, entries: Sequence[Entry], counts: dict[str, int], now_ms: Callable[[], int]) -> None:
    """Write the records, in rounds of at most one batch a partition."""
    now = now_ms()
    records: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
    for entry in entries:
        key, value = content_of(entry.get("key")), content_of(entry.get("value"))
        partition = entry.get("partition")
        if partition is None:
            partition = 0 if key is None else partition_of(key, counts[entry["topic"]])
        at = TopicPartition(entry["topic"], partition)
        records[at].append(Record(0, entry.get("timestamp", now), key, value, headers_of(entry.get("headers"))))
    while records:
        await _send_all(client, {at: _batch(waiting) for at, waiting in records.items()})
        records = defaultdict(list, {at: waiting for at, waiting in records.items() if waiting})


async def _send_all(client: Client, batches: dict[TopicPartition, bytes]) -> None:
    await wait_for(client, lambda: _send(client, batches), _PATIENCE_SECONDS, lambda: f"nobody takes {[*batches]}")


async def _send(client: Client, batches: dict[TopicPartition, bytes]) -> bool:
    """Write what is left of these batches. Raises the first error of one that was refused."""
    cls = ProduceRequest
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for at, batch in batches.items():
        parts[at.topic].append(cls.PartitionProduceData(index=at.partition, records=batch))
    data = [cls.TopicProduceData(name=name, partition_data=part) for name, part in parts.items()]
    answer = await client.ask(cls(acks=-1, timeout_ms=_TIMEOUT_MS, topic_data=data), most=_BY_NAME["produce"])
    refusals = []
    for topic in answer.responses:
        for one in topic.partition_responses:
            if one.error_code:
                refusals.append(one)
            else:
                batches.pop(TopicPartition(topic.name, one.index))
    check(refusals)
    return True


def _batch(waiting: list[Record]) -> bytes:
    """The next batch of a partition's records, which are taken away."""
    size = count = 0
    for record in waiting:
        size += len(record.key or b"") + len(record.value or b"") + _RECORD_BYTES
        if size > _BATCH_BYTES and count:
            break
        count += 1
    taken = [record._replace(offset=place) for place, record in enumerate(waiting[:count])]
    del waiting[:count]
    return build_batch(taken)


async def _commit(client: Client, group: str, entries: Sequence[Entry]) -> None:
    cls = OffsetCommitRequest
    topics: defaultdict[str, list[Any]] = defaultdict(list)
    for entry in entries:
        topics[entry["topic"]].append(
            cls.OffsetCommitRequestPartition(
                partition_index=entry.get("partition", 0),
                committed_offset=entry["offset"],
                committed_metadata=entry.get("metadata", ""),
            )
        )
    # Who has never been asked for a coordinator has not made what groups are kept in.
    await client.ask(FindCoordinatorRequest(coordinator_keys=[group]))
    rows = [cls.OffsetCommitRequestTopic(name=name, partitions=partitions) for name, partitions in topics.items()]

    async def look() -> bool:
        answer = await client.ask(cls(group_id=group, topics=rows), most=_BY_NAME["offset_commit"])
        check(one for topic in answer.topics for one in topic.partitions)
        return True

    try:
        await wait_for(client, look, _PATIENCE_SECONDS, lambda: f"no coordinator takes offsets of {group}")
    except KafkaError as refusal:
        if refusal.error is not Error.UNKNOWN_MEMBER_ID:
            raise
        raise KafkaError(
            refusal.error, f"group {group} has members, who alone commit for it: stop them first"
        ) from None


def _limit(entry: Entry) -> Any:
    cls = AlterClientQuotasRequest
    entity = [cls.EntityData(entity_type=kind, entity_name=name) for kind, name in entry["limit"].items()]
    return cls.EntryData(entity=entity, ops=[cls.OpData(key=k, value=float(v)) for k, v in entry["values"].items()])


def _setting(entry: Entry) -> Any:
    cls = IncrementalAlterConfigsRequest
    try:
        kind = ConfigResource[str(entry["setting"]).upper()]
    except KeyError:
        raise BadEntry(f"nothing that is called {entry['setting']} has settings") from None
    configs = [cls.AlterableConfig(name=name, value=str(value)) for name, value in entry["config"].items()]
    return cls.AlterConfigsResource(resource_type=kind, resource_name=entry["name"], configs=configs)


def _from(cls: Any, fields: Any) -> Any:
    try:
        return cls(**fields)
    except TypeError as problem:
        raise BadEntry(f"{fields!r}: {problem}") from None
