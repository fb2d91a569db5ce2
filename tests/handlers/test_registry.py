"""Every API, every version: a refusal and a failure reach the client as an error in that version's layout."""

import struct
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol"))

from codegen.spec import StructSpec
from spec_values import api_messages, project, tree

from kafkapy.clock import ManualClock
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers import ALL, Route
from kafkapy.handlers.context import Context, Session
from kafkapy.handlers.registry import Registry
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import APIS, response_class
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kafkapy.protocol.messages.list_groups import ListGroupsRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.primitives import Struct

MESSAGES = api_messages()
SESSION = Session("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, "127.0.0.1", 50000)

WITHOUT_ERROR_CODE = {(35, 1), (35, 2)}
"""API and version of answers that have no place for an error: DescribeLogDirs, where Kafka too names no directory."""


def cases() -> Iterator[Any]:
    for route in ALL:
        for version in range(route.min_version, route.max_version + 1):
            yield pytest.param(route, version, id=f"{APIS[route.key].name} v{version}")


def error_codes(value: Any, *, nested: bool = False) -> Iterator[int]:
    """Every error code in a message; with `nested`, those of what it lists only."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Struct):
            for name in item.__slots__:
                if name in ("error_code", "partition_error_code"):
                    if not nested:
                        yield getattr(item, name)
                else:
                    yield from error_codes(getattr(item, name))


def asking_for_one(struct: StructSpec, owner: type, cls: type, version: int) -> Any:
    """A request in which every field has a value, and every list one entry."""
    request = cls()
    for field in struct.fields:
        if not field.versions.has(version):
            continue
        if field.struct is not None:
            value = asking_for_one(field.struct, owner, getattr(owner, field.base), version)
        else:
            value = {"string": "x", "bytes": b"", "records": b"", "uuid": bytes(15) + b"x"}.get(field.base, 1)
        setattr(request, field.attr, [value] if field.is_array else value)
    return request


def request_for(route: Route, version: int) -> Any:
    _, spec, cls = MESSAGES[APIS[route.key].name + "Request"]
    return asking_for_one(spec.root, cls, cls, version)


def framed(request: Any, version: int) -> memoryview:
    out = bytearray()
    encode_request_header(request.API_KEY, version, 7, "me", out)
    return memoryview(b"".join(request.encode(version, out)))


async def answer(route: Route, version: int, request: Any, handle: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a client gets when `handle` stands for the API's handler; None when it gets no answer."""
    monkeypatch.setattr(import_module(f"kafkapy.handlers.{route.module}"), "handle", handle)
    rooms: Any = SimpleNamespace(clock=ManualClock())
    buffers = await Registry(rooms).dispatch(framed(request, version), SESSION)
    if buffers is None:
        return None
    frame = b"".join(buffers)
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    correlation_id, offset = decode_response_header(route.key, version, frame[4:])
    assert correlation_id == 7
    response, end = response_class(route.key).decode(version, frame[4:], offset)
    assert end == len(frame) - 4
    return response


async def refusing(request: Any, ctx: Context) -> Any:
    raise KafkaError(Error.KAFKA_STORAGE_ERROR, "why")


async def failing(request: Any, ctx: Context) -> Any:
    raise RuntimeError("a bug")


async def unencodable(request: Any, ctx: Context) -> Any:
    response = response_class(ctx.api_key)()
    for name in response.__slots__:
        setattr(response, name, object())
    return response


@pytest.mark.parametrize(("route", "version"), list(cases()))
@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (refusing, Error.KAFKA_STORAGE_ERROR),
        (failing, Error.UNKNOWN_SERVER_ERROR),
        (unencodable, Error.UNKNOWN_SERVER_ERROR),
    ],
)
async def test_an_error_is_told_in_the_layout_of_the_version(
    route: Route, version: int, handle: Any, error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = await answer(route, version, request_for(route, version), handle, monkeypatch)
    assert (error in set(error_codes(response))) == ((route.key, version) not in WITHOUT_ERROR_CODE)
    assert set(error_codes(response, nested=True)) <= {error}


@pytest.mark.parametrize("route", ALL, ids=lambda route: APIS[route.key].name)
def test_whatever_was_asked_the_error_can_be_told(route: Route) -> None:
    _, spec, cls = MESSAGES[APIS[route.key].name + "Request"]

    @given(st.data())
    @settings(max_examples=25, deadline=None)
    def check(data: st.DataObject) -> None:
        version = data.draw(st.integers(route.min_version, route.max_version))
        request = project(spec, cls, data.draw(tree(spec.root)), version)
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                response = trio.run(answer, route, version, request, refusing, monkeypatch)
            except CloseConnection:
                assert request.acks == 0
            else:
                assert set(error_codes(response, nested=True)) <= {Error.KAFKA_STORAGE_ERROR}

    check()


async def test_a_failure_is_logged_with_what_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    route = next(route for route in ALL if route.key == ListGroupsRequest.API_KEY)
    await answer(route, 5, ListGroupsRequest(), failing, monkeypatch)
    [record] = caplog.records
    assert "ListGroups version 5 of client 'me'" in record.getMessage()
    assert record.exc_info is not None


async def test_a_failed_produce_with_acks_0_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CloseConnection):
        await answer(ALL[0], 9, ProduceRequest(acks=0), failing, monkeypatch)


