"""TxnOffsetCommit over its versions, with a verifier that the test answers for."""

from collections.abc import Mapping
from typing import Any

import pytest

from kafkapy.errors import Error
from kafkapy.handlers.context import Operation, ResourceType
from kafkapy.model import NO_SEQUENCE, ZERO_UUID, LogId
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest
from kafkapy.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from kafkapy.storage.verification import Claim
from kafkapy.transactions.verifying import Claimed, Outcome

UNKNOWN_ID = bytes(15) + b"\7"
UNSTABLE = Error.UNSTABLE_OFFSET_COMMIT


class Verifier:
    """Has no objection unless it is given one. What a batch must bring along comes from the log."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.asked: list[tuple[Claimed, dict[LogId, int]]] = []
        self.objection: Error | None = None
        self.marker_comes_meanwhile: Any = None

    async def verify(self, claimed: Claimed, first_sequences: Mapping[LogId, int]) -> dict[LogId, Outcome]:
        self.asked.append((claimed, dict(first_sequences)))
        found = {}
        for log, sequence in first_sequences.items():
            claim = Claim(claimed.producer_id, claimed.producer_epoch, sequence, claimed.adds)
            found[log] = self.objection or self._logs.begin_verification(log, claim, 0)
        if self.marker_comes_meanwhile is not None:
            await self.marker_comes_meanwhile()
        return found


@pytest.fixture
async def broker(open_broker: Any) -> Any:
    """With topic "t" of two partitions, and a coordinator for groups."""
    return await opened(open_broker)


async def opened(open_broker: Any, **settings: str) -> Any:
    broker = await open_broker(offsets_topic_num_partitions="1", **settings)
    broker.rooms.verifier = broker.verifier = Verifier(broker.logs)
    broker.topic_id = await broker.create_topic("t", 2)
    await broker.create_topic("__consumer_offsets", 1)
    return broker


def request(
    offsets: dict[int, int] | None = None, *, topic: str = "t", group: str = "g", epoch: int = 0, **options: Any
) -> TxnOffsetCommitRequest:
    return TxnOffsetCommitRequest(
        transactional_id="x",
        group_id=group,
        producer_id=7,
        producer_epoch=epoch,
        generation_id_or_member_epoch=options.get("generation", -1),
        member_id=options.get("member", ""),
        group_instance_id=options.get("instance"),
        topics=[
            TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(
                name=topic,
                topic_id=options.get("topic_id", ZERO_UUID),
                partitions=[
                    TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(
                        partition_index=index, committed_offset=offset, committed_metadata="note"
                    )
                    for index, offset in ({0: 5} if offsets is None else offsets).items()
                ],
            )
        ],
    )


async def commit(broker: Any, version: int, wanted: TxnOffsetCommitRequest | None = None) -> list[Error]:
    """The errors of the partitions of the only topic, which later versions identify."""
    wanted = wanted or request()
    for topic in wanted.topics:
        topic.topic_id = broker.topic_id if topic.name == "t" else UNKNOWN_ID
    response = await broker.ask(wanted, version)
    [topic] = response.topics
    return [Error.of(partition.error_code) for partition in topic.partitions]


async def fetched(broker: Any, *, stable: bool, group: str = "g") -> list[tuple[int, str, Error]]:
    topics = [OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])]
    response = await broker.ask(OffsetFetchRequest(group_id=group, require_stable=stable, topics=topics), 7)
    [topic] = response.topics
    return [(p.committed_offset, p.metadata, Error.of(p.error_code)) for p in topic.partitions]


async def end(broker: Any, *, committed: bool, epoch: int = 0) -> None:
    marker = WriteTxnMarkersRequest.WritableTxnMarker(
        producer_id=7,
        producer_epoch=epoch,
        transaction_result=committed,
        topics=[WriteTxnMarkersRequest.WritableTxnMarkerTopic(name="__consumer_offsets", partition_indexes=[0])],
        coordinator_epoch=0,
    )
    response = await broker.ask(WriteTxnMarkersRequest(markers=[marker]), 1)
    assert response.markers[0].topics[0].partitions[0].error_code == 0


@pytest.mark.parametrize("version", range(7))
@pytest.mark.parametrize("committed", [True, False])
async def test_offsets_count_once_the_transaction_is_committed(broker: Any, version: int, committed: bool) -> None:
    assert await commit(broker, version, request({0: 5, 1: 6})) == [Error.NONE] * 2
    nothing = (-1, "", Error.NONE)
    assert await fetched(broker, stable=False) == [nothing] * 2
    assert await fetched(broker, stable=True) == [(-1, "", UNSTABLE)] * 2
    await end(broker, committed=committed)
    expected = [(5, "note", Error.NONE), (6, "note", Error.NONE)] if committed else [nothing] * 2
    assert await fetched(broker, stable=True) == expected


@pytest.mark.parametrize("version", range(7))
async def test_the_transactions_coordinator_is_asked_about_the_groups_log(broker: Any, version: int) -> None:
    await commit(broker, version, request(topic_id=broker.topic_id))
    log = broker.cluster.image.partition("__consumer_offsets", 0).log
    claimed = Claimed("x", 7, 0, adds=version >= 5, knows_abortable=version >= 4)
    assert broker.verifier.asked == [(claimed, {log: NO_SEQUENCE})]


@pytest.mark.parametrize(
    ("objection", "version", "heard"),
    [
        (Error.INVALID_TXN_STATE, 3, Error.INVALID_TXN_STATE),
        (Error.INVALID_PRODUCER_EPOCH, 3, Error.INVALID_PRODUCER_EPOCH),
        (Error.CONCURRENT_TRANSACTIONS, 5, Error.CONCURRENT_TRANSACTIONS),
        (Error.NETWORK_EXCEPTION, 2, Error.COORDINATOR_LOAD_IN_PROGRESS),
        (Error.NETWORK_EXCEPTION, 1, Error.COORDINATOR_NOT_AVAILABLE),
        (Error.COORDINATOR_LOAD_IN_PROGRESS, 0, Error.COORDINATOR_NOT_AVAILABLE),
        (Error.NOT_COORDINATOR, 3, Error.NOT_COORDINATOR),
        (Error.NOT_LEADER_OR_FOLLOWER, 3, Error.NOT_COORDINATOR),
        (Error.UNKNOWN_TOPIC_OR_PARTITION, 3, Error.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_an_objection_is_told_as_a_coordinators(
    broker: Any, objection: Error, version: int, heard: Error
) -> None:
    broker.verifier.objection = objection
    assert await commit(broker, version) == [heard]
    assert await fetched(broker, stable=True) == [(-1, "", Error.NONE)] * 2


async def test_an_answer_that_a_marker_has_overtaken_commits_nothing(broker: Any) -> None:
    async def abort() -> None:
        await end(broker, committed=False)

    broker.verifier.marker_comes_meanwhile = abort
    assert await commit(broker, 3) == [Error.INVALID_TXN_STATE]
    assert await fetched(broker, stable=True) == [(-1, "", Error.NONE)] * 2
    broker.verifier.marker_comes_meanwhile = None
    assert await commit(broker, 3) == [Error.NONE]


@pytest.mark.parametrize(("version", "is_asked"), [(4, False), (5, True)])
async def test_without_verification_old_producers_are_believed(open_broker: Any, version: int, is_asked: bool) -> None:
    broker = await opened(open_broker, transaction_partition_verification_enable="false")
    assert await commit(broker, version) == [Error.NONE]
    assert bool(broker.verifier.asked) is is_asked


async def test_what_does_not_exist_is_answered_beside_what_does(broker: Any) -> None:
    unknown = Error.UNKNOWN_TOPIC_OR_PARTITION
    assert await commit(broker, 3, request({0: 5, 2: 5})) == [Error.NONE, unknown]
    assert await commit(broker, 3, request(topic="missing")) == [unknown]
    broker.denied[Operation.READ, ResourceType.TOPIC, "t"] = Error.TOPIC_AUTHORIZATION_FAILED
    assert await commit(broker, 3) == [Error.TOPIC_AUTHORIZATION_FAILED]
    assert len(broker.verifier.asked) == 1


async def test_an_identified_topic_is_answered_by_its_id(broker: Any) -> None:
    assert await commit(broker, 6, request({0: 5, 2: 5})) == [Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION]
    assert await commit(broker, 6, request(topic="missing")) == [Error.UNKNOWN_TOPIC_ID]
    for topic, topic_id in (("t", broker.topic_id), ("missing", UNKNOWN_ID)):
        wanted = request(topic=topic)
        wanted.topics[0].topic_id = topic_id
        assert [answer.topic_id for answer in (await broker.ask(wanted, 6)).topics] == [topic_id]


async def test_a_topic_that_is_identified_is_that_very_topic(broker: Any) -> None:
    nowhere = bytes(range(16))
    response = await broker.ask(request(topic_id=nowhere), 6)
    [topic] = response.topics
    assert (topic.topic_id, [p.error_code for p in topic.partitions]) == (nowhere, [Error.UNKNOWN_TOPIC_ID])
    response = await broker.ask(request({0: 5, 9: 5}, topic_id=broker.topic_id), 6)
    [topic] = response.topics
    assert topic.topic_id == broker.topic_id
    assert [p.error_code for p in topic.partitions] == [Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION]


async def test_a_transaction_needs_leave_for_its_id_and_for_the_group(broker: Any) -> None:
    assert await commit(broker, 3, request(group="")) == [Error.INVALID_GROUP_ID]
    broker.denied[Operation.READ, ResourceType.GROUP, "g"] = Error.GROUP_AUTHORIZATION_FAILED
    assert await commit(broker, 3) == [Error.GROUP_AUTHORIZATION_FAILED]
    broker.denied[Operation.WRITE, ResourceType.TRANSACTIONAL_ID, "x"] = Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert await commit(broker, 3) == [Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED]
    assert broker.verifier.asked == []


async def test_a_zombie_is_fenced(broker: Any) -> None:
    assert await commit(broker, 3, request(epoch=4)) == [Error.NONE]
    assert await commit(broker, 3, request(epoch=3)) == [Error.INVALID_PRODUCER_EPOCH]
    await end(broker, committed=True, epoch=4)
    assert (await fetched(broker, stable=True))[0] == (5, "note", Error.NONE)


async def test_members_of_the_group_are_checked_where_they_are_named(broker: Any) -> None:
    protocol = JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")
    joined = await broker.ask(
        JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=[protocol],
        ),
        3,
    )
    member, generation = joined.member_id, joined.generation_id
    assert await commit(broker, 3, request(member=member, generation=generation)) == [Error.NONE]
    await broker.ask(SyncGroupRequest(group_id="g", generation_id=generation, member_id=member), 3)
    assert await commit(broker, 3, request(member=member, generation=generation)) == [Error.NONE]
    assert await commit(broker, 3, request(member=member, generation=generation + 1)) == [Error.ILLEGAL_GENERATION]
    assert await commit(broker, 3, request(member="other", generation=generation)) == [Error.UNKNOWN_MEMBER_ID]
    assert await commit(broker, 3, request(member=member, generation=generation, instance="i")) == [
        Error.UNKNOWN_MEMBER_ID
    ]
    assert await commit(broker, 2) == [Error.NONE]
    unknown = request(group="other", generation=0, topic_id=broker.topic_id)
    assert await commit(broker, 5, unknown) == [Error.ILLEGAL_GENERATION]
    assert await commit(broker, 6, unknown) == [Error.GROUP_ID_NOT_FOUND]
    assert await commit(broker, 6, request(group="other", generation=0)) == [Error.GROUP_ID_NOT_FOUND]
