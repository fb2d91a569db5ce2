import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkapy.protocol.frame import FrameReader, FrameTooLarge
from kafkapy.protocol.primitives import ProtocolError


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def feed(reader: FrameReader, data: bytes, step: int = 2**30) -> list[bytes]:
    """Receive `data` in pieces of at most `step` bytes; the frames that come out."""
    frames = []
    at = 0
    while at < len(data):
        room = reader.writable()
        piece = data[at : at + min(step, len(room))]
        assert piece, "the reader has no room"
        room[: len(piece)] = piece
        reader.received(len(piece))
        at += len(piece)
        while (frame := reader.next_frame()) is not None:
            frames.append(bytes(frame))
    return frames


def test_a_frame_comes_out_whole_when_its_bytes_come_one_by_one() -> None:
    bodies = [b"first", b"", b"third" * 10]
    assert feed(FrameReader(100), b"".join(map(framed, bodies)), step=1) == bodies


@given(bodies=st.lists(st.binary(max_size=40_000), max_size=6), step=st.integers(1, 50_000))
def test_frames_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], step: int) -> None:
    assert feed(FrameReader(40_000), b"".join(map(framed, bodies)), step=max(step, 500)) == bodies


def test_all_frames_of_one_receive_are_valid_together() -> None:
    reader = FrameReader(100)
    data = framed(b"one") + framed(b"two") + b"\x00\x00"
    reader.writable()[: len(data)] = data
    reader.received(len(data))
    one, two, none = reader.next_frame(), reader.next_frame(), reader.next_frame()
    assert (one, two, none) == (b"one", b"two", None)


def test_the_largest_frame_passes_and_a_larger_one_is_refused_by_its_length_alone() -> None:
    largest = bytes(1_000_000)
    assert feed(FrameReader(len(largest)), framed(largest)) == [largest]
    with pytest.raises(FrameTooLarge, match="1000001"):
        feed(FrameReader(len(largest)), (1_000_001).to_bytes(4, "big"))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x80\x00\x00\x00"])
def test_a_negative_length_is_refused(length: bytes) -> None:
    with pytest.raises(ProtocolError, match="-"):
        feed(FrameReader(2**31 - 1), length)


def test_an_http_request_is_refused() -> None:
    with pytest.raises(FrameTooLarge):
        feed(FrameReader(100 * 1024 * 1024), b"GET / HTTP/1.1\r\n")


def test_an_announced_length_reserves_nothing() -> None:
    reader = FrameReader(2**31 - 1)
    assert feed(reader, (2**31 - 1).to_bytes(4, "big") + bytes(1000)) == []
    assert len(reader.writable()) < 100_000


def test_the_buffer_grows_with_a_large_frame_and_shrinks_after_it() -> None:
    reader = FrameReader(2**31 - 1)
    idle = len(reader.writable())
    large = bytes(20 * 1024 * 1024)
    assert feed(reader, framed(large)) == [large]
    assert len(reader.writable()) == idle


def test_a_buffer_for_ordinary_batches_is_kept_while_batches_come_and_given_up_afterwards() -> None:
    reader = FrameReader(2**31 - 1)
    idle = len(reader.writable())
    batch = framed(bytes(1024 * 1024))
    feed(reader, batch)
    assert len(reader.writable()) > idle
    for _ in range(100):
        feed(reader, framed(b"heartbeat"))
    assert len(reader.writable()) == idle


def test_a_view_that_is_still_held_does_not_stop_the_buffer_from_growing() -> None:
    reader = FrameReader(2**31 - 1)
    room = reader.writable()
    small = framed(b"small")
    room[: len(small)] = small
    reader.received(len(small))
    held = reader.next_frame()
    large = bytes(1_000_000)
    assert feed(reader, framed(large)) == [large]
    assert held is not None
