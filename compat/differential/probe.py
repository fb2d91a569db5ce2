"""One connection to a broker: sends what a case asks for, and keeps a trace of what came back.

Requests are built with kafkapy's generated classes. Answers are decoded with kafka-python's codec, which none of us
wrote; that it re-encodes an answer to the very bytes that came holds the layout too.
"""

import importlib
import socket
import struct
from typing import Any

from kafka.protocol.api_header import ResponseClassRegistry

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages.api_versions import ApiVersionsResponse

for module in ("metadata", "admin", "consumer", "producer"):
    importlib.import_module(f"kafka.protocol.{module}")

TIMEOUT_SECONDS = 15


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Probe:
    """A client that sends one request at a time and writes down the answers."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.trace: list[Any] = []
        self._socket: socket.socket | None = None
        self._correlation_id = 0

    def call(self, request: Any, version: int, *, note: bool = True) -> dict[str, Any]:
        """Send a request and return the decoded answer; it goes into the trace unless `note` is false."""
        out = bytearray(4)
        self._correlation_id += 1
        encode_request_header(request.API_KEY, version, self._correlation_id, "differential", out)
        frame = b"".join(request.encode(version, out))
        return self.call_raw(request.API_KEY, version, frame[4:], note=note)

    def send_only(self, request: Any, version: int) -> None:
        """Send a request that gets no answer, or one for which `answer` waits later."""
        out = bytearray(4)
        self._correlation_id += 1
        encode_request_header(request.API_KEY, version, self._correlation_id, "differential", out)
        self._send(b"".join(request.encode(version, out))[4:])

    def answer(self, key: int, version: int) -> dict[str, Any]:
        """The answer to the oldest request that was only sent; noted."""
        decoded = decode_response(key, version, self._receive())
        self.trace.append(decoded)
        return decoded

    def call_raw(self, key: int, version: int, body: bytes, *, note: bool = True) -> dict[str, Any]:
        """Send a request given as bytes (header included); raises nothing: a closed connection is an answer too."""
        try:
            self._send(body)
            answer = self._receive()
        except (Closed, ConnectionError):
            self.close()
            decoded: dict[str, Any] = {"connection": "closed"}
        except TimeoutError:
            self.close()
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

    def _send(self, body: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), timeout=TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(struct.pack(">i", len(body)) + body)

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


def decode_response(key: int, version: int, answer: bytes) -> dict[str, Any]:
    """The answer as a dictionary, with a note when its bytes are not the canonical layout."""
    response_class = ResponseClassRegistry._response_class_registry[key]
    flexible = version >= APIS[key].flexible_from and key != 18
    position = 4
    if flexible:
        if answer[4] != 0:
            return {"header": "tagged fields in the response header"}
        position = 5
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
    message = response_class.decode(body, version=decode_version)
    message._header = None
    decoded = message.to_dict()
    if bytes(message.encode(version=decode_version)) != body:
        decoded["layout"] = "not the bytes that an independent encoder writes"
    return decoded


def row_values(row: ApiVersionsResponse.ApiVersion) -> tuple[int, int, int]:
    return row.api_key, row.min_version, row.max_version
