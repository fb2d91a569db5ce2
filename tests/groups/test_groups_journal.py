"""Facts as records: Kafka's formats, its value versions, and what other coordinators wrote."""

import pytest

from kafkapy.coordination.shard import Entry
from kafkapy.groups.commands import Protocol
from kafkapy.groups.facts import (
    CommittedOffset,
    GroupRemoved,
    GroupStored,
    MemberSnapshot,
    OffsetRemoved,
    OffsetStored,
)
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.modern.facts import (
    ClassicMember,
    Current,
    CurrentStored,
    EpochStored,
    MemberState,
    PatternStored,
    Resolved,
    Subscription,
    SubscriptionStored,
    TargetEpochStored,
    TargetStored,
    TopicsStored,
)
from kafkapy.protocol.journal.consumer_group_current_member_assignment import (
    ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
)
from kafkapy.protocol.journal.group_metadata import GroupMetadataValue

GROUP = GroupStored(
    "g",
    "consumer",
    "range",
    3,
    "a-1",
    1_700_000_000_000,
    (
        MemberSnapshot("a-1", "a", "client", "/127.0.0.1", 60_000, 10_000, b"subscription", b"assignment"),
        MemberSnapshot("b-2", None, "client", "/127.0.0.1", 60_000, 10_000, b"", b""),
    ),
)
OFFSET = OffsetStored("g", "t", 7, CommittedOffset(42, 3, "note", 1_700_000_000_000, -1, bytes(range(16))))
EXPIRING = OffsetStored("g", "t", 7, CommittedOffset(42, -1, "note", 1_700_000_000_000, 1_700_000_001_000))

journal = GroupJournal()


@pytest.mark.parametrize(
    "fact",
    [
        GROUP,
        GroupStored("g", None, None, 0, None, 1, ()),
        GroupRemoved("g"),
        OFFSET,
        EXPIRING,
        OffsetRemoved("g", "t", 7),
        OffsetStored("", "ünïcödé", 0, CommittedOffset(0, -1, "", 0)),
    ],
)
def test_facts_come_back(fact):
    [entry] = journal.encode(fact)
    assert journal.decode(entry) == fact


def test_records_are_byte_for_byte_kafkas():
    """The layouts, spelled out by hand from the record schemas."""
    [offset] = journal.encode(OFFSET)
    assert offset.key == b"\x00\x01" + b"\x00\x01g" + b"\x00\x01t" + (7).to_bytes(4, "big")
    timestamp = (1_700_000_000_000).to_bytes(8, "big")
    assert offset.value == (
        b"\x00\x04"
        + (42).to_bytes(8, "big")
        + (3).to_bytes(4, "big")
        + b"\x05note"
        + timestamp
        + b"\x01\x00\x10"
        + bytes(range(16))
    )
    [expiring] = journal.encode(EXPIRING)
    assert expiring.value == (
        b"\x00\x01" + (42).to_bytes(8, "big") + b"\x00\x04note" + timestamp + (1_700_000_001_000).to_bytes(8, "big")
    )
    [group] = journal.encode(GroupRemoved("g"))
    assert group == Entry(b"\x00\x02\x00\x01g", None)
    [group] = journal.encode(GROUP)
    assert group.value is not None
    assert group.value.startswith(
        b"\x00\x03\x00\x08consumer\x00\x00\x00\x03\x00\x05range\x00\x03a-1" + timestamp + b"\x00\x00\x00\x02"
    )


def test_groups_of_every_version_are_read():
    for version in range(5):
        value = GroupMetadataValue(
            protocol_type="consumer",
            generation=3,
            protocol="range",
            leader="a",
            members=[
                GroupMetadataValue.MemberMetadata(
                    member_id="a",
                    client_id="c",
                    client_host="/h",
                    session_timeout=10_000,
                    rebalance_timeout=30_000 if version else -1,
                    subscription=b"s",
                )
            ],
        )
        out = bytearray(version.to_bytes(2, "big"))
        value.encode(version, out)
        fact = journal.decode(Entry(b"\x00\x02\x00\x01g", bytes(out)))
        assert isinstance(fact, GroupStored)
        assert fact.state_timestamp_ms == -1
        [member] = fact.members
        assert (member.session_timeout_ms, member.instance_id) == (10_000, None)
        assert member.rebalance_timeout_ms == (10_000 if version == 0 else 30_000)


def test_offsets_as_they_were_before_kafka_0_9_are_read():
    key = b"\x00\x00" + b"\x00\x01g" + b"\x00\x01t" + (7).to_bytes(4, "big")
    value = b"\x00\x00" + (42).to_bytes(8, "big") + b"\x00\x04note" + (9).to_bytes(8, "big")
    assert journal.decode(Entry(key, value)) == OffsetStored("g", "t", 7, CommittedOffset(42, -1, "note", 9))
    assert journal.decode(Entry(key, None)) == OffsetRemoved("g", "t", 7)


def test_records_of_other_coordinators_are_passed_over():
    for record_type in (9, 18, *range(24, 40), 999):
        assert journal.decode(Entry(record_type.to_bytes(2, "big") + b"\x01\x02\x03", b"\x00\x00?")) is None
    assert journal.decode(Entry(None, b"value")) is None


T1, T2 = b"\x01" * 16, b"\x02" * 16


@pytest.mark.parametrize(
    "fact",
    [
        EpochStored("g", GroupEpoch(7, -5)),
        EpochStored("g", None),
        SubscriptionStored("g", "m", Subscription()),
        SubscriptionStored(
            "g",
            "m",
            Subscription(
                "i",
                "r",
                "c",
                "/h",
                frozenset({"t", "a"}),
                None,
                5,
                "range",
                ClassicMember(9, (Protocol("range", b"x"), Protocol("p", b""))),
            ),
        ),
        SubscriptionStored("g", "m", None),
        TargetEpochStored("g", TargetEpoch(7, 1_700_000_000_000)),
        TargetEpochStored("g", None),
        TargetStored("g", "m", {}),
        TargetStored("g", "m", {T1: (0, 2), T2: (1,)}),
        TargetStored("g", "m", None),
        CurrentStored("g", "m", Current(5, 4, MemberState.UNREVOKED_PARTITIONS, {T1: {0: 5}}, {T2: {1: 3, 2: 4}})),
        CurrentStored("g", "m", None),
        PatternStored("g", "t.*", Resolved(frozenset({"t1", "t2"}), 3, 4)),
        PatternStored("g", "t.*", None),
        TopicsStored("g", False),
    ],
)
def test_facts_of_consumer_groups_come_back(fact):
    [entry] = journal.encode(fact)
    assert journal.decode(entry) == fact


def test_an_assignment_without_epochs_is_as_old_as_its_member():
    """As Kafka wrote it before 4.3."""
    value = CurrentValue(
        member_epoch=5,
        previous_member_epoch=4,
        state=0,
        assigned_partitions=[CurrentValue.TopicPartitions(topic_id=T1, partitions=[0, 1])],
    )
    out = bytearray(2)
    value.encode(0, out)
    [entry] = journal.encode(CurrentStored("g", "m", None))
    fact = journal.decode(entry._replace(value=bytes(out)))
    assert fact == CurrentStored("g", "m", Current(5, 4, MemberState.STABLE, {T1: {0: 5, 1: 5}}))


def test_a_state_of_a_later_kafka_is_unknown():
    out = bytearray(2)
    CurrentValue(member_epoch=5, previous_member_epoch=4, state=9).encode(0, out)
    [entry] = journal.encode(CurrentStored("g", "m", None))
    assert journal.decode(entry._replace(value=bytes(out))).current.state is MemberState.UNKNOWN
