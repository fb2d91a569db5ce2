"""One connection to a broker: sends what a case asks for, and keeps a trace of what came back.

Requests are built with kafkapy's generated classes. Answers are decoded with kafka-python's codec, which none of us
wrote; that it re-encodes an answer to the very bytes that came holds the layout too. Versions that are younger than it
are decoded with ours, which `compat/codec/` compares with Apache Kafka's own.
"""

import importlib
import socket
import struct
import uuid
from collections.abc import Sequence
from typing import Any

from kafka.protocol.api_header import ResponseClassRegistry

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages import response_class as ours
from kafkapy.protocol.messages.api_versions import ApiVersionsResponse
from kafkapy.protocol.primitives import Struct

for module in ("metadata", "admin", "consumer", "producer", "sasl"):
    importlib.import_module(f"kafka.protocol.{module}")

TIMEOUT_SECONDS = 15


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Probe:
    """A client that sends one request at a time and writes down the answers."""

    def __init__(self, host: str, port: int, *, source: str = "") -> None:
        self.host, self.port = host, port
        self.client_id = "differential"
        self._source = (source, 0) if source else None
        self.trace: list[Any] = []
        self._socket: socket.socket | None = None
        self._correlation_id = 0

    def call(self, request: Any, version: int, *, note: bool = True) -> dict[str, Any]:
        """Send a request and return the decoded answer; it goes into the trace unless `note` is false."""
        return self.call_raw(request.API_KEY, version, self._encoded(request, version), note=note)

    def exchange(self, request: Any, version: int) -> bytes:
        """Send a request; the bytes of the answer behind its header. Raises Closed, ConnectionError, TimeoutError."""
        return self._exchange(self._encoded(request, version))[body_begin(request.API_KEY, version) :]

    def exchange_all(self, requests: Sequence[tuple[Any, int]]) -> list[bytes | str]:
        """Send them all without waiting in between; each answer as `exchange` has it, or what became of its connection.

        Those that were sent behind a request that ended the connection are sent again.
        """
        answers: list[bytes | str] = []
        while len(answers) < len(requests):
            left = requests[len(answers) :]
            try:
                self._send_all([self._encoded(request, version) for request, version in left])
                for request, version in left:
                    answers.append(self._receive()[body_begin(request.API_KEY, version) :])
            except TimeoutError:
                answers.append("no answer")
            except (Closed, ConnectionError):
                answers.append("closed")
            else:
                return answers
            self.close()
        return answers

    def send_only(self, request: Any, version: int) -> None:
        """Send a request that gets no answer, or one for which `answer` waits later."""
        self._send(self._encoded(request, version))

    def answer(self, key: int, version: int) -> dict[str, Any]:
        """The answer to the oldest request that was only sent; noted."""
        decoded = decode_response(key, version, self._receive())
        self.trace.append(decoded)
        return decoded

    def call_raw(self, key: int, version: int, body: bytes, *, note: bool = True) -> dict[str, Any]:
        """Send a request given as bytes (header included); raises nothing: a closed connection is an answer too."""
        try:
            answer = self._exchange(body)
        except (Closed, ConnectionError):
            decoded: dict[str, Any] = {"connection": "closed"}
        except TimeoutError:
            decoded = {"connection": "no answer"}
        else:
            decoded = decode_response(key, version, answer)
        if note:
            self.trace.append(decoded)
        return decoded

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _encoded(self, request: Any, version: int) -> bytes:
        out = bytearray()
        self._correlation_id += 1
        encode_request_header(request.API_KEY, version, self._correlation_id, self.client_id, out)
        return b"".join(request.encode(version, out))

    def _exchange(self, body: bytes) -> bytes:
        """The answer to these bytes; after an error the next request goes to a new connection."""
        try:
            self._send(body)
            return self._receive()
        except (Closed, OSError):
            self.close()
            raise

    def _send(self, body: bytes) -> None:
        self._send_all([body])

    def _send_all(self, bodies: Sequence[bytes]) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(
                (self.host, self.port), timeout=TIMEOUT_SECONDS, source_address=self._source
            )
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"".join(struct.pack(">i", len(body)) + body for body in bodies))

    def _receive(self) -> bytes:
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        assert self._socket is not None
        chunks = []
        while count:
            chunk = self._socket.recv(min(count, 1 << 20))
            if not chunk:
                raise Closed
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)


def body_begin(key: int, version: int) -> int:
    """Where an answer's body begins, if its header has no tagged fields."""
    return 5 if version >= APIS[key].flexible_from and key != 18 else 4


def decode_response(key: int, version: int, answer: bytes) -> dict[str, Any]:
    """The answer as a dictionary, with a note when its bytes are not the canonical layout."""
    response_class = ResponseClassRegistry._response_class_registry.get(key)
    position = body_begin(key, version)
    if position == 5 and answer[4] != 0:
        return {"header": "tagged fields in the response header"}
    body = answer[position:]
    decode_version = version
    if key == 18 and body[:2] == b"\x00\x23":
        decode_version = 0  # an unsupported ApiVersions is answered in the layout of version 0
    if key == 18 and body[:2] != b"\x00\x00":
        # kafka-python reads every error of this API in the layout of version 0; only UNSUPPORTED_VERSION comes so.
        refused, end = ApiVersionsResponse.decode(decode_version, body)
        return {
            "error_code": refused.error_code,
            "keys": [tuple(row_values(row)) for row in refused.api_keys],
            "left": len(body) - end,
        }
    if response_class is None or decode_version > response_class.max_version:
        return decoded_by_ours(key, decode_version, body)
    message = response_class.decode(body, version=decode_version)
    message._header = None
    decoded = message.to_dict()
    if bytes(message.encode(version=decode_version)) != body:
        decoded["layout"] = "not the bytes that an independent encoder writes"
    return decoded


def decoded_by_ours(key: int, version: int, body: bytes) -> dict[str, Any]:
    message, end = ours(key).decode(version, memoryview(body))
    decoded: dict[str, Any] = plain(message)
    if b"".join(map(bytes, message.encode(version, bytearray()))) != body or end != len(body):
        decoded["layout"] = "not the bytes that our own encoder writes"
    return decoded


def plain(value: Any) -> Any:
    """A message of ours as kafka-python would give it: dictionaries, lists, ids."""
    if isinstance(value, Struct):
        return {name: plain(getattr(value, name)) for name in value.__slots__}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return uuid.UUID(bytes=value) if isinstance(value, bytes) and len(value) == 16 else value


def row_values(row: ApiVersionsResponse.ApiVersion) -> tuple[int, int, int]:
    return row.api_key, row.min_version, row.max_version
