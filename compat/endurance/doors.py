"""Hostile clients at the doors: listeners that ask who one is, with TLS, with SASL, with both.

Called by `hostile.py --secured`. They begin handshakes and leave them, spoil them, ask for another in the middle, send
tokens of every mechanism cut and bent, and come by the hundred, and by the ten thousand, without a word. Whoever is
answered as only those are who have shown who they are counts as `let in`.
"""

import base64
import contextlib
import random
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "security"))

import frames
from users import MECHANISMS, USER, client_context

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest

Attacker = Callable[[random.Random], None]
LET_IN = "let in"
PATIENCE_S = 5
CROWD = 10_000
CORRELATION_ID = 0x5EC12E7
"""Of the question that is for those alone who are known; no other request of ours has it."""


class Doors:
    """What they know: where the doors are. `counts` is shared with the other hostile clients."""

    def __init__(self, ports: dict[str, int], work: Path, counts: Counter[str], stopping: threading.Event) -> None:
        self._ports = ports
        self._work = work
        self._counts = counts
        self._stopping = stopping

    def attackers(self) -> list[tuple[Attacker, int]]:
        """Each with how many threads it gets."""
        return [
            (self.half_handshakes, 1),
            (self.spoiled_handshakes, 2),
            (self.renegotiation, 1),
            (self.spoiled_tokens, 3),
            (self.strangers, 1),
            (self.crowd, 1),
        ]

    def half_handshakes(self, rng: random.Random) -> None:
        """Some dozens that greet as TLS clients do, whole or in part, and then are silent."""
        with contextlib.ExitStack() as held:
            for _ in range(40):
                connection = held.enter_context(self._connect(rng.choice(("SSL", "SASL_SSL", "MUTUAL"))))
                hello = self._hello()
                connection.sendall(hello[: rng.randrange(1, len(hello) + 1)])
                self._counts["half handshakes"] += 1
            self._stopping.wait(rng.uniform(0, 10))

    def spoiled_handshakes(self, rng: random.Random) -> None:
        """Handshakes with bits turned, on their way or behind them."""
        listener = rng.choice(("SSL", "SASL_SSL", "MUTUAL"))
        with self._connect(listener) as connection:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context(self._work).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            self._counts["spoiled handshakes"] += 1
            for _ in range(6):
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    tls.write(self._question())
                data = bytearray(outgoing.read())
                for _ in range(rng.choice((0, 1, 3)) if data else 0):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                connection.sendall(data)
                answer = connection.recv(1 << 16)
                if not answer:
                    return
                incoming.write(answer)

    def renegotiation(self, rng: random.Random) -> None:
        """TLS 1.2, and a new handshake asked for again and again; by `openssl s_client`: no library here can."""
        command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{self._ports['SASL_SSL']}"]
        self._counts["renegotiations"] += 1
        subprocess.run(command, input=b"R\n" * 20, capture_output=True, timeout=60, check=False)
        self._stopping.wait(rng.uniform(0, 2))

    def spoiled_tokens(self, rng: random.Random) -> None:
        """Tokens of every mechanism, nearly right or far from it, and then a question as if one had been let in."""
        listener = rng.choice(("SASL_PLAINTEXT", "SASL_SSL", "SHORT"))
        with self._connect(listener) as plain, contextlib.ExitStack() as held:
            connection: socket.socket = plain
            if listener == "SASL_SSL":
                wrapped = client_context(self._work).wrap_socket(plain, server_hostname="127.0.0.1")
                connection = held.enter_context(wrapped)
            mechanism, version = rng.choice(MECHANISMS), rng.randrange(2)
            if rng.random() < 0.9:
                connection.sendall(_request(SaslHandshakeRequest(mechanism=mechanism), version))
                _answer(connection)
            for _ in range(rng.randrange(1, 4)):
                token = _token(rng, mechanism)
                self._counts["spoiled tokens"] += 1
                wrapping = rng.random()
                if version == 0 and wrapping < 0.8:
                    connection.sendall(frames.framed(token))
                elif wrapping < 0.9:
                    connection.sendall(_request(SaslAuthenticateRequest(auth_bytes=token), rng.randrange(3)))
                else:
                    connection.sendall(frames.spoil(rng, _request(SaslAuthenticateRequest(auth_bytes=token), 0)))
                if not _answer(connection):
                    return
            connection.sendall(self._question())
            while answer := _answer(connection):
                self._counts[LET_IN] += _tells(answer)

    def strangers(self, rng: random.Random) -> None:
        """Hundreds at once that never say who they are, or ask at once for what is not for them."""
        with contextlib.ExitStack() as held:
            connections = []
            for _ in range(300):
                connections.append(held.enter_context(self._connect(rng.choice(list(self._guarded())))))
                self._counts["strangers"] += 1
            for connection in rng.sample(connections, 30):
                with contextlib.suppress(OSError):
                    connection.sendall(self._question())
                    connection.settimeout(0.2)
                    self._counts[LET_IN] += _tells(connection.recv(1 << 12)[4:])
            self._stopping.wait(rng.uniform(0, 3))

    def crowd(self, rng: random.Random) -> None:
        """Ten thousand at once that stay, and never say who they are; some of those who are still there ask."""
        listeners = list(self._guarded())
        with contextlib.ExitStack() as held:
            connections = [held.enter_context(self._connect(rng.choice(listeners))) for _ in range(CROWD)]
            self._counts["crowds of 10,000"] += 1
            for connection in connections[-100:]:
                with contextlib.suppress(OSError):
                    connection.sendall(self._question())
                    connection.settimeout(0.2)
                    self._counts[LET_IN] += _tells(connection.recv(1 << 12)[4:])
            self._stopping.wait(rng.uniform(5, 15))

    def _guarded(self) -> set[str]:
        return self._ports.keys() - {"PLAINTEXT", "SSL"}

    def _connect(self, listener: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._ports[listener]), PATIENCE_S)
        self._counts["connections"] += 1
        return connection

    def _hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        tls = client_context(self._work).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()

    def _question(self) -> bytes:
        return _request(MetadataRequest(topics=[]), 0, CORRELATION_ID)


