"""Records what a stock client says to a broker: a relay on loopback that keeps every request and its answer.

The broker must advertise the relay's address, so that the client comes back through it. Requests are kept in the order
in which they came, over all connections.
"""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass


@dataclass
class Exchange:
    """One request, its header included, and its answer; empty when there was none."""

    connection: int
    request: bytes
    answer: bytes = b""

    @property
    def api(self) -> tuple[int, int]:
        """API key and version."""
        key, version = struct.unpack_from(">hh", self.request)
        return key, version


class Relay:
    """Listens on `port` and speaks to the broker at `target` for whoever connects."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self.exchanges: list[Exchange] = []
        self._target = target
        self._lock = threading.Lock()
        self._connections = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._target)
                for end in (client, broker):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting: dict[int, Exchange] = {}
                number, self._connections = self._connections, self._connections + 1
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(client, broker, number, waiting), daemon=True).start()

    def _requests(
        self, client: socket.socket, broker: socket.socket, number: int, waiting: dict[int, Exchange]
    ) -> None:
        for frame in frames(client):
            exchange = Exchange(number, frame)
            (correlation_id,) = struct.unpack_from(">i", frame, 4)
            with self._lock:
                self.exchanges.append(exchange)
                waiting[correlation_id] = exchange
            broker.sendall(struct.pack(">i", len(frame)) + frame)
        broker.close()

    def _answers(self, client: socket.socket, broker: socket.socket, _: int, waiting: dict[int, Exchange]) -> None:
        for frame in frames(broker):
            (correlation_id,) = struct.unpack_from(">i", frame)
            with self._lock:
                waiting.pop(correlation_id).answer = frame
            with suppress(OSError):
                client.sendall(struct.pack(">i", len(frame)) + frame)
        client.close()


def frames(end: socket.socket):
    """The frames that arrive, until the other side closes."""
    stream = end.makefile("rb")
    with suppress(OSError, ValueError):
        while len(size := stream.read(4)) == 4:
            yield stream.read(struct.unpack(">i", size)[0])
