"""Every API as a user without rights, and with each single one: what Apache Kafka answered, and what the table says."""

import sys
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "compat" / "differential"), str(ROOT / "compat"), str(ROOT / "scripts")]

from required_rights import required_rights
from rights_player import RIGHTS, compared, load, play_all

GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
IMPLYING = {
    "DESCRIBE": {"DESCRIBE", "READ", "WRITE", "DELETE", "ALTER"},
    "DESCRIBE_CONFIGS": {"DESCRIBE_CONFIGS", "ALTER_CONFIGS"},
}


async def test_with_every_single_right_the_answers_are_those_of_apache_kafka(start_broker: Any) -> None:
    async with start_broker(settings=GUARDED, memory=True) as broker:
        ours = await trio.to_thread.run_sync(play_all, "127.0.0.1", broker.port)
    assert len(ours) > 60
    found = compared(ours, load())
    assert not found, "\n".join(found)


def test_what_changes_apache_kafkas_answers_is_what_the_table_says() -> None:
    required = required_rights()
    single = {right.name: right.acls[0] for right in RIGHTS if len(right.acls) == 1}
    wrong = []
    for about, answers in load().items():
        api = about.split()[0]
        if api not in required:
            continue
        listed = {
            (operation, right.resource_type)
            for right in required[api]
            for operation in IMPLYING.get(right.operation, {right.operation})
        }
        for name, (resource_type, operation) in single.items():
            if answers[name] != answers["none"] and (operation.name, resource_type.name) not in listed:
                wrong.append(f"{about}: {name} changes the answer, and is not in the table")
        if answers["all"] == answers["none"] and required[api] and "who has not said" not in about:
            wrong.append(f"{about}: nothing changes the answer")
    assert not wrong, "\n".join(wrong)
