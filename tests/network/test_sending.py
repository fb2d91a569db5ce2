"""Answers on their way into a socket: whole, in order, however little the socket takes at once."""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kafkapy.network.sending import BUFFERS, Answer, send_some
from kafkapy.network.transport import Buffer, PlainTransport, Source
from kafkapy.storage.embedded.files import Disk

MANY = 3 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def answer(tmp_path: Path) -> tuple[Answer, bytes]:
    """Bytes and regions of a file, and what they are together."""
    content = os.urandom(MANY)
    disk = Disk()
    path = str(tmp_path / "0.log")
    disk.append(path, [content], len(content), 0)
    head, between, end = os.urandom(100), os.urandom(50), os.urandom(7)
    regions = disk.region(path, 10, MANY // 2), disk.region(path, MANY // 2, MANY // 2)
    parts: Answer = [head[:60], memoryview(head)[60:], regions[0], between, regions[1], bytearray(end)]
    return parts, head + content[10 : 10 + MANY // 2] + between + content[MANY // 2 :] + end


class Reader(threading.Thread):
    """Reads all that comes until the other side ends."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        self.data = bytearray()
        self.start()

    def run(self) -> None:
        while chunk := self._sock.recv(1 << 16):
            self.data += chunk


def size_of(answer: Answer) -> int:
    return sum(map(len, answer))


def test_a_client_that_has_gone_is_told_of(
    pair: tuple[socket.socket, socket.socket], answer: tuple[Answer, bytes]
) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError):
        send_some(PlainTransport(ours), answer[0])


class Taking:
    """A transport whose reader takes `each` bytes a call."""

    has_more = wants_room = False

    def __init__(self, each: int) -> None:
        self._each = each
        self.asked: list[int] = []

    def fileno(self) -> int:
        return -1

    def receive_into(self, buffer: memoryview) -> int:
        return 0

    def send(self, buffers: Sequence[Buffer]) -> int:
        return min(sum(map(len, buffers)), self._each)

    def send_from(self, source: Source, size: int) -> int:
        self.asked.append(size)
        sent = min(size, self._each)
        source.advance(sent)
        return sent

    def close(self) -> None: ...


@pytest.fixture
def region(tmp_path: Path) -> Callable[[int], Source]:
    (tmp_path / "0.log").touch()
    return lambda size: Disk().region(str(tmp_path / "0.log"), 0, size)


def test_a_source_may_take_any_number_of_sends(region: Callable[[int], Source]) -> None:
    taking = Taking(each=1)
    answer: Answer = [region(3000)]
    while answer:
        answer = send_some(taking, answer)
    assert taking.asked == list(range(3000, 0, -1))


def test_who_reads_as_fast_as_it_is_sent_to_does_not_hold_up_the_others(region: Callable[[int], Source]) -> None:
    taking = Taking(each=1 << 20)
    assert size_of(send_some(taking, [region(1 << 20) for _ in range(20)])) == 12 << 20
    assert size_of(send_some(taking, [region(20 << 20)])) == 12 << 20


def test_a_source_can_be_read_as_well_as_sent(answer: tuple[Answer, bytes]) -> None:
    """As a transport that encrypts will; and what was sent is not read again."""
    parts, whole = answer
    read = b""
    for part in parts:
        if isinstance(part, BUFFERS):
            read += part
            continue
        while len(part):
            chunk = part.read(100_000)
            assert part.read(10) == chunk[:10]
            part.advance(len(chunk))
            read += chunk
    assert read == whole


def test_what_a_socket_does_not_take_at_once_goes_whole_and_in_order(
    pair: tuple[socket.socket, socket.socket], answer: tuple[Answer, bytes]
) -> None:
    ours, theirs = pair
    left, whole = answer
    waits = 0
    reader = Reader(theirs)
    while left := send_some(PlainTransport(ours), left):
        waits += 1
        select.select([], [ours], [])
    ours.shutdown(socket.SHUT_WR)
    reader.join()
    assert reader.data == whole
    assert waits
