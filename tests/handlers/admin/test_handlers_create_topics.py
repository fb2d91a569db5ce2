"""CreateTopics and CreatePartitions, as an admin client sees them."""

from typing import Any

import pytest

from kafkapy.config.setting import Source
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.create_partitions import CreatePartitionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest

MINUTE_MS = 60_000


def topic(
    name: str,
    partitions: int = 1,
    replicas: int = 1,
    assignments: dict[int, list[int]] | None = None,
    configs: list[tuple[str, str | None]] | None = None,
) -> CreateTopicsRequest.CreatableTopic:
    return CreateTopicsRequest.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[
            CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in (assignments or {}).items()
        ],
        configs=[CreateTopicsRequest.CreatableTopicConfig(name=key, value=value) for key, value in configs or ()],
    )


async def create(broker: Any, *topics: CreateTopicsRequest.CreatableTopic, version: int = 7, **fields: Any) -> dict:
    """The results by name; none of these requests names a topic twice."""
    fields.setdefault("timeout_ms", MINUTE_MS)
    response = await broker.ask(CreateTopicsRequest(topics=list(topics), **fields), version)
    assert len(response.topics) == len(topics)
    return {result.name: result for result in response.topics}


async def grow(
    broker: Any,
    name: str,
    count: int,
    assignments: list[list[int]] | None = None,
    *,
    version: int = 3,
    timeout_ms: int = MINUTE_MS,
    validate_only: bool = False,
) -> Any:
    wanted = CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=None)
    if assignments is not None:
        wanted.assignments = [
            CreatePartitionsRequest.CreatePartitionsAssignment(broker_ids=brokers) for brokers in assignments
        ]
    request = CreatePartitionsRequest(topics=[wanted], timeout_ms=timeout_ms, validate_only=validate_only)
    [result] = (await broker.ask(request, version)).results
    assert result.name == name
    return result


@pytest.mark.parametrize("version", range(2, 8))
async def test_a_created_topic_is_there_with_its_logs(broker: Any, version: int) -> None:
    result = (await create(broker, topic("t", 3), version=version))["t"]
    assert (result.error_code, result.error_message) == (Error.NONE, None)
    assert len(broker.cluster.image.topic("t").partitions) == 3
    assert broker.partition_logs("t") == [0, 1, 2]
    if version >= 5:
        assert (result.num_partitions, result.replication_factor) == (3, 1)
        assert len(result.configs) > 30
    if version >= 7:
        assert result.topic_id == broker.cluster.image.topic("t").topic_id != bytes(16)


async def test_the_answer_carries_every_setting_and_where_it_comes_from(open_broker: Any) -> None:
    broker = await open_broker({"log.retention.ms": "1000", "num.partitions": "4"})
    result = (await create(broker, topic("t", -1, -1, configs=[("cleanup.policy", "compact")])))["t"]
    assert (result.num_partitions, result.replication_factor) == (4, 1)
    sources = {config.name: (config.value, config.config_source) for config in result.configs}
    assert sources["cleanup.policy"] == ("compact", Source.DYNAMIC_TOPIC_CONFIG)
    assert sources["retention.ms"] == ("1000", Source.STATIC_BROKER_CONFIG)
    assert sources["max.message.bytes"] == ("1048588", Source.DEFAULT_CONFIG)
    assert sources["min.insync.replicas"] == ("1", Source.DYNAMIC_DEFAULT_BROKER_CONFIG)
    assert list(sources) == sorted(sources)
    assert not any(config.read_only or config.is_sensitive for config in result.configs)


async def test_one_that_is_refused_does_not_stop_the_others(broker: Any) -> None:
    results = await create(broker, topic("good"), topic("bad name"), topic("none", partitions=0))
    assert {name: result.error_code for name, result in results.items()} == {
        "good": Error.NONE,
        "bad name": Error.INVALID_TOPIC_EXCEPTION,
        "none": Error.INVALID_PARTITIONS,
    }
    assert results["none"].error_message == "Number of partitions was set to an invalid non-positive value."
    assert list(broker.cluster.image.topics) == ["good"]


async def test_a_topic_named_twice_is_refused_once_and_the_rest_is_made(broker: Any) -> None:
    request = CreateTopicsRequest(topics=[topic("twice"), topic("once"), topic("twice")], timeout_ms=MINUTE_MS)
    response = await broker.ask(request)
    assert {(result.name, result.error_code, result.error_message) for result in response.topics} == {
        ("once", Error.NONE, None),
        ("twice", Error.INVALID_REQUEST, "Duplicate topic name."),
    }
    assert len(response.topics) == 2
    assert list(broker.cluster.image.topics) == ["once"]


