"""The nouns that every floor shares: frozen, small, without behaviour.

Topic ids and cluster ids are 16 raw bytes in memory and on the wire; people see them in URL-safe base64 without
padding, as every Kafka tool prints them.
"""

import base64
import os
from enum import IntEnum
from typing import Final, NamedTuple

ZERO_UUID = bytes(16)

METADATA_TOPIC = "__cluster_metadata"
"""Its one log tells of all other topics."""

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_LEADER_EPOCH = -1


class TopicPartition(NamedTuple):
    """A partition by its topic's name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class LogId(NamedTuple):
    """One partition's log. The topic id tells a re-created topic's log from that of its namesake."""

    topic: str
    partition: int
    topic_id: bytes

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class IsolationLevel(IntEnum):
    """How far a reader may see (KIP-98): to the high watermark, or to the last stable offset."""

    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1


class Principal(NamedTuple):
    """Who sends a request."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


ANONYMOUS = Principal("User", "ANONYMOUS")


class ScramCredential(NamedTuple):
    """What is stored of a user's password for SCRAM: nobody can log in with it, nor learn the password quickly."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class Operation(IntEnum):
    """What may be allowed or denied on a resource; the value is the code on the wire and the bit in a bitfield."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class ResourceType(IntEnum):
    """What an operation is done to; the value is the code on the wire."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


CLUSTER_NAME = "kafka-cluster"
"""The one resource of type CLUSTER."""


NOBODY: Final = -1
"""In place of the node id of a leader."""


class Endpoint(NamedTuple):
    """Where a listener can be reached."""

    listener: str
    host: str
    port: int
    security_protocol: str


def random_uuid() -> bytes:
    """A new id of 16 bytes: a UUID of version 4 whose text form does not begin with a dash, which command lines would
    take for an option.
    """
    while True:
        uuid = os.urandom(16)
        uuid = uuid[:6] + bytes([uuid[6] & 0x0F | 0x40]) + uuid[7:]
        uuid = uuid[:8] + bytes([uuid[8] & 0x3F | 0x80]) + uuid[9:]
        if not format_uuid(uuid).startswith("-"):
            return uuid


def format_uuid(uuid: bytes) -> str:
    """The text form of a 16-byte id."""
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode("ascii")


def parse_uuid(text: str) -> bytes:
    """The 16 bytes behind the text form of an id; ValueError when it is not one."""
    uuid = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(uuid) != 16:
        raise ValueError(f"{text!r} is not a 16-byte id")
    return uuid
