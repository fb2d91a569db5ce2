"""Reads what Apache Kafka's DumpLogSegments says of a journal, and makes two brokers' records comparable.

Records are gathered by what they are about (a group, a topic), so that one more or less shows at its place; ids become
symbols, times and epochs of brokers are left out, all else stays.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Records = dict[str, list[dict[str, Any]]]

_RECORD = re.compile(r"^\| offset: .* headerKeys: \[[^]]*\] (?:key|payload): ")
"""Where a record's key begins, or its payload where there is no key; control records have neither."""
_DELETED = "<DELETE>"
_ID = re.compile(r"^[A-Za-z0-9_-]{22}$")
_MEMBER = re.compile(r"^(.*)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
_TIMES = {
    *("commitTimestamp", "expireTimestamp", "currentStateTimestamp", "assignmentTimestamp", "timestamp"),
    *("transactionLastUpdateTimestampMs", "transactionStartTimestampMs", "createTimestamp", "writeTimestamp"),
}
_IDS = {"topicId", "directories", "memberId", "leader"}
_DECODER = json.JSONDecoder()
OF_THE_NODE = {
    "CLEAR_ELR_RECORD",
    "BEGIN_TRANSACTION_RECORD",
    "END_TRANSACTION_RECORD",
    "NO_OP_RECORD",
    "REGISTER_BROKER_RECORD",
    "REGISTER_CONTROLLER_RECORD",
    "BROKER_REGISTRATION_CHANGE_RECORD",
}
"""What a KRaft node writes of itself and of who may lead; kafkapy has announcements and leases for that."""


def group_records(dump: str) -> Records:
    """The records of `__consumer_offsets`, by group."""
    found: Records = {}
    for key, payload in _parsed(dump):
        about = {"key": key} | ({"deleted": True} if payload is None else {"value": payload})
        if payload and "members" in payload["data"]:
            payload["data"]["members"].sort(key=_without_ids)
        if payload and "initializedTopics" in payload["data"]:
            payload["data"]["initializedTopics"].sort(key=lambda topic: topic["topicName"])
        named = key["data"]
        group = named["group"] if "group" in named else named["groupId"]  # in the older kinds of records, and the newer
        found.setdefault(group, []).append(about)
    return {group: _ordered(Symbols()(records)) for group, records in found.items()}


def keyed_records(dump: str) -> Records:
    """The records of `__transaction_state` and `__share_group_state`, by id and by partition of a group."""
    found: Records = {}
    for key, payload in _parsed(dump):
        about = {"key": key} | ({"deleted": True} if payload is None else {"value": payload})
        named = key["data"]
        for partitions in (payload["data"].get("transactionPartitions") or []) if payload else []:
            partitions["partitionIds"].sort()
        if payload and payload["data"].get("transactionPartitions"):
            payload["data"]["transactionPartitions"].sort(key=lambda topic: topic["topic"])
        subject = named.get("transactionalId") or f"{named['groupId']}, partition {named['partition']}"
        found.setdefault(subject, []).append(about)
    return {subject: Symbols()(records) for subject, records in found.items()}


def _without_ids(member: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in member.items() if name != "memberId"})


def _ordered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of records that Kafka writes in the order of a hash table, by their names: what is deleted, settings."""
    ordered: list[dict[str, Any]] = []
    for (is_row, _), group in itertools.groupby(records, key=_row):
        row = list(group)
        ordered += sorted(row, key=json.dumps) if is_row else row
    return ordered


def _row(record: dict[str, Any]) -> tuple[bool, str]:
    kind = "deleted" if "deleted" in record else record.get("type", "")
    return kind in ("deleted", "CONFIG_RECORD", "CLIENT_QUOTA_RECORD"), kind


def metadata_records(dump: str) -> Records:
    """The records of the metadata log, by topic; others by their type."""
    found: Records = {}
    topics: dict[str, str] = {}
    for _, payload in _parsed(dump):
        assert payload is not None
        kind, data = payload["type"], payload["data"]
        if kind == "TOPIC_RECORD":
            topics[data["topicId"]] = data["name"]
        about = topics.get(data.get("topicId"), "") or data.get("resourceName") or data.get("topicName") or kind
        if kind not in OF_THE_NODE:
            found.setdefault(about, []).append(payload)
    return {about: _ordered(Symbols()(records)) for about, records in found.items()}


def _parsed(dump: str) -> Iterator[tuple[Any, Any]]:
    """Key and payload of each record; no key in the metadata log, no payload where the key's record is deleted."""
    for line in dump.splitlines():
        if match := _RECORD.match(line):
            first, end = _DECODER.raw_decode(line, match.end())
            rest = line[end:].removeprefix(" payload: ")
            if end == len(line):
                yield None, first
            else:
                yield first, None if rest == _DELETED else json.loads(rest)


class Symbols:
    """Puts symbols in the place of what no two brokers have the same."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self(inner, name) for inner in value]
        if name in _TIMES and value > 0:
            return "<time>"
        if name == "brokerEpoch":
            return "<broker epoch>"
        if isinstance(value, str) and name in _IDS and _ID.match(value):
            return self._known.setdefault(value, f"<id {len(self._known) + 1}>")
        if isinstance(value, str) and (match := _MEMBER.match(value)):
            return self._known.setdefault(value, f"<member {match.group(1)} {len(self._known) + 1}>")
        return value


def unexplained(lines: Iterable[str], explained: dict[str, str]) -> list[str]:
    """The differences that no rule is about."""
    return [line for line in lines if not any(re.search(rule, line) for rule in explained)]