async def test_validating_tells_what_would_be_and_leaves_nothing(broker: Any) -> None:
    result = (await create(broker, topic("t", 5), validate_only=True))["t"]
    assert (result.error_code, result.num_partitions) == (Error.NONE, 5)
    assert not broker.cluster.image.topics
    assert broker.partition_logs("t") == []


async def test_validating_says_that_a_topic_exists(broker: Any) -> None:
    await create(broker, topic("t"))
    result = (await create(broker, topic("t"), validate_only=True))["t"]
    assert (result.error_code, result.error_message) == (Error.TOPIC_ALREADY_EXISTS, "Topic 't' already exists.")


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ([("retention.ms", "soon")], "Invalid value soon for configuration retention.ms: Not a number of type LONG"),
        ([("no.such", "1")], "Unknown topic config name: no.such"),
        ([("b", None), ("a", None)], "Null value not supported for topic configs: b,a"),
    ],
)
async def test_a_setting_that_is_not_valid_is_named(broker: Any, configs: list, message: str) -> None:
    result = (await create(broker, topic("t", configs=configs)))["t"]
    assert (result.error_code, result.error_message) == (Error.INVALID_CONFIG, message)


async def test_settings_are_looked_at_before_partitions(broker: Any) -> None:
    result = (await create(broker, topic("t", 0, configs=[("no.such", "1")])))["t"]
    assert result.error_code == Error.INVALID_CONFIG


@pytest.mark.parametrize(
    "asked",
    [
        [topic("a", 10_001)],
        [topic("a", 10_000), topic("b", -1, -1)],
        [topic("a", 10_001), topic("b", -10)],
        [topic("a", 10_000), topic("b", -1, -1, assignments={0: [1]})],
    ],
)
async def test_more_than_ten_thousand_partitions_a_request_are_too_many(broker: Any, asked: list) -> None:
    results = await create(broker, *asked)
    assert {result.error_code for result in results.values()} == {Error.POLICY_VIOLATION}
    assert not broker.cluster.image.topics


async def test_too_many_partitions_are_said_at_every_entry(broker: Any) -> None:
    request = CreateTopicsRequest(topics=[topic("a", 10_001), topic("b"), topic("b")], timeout_ms=MINUTE_MS)
    response = await broker.ask(request)
    assert [(r.name, r.error_code) for r in response.topics] == [(n, Error.POLICY_VIOLATION) for n in ("a", "b", "b")]


@pytest.mark.parametrize("timeout_ms", [0, -1])
async def test_no_time_at_all_is_not_enough(broker: Any, timeout_ms: int) -> None:
    result = (await create(broker, topic("t"), timeout_ms=timeout_ms))["t"]
    assert (result.error_code, result.error_message) == (Error.REQUEST_TIMED_OUT, None)
    assert not broker.cluster.image.topics


async def test_nothing_asked_is_nothing_answered(broker: Any) -> None:
    assert await create(broker, timeout_ms=0) == {}


async def test_names_that_collide_pass_within_one_request_only(broker: Any) -> None:
    results = await create(broker, topic("a.b"), topic("a_b"), topic("c.d"))
    assert {result.error_code for result in results.values()} == {Error.NONE}
    refused = (await create(broker, topic("c_d")))["c_d"]
    assert refused.error_code == Error.INVALID_TOPIC_EXCEPTION
    assert refused.error_message == "Topic 'c_d' collides with existing topic: c.d"


async def test_manual_assignments_give_the_number_of_partitions(broker: Any) -> None:
    result = (await create(broker, topic("t", -1, -1, assignments={1: [1], 0: [1]})))["t"]
    assert (result.error_code, result.num_partitions, result.replication_factor) == (Error.NONE, 2, 1)
    assert broker.partition_logs("t") == [0, 1]


async def test_clients_may_create_internal_topics_with_counts_of_their_own(broker: Any) -> None:
    results = await create(broker, topic("__consumer_offsets", 3))
    assert results["__consumer_offsets"].error_code == Error.NONE
    refused = (await create(broker, topic("__cluster_metadata")))["__cluster_metadata"]
    assert refused.error_code == Error.INVALID_REQUEST


