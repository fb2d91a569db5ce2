"""TLS over a socket that is full: what is encrypted, and what is not even copied."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import trustme

from kafkapy.network.tls import TlsTransport

CA = trustme.CA()
PART = bytes(16 * 1024)


class Looked(Sequence[bytes]):
    """As many parts of an answer; counts those that were looked at."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.looked_at = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: object) -> bytes:  # type: ignore[override]
        assert isinstance(index, int)
        if index >= self.count:
            raise IndexError
        self.looked_at += 1
        return PART


@contextmanager
def connected() -> Iterator[TlsTransport]:
    """The server's side of a connection whose client reads no more after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    CA.configure_trust(trusting)
    ours, theirs = socket.socketpair()
    with closing(TlsTransport(ours, context)) as transport, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        client = trusting.wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
        with closing(client):
            for _ in range(4):
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                with suppress(BlockingIOError):
                    transport.receive_into(memoryview(bytearray(100)))
            assert client.version() == "TLSv1.3"
            yield transport


def test_what_a_full_socket_does_not_take_is_not_copied() -> None:
    with connected() as transport:
        answer = Looked(1000)
        sent = transport.send(answer)
        assert transport.wants_room
        assert 0 < sent < 1000 * len(PART) // 2
        assert answer.looked_at <= sent // len(PART) + 1
