"""Which sockets have something to read, or room: the same from epoll and from the standard library's selector."""

import select
import socket
from collections.abc import Iterator

import pytest

from kafkapy.network.poller import Poller, _Epoll, _Selector, open_poller


@pytest.fixture(params=[_Selector, *([_Epoll] if hasattr(select, "epoll") else [])])
def poller(request: pytest.FixtureRequest) -> Iterator[Poller[str]]:
    made: Poller[str] = request.param()
    yield made
    made.close()


def test_it_names_those_that_have_something_to_read_until_they_are_read(poller: Poller[str]) -> None:
    (a, to_a), (b, to_b), (c, to_c) = (socket.socketpair() for _ in range(3))
    with a, b, c, to_a, to_b, to_c:
        for name, sock in (("a", a), ("b", b), ("c", c)):
            poller.add(sock, name)
        assert poller.ready() == []
        to_a.send(b"1")
        to_c.send(b"1")
        assert sorted(poller.ready()) == ["a", "c"]
        assert sorted(poller.ready()) == ["a", "c"]
        a.recv(1)
        poller.remove(c)
        to_b.close()
        assert poller.ready() == ["b"]
        poller.add(c, "c again")
        assert sorted(poller.ready()) == ["b", "c again"]


def test_it_looks_for_room_or_for_something_to_read_as_it_is_told(poller: Poller[str]) -> None:
    (sock, other), (idle, far) = socket.socketpair(), socket.socketpair()
    with sock, other, idle, far:
        sock.setblocking(False)
        poller.add(sock, "it")
        poller.add(idle, "another")
        poller.turn(sock, for_room=True)
        assert poller.ready() == ["it"]
        while True:
            try:
                sock.send(bytes(1 << 16))
            except BlockingIOError:
                break
        other.send(b"1")
        assert poller.ready() == []
        poller.turn(sock, for_room=False)
        assert poller.ready() == ["it"]
        sock.recv(1)
        assert poller.ready() == []


def test_it_is_readable_itself_when_one_of_its_sockets_is(poller: Poller[str]) -> None:
    sock, other = socket.socketpair()
    with sock, other:
        poller.add(sock, "it")
        assert not select.select([poller.descriptor()], [], [], 0)[0]
        other.send(b"1")
        assert select.select([poller.descriptor()], [], [], 0)[0]


def test_the_broker_takes_epoll_where_there_is_one() -> None:
    made: Poller[str] = open_poller()
    assert isinstance(made, _Epoll) == hasattr(select, "epoll")
    made.close()