@pytest.mark.parametrize(
    ("key", "version", "named"),
    [
        (3, 14, "Metadata version 14"),
        (3, -1, "Metadata version -1"),
        (1, 3, "Fetch version 3"),
        (78, 1, "ShareFetch"),
        (95, 0, "95"),
    ],
)
async def test_what_is_not_served_ends_the_connection(key: int, version: int, named: str) -> None:
    rooms: Any = None
    frame = memoryview(struct.pack(">hhih2s", key, version, 1, 2, b"me") + bytes(20))
    with pytest.raises(CloseConnection, match=named):
        await Registry(rooms).dispatch(frame, SESSION)


@pytest.mark.parametrize("version", [-1, 6, 32767])
async def test_an_unknown_version_of_api_versions_hears_which_are_known(version: int) -> None:
    rooms: Any = None
    buffers = await Registry(rooms).dispatch(memoryview(struct.pack(">hhih", 18, version, 7, -1)), SESSION)
    assert buffers is not None
    assert b"".join(buffers)[4:] == struct.pack(">ihihhh", 7, Error.UNSUPPORTED_VERSION, 1, 18, 0, 5)


@pytest.mark.parametrize(
    ("name", "version"), [("", "1"), ("x", ""), ("-x", "1"), ("x y", "1"), ("x", "1_0"), ("x-", "1")]
)
async def test_client_software_must_have_a_decent_name(name: str, version: str) -> None:
    rooms: Any = None
    request = ApiVersionsRequest(client_software_name=name, client_software_version=version)
    buffers = await Registry(rooms).dispatch(framed(request, 3), SESSION)
    assert buffers is not None
    response, _ = ApiVersionsResponse.decode(3, b"".join(buffers), 8)
    assert (response.error_code, response.api_keys) == (Error.INVALID_REQUEST, [])


def unserved(key: int, version: int, client_id: str) -> memoryview:
    return memoryview(struct.pack(f">hhih{len(client_id)}sx", key, version, 1, len(client_id), client_id.encode()))


async def ask_for_what_is_not_served(registry: Registry, *frames: memoryview) -> None:
    for frame in frames:
        with pytest.raises(CloseConnection):
            await registry.dispatch(frame, SESSION)


async def test_what_is_not_served_is_told_once_a_client_and_api(caplog: pytest.LogCaptureFixture) -> None:
    rooms: Any = None
    registry = Registry(rooms)
    unregister, other, future = 94, 998, 3
    await ask_for_what_is_not_served(registry, *[unserved(unregister, 0, "adm")] * 3, unserved(unregister, 1, "adm"))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "UnregisterController version 0 of client 'adm' at 127.0.0.1: not served" in record.getMessage()
    await ask_for_what_is_not_served(registry, unserved(unregister, 0, "other"), unserved(other, 0, "adm"))
    await ask_for_what_is_not_served(registry, unserved(future, 99, "adm"), unserved(999, 0, "adm"))
    assert [record.getMessage().partition(" at ")[0] for record in caplog.records[1:]] == [
        "UnregisterController version 0 of client 'other'",
        "API key 998 version 0 of client 'adm'",
        "Metadata version 99 of client 'adm'",
        "API key 999 version 0 of client 'adm'",
    ]


async def test_what_is_remembered_of_clients_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    rooms: Any = None
    registry = Registry(rooms)
    clients = [unserved(999, 0, f"client {number}") for number in range(1001)]
    await ask_for_what_is_not_served(registry, *clients)
    assert len(caplog.records) == 1001
    await ask_for_what_is_not_served(registry, clients[500], clients[0])
    assert [record.getMessage().count("client 0") for record in caplog.records[1001:]] == [1]