def allow_crowds() -> None:
    """Have this process hold as many connections as it takes. Raises OSError where the system does not allow it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2 * CROWD:
        raise OSError(f"crowds of {CROWD} need {2 * CROWD} descriptors; `ulimit -Hn` says {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _request(request: object, version: int, correlation_id: int = 1) -> bytes:
    out = bytearray()
    encode_request_header(request.API_KEY, version, correlation_id, "hostile", out)  # type: ignore[attr-defined]
    return frames.framed(b"".join(map(bytes, request.encode(version, out))))  # type: ignore[attr-defined]


def _answer(connection: socket.socket) -> bytes:
    """The next frame; empty when the connection has ended."""
    size = _exactly(connection, 4)
    return _exactly(connection, struct.unpack(">i", size)[0]) if size else b""


def _tells(answer: bytes) -> bool:
    """Whether the question is answered; refused it is with no brokers at all, as version 0 has no other way."""
    return answer.startswith(struct.pack(">i", CORRELATION_ID)) and not answer.endswith(bytes(8))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return data


def _token(rng: random.Random, mechanism: str) -> bytes:
    """A token that must not let in: a wrong secret in the right form, and most of them cut, bent or stretched too."""
    claims = base64.urlsafe_b64encode(b'{"sub":"alice","exp":1,"iat":0}').rstrip(b"=")
    good = {
        "PLAIN": f"\0{USER}\0wrong".encode(),
        "SCRAM-SHA-256": f"n,,n={USER},r={rng.randrange(1 << 60)}".encode(),
        "SCRAM-SHA-512": f"n,,n={USER},r={rng.randrange(1 << 60)}".encode(),
        "OAUTHBEARER": b"n,,\x01auth=Bearer eyJhbGciOiJIUzI1NiJ9." + claims + b".c2ln\x01\x01",
    }[mechanism]
    token = bytearray(good)
    for _ in range(rng.choice((0, 1, 1, 4))):
        at = rng.randrange(len(token) + 1)
        match rng.randrange(5):
            case 0 if at < len(token):
                token[at] ^= 1 << rng.randrange(8)
            case 1:
                del token[at:]
            case 2:
                token[at:at] = rng.randbytes(rng.choice((1, 10, 1000)))
            case 3:
                token[at:at] = rng.choice((b",", b"=", b"\0", b"\x01", b"r=", b"n,,", b"a=", b"i=0"))
            case _:
                token += token[:at] * rng.choice((1, 100))
    return bytes(token)
