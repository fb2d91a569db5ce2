"""DeleteTopics, as an admin client sees it: above all, nothing goes that was not clearly meant."""

from typing import Any

import pytest

from kafkapy.cluster.machine import NewTopic
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest

UNKNOWN_ID = b"an unknown topic"
NO_ID = bytes(16)
MINUTE_MS = 60_000


async def create(broker: Any, *names: str) -> dict[str, bytes]:
    """The ids of new topics by name."""
    made = await broker.cluster.create_topics([NewTopic(name, 2) for name in names])
    return {topic.name: topic.topic_id for topic in made}


async def delete(broker: Any, *entries: str | bytes | tuple[str | None, bytes], **fields: Any) -> list[tuple]:
    """Delete by names, ids, or both at once; the answers as (name, id, error)."""
    topics = [
        DeleteTopicsRequest.DeleteTopicState(name=entry)
        if isinstance(entry, str)
        else DeleteTopicsRequest.DeleteTopicState(name=None, topic_id=entry)
        if isinstance(entry, bytes)
        else DeleteTopicsRequest.DeleteTopicState(name=entry[0], topic_id=entry[1])
        for entry in entries
    ]
    fields.setdefault("timeout_ms", MINUTE_MS)
    response = await broker.ask(DeleteTopicsRequest(topics=topics, **fields), 6)
    return sorted(((result.name, result.topic_id, result.error_code) for result in response.responses), key=repr)


@pytest.mark.parametrize("version", range(1, 6))
async def test_topics_go_by_name_with_their_logs(broker: Any, version: int) -> None:
    await create(broker, "t", "u")
    request = DeleteTopicsRequest(topic_names=["t", "missing"], timeout_ms=MINUTE_MS)
    response = await broker.ask(request, version)
    assert {result.name: result.error_code for result in response.responses} == {
        "t": Error.NONE,
        "missing": Error.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert list(broker.cluster.image.topics) == ["u"]
    assert (broker.partition_logs("t"), broker.partition_logs("u")) == ([], [0, 1])


async def test_topics_go_by_name_and_by_id(broker: Any) -> None:
    ids = await create(broker, "t", "u", "v")
    assert await delete(broker, "t", ids["u"], UNKNOWN_ID) == sorted(
        [("t", ids["t"], 0), ("u", ids["u"], 0), (None, UNKNOWN_ID, Error.UNKNOWN_TOPIC_ID)], key=repr
    )
    assert list(broker.cluster.image.topics) == ["v"]


async def test_what_is_said_twice_or_not_clearly_does_not_happen(broker: Any) -> None:
    ids = await create(broker, "t")
    t = ids["t"]
    invalid = Error.INVALID_REQUEST
    assert await delete(broker, "t", "t") == [("t", NO_ID, invalid)]
    assert await delete(broker, t, t, t) == [(None, t, invalid)]
    assert await delete(broker, ("t", t)) == [("t", t, invalid)]
    assert await delete(broker, (None, NO_ID), (None, NO_ID)) == [(None, NO_ID, invalid)] * 2
    assert await delete(broker, "t", t) == [("t", t, invalid)]
    assert await delete(broker, t, t, "t") == sorted([(None, t, invalid), ("t", t, invalid)], key=repr)
    assert broker.partition_logs("t") == [0, 1]


async def test_deletion_can_be_switched_off(open_broker: Any) -> None:
    broker = await open_broker({"delete.topic.enable": "false"})
    await create(broker, "t")
    for version, error in ((1, Error.INVALID_REQUEST), (3, Error.TOPIC_DELETION_DISABLED)):
        [result] = (await broker.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=MINUTE_MS), version)).responses
        assert (result.name, result.error_code) == ("t", error)
    assert broker.partition_logs("t") == [0, 1]


async def test_no_time_at_all_is_not_enough(broker: Any) -> None:
    await create(broker, "t")
    assert await delete(broker, "t", timeout_ms=0) == [("t", NO_ID, Error.REQUEST_TIMED_OUT)]
    assert broker.partition_logs("t") == [0, 1]


async def test_a_topic_made_again_is_another_topic(broker: Any) -> None:
    first = (await create(broker, "t"))["t"]
    await delete(broker, "t")
    second = (await create(broker, "t"))["t"]
    assert first != second
    assert await delete(broker, first) == [(None, first, Error.UNKNOWN_TOPIC_ID)]
    assert broker.partition_logs("t") == [0, 1]


async def test_who_may_describe_but_not_delete_is_refused_by_name_and_id(broker: Any, deny: Any) -> None:
    ids = await create(broker, "t", "u")
    deny(Operation.DELETE, ResourceType.CLUSTER, CLUSTER_NAME)
    deny(Operation.DELETE, ResourceType.TOPIC)
    denied = Error.TOPIC_AUTHORIZATION_FAILED
    assert await delete(broker, "t", ids["u"]) == [("t", NO_ID, denied), ("u", ids["u"], denied)]
    assert broker.partition_logs("t") == [0, 1]


async def test_who_may_not_describe_learns_neither_names_nor_what_exists(broker: Any, deny: Any) -> None:
    ids = await create(broker, "t", "u")
    deny(Operation.DELETE, ResourceType.CLUSTER, CLUSTER_NAME)
    deny(Operation.DELETE, ResourceType.TOPIC)
    deny(Operation.DESCRIBE, ResourceType.TOPIC)
    denied = Error.TOPIC_AUTHORIZATION_FAILED
    assert await delete(broker, "t", "missing", ids["u"]) == [
        ("missing", NO_ID, denied),
        ("t", NO_ID, denied),
        (None, ids["u"], denied),
    ]


async def test_who_may_delete_on_the_cluster_needs_no_right_on_the_topic(broker: Any, deny: Any) -> None:
    ids = await create(broker, "t")
    deny(Operation.DELETE, ResourceType.TOPIC)
    deny(Operation.DESCRIBE, ResourceType.TOPIC)
    assert await delete(broker, "t") == [("t", ids["t"], Error.NONE)]
