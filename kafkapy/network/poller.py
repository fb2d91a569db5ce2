"""Which of many sockets have something to read, or room again, asked without waiting.

The standard library's selector makes an object and two calls for each socket that has; a crew asks tens of thousands of
times a second. So epoll is asked directly where there is one. And of a socket that is the only one nothing is asked:
whoever waits for it knows. Called by the crew.
"""

import select
import selectors
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class Poller(Protocol[T]):
    """Sockets, each with a value that stands for it. Level-triggered."""

    def descriptor(self) -> int:
        """What is readable when any of the sockets is ready. Another one, perhaps, once something is added, turned or
        removed.
        """

    def add(self, sock: HasDescriptor, value: T) -> None:
        """Look whether this socket has something to read."""

    def turn(self, sock: HasDescriptor, *, for_room: bool) -> None:
        """From now on look whether it has room for what is to be sent, or something to read again."""

    def remove(self, sock: HasDescriptor) -> None: ...

    def ready(self) -> list[T]:
        """The values of the sockets that have what is looked for, or have failed; one alone may have nothing."""

    def close(self) -> None: ...


def open_poller() -> Poller[T]:
    """The best that this system has."""
    return _Epoll() if hasattr(select, "epoll") else _Selector()


class _Epoll(Generic[T]):
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._own = self._epoll.fileno()
        self._values: dict[int, T] = {}
        self._for_room: set[int] = set()
        self._waited_for = self._own
        self._alone: T | None = None  # of whom nothing need be asked

    def descriptor(self) -> int:
        return self._waited_for

    def _look_who_is_alone(self) -> None:
        if len(self._values) == 1 and not self._for_room:
            ((self._waited_for, self._alone),) = self._values.items()
        else:
            self._waited_for, self._alone = self._own, None

    def add(self, sock: HasDescriptor, value: T) -> None:
        self._epoll.register(sock, select.EPOLLIN)
        self._values[sock.fileno()] = value
        self._look_who_is_alone()

    def turn(self, sock: HasDescriptor, *, for_room: bool) -> None:
        self._epoll.modify(sock, select.EPOLLOUT if for_room else select.EPOLLIN)
        if for_room:
            self._for_room.add(sock.fileno())
        else:
            self._for_room.discard(sock.fileno())
        self._look_who_is_alone()

    def remove(self, sock: HasDescriptor) -> None:
        self._epoll.unregister(sock)
        del self._values[sock.fileno()]
        self._for_room.discard(sock.fileno())
        self._look_who_is_alone()

    def ready(self) -> list[T]:
        if self._alone is not None:
            return [self._alone]
        values = self._values
        return [values[descriptor] for descriptor, _ in self._epoll.poll(0, max(len(values), 1))]

    def close(self) -> None:
        self._epoll.close()


class _Selector(Generic[T]):
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def descriptor(self) -> int:
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
