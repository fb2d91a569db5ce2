"""Where a value comes from, what is refused at start, and what an operator is told."""

from collections.abc import Mapping

import pytest

from kafkapy.config.advice import complaints
from kafkapy.config.authorizer import authorizer_settings
from kafkapy.config.describing import (
    DescribedConfig,
    describe_broker,
    describe_client_metrics,
    describe_group,
    describe_topic,
)
from kafkapy.config.layers import (
    DEVELOPMENT_PROFILE,
    BrokerConfig,
    TopicConfig,
    validate_topic_overrides,
)
from kafkapy.config.setting import ConfigError, Source, Type
from kafkapy.errors import Error


def load(**layers: Mapping[str, str]) -> BrokerConfig:
    return BrokerConfig.load(**layers)


def described(config: BrokerConfig | TopicConfig, name: str) -> DescribedConfig:
    everything = describe_topic(config) if isinstance(config, TopicConfig) else describe_broker(config)
    return next(entry for entry in everything if entry.name == name)


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_profile() -> None:
    name = "group.initial.rebalance.delay.ms"
    file, environment, flags = {name: "1"}, {name: "2"}, {name: "3"}
    assert load()[name] == 0
    assert load(profile={"node.id": "1"})[name] == 3000
    assert load(file=file)[name] == 1
    assert load(file=file, environment=environment)[name] == 2
    assert load(file=file, environment=environment, flags=flags)[name] == 3


def test_giving_one_setting_keeps_every_default() -> None:
    config = load(environment={"num.partitions": "3"})
    assert config["num.partitions"] == 3
    assert config["offsets.topic.replication.factor"] == 1
    assert config["listeners"] == [DEVELOPMENT_PROFILE["listeners"]]


def test_every_static_layer_is_one_source_to_a_client() -> None:
    config = load(file={"num.partitions": "2"}, flags={"fetch.max.bytes": "4096"})
    for name in ("num.partitions", "fetch.max.bytes", "group.initial.rebalance.delay.ms"):
        assert described(config, name).source is Source.STATIC_BROKER_CONFIG
    assert described(config, "message.max.bytes").source is Source.DEFAULT_CONFIG


def test_dynamic_values_lie_above_static_ones() -> None:
    config = load(file={"message.max.bytes": "1000"})
    changed = config.with_dynamic(broker={"message.max.bytes": "3000"}, default={"message.max.bytes": "2000"})
    assert changed["message.max.bytes"] == 3000
    sources = [synonym.source for synonym in described(changed, "message.max.bytes").synonyms]
    assert sources == [
        Source.DYNAMIC_BROKER_CONFIG,
        Source.DYNAMIC_DEFAULT_BROKER_CONFIG,
        Source.STATIC_BROKER_CONFIG,
        Source.DEFAULT_CONFIG,
    ]
    assert config["message.max.bytes"] == 1000
    assert TopicConfig({}, changed)["max.message.bytes"] == 3000


def test_the_common_defaults_of_all_brokers_hold_min_insync_replicas_as_in_a_fresh_kafka() -> None:
    config = load(file={"min.insync.replicas": "2"})
    assert [(entry.name, entry.value) for entry in describe_broker(config, cluster_defaults=True)] == [
        ("min.insync.replicas", "2")
    ]
    changed = config.with_dynamic(broker={}, default={"message.max.bytes": "9"})
    assert {entry.name for entry in describe_broker(changed, cluster_defaults=True)} == {
        "min.insync.replicas",
        "message.max.bytes",
    }