async def test_who_may_not_create_is_refused_topic_by_topic(broker: Any, deny: Any) -> None:
    deny(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME)
    deny(Operation.CREATE, ResourceType.TOPIC, "theirs")
    results = await create(broker, topic("mine"), topic("theirs"))
    assert results["mine"].error_code == Error.NONE
    assert results["theirs"].error_code == Error.TOPIC_AUTHORIZATION_FAILED
    assert results["theirs"].error_message == "Authorization failed."


async def test_who_may_create_on_the_cluster_needs_no_right_on_the_topic(broker: Any, deny: Any) -> None:
    deny(Operation.CREATE, ResourceType.TOPIC)
    assert (await create(broker, topic("t")))["t"].error_code == Error.NONE


async def test_who_may_not_see_settings_is_told_so_and_gets_the_topic(broker: Any, deny: Any) -> None:
    deny(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, "t")
    result = (await create(broker, topic("t", 2)))["t"]
    assert (result.error_code, result.topic_config_error_code) == (Error.NONE, Error.TOPIC_AUTHORIZATION_FAILED)
    assert (result.num_partitions, result.configs) == (-1, [])
    assert broker.partition_logs("t") == [0, 1]


# CreatePartitions


@pytest.mark.parametrize("version", range(4))
async def test_a_topic_grows_and_its_new_logs_are_there(broker: Any, version: int) -> None:
    await create(broker, topic("t", 2))
    result = await grow(broker, "t", 4, version=version)
    assert (result.error_code, result.error_message) == (Error.NONE, None)
    assert len(broker.cluster.image.topic("t").partitions) == 4
    assert broker.partition_logs("t") == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("count", "assignments", "error", "message"),
    [
        (2, None, Error.INVALID_PARTITIONS, "Topic already has 2 partition(s)."),
        (
            1,
            None,
            Error.INVALID_PARTITIONS,
            "The topic t currently has 2 partition(s); 1 would not be an increase.",
        ),
        (-1, None, Error.INVALID_PARTITIONS, None),
        (
            4,
            [[1]],
            Error.INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (3, [[7]], Error.INVALID_REPLICA_ASSIGNMENT, None),
        (3, [[]], Error.INVALID_REPLICA_ASSIGNMENT, None),
        (3, [[1, 1]], Error.INVALID_REPLICA_ASSIGNMENT, None),
        (10_003, None, Error.POLICY_VIOLATION, None),
    ],
)
async def test_growth_that_cannot_be_is_refused_with_the_reason(
    broker: Any, count: int, assignments: list | None, error: Error, message: str | None
) -> None:
    await create(broker, topic("t", 2))
    result = await grow(broker, "t", count, assignments)
    assert result.error_code == error
    assert message is None or result.error_message == message
    assert broker.partition_logs("t") == [0, 1]


async def test_growth_is_measured_by_what_is_added(broker: Any) -> None:
    await create(broker, topic("t", 9_000))
    assert (await grow(broker, "t", 10_001)).error_code == Error.NONE


async def test_growth_of_a_missing_topic_has_no_text_of_its_own(broker: Any) -> None:
    result = await grow(broker, "missing", 2)
    assert (result.error_code, result.error_message) == (Error.UNKNOWN_TOPIC_OR_PARTITION, None)


async def test_growth_that_is_only_validated_leaves_the_topic(broker: Any) -> None:
    await create(broker, topic("t"))
    assert (await grow(broker, "t", 2, [[1]], validate_only=True)).error_code == Error.NONE
    assert broker.partition_logs("t") == [0]
    assert (await grow(broker, "t", 2, timeout_ms=0)).error_code == Error.REQUEST_TIMED_OUT
    assert broker.partition_logs("t") == [0]


async def test_every_topic_is_listed_and_one_named_twice_is_refused(broker: Any, deny: Any) -> None:
    await create(broker, topic("t"), topic("u"), topic("v"))
    deny(Operation.ALTER, ResourceType.TOPIC, "v")
    asked = [
        CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=None)
        for name, count in (("t", 2), ("u", 2), ("t", 3), ("v", 2))
    ]
    response = await broker.ask(CreatePartitionsRequest(topics=asked, timeout_ms=MINUTE_MS))
    assert sorted((result.name, result.error_code, result.error_message) for result in response.results) == [
        ("t", Error.INVALID_REQUEST, "Duplicate topic name."),
        ("u", Error.NONE, None),
        ("v", Error.TOPIC_AUTHORIZATION_FAILED, None),
    ]
    assert [broker.partition_logs(name) for name in "tuv"] == [[0], [0, 1], [0]]
