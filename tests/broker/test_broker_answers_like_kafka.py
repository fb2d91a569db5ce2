"""Every API, every version: the answers that Apache Kafka gave to the same questions, as recorded."""

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import kafkapy.broker

COMPAT = Path(__file__).resolve().parent.parent.parent / "compat"
sys.path[:0] = [str(COMPAT / "differential"), str(COMPAT)]

from explained import EXPLAINED
from normalise import differences
from player import chosen, play
from recorded import load


async def _clean_nothing(*_: Any, **__: Any) -> None:
    """What a case has written is to be there when it looks, however long that takes here."""
    await trio.sleep_forever()


async def test_the_answers_are_those_of_apache_kafka(start_broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafkapy.broker, "clean_logs", _clean_nothing)
    recorded = load()
    found = []
    count = 0
    async with start_broker() as broker:
        for api, about, version, case in chosen(""):
            ours = await trio.to_thread.run_sync(play, case, "127.0.0.1", broker.port, version)
            theirs = recorded[f"{api} v{version}: {about}"]
            count += 1
            found += [
                f"{api} v{version}: {about}: {line}"
                for line in differences(ours, theirs, "answers")
                if not any(rule in f"{api}: {about} {line}" for rule in EXPLAINED)
            ]
    assert count == len(recorded)
    assert not found, "\n".join(found)