def test_a_bad_value_is_refused_by_name_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError) as refusal:
        load(file={"num.partitions": "none"})
    assert refusal.value.error is Error.INVALID_CONFIG
    assert refusal.value.message == "Invalid value none for configuration num.partitions: Not a number of type INT"
    with pytest.raises(ConfigError, match="at least 1024"):
        load(flags={"fetch.max.bytes": "5"})
    with pytest.raises(ConfigError, match="Not a number of type SHORT"):
        load(flags={"offsets.topic.replication.factor": "many"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"node.id": "1", "broker.id": "2"}, "You must set `node.id` to the same value as `broker.id`."),
        ({"log.roll.ms": "0"}, "log.roll.ms must be greater than or equal to 1"),
        ({"log.roll.jitter.ms": "-1"}, "log.roll.jitter.ms must be greater than or equal to 0"),
        ({"log.retention.minutes": "0"}, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"),
        (
            {"max.connections.per.ip": "0"},
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        ),
        ({"log.cleaner.threads": "0"}, "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."),
        (
            {"max.connections.per.ip.overrides": "127.0.0.1:5,nonsense"},
            "Error parsing configuration property 'max.connections.per.ip.overrides': nonsense is not host:count",
        ),
        (
            {"max.connections.per.ip.overrides": "a b:5"},
            "max.connections.per.ip.overrides contains invalid addresses : a b",
        ),
        (
            {"connections.max.idle.ms": "50"},
            "connection.failed.authentication.delay.ms=100 should always be less than connections.max.idle.ms=50 "
            "to prevent failed authentication responses from timing out",
        ),
        (
            {"queued.max.request.bytes": "5"},
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        ),
        ({"offsets.topic.compression.codec": "9"}, "Unknown compression type id: 9"),
        ({"group.coordinator.rebalance.protocols": "consumer"}, "Disabling the 'classic' protocol is not supported."),
        (
            {"group.consumer.session.timeout.ms": "10"},
            "group.consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            {"group.share.heartbeat.interval.ms": "16000"},
            "group.share.heartbeat.interval.ms must be less than or equal to group.share.max.heartbeat.interval.ms",
        ),
        (
            {"group.streams.heartbeat.interval.ms": "45000", "group.streams.max.heartbeat.interval.ms": "60000"},
            "group.streams.heartbeat.interval.ms must be less than group.streams.session.timeout.ms",
        ),
        (
            {"group.share.record.lock.duration.ms": "3600000"},
            "group.share.max.record.lock.duration.ms must be greater than or equal to "
            "group.share.record.lock.duration.ms",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_kafkas_words(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(file=given)
    assert refusal.value.message == message


def test_the_older_name_of_the_node_id_is_understood() -> None:
    config = load(file={"broker.id": "7"})
    assert (config["node.id"], config["broker.id"]) == (7, 7)
    assert load(file={"node.id": "8"})["broker.id"] == 8


def test_replication_that_one_node_cannot_reach_becomes_one_with_a_warning_when_asked_for() -> None:
    assert load().warnings == []
    config = load(file={"default.replication.factor": "3", "offsets.topic.replication.factor": "1"})
    assert config["default.replication.factor"] == 1
    assert config["transaction.state.log.replication.factor"] == 1
    assert config["transaction.state.log.min.isr"] == 1
    assert config.warnings == ["default.replication.factor=3 is more than one node can hold; using 1"]


def test_what_configures_a_quorum_is_accepted_in_silence() -> None:
    config = load(
        file={
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": "1@localhost:9093",
            "controller.quorum.bootstrap.servers": "localhost:9093",
            "controller.listener.names": "CONTROLLER",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "metadata.log.dir": "/metadata",
        }
    )
    assert config.warnings == []


def test_settings_that_do_nothing_are_reported() -> None:
    config = load(
        file={
            "auto.create.topic.enable": "true",
            "quux": "1",
            "num.network.threads": "3",
            "allow.everyone.if.no.acl.found": "true",
            "zookeeper.connect": "localhost:2181",
            "inter.broker.protocol.version": "3.9",
            "log.cleaner.enable": "true",
            "listener.name.internal.max.connections": "5",
            "rsm.config.bucket": "b",
        }
    )
    assert config.warnings == [
        "unknown setting auto.create.topic.enable; did you mean auto.create.topics.enable?",
        "unknown setting quux",
        "num.network.threads is accepted, but nothing in kafkapy reads it yet",
        "zookeeper.connect is ignored: there is no ZooKeeper",
        "inter.broker.protocol.version is ignored, as Kafka 4 has no such setting: the version follows the software",
        "log.cleaner.enable is deprecated: Kafka 5 will always clean",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorizer.class.name", "org.example.Authorizer"),
        ("authorizer.class.name", "kafka.security.authorizer.AclAuthorizer"),
        ("super.users", "User:admin"),
        ("sasl.server.callback.handler.class", "com.example.Handler"),
        ("listener.name.client.plain.sasl.server.callback.handler.class", "com.example.Handler"),
        ("sasl.oauthbearer.jwt.validator.class", "com.example.Validator"),
        ("listener.name.client.ssl.engine.factory.class", "com.example.Engines"),
        ("ssl.engine.factory.class", "com.example.Engines"),
        ("principal.builder.class", "com.example.Builder"),
        ("create.topic.policy.class.name", "com.example.Policy"),
    ],
)
def test_what_would_protect_people_is_refused_until_it_does(name: str, value: str) -> None:
    for layer in ("file", "environment", "flags"):
        with pytest.raises(ConfigError) as refusal:
            load(**{layer: {name: value}})
        assert str(refusal.value).startswith(f"{name}: ")
        assert "\n" not in str(refusal.value)


def test_all_that_would_protect_people_is_told() -> None:
    with pytest.raises(ConfigError) as refusal:
        load(file={"super.users": "User:admin", "ssl.provider": "Mine", "num.partitions": "3"})
    first, second = str(refusal.value).splitlines()
    assert first.startswith("ssl.provider: ")
    assert second.startswith("super.users: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorizer.class.name", ""),
        ("super.users", ""),
        ("allow.everyone.if.no.acl.found", "true"),
        ("sasl.enabled.mechanisms", "GSSAPI"),
        ("ssl.client.auth", "required"),
        ("listener.name.client.ssl.client.auth", "required"),
        ("security.inter.broker.protocol", "PLAINTEXT"),
        ("connections.max.reauth.ms", "3600000"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("sasl.oauthbearer.expected.issuer", "https://example.com"),
        (
            "listener.name.client.oauthbearer.sasl.server.callback.handler.class",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
        ),
        ("listener.name.client.plain.sasl.jaas.config", "x"),
    ],
)
def test_what_asks_for_no_protection_is_not_refused(name: str, value: str) -> None:
    assert load(file={name: value}).static[name] == value


AUTHORIZER = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}


