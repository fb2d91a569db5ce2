"""Answers on their way into a socket: whole, in order, and no thread's time for who does not read."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from kafkapy.network import sending
from kafkapy.network.sending import Answer, is_worth_a_thread, send_from_a_thread, send_some
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
    disk.append(path, [content], 0)
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


async def test_a_client_that_reads_gets_all_from_one_thread(
    pair: tuple[socket.socket, socket.socket], answer: tuple[Answer, bytes]
) -> None:
    ours, theirs = pair
    parts, whole = answer
    reader = Reader(theirs)
    assert not await send_from_a_thread(ours, parts)
    ours.shutdown(socket.SHUT_WR)
    reader.join()
    assert reader.data == whole
    assert not ours.getblocking()


async def test_a_client_that_does_not_read_gets_no_more_of_a_threads_time(
    pair: tuple[socket.socket, socket.socket], answer: tuple[Answer, bytes]
) -> None:
    ours, theirs = pair
    parts, whole = answer
    left = await send_from_a_thread(ours, parts)
    assert 0 < size_of(left) < len(whole)
    assert not ours.getblocking()
    assert size_of(send_some(ours, left)) == size_of(left)
    reader = Reader(theirs)  # it was only slow: nothing is lost, nothing comes twice
    while left:
        await trio.lowlevel.wait_writable(ours)
        left = send_some(ours, left)
    ours.shutdown(socket.SHUT_WR)
    reader.join()
    assert reader.data == whole


async def test_a_client_that_has_gone_is_told_of(
    pair: tuple[socket.socket, socket.socket], answer: tuple[Answer, bytes]
) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError):
        await send_from_a_thread(ours, answer[0])


class Region:
    """Takes what its reader, who is elsewhere, takes: `each` bytes a call."""

    def __init__(self, size: int, each: int) -> None:
        self._size = size
        self._each = each
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self._size

    def send(self, sock: socket.socket, skip: int, size: int) -> int:
        self.asked.append((skip, size))
        return min(size, self._each)


def test_a_region_may_take_any_number_of_sends(pair: tuple[socket.socket, socket.socket]) -> None:
    region = Region(3000, each=1)
    answer: Answer = [region]
    while answer:
        answer = send_some(pair[0], answer)
    assert region.asked == [(sent, 3000 - sent) for sent in range(3000)]


def test_who_reads_as_fast_as_it_is_sent_to_does_not_hold_up_the_others(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    answer: Answer = [Region(1 << 20, each=1 << 20) for _ in range(10)]
    assert size_of(send_some(pair[0], answer)) == 6 << 20
    assert size_of(send_some(pair[0], [Region(20 << 20, each=20 << 20)])) == 16 << 20


async def test_where_there_are_no_more_threads_the_answer_is_still_there(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    answer: Answer = [b"all of it"]
    assert await send_from_a_thread(pair[0], answer) is answer


def test_only_what_is_large_is_worth_a_thread_where_others_wait_too_and_one_is_free(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [bytes(100), bytes(MANY)]
    monkeypatch.setattr(sending, "_UNDER_WAY", {pair[0]})
    assert not is_worth_a_thread(large)
    monkeypatch.setattr(sending, "_UNDER_WAY", set(pair))
    assert is_worth_a_thread(large)
    assert not is_worth_a_thread([bytes(100)])
    monkeypatch.setattr(sending, "_THREADS", trio.CapacityLimiter(1))
    sending._THREADS.acquire_on_behalf_of_nowait(large[0])
    assert not is_worth_a_thread(large)


async def test_many_clients_at_once_get_their_answers_whole(answer: tuple[Answer, bytes]) -> None:
    parts, whole = answer
    waited = 0

    def count() -> None:
        nonlocal waited
        waited += 1

    pairs = [socket.socketpair() for _ in range(20)]
    readers = [Reader(theirs) for _, theirs in pairs]
    async with trio.open_nursery() as nursery:
        for ours, _ in pairs:
            ours.setblocking(False)
            nursery.start_soon(sending.send, ours, parts, count)
    for (ours, theirs), reader in zip(pairs, readers, strict=True):
        ours.shutdown(socket.SHUT_WR)
        reader.join()
        assert reader.data == whole
        ours.close()
        theirs.close()
    assert waited >= len(pairs)
    assert not sending._UNDER_WAY
