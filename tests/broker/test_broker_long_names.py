"""Names as long as the protocol allows, in every string of every request: no answer is too long to be written."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from codegen.spec import Field, StructSpec, load_apis

from kafkapy.handlers import ALL
from kafkapy.protocol.messages import request_class
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

REQUESTS = {api.key: api.messages[0] for api in load_apis()}
GATE = {17, 36}
"""Requests that are answered otherwise than by the registry."""

ASCII, GREEK = "x" * 0x7FFF, "λ" * 0x3FFF


def filled(struct: StructSpec, cls: Any, owner: Any, version: int, values: dict[str, Any]) -> Any:
    """A message with one element in all its arrays, these values in all fields of their types, and else defaults."""
    message = cls()
    for field in struct.fields:
        if field.versions.has(version) and (value := _value(field, owner, version, values)) is not None:
            setattr(message, field.attr, value)
    return message


def _value(field: Field, owner: Any, version: int, values: dict[str, Any]) -> Any:
    if field.struct is not None:
        value = filled(field.struct, getattr(owner, field.base), owner, version, values)
    elif field.base in values:
        value = values[field.base]
    else:
        return None
    return [value] if field.is_array else value


@pytest.mark.parametrize(
    "values", [{}, {"int8": 3, "int16": 1}], ids=["defaults", "others"]
)  # 3 is a kind of everything
@pytest.mark.parametrize("text", [ASCII, GREEK], ids=["ascii", "greek"])
async def test_the_longest_names_are_answered(
    start_broker: StartBroker, caplog: pytest.LogCaptureFixture, text: str, values: dict[str, Any]
) -> None:
    caplog.set_level(logging.WARNING)
    async with start_broker(memory=True) as broker:
        for route in ALL:
            if route.key in GATE:
                continue
            cls = request_class(route.key)
            for version in {route.min_version, route.max_version}:
                request = filled(REQUESTS[route.key].root, cls, cls, version, {"string": text, **values})
                async with await Wire.connect(broker.port) as wire:
                    with trio.fail_after(60):
                        await wire.send(request, version)
                        await wire.receive_frame()  # or the connection is closed, as Kafka does where it cannot answer
        assert [record.getMessage()[:200] for record in caplog.records if record.exc_info] == []
