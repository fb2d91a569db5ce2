"""Conversations with listeners that ask who one is, request by request: what the broker answers, to the byte."""

import hashlib
import hmac
import json
import socket
import ssl
import struct
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from users import PASSWORD, SESSION_MS, USER, client_context

from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest

PATIENCE_SECONDS = 20
Conversation = Callable[["Talk"], None]


class Talk:
    """One connection, and what was answered so far."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.heard: list[str] = []
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def ask(self, request: Any, version: int) -> Any:
        """The answer, which is noted; None when the connection has ended."""
        out = bytearray()
        encode_request_header(request.API_KEY, version, len(self.heard), "talk", out)
        frame = self.frame(b"".join(request.encode(version, out)))
        if frame is None:
            self.heard.append("closed")
            return None
        _, offset = decode_response_header(request.API_KEY, version, frame)
        answer, _ = response_class(request.API_KEY).decode(version, frame, offset)
        self.heard.append(_shown(answer))
        return answer

    def raw(self, body: bytes) -> None:
        answer = self.frame(body)
        self.heard.append("closed" if answer is None else answer.hex() or "empty")

    def frame(self, body: bytes) -> bytes | None:
        try:
            self.socket.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", self._exactly(4))
            return self._exactly(size)
        except (EOFError, ConnectionError):
            return None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def shake_hands(self, mechanism: str = "PLAIN", version: int = 1) -> Any:
        return self.ask(SaslHandshakeRequest(mechanism=mechanism), version)

    def authenticate(self, message: bytes = f"\0{USER}\0{PASSWORD}".encode(), version: int = 2) -> Any:
        return self.ask(SaslAuthenticateRequest(auth_bytes=message), version)

    def metadata(self) -> Any:
        return self.ask(MetadataRequest(topics=[]), 0)


def _shown(answer: Any) -> str:
    """What does not differ from run to run."""
    name = type(answer).__name__.removesuffix("Response")
    if name == "SaslHandshake":
        return f"{name} {answer.error_code} {sorted(answer.mechanisms)}"
    if name == "SaslAuthenticate":
        message = answer.auth_bytes if b"r=" not in answer.auth_bytes and b"v=" not in answer.auth_bytes else "…"
        return f"{name} {answer.error_code} {answer.error_message!r} {message!r} {answer.session_lifetime_ms}"
    if name == "Metadata":
        return f"{name} {len(answer.brokers)} brokers {[topic.error_code for topic in answer.topics]}"
    return f"{name} {getattr(answer, 'error_code', '')}"


def scram(user: str, password: str, mechanism: str = "SCRAM-SHA-256") -> Conversation:
    def talk(t: Talk) -> None:
        name = "sha256" if mechanism.endswith("256") else "sha512"
        t.shake_hands(mechanism)
        bare = f"n={user},r=nonce"
        offer = t.authenticate(f"n,,{bare}".encode())
        if offer is None or offer.error_code:
            # Apache Kafka tells who exists; what a client shows is the last answer, here and there.
            del t.heard[:-1]
            return
        fields = dict(part.split("=", 1) for part in offer.auth_bytes.decode().split(","))
        salted = hashlib.pbkdf2_hmac(name, password.encode(), b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", name)
        without = f"c=biws,r={fields['r']}"
        signed = f"{bare},{offer.auth_bytes.decode()},{without}".encode()
        signature = hmac.digest(hashlib.new(name, key).digest(), signed, name)
        proof = b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        last = t.authenticate(f"{without},p={proof}".encode())
        if last is not None and last.error_code:
            del t.heard[:-1]
            return
        t.metadata()

    return talk


def token(claims: dict[str, Any], header: dict[str, Any], tail: str = "") -> bytes:
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return f"n,,\x01auth=Bearer {'.'.join(parts)}.{tail}\x01\x01".encode()


def oauth(claims: dict[str, Any], header: dict[str, Any] | None = None, tail: str = "") -> Conversation:
    def talk(t: Talk) -> None:
        now = int(time.time())
        times = {name: now + claims[name] for name in ("iat", "exp") if isinstance(claims.get(name), int)}
        t.shake_hands("OAUTHBEARER")
        answer = t.authenticate(token({**claims, **times}, header or {"alg": "none"}, tail), version=0)
        if answer is not None and answer.auth_bytes:
            t.authenticate(b"\x01")
        t.metadata()

    return talk


def said(*steps: Conversation) -> Conversation:
    def talk(t: Talk) -> None:
        for step in steps:
            step(t)

    return talk


def versions(version: int, name: str = "x") -> Conversation:
    return lambda t: t.ask(ApiVersionsRequest(client_software_name=name, client_software_version="1"), version)


def shake(mechanism: str = "PLAIN", version: int = 1) -> Conversation:
    return lambda t: t.shake_hands(mechanism, version)


def plain(message: str, version: int = 2) -> Conversation:
    return lambda t: t.authenticate(message.encode(), version)


def raw(body: bytes) -> Conversation:
    return lambda t: t.raw(body)


def metadata(t: Talk) -> None:
    t.metadata()


def topics(t: Talk) -> None:
    t.ask(MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")]), 9)


def produce(t: Talk) -> None:
    t.ask(ProduceRequest(acks=1, timeout_ms=1000, topic_data=[]), 9)


def wait(t: Talk) -> None:
    time.sleep(SESSION_MS / 1000 + 0.5)


GOOD = f"\0{USER}\0{PASSWORD}"
SASL: dict[str, Conversation] = {
    "plain": said(versions(3), shake(), plain(GOOD), metadata),
    "plain, version 0": said(shake(), plain(GOOD, 0), metadata),
    "plain, wrong password": said(shake(), plain(f"\0{USER}\0wrong"), metadata),
    "plain, unknown user": said(shake(), plain("\0nobody\0x"), metadata),
    "plain, no password": said(shake(), plain(f"\0{USER}\0")),
    "plain, no user": said(shake(), plain("\0\0x")),
    "plain, another authorization id": said(shake(), plain(f"bob\0{USER}\0{PASSWORD}")),
    "plain, two parts": said(shake(), plain(f"{USER}\0{PASSWORD}")),
    "plain, four parts": said(shake(), plain(f"{GOOD}\0")),
    "plain by itself": said(shake(version=0), raw(GOOD.encode()), metadata),
    "plain by itself, wrong password": said(shake(version=0), raw(f"\0{USER}\0wrong".encode())),
    "unknown mechanism": said(shake("CRAM-MD5"), metadata),
    "mechanism in lower case": said(shake("plain"), metadata),
    "no handshake": metadata,
    "authenticate first": plain(GOOD),
    "versions twice": said(versions(0), versions(0)),
    "versions, the newest": said(versions(5), shake(), plain(GOOD), metadata),
    "versions with a bad name": said(versions(3, "not ok!"), versions(3), shake()),
    "versions after the handshake": said(shake(), versions(0)),
    "handshake twice": said(shake(), shake()),
    "metadata in between": said(shake(), topics, metadata),
    "produce in between": said(shake(), produce, metadata),
    "handshake once more": said(shake(), plain(GOOD), shake(), plain(GOOD), metadata),
    "nonsense": raw(b"nonsense that is no request"),
    "http": raw(b"GET / HTTP/1.1\r\n\r\n"),
    "unknown api": raw(struct.pack(">hhih", 999, 0, 1, -1)),
    "handshake of the future": raw(struct.pack(">hhih", 17, 9, 1, -1)),
    "scram-sha-256": scram(USER, PASSWORD),
    "scram-sha-512": scram(USER, PASSWORD, "SCRAM-SHA-512"),
    "scram, wrong password": scram(USER, "wrong"),
    "scram, unknown user": scram("nobody", "x"),
    "scram, nonsense": said(shake("SCRAM-SHA-256"), plain("nonsense"), metadata),
    "scram, authorization id": said(shake("SCRAM-SHA-256"), plain(f"n,a=bob,n={USER},r=x")),
    "token": oauth({"sub": USER, "exp": 60}),
    "token, expired": oauth({"sub": USER, "exp": -60}),
    "token, not issued yet": oauth({"sub": USER, "iat": 60, "exp": 90}),
    "token, nobody's": oauth({"exp": 60}),
    "token, sub a number": oauth({"sub": 7, "exp": 60}),
    "token, no end": oauth({"sub": USER}),
    "token, signed": oauth({"sub": USER, "exp": 60}, {"alg": "RS256"}, "AAAA"),
    "token, nonsense": said(shake("OAUTHBEARER"), plain("n,,\x01auth=Bearer x\x01\x01"), plain("\x01"), metadata),
    "token, no message": said(shake("OAUTHBEARER"), plain("nonsense"), metadata),
}
SHORT: dict[str, Conversation] = {
    "session": said(shake(), plain(GOOD), metadata, wait, metadata),
    "session, renewed": said(shake(), plain(GOOD), shake(), plain(GOOD), wait, metadata),
    "session, renewed too late": said(shake(), plain(GOOD), wait, shake(), plain(GOOD), metadata),
    "session, renewed twice at once": said(shake(), plain(GOOD), shake(), plain(GOOD), shake(), metadata),
    "session, another user": said(shake(), plain(GOOD), shake(), plain("\0bob\0bob-secret"), metadata),
    "session, another mechanism": said(shake(), plain(GOOD), shake("SCRAM-SHA-256"), plain("n,,n=a,r=b"), metadata),
    "session, unknown mechanism": said(shake(), plain(GOOD), shake("X"), metadata),
    "session, wrong password": said(shake(), plain(GOOD), shake(), plain(f"\0{USER}\0wrong"), metadata),
    "session, metadata in between": said(shake(), plain(GOOD), shake(), topics, metadata),
    "session, by itself": said(shake(version=0), raw(GOOD.encode()), metadata, wait, metadata),
}
OPEN: dict[str, Conversation] = {
    "nothing to authenticate": said(shake(), plain(GOOD), metadata),
    "versions twice": said(versions(0), versions(0), metadata),
}


def _over(listener: str, conversation: Conversation, *, shown: str | None = None) -> Any:
    def check(broker: Any, ports: dict[str, int], work: Path) -> str:
        context = client_context(work, shown) if "SSL" in listener or listener == "MUTUAL" else None
        try:
            talk = Talk(ports[listener], context)
            conversation(talk)
        except (ssl.SSLError, ConnectionError, EOFError) as failure:
            # How it is told depends on the moment: after its handshake a client of TLS 1.3 may only see the end.
            return "refused" if listener == "MUTUAL" else f"{type(failure).__name__}"
        talk.socket.close()
        return "refused" if talk.heard == ["closed"] and listener == "MUTUAL" else " | ".join(talk.heard)

    return check


ALL: dict[str, Any] = {
    **{f"sasl_plaintext: {name}": _over("SASL_PLAINTEXT", talk) for name, talk in SASL.items()},
    **{f"short: {name}": _over("SHORT", talk) for name, talk in SHORT.items()},
    **{f"plaintext: {name}": _over("PLAINTEXT", talk) for name, talk in OPEN.items()},
    **{f"ssl: {name}": _over("SSL", talk) for name, talk in OPEN.items()},
    **{f"sasl_ssl: {name}": _over("SASL_SSL", SASL[name]) for name in ("plain", "scram-sha-512", "no handshake")},
    "mutual: alice": _over("MUTUAL", metadata, shown="alice"),
    "mutual: nobody": _over("MUTUAL", metadata),
    "mutual: mallory": _over("MUTUAL", metadata, shown="mallory"),
}
