import pytest

from kafkapy.protocol.journal.consumer_group_member_metadata import ConsumerGroupMemberMetadataValue
from kafkapy.protocol.messages.api_versions import ApiVersionsResponse
from kafkapy.protocol.messages.create_partitions import CreatePartitionsRequest
from kafkapy.protocol.messages.fetch import FetchRequest, FetchResponse
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.primitives import ProtocolError, read_uvarint, skip_tags, write_tags, write_uvarint


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2**31 - 1, "ffffffff07"),
        (2**32 - 1, "ffffffff0f"),
    ],
)
def test_a_varint_has_these_bytes(value: int, encoded: str) -> None:
    out = bytearray()
    write_uvarint(out, value)
    assert out.hex() == encoded
    assert read_uvarint(b"!" + out + b"!", 1) == (value, 1 + len(out))


@pytest.mark.parametrize("encoded", ["ffffffff10", "808080808000", "ffffffffffffffffff01"])
def test_a_varint_of_more_than_32_bits_is_refused(encoded: str) -> None:
    with pytest.raises(ProtocolError, match="32 bits"):
        read_uvarint(bytes.fromhex(encoded), 0)


def test_unknown_tags_are_skipped() -> None:
    section = bytearray()
    write_tags(section, [(0, bytearray(b"abc")), (200, bytearray()), (70000, bytearray(300))])
    assert skip_tags(b"xx" + section + b"rest", 2) == 2 + len(section)


def test_a_message_skips_tags_it_does_not_know() -> None:
    heartbeat = HeartbeatRequest(group_id="g", generation_id=3, member_id="m")
    (encoded,) = heartbeat.encode(4, bytearray())
    section = bytearray()
    write_tags(section, [(9, bytearray(b"from the future"))])
    decoded, end = HeartbeatRequest.decode(4, encoded[:-1] + section)
    assert decoded == heartbeat
    assert end == len(encoded) - 1 + len(section)


def test_a_known_tag_must_fill_its_size() -> None:
    tag = FetchRequest(cluster_id="abc")
    (encoded,) = tag.encode(12, bytearray())
    at = encoded.rindex(b"\x01\x00\x04\x04abc")
    with pytest.raises(ProtocolError, match="tag 0"):
        FetchRequest.decode(12, encoded[: at + 2] + b"\x05\x04abc\x00")


def test_a_value_that_the_version_lacks_is_dropped_where_it_may_be_and_refused_where_not() -> None:
    (with_reason,) = HeartbeatRequest(group_id="g", group_instance_id=None).encode(0, bytearray())
    assert HeartbeatRequest.decode(0, with_reason)[0].group_id == "g"
    with pytest.raises(ProtocolError, match="group_instance_id"):
        HeartbeatRequest(group_id="g", group_instance_id="static").encode(2, bytearray())
    # max_bytes and the session are ignorable, the list of forgotten topics is not.
    FetchRequest(session_id=7, session_epoch=1).encode(4, bytearray())
    forgotten = FetchRequest.ForgottenTopic(topic="t", partitions=[0])
    with pytest.raises(ProtocolError, match="forgotten_topics_data"):
        FetchRequest(forgotten_topics_data=[forgotten]).encode(4, bytearray())


def test_null_is_refused_in_a_version_that_has_none() -> None:
    with pytest.raises(ProtocolError, match="topics"):
        MetadataRequest(topics=None).encode(0, bytearray())
    with pytest.raises(ProtocolError, match="null"):
        MetadataRequest.decode(0, b"\xff\xff\xff\xff")
    assert MetadataRequest.decode(1, b"\xff\xff\xff\xff")[0].topics is None


@pytest.mark.parametrize("version", [-1, 0, 2, 14, 32767])
def test_a_version_outside_the_range_is_refused(version: int) -> None:
    with pytest.raises(ProtocolError, match="no version"):
        ProduceRequest.decode(version, bytes(100))
    with pytest.raises(ProtocolError, match="no version"):
        ProduceRequest().encode(version, bytearray())


@pytest.mark.parametrize(("version", "count"), [(0, "7fffffff"), (0, "00000010"), (2, "ffffffff0f"), (2, "8001")])
def test_an_array_longer_than_its_bytes_is_refused_before_it_is_built(version: int, count: str) -> None:
    with pytest.raises(ProtocolError, match="larger than the bytes"):
        CreatePartitionsRequest.decode(version, bytes.fromhex(count) + b"\x01\x02\x03\x04")


