"""Which of many sockets have something to read, or room again, asked without waiting.

The standard library's selector makes an object and two calls for each socket that has; a crew asks tens of thousands of
times a second. So epoll is asked directly where there is one. Called by the crew.
"""

import select
import selectors
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Poller(Protocol[T]):
    """Sockets, each with a value that stands for it. Level-triggered."""

    def fileno(self) -> int:
        """What is readable when any of the sockets is ready."""

    def add(self, sock: HasDescriptor, value: T) -> None:
        """Look whether this socket has something to read."""

    def turn(self, sock: HasDescriptor, *, for_room: bool) -> None:
        """From now on look whether it has room for what is to be sent, or something to read again."""

    def remove(self, sock: HasDescriptor) -> None: ...

    def ready(self) -> list[T]:
        """The values of the sockets that have what is looked for, or have failed."""

    def close(self) -> None: ...


def open_poller() -> Poller[T]:
    """The best that this system has."""
    return _Epoll() if hasattr(select, "epoll") else _Selector()


class _Epoll(Generic[T]):
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._values: dict[int, T] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, sock: HasDescriptor, value: T) -> None:
        self._epoll.register(sock, select.EPOLLIN)
        self._values[sock.fileno()] = value

    def turn(self, sock: HasDescriptor, *, for_room: bool) -> None:
        self._epoll.modify(sock, select.EPOLLOUT if for_room else select.EPOLLIN)

    def remove(self, sock: HasDescriptor) -> None:
        self._epoll.unregister(sock)
        del self._values[sock.fileno()]

    def ready(self) -> list[T]:
        values = self._values
        return [values[descriptor] for descriptor, _ in self._epoll.poll(0, max(len(values), 1))]

    def close(self) -> None:
        self._epoll.close()


class _Selector(Generic[T]):
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def add(self, sock: HasDescriptor, value: T) -> None:
        self._selector.register(sock, selectors.EVENT_READ, value)

    def turn(self, sock: HasDescriptor, *, for_room: bool) -> None:
        value = self._selector.get_key(sock).data
        self._selector.modify(sock, selectors.EVENT_WRITE if for_room else selectors.EVENT_READ, value)

    def remove(self, sock: HasDescriptor) -> None:
        self._selector.unregister(sock)

    def ready(self) -> list[T]:
        return [key.data for key, _ in self._selector.select(0)]

    def close(self) -> None:
        self._selector.close()
