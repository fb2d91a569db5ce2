"""Asks the questions of `rights_cases.py` with no right, and with each single one; compares and keeps the answers.

Everybody is ANONYMOUS on a listener without authentication; ACLs tell people apart by where they come from. The
administrator comes from 127.0.0.1 and is the first to have ACLs, on everything; so from then on whoever comes from
127.0.0.2 may do what ACLs say, and nothing else.
"""

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from brokers import KAFKA_VERSION
from normalise import Normaliser, differences
from probe import Closed, Probe, decoded_by_ours
from rights_cases import KEYS, QUESTIONS, Names, inner, made

from kafkapy.model import Operation, ResourceType

PATH = Path(__file__).resolve().parent / f"apache-kafka-{KAFKA_VERSION}-rights.json.gz"
ADMIN, GUEST = "127.0.0.1", "127.0.0.2"
LITERAL, PREFIXED, ALLOW, ANY = 3, 4, 3, 1

_T, _G, _C, _X = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER, ResourceType.TRANSACTIONAL_ID
_KINDS = {
    _T: "READ WRITE CREATE DELETE ALTER DESCRIBE DESCRIBE_CONFIGS ALTER_CONFIGS",
    _G: "READ DELETE DESCRIBE DESCRIBE_CONFIGS ALTER_CONFIGS",
    _C: "CREATE DELETE ALTER DESCRIBE CLUSTER_ACTION DESCRIBE_CONFIGS ALTER_CONFIGS IDEMPOTENT_WRITE",
    _X: "DESCRIBE WRITE",
}


class Right(NamedTuple):
    """What the guest may do, to which kinds of resource."""

    name: str
    acls: tuple[tuple[ResourceType, Operation], ...]


RIGHTS = (
    Right("none", ()),
    Right("describe all", tuple((kind, Operation.DESCRIBE) for kind in _KINDS)),
    *(
        Right(f"{operation} on {kind.name}", ((kind, Operation[operation]),))
        for kind, operations in _KINDS.items()
        for operation in operations.split()
    ),
    Right("write to topic and transactional id", ((_T, Operation.WRITE), (_X, Operation.WRITE))),
    Right("read topic and group", ((_T, Operation.READ), (_G, Operation.READ))),
    Right("read all, write in transactions", ((_T, Operation.READ), (_G, Operation.READ), (_X, Operation.WRITE))),
    Right("describe and delete topics", ((_T, Operation.DESCRIBE), (_T, Operation.DELETE))),
    Right("describe and create topics", ((_T, Operation.DESCRIBE), (_T, Operation.CREATE))),
    Right("all", tuple((kind, Operation.ALL) for kind in _KINDS)),
)

_REQUEST = re.compile(r"^Request .* needs (\w+) permission\.$", re.DOTALL)
_NO_NAME = re.compile(r"[^A-Za-z]+")
_PREFIX = "rights"


