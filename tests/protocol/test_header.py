import pytest

from kafkapy.protocol.header import (
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request_header,
    encode_response_header,
)
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.primitives import ProtocolError

FETCH, CONTROLLED_SHUTDOWN, SASL_HANDSHAKE, API_VERSIONS = 1, 7, 17, 18


def request(api_key: int, api_version: int, client_id: str | None = "me") -> bytes:
    out = bytearray()
    encode_request_header(api_key, api_version, 42, client_id, out)
    return bytes(out)


@pytest.mark.parametrize("client_id", ["me", "", None, "zoë"])
def test_a_request_header_comes_back_in_every_version(client_id: str | None) -> None:
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1):
            header = request(api.key, version, client_id)
            assert decode_request_header(header + b"body") == RequestHeader(
                api.key, version, 42, client_id, len(header)
            )


def test_the_client_id_is_an_old_string_even_where_the_header_is_flexible() -> None:
    assert request(FETCH, 11).hex() == "0001000b0000002a" + "00026d65"
    assert request(FETCH, 12).hex() == "0001000c0000002a" + "00026d65" + "00"


def test_unknown_tags_of_a_request_header_are_skipped() -> None:
    header = request(FETCH, 12)[:-1] + b"\x01\x05\x03abc"
    assert decode_request_header(memoryview(header + b"body")).body_offset == len(header)


def test_api_versions_above_ours_still_has_a_header() -> None:
    header = request(API_VERSIONS, 99)
    assert decode_request_header(header) == RequestHeader(API_VERSIONS, 99, 42, "me", len(header))
    assert decode_request_header(header[:8]) == RequestHeader(API_VERSIONS, 99, 42, None, 8)
    assert decode_request_header(header[:8] + b"\x00\x05ab") == RequestHeader(API_VERSIONS, 99, 42, None, 8)


def test_an_unknown_api_still_has_a_header() -> None:
    assert decode_request_header(request(CONTROLLED_SHUTDOWN, 0)) == RequestHeader(CONTROLLED_SHUTDOWN, 0, 42, "me", 12)
    assert decode_request_header(request(-1, -1)[:8]) == RequestHeader(-1, -1, 42, None, 8)
    assert decode_request_header(request(FETCH, -1)[:9]) == RequestHeader(FETCH, -1, 42, None, 8)


@pytest.mark.parametrize("size", range(13))
def test_a_header_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        decode_request_header(request(FETCH, 12)[:size])


def test_a_response_header_has_tags_where_the_api_is_flexible_but_never_for_api_versions() -> None:
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1):
            out = bytearray()
            encode_response_header(api.key, version, 7, out)
            flexible = version >= api.flexible_from and api.key != API_VERSIONS
            assert bytes(out) == b"\x00\x00\x00\x07" + (b"\x00" if flexible else b"")
            assert decode_response_header(api.key, version, out + b"body") == (7, len(out))


def test_the_sasl_handshake_has_no_flexible_version() -> None:
    assert APIS[SASL_HANDSHAKE].flexible_from == 32767
    out = bytearray()
    encode_response_header(SASL_HANDSHAKE, 1, 7, out)
    assert len(out) == 4


@pytest.mark.parametrize("response", [b"", b"\x00\x00\x00", b"\x00\x00\x00\x07", b"\x00\x00\x00\x07\x01\x00\x05"])
def test_a_response_header_that_is_cut_off_is_refused(response: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_response_header(FETCH, 12, response)