@pytest.mark.parametrize(
    ("settings", "super_users", "allows"),
    [
        ({}, set(), False),
        (
            {"super.users": " User:admin ; User:CN=a,OU=b;;Group:x:y"},
            {"User:admin", "User:CN=a,OU=b", "Group:x:y"},
            False,
        ),
        ({"super.users": "", "allow.everyone.if.no.acl.found": " TRUE "}, set(), True),
        ({"allow.everyone.if.no.acl.found": "yes"}, set(), False),
    ],
)
def test_the_authorizer_is_told_whom_to_let_in(settings: dict[str, str], super_users: set[str], allows: bool) -> None:
    config = load(file={**AUTHORIZER, **settings})
    assert authorizer_settings(config.static) == (super_users, allows)
    assert not [warning for warning in config.warnings if "authorizer" in warning or "super" in warning]


def test_there_is_no_authorizer_unless_it_is_asked_for() -> None:
    assert authorizer_settings(load(file={"authorizer.class.name": " "}).static) is None


def test_a_super_user_is_a_principal() -> None:
    with pytest.raises(ConfigError, match=r"super\.users: expected a string in format principalType:principalName"):
        load(file={**AUTHORIZER, "super.users": "User:a;admin"})


def test_settings_of_an_authorizer_that_is_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^allow\.everyone\.if\.no\.acl\.found: protects nobody without "):
        load(file={"allow.everyone.if.no.acl.found": "false"})


def test_a_secret_is_shown_nowhere() -> None:
    secret = "hunter2"
    given = {
        "ssl.key.password": secret,
        "my.plugin.password": secret,
        "sasl.jaas.config": secret,
        "delegation.token.secret.key": secret,
    }
    config = BrokerConfig(given, warnings=complaints(given))
    with pytest.raises(ConfigError) as refusal:
        load(file={**given, "security.providers": secret})
    assert secret not in str(refusal.value)
    assert secret not in repr(describe_broker(config))
    assert secret not in repr(config.warnings)
    assert described(config, "ssl.key.password").sensitive


def test_what_kafka_does_not_know_is_described_without_a_value() -> None:
    unknown = described(load(file={"my.plugin.url": "http://here"}), "my.plugin.url")
    assert unknown.value is None
    assert (unknown.type, unknown.source) == (Type.UNKNOWN, Source.STATIC_BROKER_CONFIG)
    assert unknown.sensitive and unknown.read_only
    assert [(entry.name, entry.value) for entry in unknown.synonyms] == [("my.plugin.url", None)]


def test_a_setting_of_one_listener_has_the_type_of_the_setting_it_stands_in_for() -> None:
    own = described(
        load(file={"listener.name.plaintext.max.connections": "5"}), "listener.name.plaintext.max.connections"
    )
    assert (own.value, own.type, own.read_only, own.sensitive) == ("5", Type.INT, True, False)
    assert [(entry.name, entry.value) for entry in own.synonyms] == [
        ("listener.name.plaintext.max.connections", "5"),
        ("max.connections", "2147483647"),
    ]
    name = "listener.name.sasl_ssl.plain.sasl.jaas.config"
    assert described(BrokerConfig({name: "secret"}), name).type is Type.PASSWORD


def test_an_internal_setting_is_described_once_it_is_set() -> None:
    name = "unstable.api.versions.enable"
    assert name not in {entry.name for entry in describe_broker(load())}
    assert described(load(file={name: "true"}), name).value == "true"
    topic = TopicConfig({"internal.segment.bytes": "5000"}, load())
    assert [entry.value for entry in describe_topic(topic) if entry.name == "internal.segment.bytes"] == ["5000"]


def test_the_value_is_shown_as_read_and_the_synonym_as_written() -> None:
    entry = described(load(file={"auto.create.topics.enable": "TRUE"}), "auto.create.topics.enable")
    assert entry.value == "true"
    assert [synonym.value for synonym in entry.synonyms] == ["TRUE", "true"]