def test_a_string_stops_at_32767_bytes() -> None:
    longest = "x" * 32767
    (encoded,) = HeartbeatRequest(group_id=longest).encode(4, bytearray())
    assert HeartbeatRequest.decode(4, encoded)[0].group_id == longest
    for version in (0, 4):
        with pytest.raises(ProtocolError):
            HeartbeatRequest(group_id=longest + "x").encode(version, bytearray())
    with pytest.raises(ProtocolError, match="longer than 32767"):
        HeartbeatRequest.decode(4, b"\x81\x80\x02" + bytes(40000))


def test_numbers_outside_their_type_are_refused() -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        HeartbeatRequest(generation_id=2**31).encode(0, bytearray())


def test_records_are_views_of_the_frame_and_leave_as_the_buffers_they_came_in() -> None:
    records = bytes(range(200))
    partition = ProduceRequest.PartitionProduceData(index=1, records=records)
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=[partition])
    head = bytearray(b"header")
    buffers = ProduceRequest(acks=-1, topic_data=[topic]).encode(9, head)
    assert buffers[0] is head
    assert buffers[1] is records
    assert len(buffers) == 3

    frame = b"".join(buffers)
    decoded, end = ProduceRequest.decode(9, frame, 6)
    view = decoded.topic_data[0].partition_data[0].records
    assert isinstance(view, memoryview)
    assert view.obj is frame
    assert view == records
    assert end == len(frame)


def test_a_fetch_response_without_records_is_one_buffer() -> None:
    partition = FetchResponse.PartitionData(partition_index=0, high_watermark=5, records=b"")
    topic = FetchResponse.FetchableTopicResponse(topic="t", partitions=[partition])
    out = bytearray()
    assert FetchResponse(responses=[topic]).encode(12, out) == [out]


def test_a_tagged_struct_is_none_when_it_is_absent_and_left_out_when_it_is_default() -> None:
    absent = FetchResponse.PartitionData(records=b"")
    default = FetchResponse.PartitionData(records=b"", current_leader=FetchResponse.LeaderIdAndEpoch())
    present = FetchResponse.PartitionData(records=b"", current_leader=FetchResponse.LeaderIdAndEpoch(leader_id=1))
    encoded = []
    for partition in (absent, default, present):
        topic = FetchResponse.FetchableTopicResponse(partitions=[partition])
        encoded.append(b"".join(FetchResponse(responses=[topic]).encode(12, bytearray())))
    assert encoded[0] == encoded[1] != encoded[2]
    found = [FetchResponse.decode(12, data)[0].responses[0].partitions[0].current_leader for data in encoded]
    assert found == [None, None, FetchResponse.LeaderIdAndEpoch(leader_id=1)]


def test_a_tagged_struct_that_may_be_null_says_so_on_the_wire() -> None:
    """Kafka writes a null for a member that never was a classic one; to leave it out would mean a default struct."""
    value = ConsumerGroupMemberMetadataValue(subscribed_topic_regex=None, classic_member_metadata=None)
    (encoded,) = value.encode(0, bytearray())
    assert encoded.endswith(b"\x01\x00\x01\x00")
    assert ConsumerGroupMemberMetadataValue.decode(0, encoded)[0] == value
    absent, _ = ConsumerGroupMemberMetadataValue.decode(0, encoded[:-4] + b"\x00")
    assert absent.classic_member_metadata == ConsumerGroupMemberMetadataValue.ClassicMemberMetadata()


def test_messages_are_compared_and_shown_by_value() -> None:
    key = ApiVersionsResponse.ApiVersion(api_key=18, min_version=0, max_version=4)
    assert key == ApiVersionsResponse.ApiVersion(api_key=18, min_version=0, max_version=4)
    assert key != ApiVersionsResponse.ApiVersion(api_key=18, min_version=0, max_version=3)
    assert key != HeartbeatRequest()
    assert repr(key) == "ApiVersionsResponse.ApiVersion(api_key=18, min_version=0, max_version=4)"


def test_every_message_has_lists_of_its_own() -> None:
    first, second = ApiVersionsResponse(), ApiVersionsResponse()
    first.api_keys.append(ApiVersionsResponse.ApiVersion())
    assert second.api_keys == []
