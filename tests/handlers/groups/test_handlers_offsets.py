"""OffsetCommit, OffsetFetch and OffsetDelete over all their versions."""

import pytest
import trio

from kafkapy.errors import Error
from kafkapy.handlers.context import Operation, ResourceType
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.list_groups import ListGroupsRequest
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest
from kafkapy.protocol.messages.offset_delete import OffsetDeleteRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.records.batch import Compression, walk
from kafkapy.storage.base import Read

NOWHERE = bytes(range(16))


@pytest.fixture
async def topic_id(broker):
    await broker.find_coordinator()
    return await broker.create_topic("t", 3)


def commit_request(topics, *, group="g", **options):
    """`topics`: (name, id) -> {partition: offset}."""
    return OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=options.get("generation", -1),
        member_id=options.get("member_id", ""),
        retention_time_ms=options.get("retention_ms", -1),
        topics=[
            OffsetCommitRequest.OffsetCommitRequestTopic(
                name=name,
                topic_id=topic_id,
                partitions=[
                    OffsetCommitRequest.OffsetCommitRequestPartition(
                        partition_index=partition,
                        committed_offset=offset,
                        committed_leader_epoch=options.get("leader_epoch", -1),
                        committed_metadata=options.get("metadata", "note"),
                    )
                    for partition, offset in partitions.items()
                ],
            )
            for (name, topic_id), partitions in topics.items()
        ],
    )


def fetch_request(version, topics, *, group="g", **options):
    """`topics`: (name, id) -> partitions, or None for all."""
    if version < 8:
        kind = OffsetFetchRequest.OffsetFetchRequestTopic
        asked = None if topics is None else [kind(name=n, partition_indexes=p) for (n, _), p in topics.items()]
        return OffsetFetchRequest(group_id=group, topics=asked, **options)
    kind = OffsetFetchRequest.OffsetFetchRequestTopics
    asked = None if topics is None else [kind(name=n, topic_id=i, partition_indexes=p) for (n, i), p in topics.items()]
    return OffsetFetchRequest(
        groups=[OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=asked)], **options
    )


async def fetch(broker, version, topics, **options):
    """The error of the group, and name or id -> partition -> (offset, leader epoch, metadata, error)."""
    answer = await broker.ask(fetch_request(version, topics, **options), version)
    if version < 8:
        error, found = answer.error_code, answer.topics
    else:
        [group] = answer.groups
        assert group.group_id == options.get("group", "g")
        error, found = group.error_code, group.topics
    offsets = {
        (topic.topic_id if version >= 10 else topic.name): {
            p.partition_index: (p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code)
            for p in topic.partitions
        }
        for topic in found
    }
    return error, offsets


def errors_of(response):
    return {
        (topic.name or topic.topic_id): {p.partition_index: p.error_code for p in topic.partitions}
        for topic in response.topics
    }


@pytest.mark.parametrize("version", range(2, 11))
async def test_a_commit_of_every_version_is_stored(broker, topic_id, version):
    request = commit_request(
        {("" if version >= 10 else "t", topic_id if version >= 10 else ZERO_UUID): {0: 10, 2: 30}},
        leader_epoch=4 if version >= 6 else -1,
    )
    answer = await broker.ask(request, version)
    assert errors_of(answer) == {(topic_id if version >= 10 else "t"): {0: 0, 2: 0}}
    epoch = 4 if version >= 6 else -1
    assert await fetch(broker, 9, {("t", ZERO_UUID): [0, 1, 2]}) == (
        0,
        {"t": {0: (10, epoch, "note", 0), 1: (-1, -1, "", 0), 2: (30, epoch, "note", 0)}},
    )


@pytest.mark.parametrize("version", range(1, 11))
async def test_offsets_are_read_in_every_version(broker, topic_id, version):
    await broker.ask(commit_request({("t", ZERO_UUID): {1: 11}}, leader_epoch=4), 9)
    key = topic_id if version >= 10 else "t"
    epoch = 4 if version >= 5 else -1
    assert await fetch(broker, version, {("t", topic_id): [0, 1]}) == (
        0,
        {key: {0: (-1, -1, "", 0), 1: (11, epoch, "note", 0)}},
    )
    if version >= 2:
        assert await fetch(broker, version, None) == (0, {key: {1: (11, epoch, "note", 0)}})


async def test_many_groups_are_read_at_once(broker, topic_id):
    for group, offset in (("a", 1), ("b", 2)):
        await broker.ask(commit_request({("t", ZERO_UUID): {0: offset}}, group=group), 9)
    kind = OffsetFetchRequest.OffsetFetchRequestGroup
    topic = OffsetFetchRequest.OffsetFetchRequestTopics(name="t", partition_indexes=[0])
    request = OffsetFetchRequest(
        groups=[
            kind(group_id="a", topics=None),
            kind(group_id="b", topics=[topic]),
            kind(group_id="none", topics=[topic]),
        ],
        require_stable=True,
    )
    answer = await broker.ask(request, 8)
    assert [(g.group_id, g.error_code, g.topics[0].partitions[0].committed_offset) for g in answer.groups] == [
        ("a", 0, 1),
        ("b", 0, 2),
        ("none", 0, -1),
    ]


