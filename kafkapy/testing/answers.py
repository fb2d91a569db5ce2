"""Requests and answers as bytes, and as the messages that they are."""

from typing import Any, Final

from kafkapy.handlers.registry import Answer
from kafkapy.protocol.header import (
    RequestHeader,
    decode_response_header,
    encode_request_header,
    encode_response_header,
)
from kafkapy.protocol.messages import response_class

_LENGTH_BYTES: Final = 4


def request_frame(header: RequestHeader, request: Any) -> memoryview:
    """The frame of a request, without its length."""
    out = bytearray()
    encode_request_header(header.api_key, header.api_version, header.correlation_id, header.client_id, out)
    return memoryview(b"".join(request.encode(header.api_version, out)))


def bytes_of(answer: Answer) -> bytes:
    """All that would be sent, which is not to be sent any more."""
    return b"".join(piece if isinstance(piece, bytes | bytearray | memoryview) else _read(piece) for piece in answer)


def decoded_answer(header: RequestHeader, answer: Answer) -> Any:
    """The message that is sent with its length; it is not to be sent any more. Raises ProtocolError."""
    frame = bytes_of(answer)
    _, offset = decode_response_header(header.api_key, header.api_version, frame[_LENGTH_BYTES:])
    return response_class(header.api_key).decode(header.api_version, frame, offset + _LENGTH_BYTES)[0]


def framed_answer(header: RequestHeader, response: Any) -> Answer:
    """The answer to a request, with its length."""
    out = bytearray(_LENGTH_BYTES)
    encode_response_header(header.api_key, header.api_version, header.correlation_id, out)
    frame = bytearray(b"".join(response.encode(header.api_version, out)))
    frame[:_LENGTH_BYTES] = (len(frame) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES)
    return [frame]


def _read(region: Any) -> bytes:
    """The bytes of a region."""
    data: bytes = region.read(len(region))
    region.advance(len(data))
    return data
