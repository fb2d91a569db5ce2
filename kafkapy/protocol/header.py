"""Request and response headers, both ways.

Two exceptions of the protocol live here and nowhere else: an ApiVersions response has the old header (without tagged
fields) in every version, for the client does not know yet what the broker speaks (KIP-511); and a request's client id
is an old-style string even where the header is flexible (KIP-482).

Called by the connection, and by clients in tests and tools.
"""

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Final

from kafkapy.protocol.messages import APIS
from kafkapy.protocol.primitives import Buffer, ProtocolError, skip_tags
from kafkapy.protocol.text import REPLACING

API_VERSIONS: Final = 18

_FIXED: Final = Struct(">hhi")
_LENGTH: Final = Struct(">h")
_FIXED_AND_LENGTH: Final = Struct(">hhih")
_CORRELATION: Final = Struct(">i")


@dataclass(slots=True)
class RequestHeader:
    """What stands before a request's body; `body_offset` is where the body starts in the frame."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_offset: int


def is_flexible(api_key: int, api_version: int) -> bool:
    """Whether this version of the API has compact types and tagged fields; an unknown API has not."""
    api = APIS.get(api_key)
    return api is not None and api_version >= api.flexible_from


def decode_request_header(frame: Buffer) -> RequestHeader:
    """The header at the beginning of a frame. Raises `ProtocolError`.

    For an API key or a version that the specs do not know, the first three fields are enough to answer or refuse the
    request: what follows is read if it can be, else the client id is None and the body starts at byte 8. The body of
    such a request is not to be decoded.
    """
    size = len(frame)
    if size < _FIXED.size:
        raise ProtocolError(f"a request header is cut off after {size} bytes")
    try:
        api_key, api_version, correlation_id, length = _FIXED_AND_LENGTH.unpack_from(frame)
        offset = _FIXED_AND_LENGTH.size
        client_id = None
        if length >= 0:
            client_id = str(frame[offset : offset + length], "utf-8", REPLACING)
            offset += length
        api = APIS.get(api_key)
        if api is not None and api_version >= api.flexible_from:
            if offset < size and frame[offset] == 0:
                offset += 1
            else:
                offset = skip_tags(frame, offset)
        if offset > size:
            raise ProtocolError("it is cut off")
    except (IndexError, StructError, ProtocolError) as error:
        return _bare_header(frame, str(error))
    return RequestHeader(api_key, api_version, correlation_id, client_id, offset)


def _bare_header(frame: Buffer, problem: str) -> RequestHeader:
    """The first three fields of a header whose rest cannot be read, unless that rest is known to be malformed."""
    api_key, api_version, correlation_id = _FIXED.unpack_from(frame)
    api = APIS.get(api_key)
    if api is not None and 0 <= api_version <= api.max_version:
        raise ProtocolError(f"malformed request header: {problem}")
    return RequestHeader(api_key, api_version, correlation_id, None, _FIXED.size)


def encode_request_header(
    api_key: int, api_version: int, correlation_id: int, client_id: str | None, out: bytearray
) -> None:
    """Append the header of a request."""
    out += _FIXED.pack(api_key, api_version, correlation_id)
    if client_id is None:
        out += _LENGTH.pack(-1)
    else:
        raw = client_id.encode()
        out += _LENGTH.pack(len(raw))
        out += raw
    if is_flexible(api_key, api_version):
        out.append(0)


def encode_response_header(api_key: int, api_version: int, correlation_id: int, out: bytearray) -> None:
    """Append the header of a response."""
    out += _CORRELATION.pack(correlation_id)
    api = APIS.get(api_key)
    if api is not None and api_version >= api.flexible_from and api_key != API_VERSIONS:
        out.append(0)


def decode_response_header(api_key: int, api_version: int, frame: Buffer) -> tuple[int, int]:
    """The correlation id of a response, and where its body starts in the frame. Raises `ProtocolError`."""
    if len(frame) < _CORRELATION.size:
        raise ProtocolError(f"a response header is cut off after {len(frame)} bytes")
    (correlation_id,) = _CORRELATION.unpack_from(frame)
    offset = _CORRELATION.size
    if api_key != API_VERSIONS and is_flexible(api_key, api_version):
        try:
            offset = skip_tags(frame, offset)
        except IndexError as error:
            raise ProtocolError(f"malformed response header: {error}") from error
        if offset > len(frame):
            raise ProtocolError("a response header is cut off")
    return correlation_id, offset
