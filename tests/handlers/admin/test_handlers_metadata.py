"""Metadata, as a client sees it: what is there, what comes into being by asking, and what is not told."""

import logging
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from kafkapy.cluster.image import METADATA_LOG
from kafkapy.cluster.machine import NewPartitions, NewTopic
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.records.batch import walk
from kafkapy.storage.base import Read

UNKNOWN_ID = b"an unknown topic"
NO_ID = bytes(16)
NOT_ASKED = -2147483648
VERSIONS = range(14)


async def create(broker: Any, *names: str, partitions: int = 1) -> dict[str, bytes]:
    """The ids of new topics by name."""
    made = await broker.cluster.create_topics([NewTopic(name, partitions) for name in names])
    return {topic.name: topic.topic_id for topic in made}


async def ask(broker: Any, topics: list[str | bytes] | None, version: int = 13, **fields: Any) -> Any:
    """Metadata of topics by name or id; nothing is created unless a test says so."""
    if version >= 4:
        fields.setdefault("allow_auto_topic_creation", False)
    asked = topics and [
        MetadataRequest.MetadataRequestTopic(name=topic)
        if isinstance(topic, str)
        else MetadataRequest.MetadataRequestTopic(name=None, topic_id=topic)
        for topic in topics
    ]
    return await broker.ask(MetadataRequest(topics=asked, **fields), version)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_topic_with_its_partitions_and_the_broker(open_broker: Any, version: int) -> None:
    broker = await open_broker({"broker.rack": "here"})
    ids = await create(broker, "t", partitions=2)
    response = await ask(broker, ["t"], version)
    [node] = response.brokers
    assert (node.node_id, node.host, node.port) == (1, "broker.test", 9092)
    if version >= 1:
        assert (node.rack, response.controller_id) == ("here", 1)
    if version >= 2:
        assert response.cluster_id == "the-cluster"
    [topic] = response.topics
    assert (topic.error_code, topic.name, topic.is_internal) == (Error.NONE, "t", False)
    assert [p.partition_index for p in topic.partitions] == [0, 1]
    for partition in topic.partitions:
        assert (partition.leader_id, partition.replica_nodes, partition.isr_nodes) == (1, [1], [1])
        assert (partition.error_code, partition.offline_replicas) == (Error.NONE, [])
        if version >= 7:
            assert partition.leader_epoch == 0
    if version >= 10:
        assert topic.topic_id == ids["t"]


async def test_all_topics_and_none(broker: Any) -> None:
    await create(broker, "t", "u")

    async def names(topics: list[str | bytes] | None, version: int) -> list[str]:
        return [topic.name for topic in (await ask(broker, topics, version)).topics]

    assert await names([], 0) == ["t", "u"]
    for version in VERSIONS[1:]:
        assert await names(None, version) == ["t", "u"]
        assert await names([], version) == []


@pytest.mark.parametrize("version", VERSIONS[1:])
async def test_all_topics_are_told_as_each_by_name_and_as_they_are_now(broker: Any, version: int) -> None:
    """What is told to all is written once: it must not outlive what it tells of."""

    async def same(*names: str) -> None:
        for _ in range(2):
            everything = await ask(broker, None, version)
            assert everything.topics == [(await ask(broker, [name], version)).topics[0] for name in names]

    ids = await create(broker, "t", "u", partitions=3)
    await same("t", "u")
    await create(broker, "v")
    await same("t", "u", "v")
    await broker.cluster.create_partitions([NewPartitions("u", 5)])
    await same("t", "u", "v")
    await broker.cluster.delete_topics([ids["t"]])
    await same("u", "v")


async def test_what_one_client_may_do_is_not_told_to_the_next(broker: Any) -> None:
    await create(broker, "t")
    for topics in (None, ["t"]):
        for asks in (False, True, False):
            [topic] = (await ask(broker, topics, 10, include_topic_authorized_operations=asks)).topics
            assert (topic.topic_authorized_operations != NOT_ASKED) == asks


async def test_the_cluster_is_named_though_no_topic_is_asked(broker: Any) -> None:
    response = await ask(broker, [], 5)
    assert (response.cluster_id, response.controller_id, len(response.brokers)) == ("the-cluster", 1, 1)


async def test_a_topic_is_answered_once(broker: Any) -> None:
    await create(broker, "t")
    assert len((await ask(broker, ["t", "t"])).topics) == 1


async def test_internal_topics_are_marked(broker: Any) -> None:
    await broker.cluster.auto_create(["__consumer_offsets"])
    [there, missing] = (await ask(broker, ["__consumer_offsets", "__transaction_state"])).topics
    assert (there.error_code, there.is_internal) == (Error.NONE, True)
    assert (missing.error_code, missing.is_internal) == (Error.UNKNOWN_TOPIC_OR_PARTITION, True)