class Room:
    """One broker, and what there is on it to ask about."""

    def __init__(self, host: str, port: int) -> None:
        self.admin = Probe(host, port, source=ADMIN)
        self.guest = Probe(host, port, source=GUEST)

    def ask(self, probe: Probe, request: Any, version: int) -> dict[str, Any]:
        try:
            body = probe.exchange(request, version)
        except (Closed, ConnectionError):
            return {"connection": "closed"}
        except TimeoutError:
            return {"connection": "no answer"}
        return decoded_by_ours(request.API_KEY, version, body)

    def serves(self, about: str) -> bool:
        """Whether the broker says that it serves a question's API."""
        served = {row["api_key"] for row in self.as_admin("ApiVersions", 0)["api_keys"]}
        return KEYS[about.split()[0]] in served

    def as_admin(self, api: str, version: int, /, **fields: Any) -> dict[str, Any]:
        return self.ask(self.admin, made(api, **fields), version)

    def prepare(self) -> Names:
        """The administrator's ACLs, and what questions ask about."""
        everywhere = [(_T, "*"), (_G, "*"), (_X, "*"), (_C, "kafka-cluster")]
        self._acls([(kind, name, LITERAL, Operation.ALL) for kind, name in everywhere], ADMIN)
        for kind, key in ((0, f"{_PREFIX}-g"), (1, f"{_PREFIX}-x")):
            _until(lambda kind=kind, key=key: self._has_coordinator(kind, key))
        names = Names(f"{_PREFIX}-t", b"", f"{_PREFIX}-g", f"{_PREFIX}-x", f"{_PREFIX}-missing", "", "", b"")
        names = names._replace(topic_id=self._topic(names.topic))
        commit = inner(
            "OffsetCommit",
            "OffsetCommitRequestTopic",
            name=names.topic,
            partitions=[inner("OffsetCommit", "OffsetCommitRequestPartition", partition_index=0, committed_offset=1)],
        )
        _until(lambda: _codes(self.as_admin("OffsetCommit", 8, group_id=names.group, topics=[commit])) == {0})
        begin = {"transactional_id": names.transactional_id, "transaction_timeout_ms": 60_000}
        _until(lambda: self.as_admin("InitProducerId", 4, **begin)["error_code"] == 0)
        return names

    def _has_coordinator(self, kind: int, key: str) -> bool:
        return self.as_admin("FindCoordinator", 3, key_type=kind, key=key)["error_code"] == 0

    def _topic(self, name: str) -> bytes:
        topic = inner("CreateTopics", "CreatableTopic", name=name, num_partitions=1, replication_factor=1)
        self.as_admin("CreateTopics", 7, topics=[topic], timeout_ms=10_000)
        asked = inner("ListOffsets", "ListOffsetsPartition", partition_index=0, timestamp=-1)
        question = {"topics": [inner("ListOffsets", "ListOffsetsTopic", name=name, partitions=[asked])]}
        _until(lambda: _codes(self.as_admin("ListOffsets", 7, **question)) == {0})
        named = inner("Metadata", "MetadataRequestTopic", name=name)
        topic_id: bytes = self.as_admin("Metadata", 12, topics=[named])["topics"][0]["topic_id"].bytes
        return topic_id

    def allow(self, right: Right) -> None:
        """Let the guest do that, and nothing else."""
        patterns = dict.fromkeys(_KINDS, (_PREFIX, PREFIXED)) | {_C: ("kafka-cluster", LITERAL)}
        self._acls([(kind, *patterns[kind], operation) for kind, operation in right.acls], GUEST)

    def forbid(self) -> None:
        """Take every right from the guest."""
        filters = [inner("DeleteAcls", "DeleteAclsFilter", **_of_host(GUEST))]
        self.as_admin("DeleteAcls", 3, filters=filters)
        _until(lambda: self._acl_count(GUEST) == 0)

    def _acls(self, acls: list[tuple[int, str, int, int]], host: str) -> None:
        creations = [
            inner(
                "CreateAcls",
                "AclCreation",
                resource_type=kind,
                resource_name=name,
                resource_pattern_type=pattern,
                principal="User:ANONYMOUS",
                host=host,
                operation=operation,
                permission_type=ALLOW,
            )
            for kind, name, pattern, operation in acls
        ]
        if creations:
            self.as_admin("CreateAcls", 3, creations=creations)
        _until(lambda: self._acl_count(host) == len(acls))

    def _acl_count(self, host: str) -> int:
        """How many there are, as the broker knows, which may hear of a change after the answer about it."""
        described = self.as_admin("DescribeAcls", 3, **_of_host(host))
        return sum(len(resource["acls"]) for resource in described["resources"])

    def close(self) -> None:
        self.admin.close()
        self.guest.close()


def play_all(host: str, port: int, only: str = "") -> dict[str, Any]:
    """The answers to every question whose name contains the text, with every right: question -> right -> answer."""
    room = Room(host, port)
    try:
        names = room.prepare()
        chosen = {
            about: ask for about, ask in QUESTIONS.items() if only.lower() in about.lower() and room.serves(about)
        }
        answers: dict[str, Any] = {about: {} for about in chosen}
        for number, right in enumerate(RIGHTS):
            room.allow(right)
            for about, ask in chosen.items():
                own = f"{_PREFIX}-{number}-{_NO_NAME.sub('-', about)}"
                names = names._replace(new=f"{own}-new", fresh=f"{own}-fresh")
                if about.startswith(("Produce", "DeleteTopics")):
                    names = names._replace(fresh_id=room._topic(names.fresh))
                request, version = ask(names)
                answers[about][right.name] = _plain(room.ask(room.guest, request, version), own)
            room.forbid()
        return answers
    finally:
        room.close()


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Every difference in the answers to our questions."""
    return [
        f"{about}, {right}: {line}"
        for about, answers in ours.items()
        for right, answer in answers.items()
        for line in differences(answer, theirs[about][right])
    ]


def save(answers: dict[str, Any]) -> None:
    """Write the record; the same answers give the same bytes."""
    answers = {about: answer for about, answer in answers.items() if about in QUESTIONS}
    PATH.write_bytes(gzip.compress(json.dumps(answers, sort_keys=True).encode(), mtime=0))


def load() -> dict[str, Any]:
    """What Apache Kafka answered."""
    answers: dict[str, Any] = json.loads(gzip.decompress(PATH.read_bytes()))
    return answers


def _plain(answer: Any, own: str) -> Any:
    """An answer that can be compared and written down: ids, times and `own` names as symbols, entries in an order."""
    text = json.dumps(Normaliser(_PREFIX)(answer)).replace(own.replace(_PREFIX, "<case>", 1), "<case>-own")
    return _sorted(json.loads(text))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(inner_value) for key, inner_value in value.items()}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, str) and (needed := _REQUEST.match(value)):
        return f"Request <request> needs {needed[1]} permission."
    return value


def _codes(value: Any) -> set[int]:
    """Every error code in an answer."""
    if isinstance(value, dict):
        own = {value["error_code"]} if "error_code" in value else set()
        return own.union(*map(_codes, value.values()))
    return set().union(*map(_codes, value)) if isinstance(value, list) else set()


def _of_host(host: str) -> dict[str, Any]:
    return {
        "resource_type_filter": ANY,
        "resource_name_filter": None,
        "pattern_type_filter": ANY,
        "principal_filter": None,
        "host_filter": host,
        "operation": ANY,
        "permission_type": ANY,
    }


def _until(holds: Any) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise TimeoutError("the broker did not come to know of what it was told")