async def test_what_does_not_exist_is_refused_and_its_neighbours_committed(broker, topic_id):
    request = commit_request({("t", ZERO_UUID): {0: 1, 3: 2, -1: 3}, ("nowhere", ZERO_UUID): {0: 4}})
    assert errors_of(await broker.ask(request, 9)) == {
        "t": {0: 0, 3: Error.UNKNOWN_TOPIC_OR_PARTITION, -1: Error.UNKNOWN_TOPIC_OR_PARTITION},
        "nowhere": {0: Error.UNKNOWN_TOPIC_OR_PARTITION},
    }
    assert (await fetch(broker, 9, None))[1] == {"t": {0: (1, -1, "note", 0)}}


async def test_what_does_not_exist_is_refused_before_the_group_is_asked(broker):
    """Not even a coordinator is needed for that."""
    answer = await broker.ask(commit_request({("nowhere", ZERO_UUID): {0: 4}}, generation=3, member_id="m"), 9)
    assert errors_of(answer) == {"nowhere": {0: Error.UNKNOWN_TOPIC_OR_PARTITION}}


async def test_an_unknown_id_is_refused_by_id(broker, topic_id):
    answer = await broker.ask(commit_request({("", NOWHERE): {0: 4}, ("", topic_id): {0: 5}}), 10)
    assert errors_of(answer) == {NOWHERE: {0: Error.UNKNOWN_TOPIC_ID}, topic_id: {0: 0}}
    assert await fetch(broker, 10, {("", NOWHERE): [0], ("", topic_id): [0]}) == (
        0,
        {NOWHERE: {0: (-1, -1, "", Error.UNKNOWN_TOPIC_ID)}, topic_id: {0: (5, -1, "note", 0)}},
    )


async def test_a_recreated_topic_has_no_offsets(broker, topic_id):
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 1}}), 9)
    await broker.delete_topic(topic_id)
    again = await broker.create_topic("t")
    assert await fetch(broker, 10, {("", again): [0]}) == (0, {again: {0: (-1, -1, "", 0)}})


async def test_a_topics_offsets_go_with_it(broker, topic_id, autojump_clock):
    await broker.create_topic("u")
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 1}, ("u", ZERO_UUID): {0: 2}}), 9)
    await broker.delete_topic(topic_id)
    await trio.sleep(1)
    assert (await fetch(broker, 9, None))[1] == {"u": {0: (2, -1, "note", 0)}}


async def test_a_refusal_of_the_group_is_an_error_of_each_partition(broker, topic_id):
    for version, error in ((8, Error.ILLEGAL_GENERATION), (9, Error.GROUP_ID_NOT_FOUND)):
        request = commit_request({("t", ZERO_UUID): {0: 1, 1: 2}}, generation=3, member_id="m")
        assert errors_of(await broker.ask(request, version)) == {"t": {0: error, 1: error}}


async def test_metadata_that_is_too_large_is_refused(broker, topic_id):
    answer = await broker.ask(commit_request({("t", ZERO_UUID): {0: 1}}, metadata="x" * 4097), 9)
    assert errors_of(answer) == {"t": {0: Error.OFFSET_METADATA_TOO_LARGE}}


async def test_the_limit_of_metadata_is_a_setting(open_broker):
    broker = await open_broker(offset_metadata_max_bytes="10")
    await broker.find_coordinator()
    await broker.create_topic("t")
    answer = await broker.ask(commit_request({("t", ZERO_UUID): {0: 1}}, metadata="x" * 11), 9)
    assert errors_of(answer) == {"t": {0: Error.OFFSET_METADATA_TOO_LARGE}}


async def test_a_group_id_may_be_empty_for_offsets(broker, topic_id):
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 7}}, group=""), 9)
    assert (await fetch(broker, 9, None, group=""))[1] == {"t": {0: (7, -1, "note", 0)}}


@pytest.mark.parametrize("version", [2, 4])
async def test_old_commits_may_bring_their_own_retention(broker, topic_id, version, autojump_clock):
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 7}}, retention_ms=60_000), version)
    await trio.sleep(59)
    assert (await fetch(broker, 9, None))[1] != {}
    await trio.sleep(600)
    assert (await fetch(broker, 9, None))[1] == {}


async def test_offsets_survive_a_restart_of_the_broker(broker, topic_id, open_broker):
    await broker.ask(commit_request({("t", topic_id): {0: 7}}), 9)
    again = await open_broker()
    assert (await fetch(again, 9, None))[1] == {"t": {0: (7, -1, "note", 0)}}


async def test_a_group_of_which_there_is_one_record_is_listed_from_the_start(broker, topic_id, open_broker):
    await broker.ask(commit_request({("t", topic_id): {0: 7}}), 9)
    again = await open_broker()
    found = await again.ask(ListGroupsRequest(), 4)
    assert [group.group_id for group in found.groups] == ["g"]