# Creation by asking


async def ask_again(broker: Any, topics: list[str | bytes], version: int = 13, **fields: Any) -> Any:
    """What clients hear that ask once more, after what their first question began."""
    if version >= 4:
        fields["allow_auto_topic_creation"] = True
    await ask(broker, topics, version, **fields)
    await wait_all_tasks_blocked()
    return await ask(broker, topics, version, **fields)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_missing_topic_is_unknown_at_first_and_there_when_asked_for_again(
    open_broker: Any, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Before version 4, asking is allowing."""
    broker = await open_broker({"num.partitions": "3"})
    caplog.set_level(logging.INFO, "kafkapy.handlers.admin.creation")
    fields = {"allow_auto_topic_creation": True} if version >= 4 else {}
    [topic] = (await ask(broker, ["t"], version, **fields)).topics
    assert (topic.error_code, topic.name, topic.topic_id) == (Error.UNKNOWN_TOPIC_OR_PARTITION, "t", NO_ID)
    assert (topic.is_internal, topic.partitions) == (False, [])
    await wait_all_tasks_blocked()
    assert broker.partition_logs("t") == [0, 1, 2]
    assert "created topic t for client tests at 127.0.0.1" in caplog.text
    [topic] = (await ask(broker, ["t"], version)).topics
    assert (topic.error_code, [p.error_code for p in topic.partitions]) == (Error.NONE, [Error.NONE] * 3)
    assert (topic.topic_id != NO_ID) == (version >= 10)


async def test_a_topic_that_is_being_created_is_not_created_again(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        [topic] = (await ask(broker, ["t"], allow_auto_topic_creation=True)).topics
        assert topic.error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
    await wait_all_tasks_blocked()
    assert caplog.text.count("created topic t") == 1
    assert "could not" not in caplog.text
    await broker.cluster.delete_topics([broker.cluster.image.topic("t").topic_id])
    [topic] = (await ask_again(broker, ["t"])).topics
    assert topic.error_code == Error.NONE


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_missing_topic_is_ready_at_once_where_that_may_be_waited_for(open_broker: Any, version: int) -> None:
    broker = await open_broker({"kafkapy.auto.create.wait": "true"})
    fields = {"allow_auto_topic_creation": True} if version >= 4 else {}
    [good, bad] = (await ask(broker, ["t", "bad name"], version, **fields)).topics
    assert (good.error_code, len(good.partitions)) == (Error.NONE, 1)
    assert bad.error_code == Error.INVALID_TOPIC_EXCEPTION
    assert broker.partition_logs("t") == [0]


async def test_nothing_is_created_unless_request_and_broker_allow_it(open_broker: Any) -> None:
    broker = await open_broker()
    assert (await ask(broker, ["t"])).topics[0].error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
    strict = await open_broker({"auto.create.topics.enable": "false"})
    [topic] = (await ask(strict, ["t"], allow_auto_topic_creation=True)).topics
    assert topic.error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
    for one in (broker, strict):
        await ask(one, None, allow_auto_topic_creation=True)
        await ask(one, [UNKNOWN_ID], allow_auto_topic_creation=True)
        await wait_all_tasks_blocked()
        assert not one.cluster.image.topics


async def test_several_missing_topics_are_created_in_one_write(broker: Any) -> None:
    before = broker.logs.bounds(METADATA_LOG).end_offset
    response = await ask_again(broker, ["t", "bad name", "u"])
    assert [(topic.name, topic.error_code) for topic in response.topics] == [
        ("t", Error.NONE),
        ("bad name", Error.INVALID_TOPIC_EXCEPTION),
        ("u", Error.NONE),
    ]
    [piece] = await broker.logs.read([Read(METADATA_LOG, before, 1 << 20)], 1 << 20)
    assert len(list(walk(piece.records))) == 1


async def test_the_offsets_topic_is_created_as_the_broker_would(open_broker: Any) -> None:
    broker = await open_broker({"offsets.topic.num.partitions": "5"})
    [topic] = (await ask_again(broker, ["__consumer_offsets"])).topics
    assert (topic.error_code, topic.is_internal, len(topic.partitions)) == (Error.NONE, True, 5)
    assert broker.cluster.image.topic("__consumer_offsets").config["cleanup.policy"] == ["compact"]


async def test_what_cannot_be_created_is_just_unknown(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    await create(broker, "a.b")
    response = await ask_again(broker, ["a_b", "__cluster_metadata"])
    assert {topic.error_code for topic in response.topics} == {Error.UNKNOWN_TOPIC_OR_PARTITION}
    assert "could not create topic a_b for client tests: Topic 'a_b' collides with existing topic: a.b" in caplog.text


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "x" * 250])
@pytest.mark.parametrize("creating", [True, False])
async def test_names_that_are_not_legal(broker: Any, name: str, creating: bool) -> None:
    [topic] = (await ask(broker, [name], allow_auto_topic_creation=creating)).topics
    assert (topic.error_code, topic.name) == (Error.INVALID_TOPIC_EXCEPTION, name)


# By id


@pytest.mark.parametrize("version", [12, 13])
async def test_topics_by_id(broker: Any, version: int) -> None:
    ids = await create(broker, "t", "u")
    known, unknown = (await ask(broker, [ids["t"], UNKNOWN_ID], version)).topics
    assert (known.error_code, known.name, known.topic_id) == (Error.NONE, "t", ids["t"])
    assert (unknown.error_code, unknown.name, unknown.topic_id) == (Error.UNKNOWN_TOPIC_ID, None, UNKNOWN_ID)


async def test_ids_win_over_names(broker: Any) -> None:
    ids = await create(broker, "t", "u")
    assert [topic.name for topic in (await ask(broker, ["u", ids["t"]])).topics] == ["t"]


@pytest.mark.parametrize(("name", "topic_id"), [(None, NO_ID), (None, UNKNOWN_ID), ("t", UNKNOWN_ID)])
@pytest.mark.parametrize("version", [10, 11])
async def test_before_version_12_only_names_count(broker: Any, version: int, name: str | None, topic_id: bytes) -> None:
    asked = MetadataRequest.MetadataRequestTopic(name=name, topic_id=topic_id)
    response = await broker.ask(MetadataRequest(topics=[asked]), version)
    assert (response.brokers, response.controller_id) == ([], -1)
    assert [(topic.name, topic.error_code) for topic in response.topics] == [(name or "", Error.INVALID_REQUEST)]


async def test_version_13_says_at_the_top_what_went_wrong(broker: Any) -> None:
    response = await broker.ask(MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name=None)]), 13)
    assert response.error_code == Error.INVALID_REQUEST
    assert (await ask(broker, [])).error_code == Error.NONE


# Rights


async def test_authorized_operations_only_when_asked_for(broker: Any) -> None:
    await create(broker, "t")
    for version in range(8, 14):
        response = await ask(broker, ["t"], version)
        assert response.topics[0].topic_authorized_operations == NOT_ASKED
        fields = {"include_topic_authorized_operations": True}
        if version <= 10:
            assert response.cluster_authorized_operations == NOT_ASKED
            fields["include_cluster_authorized_operations"] = True
        response = await ask(broker, ["t", "missing"], version, **fields)
        # READ 3, WRITE 4, CREATE 5, DELETE 6, ALTER 7, DESCRIBE 8, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11
        assert [topic.topic_authorized_operations for topic in response.topics] == [0b1101_1111_1000] * 2
        if version <= 10:
            assert response.cluster_authorized_operations == 0b1_1111_1010_0000


async def test_who_may_not_describe_learns_nothing(broker: Any, deny: Any) -> None:
    ids = await create(broker, "t", "u")
    deny(Operation.DESCRIBE, ResourceType.TOPIC, "t")
    deny(Operation.DESCRIBE, ResourceType.TOPIC, "missing")
    deny(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    denied = Error.TOPIC_AUTHORIZATION_FAILED
    assert [topic.name for topic in (await ask(broker, None)).topics] == ["u"]
    response = await ask(
        broker, ["t", "missing"], allow_auto_topic_creation=True, include_topic_authorized_operations=True
    )
    assert [(t.name, t.error_code, t.topic_id) for t in response.topics] == [
        ("t", denied, NO_ID),
        ("missing", denied, NO_ID),
    ]
    assert {topic.topic_authorized_operations for topic in response.topics} == {NOT_ASKED}
    [topic] = (await ask(broker, [ids["t"]])).topics
    assert (topic.name, topic.error_code, topic.topic_id) == (None, denied, ids["t"])
    response = await ask(broker, [], 10, include_cluster_authorized_operations=True)
    assert response.cluster_authorized_operations == 0
    assert broker.cluster.image.topic("missing") is None


async def test_who_may_not_create_is_told_so_only_when_creating(broker: Any, deny: Any) -> None:
    deny(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME)
    deny(Operation.CREATE, ResourceType.TOPIC, "t")
    [t, u] = (await ask_again(broker, ["t", "u"])).topics
    assert (t.error_code, u.error_code) == (Error.TOPIC_AUTHORIZATION_FAILED, Error.NONE)
    [t] = (await ask(broker, ["t"])).topics
    assert t.error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