@pytest.mark.parametrize(
    ("given", "retention_ms"),
    [
        ({}, 7 * 24 * 3_600_000),
        ({"log.retention.hours": "1"}, 3_600_000),
        ({"log.retention.hours": "1", "log.retention.minutes": "2"}, 120_000),
        ({"log.retention.ms": "3", "log.retention.minutes": "2"}, 3),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.minutes": "-5"}, -1),
    ],
)
def test_the_finest_duration_holds(given: dict[str, str], retention_ms: int) -> None:
    config = load(file=given)
    assert TopicConfig({}, config)["retention.ms"] == retention_ms
    assert TopicConfig({"retention.ms": "9"}, config)["retention.ms"] == 9


def test_flushing_follows_the_scheduler_when_nothing_finer_is_set() -> None:
    assert TopicConfig({}, load(file={"log.flush.scheduler.interval.ms": "5"}))["flush.ms"] == 5
    assert TopicConfig({}, load(file={"log.flush.interval.ms": "4"}))["flush.ms"] == 4


def test_a_coarser_setting_is_no_synonym_of_the_finer_one() -> None:
    config = load(file={"log.retention.minutes": "10"})
    retention = next(entry for entry in describe_topic(TopicConfig({}, config)) if entry.name == "retention.ms")
    assert (retention.value, retention.source, list(retention.synonyms)) == ("600000", Source.DEFAULT_CONFIG, [])
    minutes = described(config, "log.retention.minutes")
    assert [synonym.name for synonym in minutes.synonyms] == ["log.retention.minutes", "log.retention.hours"]


def test_a_topics_own_setting_lies_above_the_brokers() -> None:
    config = TopicConfig({"cleanup.policy": "compact , delete", "retention.bytes": " 5 "}, load())
    assert config["cleanup.policy"] == ["compact", "delete"]
    shown = {entry.name: entry for entry in describe_topic(config)}
    assert shown["cleanup.policy"].source is Source.DYNAMIC_TOPIC_CONFIG
    assert [(synonym.name, synonym.value) for synonym in shown["cleanup.policy"].synonyms] == [
        ("cleanup.policy", "compact,delete"),
        ("log.cleanup.policy", "delete"),
    ]
    assert shown["retention.bytes"].value == "5"
    assert not shown["retention.bytes"].read_only


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"nope": "1"}, "Unknown topic config name: nope"),
        ({"segment.bytes": "5"}, "Invalid value 5 for configuration segment.bytes: Value must be at least 1048576"),
        (
            {"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"},
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
        ),
        (
            {"remote.storage.enable": "true"},
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage.",
        ),
        ({"cleanup.policy": "delete,,compact"}, "Configuration 'cleanup.policy' values must not be empty."),
        (
            {"follower.replication.throttled.replicas": "*,*"},
            "Invalid value [*, *] for configuration follower.replication.throttled.replicas: "
            "follower.replication.throttled.replicas must be the literal '*' or a list of replicas in the following "
            "format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
    ],
)
def test_a_topics_bad_settings_are_refused_in_kafkas_words(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        validate_topic_overrides(overrides)
    assert refusal.value.message == message


def test_a_topics_setting_is_checked_together_with_the_brokers() -> None:
    broker = load(file={"log.cleaner.max.compaction.lag.ms": "5"})
    validate_topic_overrides({"min.compaction.lag.ms": "10"})
    with pytest.raises(ConfigError, match="conflict"):
        validate_topic_overrides({"min.compaction.lag.ms": "10"}, broker)


def test_a_topic_drops_repeated_cleanup_policies() -> None:
    overrides = {"cleanup.policy": "compact,delete,compact"}
    validate_topic_overrides(overrides)
    assert TopicConfig(overrides, load())["cleanup.policy"] == ["compact", "delete"]
    with pytest.raises(ConfigError, match="must not be duplicated"):
        load(file={"log.cleanup.policy": "delete,delete"})


def test_a_groups_own_setting_lies_above_the_brokers() -> None:
    broker = load(file={"group.consumer.session.timeout.ms": "50000"})
    name = "consumer.session.timeout.ms"
    default = next(entry for entry in describe_group({}, broker) if entry.name == name)
    assert (default.value, default.source) == ("50000", Source.STATIC_BROKER_CONFIG)
    own = next(entry for entry in describe_group({name: "55000"}, broker) if entry.name == name)
    assert (own.value, own.source) == ("55000", Source.DYNAMIC_GROUP_CONFIG)
    assert len(own.synonyms) == 3


def test_a_subscription_shows_its_own_settings() -> None:
    shown = {entry.name: entry for entry in describe_client_metrics({"interval.ms": "100"})}
    assert (shown["interval.ms"].value, shown["interval.ms"].source) == ("100", Source.DYNAMIC_CLIENT_METRICS_CONFIG)
    assert shown["metrics"].source is Source.DEFAULT_CONFIG