async def test_offsets_survive_in_a_compressed_log_too(open_broker):
    for _ in range(2):
        broker = await open_broker(offsets_topic_compression_codec="1")
        await broker.find_coordinator()
        if broker.cluster.image.topic("t") is None:
            await broker.create_topic("t")
            await broker.ask(commit_request({("t", ZERO_UUID): {0: 7}}), 9)
    assert (await fetch(broker, 9, None))[1] == {"t": {0: (7, -1, "note", 0)}}
    used = [partition.log for partition in broker.cluster.image.topic("__consumer_offsets").partitions]
    pieces = await broker.logs.read([Read(log, 0, 1000) for log in used], 1_000_000)
    codecs = {header.compression for piece in pieces for _, header in walk(piece.records)}
    assert codecs == {Compression.GZIP}


@pytest.mark.parametrize("version", range(1, 11))
async def test_without_a_coordinator_a_fetch_says_so_where_its_version_can(broker, version):
    topic_id = await broker.create_topic("t")
    error, offsets = await fetch(broker, version, {("t", topic_id): [0]})
    if version == 1:
        assert offsets == {"t": {0: (-1, -1, "", Error.NOT_COORDINATOR)}}
    else:
        assert (error, offsets) == (Error.NOT_COORDINATOR, {})


async def test_who_may_not_see_the_group_or_a_topic(broker, topic_id):
    await broker.create_topic("secret")
    both = {("t", ZERO_UUID): {0: 1}, ("secret", ZERO_UUID): {0: 2}}
    await broker.ask(commit_request(both), 9)
    broker.denied[Operation.DESCRIBE, ResourceType.TOPIC, "secret"] = Error.TOPIC_AUTHORIZATION_FAILED
    broker.denied[Operation.READ, ResourceType.TOPIC, "secret"] = Error.TOPIC_AUTHORIZATION_FAILED
    assert errors_of(await broker.ask(commit_request(both), 9)) == {
        "t": {0: 0},
        "secret": {0: Error.TOPIC_AUTHORIZATION_FAILED},
    }
    assert (await fetch(broker, 9, None))[1] == {"t": {0: (1, -1, "note", 0)}}
    assert (await fetch(broker, 9, {("secret", ZERO_UUID): [0]}))[1] == {
        "secret": {0: (-1, -1, "", Error.TOPIC_AUTHORIZATION_FAILED)}
    }
    broker.denied[Operation.DESCRIBE, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    broker.denied[Operation.READ, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    assert await fetch(broker, 9, None) == (Error.GROUP_AUTHORIZATION_FAILED, {})
    assert errors_of(await broker.ask(commit_request(both), 9)) == {
        "t": {0: Error.GROUP_AUTHORIZATION_FAILED},
        "secret": {0: Error.GROUP_AUTHORIZATION_FAILED},
    }


def delete_request(topics, group="g"):
    return OffsetDeleteRequest(
        group_id=group,
        topics=[
            OffsetDeleteRequest.OffsetDeleteRequestTopic(
                name=name,
                partitions=[OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=p) for p in partitions],
            )
            for name, partitions in topics.items()
        ],
    )


async def test_offsets_can_be_deleted(broker, topic_id):
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 1, 1: 2}}), 9)
    answer = await broker.ask(delete_request({"t": [0, 2, 9], "nowhere": [0]}), 0)
    assert answer.error_code == Error.NONE
    assert errors_of(answer) == {
        "t": {0: 0, 2: 0, 9: Error.UNKNOWN_TOPIC_OR_PARTITION},
        "nowhere": {0: Error.UNKNOWN_TOPIC_OR_PARTITION},
    }
    assert (await fetch(broker, 9, None))[1] == {"t": {1: (2, -1, "note", 0)}}


async def test_a_deletion_that_the_group_refuses_is_refused_as_a_whole(broker, topic_id):
    answer = await broker.ask(delete_request({"t": [0], "nowhere": [0]}, group="unknown"), 0)
    assert (answer.error_code, answer.topics) == (Error.GROUP_ID_NOT_FOUND, [])
    answer = await broker.ask(delete_request({"t": [0]}, group=""), 0)
    assert answer.error_code == Error.INVALID_GROUP_ID
    broker.denied[Operation.DELETE, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    answer = await broker.ask(delete_request({"t": [0]}), 0)
    assert answer.error_code == Error.GROUP_AUTHORIZATION_FAILED


async def test_offsets_of_a_topic_that_may_not_be_read_cannot_be_deleted(broker, topic_id):
    await broker.ask(commit_request({("t", ZERO_UUID): {0: 1}}), 9)
    broker.denied[Operation.READ, ResourceType.TOPIC, "t"] = Error.TOPIC_AUTHORIZATION_FAILED
    answer = await broker.ask(delete_request({"t": [0]}), 0)
    assert errors_of(answer) == {"t": {0: Error.TOPIC_AUTHORIZATION_FAILED}}
