"""What a fresh node of a release answers: API ranges, features, and what it tells of every kind of resource."""

import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from brokers import ApacheKafka, Trouble

from kafkapy.config.setting import ConfigResource, Source, Type
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest

TOPIC = "facts"
INTERNAL_TOPICS = {
    "__consumer_offsets": (0, "group"),
    "__transaction_state": (1, "transactional-id"),
    "__share_group_state": (2, f"group:{'A' * 21}Q:0"),
}
"""Each with what makes a node create it: the type and the key of a coordinator to look for."""

PATIENCE_S = 60.0


class NodeFacts(NamedTuple):
    ranges: dict[int, tuple[int, int]]
    features: dict[str, tuple[int, int, int]]
    described: list[list[str]]


def ask_node(release: str) -> NodeFacts:
    """Start one node on an empty directory, ask it, and stop it. Features: the lowest, highest and finalized level."""
    with tempfile.TemporaryDirectory() as folder:
        kafka = ApacheKafka(Path(folder) / "data", settings={"num.partitions": "4"}, release=release)
        with kafka:
            kafka.start()
            with Client(kafka.port) as client:
                _make_topics(client)
                return NodeFacts(*_versions(client), _described(client, kafka))


class Client:
    """One connection that asks and waits."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, request: Any, version: int) -> Any:
        out = bytearray()
        encode_request_header(request.API_KEY, version, 1, "facts", out)
        frame = b"".join(map(bytes, request.encode(version, out)))
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self._stream.read(4))
        answer = self._stream.read(size)
        _, offset = decode_response_header(request.API_KEY, version, answer)
        return response_class(request.API_KEY).decode(version, answer, offset)[0]


def _make_topics(client: Client) -> None:
    topic = CreateTopicsRequest.CreatableTopic(name=TOPIC, num_partitions=1, replication_factor=1)
    client.ask(CreateTopicsRequest(topics=[topic], timeout_ms=30_000), 7)
    deadline = time.monotonic() + PATIENCE_S
    for name, (key_type, key) in INTERNAL_TOPICS.items():
        request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key])
        while client.ask(request, 6).coordinators[0].error_code:
            if time.monotonic() > deadline:
                raise Trouble(f"{name} does not come into being")
            time.sleep(0.2)


def _versions(client: Client) -> tuple[dict[int, tuple[int, int]], dict[str, tuple[int, int, int]]]:
    answer = client.ask(ApiVersionsRequest(client_software_name="facts", client_software_version="1"), 4)
    ranges = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
    finalized = {row.name: row.max_version_level for row in answer.finalized_features}
    features = {
        row.name: (row.min_version, row.max_version, finalized.get(row.name, 0)) for row in answer.supported_features
    }
    return ranges, features


def _described(client: Client, kafka: ApacheKafka) -> list[list[str]]:
    """A row a setting of a resource; `/data` and the ports 9092 and 9093 stand for this node's own."""
    asked = [
        ("BROKER", ConfigResource.BROKER, kafka.settings.get("node.id", "1")),
        ("TOPIC", ConfigResource.TOPIC, TOPIC),
        ("GROUP", ConfigResource.GROUP, "group"),
        ("CLIENT_METRICS", ConfigResource.CLIENT_METRICS, "metrics"),
        *((f"TOPIC:{name}", ConfigResource.TOPIC, name) for name in INTERNAL_TOPICS),
    ]
    stand_ins = {
        str(kafka.directory): "/data",
        f":{kafka.port}": ":9092",
        f":{kafka.controller_port}": ":9093",
    }
    rows = []
    for title, kind, name in asked:
        resource = DescribeConfigsRequest.DescribeConfigsResource(
            resource_type=kind, resource_name=name, configuration_keys=None
        )
        [result] = client.ask(DescribeConfigsRequest(resources=[resource], include_synonyms=True), 4).results
        for config in sorted(result.configs, key=lambda config: config.name):
            row = [title, *_row(config)]
            for own, stand_in in stand_ins.items():
                row = [field.replace(own, stand_in) for field in row]
            rows.append(row)
    return rows


def _row(config: Any) -> list[str]:
    synonyms = "".join(
        f"{Source(synonym.source).name}:{synonym.name}={_shown(synonym.value)} | " for synonym in config.synonyms
    )
    return [
        config.name,
        Type(config.config_type).name,
        _shown(config.value),
        Source(config.config_source).name,
        "ro" if config.read_only else "rw",
        "sensitive" if config.is_sensitive else "",
        synonyms,
    ]


def _shown(value: str | None) -> str:
    return "null" if value is None else value
