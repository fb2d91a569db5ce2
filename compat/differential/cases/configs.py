"""AlterConfigs and IncrementalAlterConfigs, seen through DescribeConfigs."""

import time

from cases.data import batch, produce
from cases.topics import creatable, create
from registry import Scene, case

from kafkapy.protocol.messages import request_class

Alter = request_class(33)
Incremental = request_class(44)
Describe = request_class(32)
List = request_class(74)

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
OWN_SOURCE = {TOPIC: 1, BROKER: 2, CLIENT_METRICS: 7, GROUP: 8}


def resource(kind, name, *changes):
    """Changes as (name, operation, value)."""
    R, C = Incremental.AlterConfigsResource, Incremental.AlterableConfig
    configs = [C(name=key, config_operation=op, value=value) for key, op, value in changes]
    return R(resource_type=kind, resource_name=name, configs=configs)


def change(s: Scene, *resources, validate_only=False):
    """Ask, and wait until what was changed shows: Kafka answers before its own broker has heard of it."""
    answer = s.ask(Incremental(resources=list(resources), validate_only=validate_only))
    for asked, told in zip(resources, answer["responses"], strict=True):
        if told["error_code"] == 0 and not validate_only and asked.resource_type != LOGGER:
            until(s, asked.resource_type, asked.resource_name, asked.configs)


def until(s: Scene, kind, name, changes, no_others=False):
    own = OWN_SOURCE[kind] if name else 3
    one = Describe.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
    for _ in range(150):
        [result] = s.ask(Describe(resources=[one]), version=4, note=False)["results"]
        shown = {config["name"]: config for config in result["configs"]}
        others = shown.keys() - {change.name for change in changes} if no_others else ()
        if all(shows(shown.get(change.name), change, own) for change in changes) and not any(
            shown[other]["config_source"] == own for other in others
        ):
            return
        time.sleep(0.02)


def shows(config, change, own):
    is_own = config is not None and config["config_source"] == own
    if change.config_operation == DELETE:
        return not is_own
    entries, wanted = set(((config or {}).get("value") or "").split(",")), set((change.value or "").split(","))
    if change.config_operation == SUBTRACT:
        return is_own and not entries & wanted
    return is_own and (entries >= wanted or config["is_sensitive"])


def described(s: Scene, kind, name, *keys):
    one = Describe.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))
    s.ask(Describe(resources=[one], include_synonyms=True), version=4)


def replaced(s: Scene, kind, name, validate_only=False, **settings):
    R, C = Alter.AlterConfigsResource, Alter.AlterableConfig
    configs = [C(name=key.replace("_", "."), value=value) for key, value in settings.items()]
    one = R(resource_type=kind, resource_name=name, configs=configs)
    [told] = s.ask(Alter(resources=[one], validate_only=validate_only))["responses"]
    if told["error_code"] == 0 and not validate_only:
        wanted = {change.name: change.value for change in configs}
        changes = resource(kind, name, *((key, SET, value) for key, value in wanted.items())).configs
        until(s, kind, name, changes, no_others=True)


@case("IncrementalAlterConfigs", "a topic: set, delete, append, subtract")
def _(s):
    create(s, creatable(s.topic(), 1, configs={"retention.ms": "1000", "segment.bytes": "1048577"}))
    keys = ("retention.ms", "segment.bytes", "cleanup.policy", "max.message.bytes")
    for changes in (
        [("retention.ms", SET, "2000"), ("max.message.bytes", SET, "5000")],
        [("retention.ms", DELETE, None), ("segment.bytes", DELETE, "ignored")],
        [("cleanup.policy", APPEND, "compact")],
        [("cleanup.policy", APPEND, "compact")],
        [("cleanup.policy", SUBTRACT, "delete")],
        [("cleanup.policy", SUBTRACT, "delete,nonsense")],
        [("retention.ms", DELETE, None)],
        [],
    ):
        change(s, resource(TOPIC, s.topic(), *changes))
        described(s, TOPIC, s.topic(), *keys)


@case("IncrementalAlterConfigs", "a topic: what is refused")
def _(s):
    create(s, creatable(s.topic(), 1, configs={"retention.ms": "1000"}))
    for changes in (
        [("nonsense", SET, "1")],
        [("nonsense", DELETE, None)],
        [("retention.ms", SET, "x")],
        [("retention.ms", SET, "-2")],
        [("retention.ms", SET, None)],
        [("retention.ms", SET, None), ("segment.bytes", APPEND, None)],
        [("retention.ms", APPEND, "5")],
        [("nonsense", SUBTRACT, "5")],
        [("cleanup.policy", SET, "none")],
        [("cleanup.policy", SET, "compact,compact")],
        [("retention.ms", SET, "3000"), ("nonsense", SET, "1")],
        [("min.compaction.lag.ms", SET, "10"), ("max.compaction.lag.ms", SET, "5")],
        [("leader.replication.throttled.replicas", SET, "x")],
        [("leader.replication.throttled.replicas", SET, ",".join(f"{n}:1" for n in range(4000)))],
        [("leader.replication.throttled.replicas", APPEND, ",".join(f"{n}:1" for n in range(4000, 8000)))],
        [("retention.ms", SET, "")],
        [("remote.storage.enable", SET, "true")],
    ):
        change(s, resource(TOPIC, s.topic(), *changes))
    described(s, TOPIC, s.topic(), "retention.ms", "cleanup.policy")
    for name in (s.topic("missing"), "", "a b", "x" * 250, ".."):
        change(s, resource(TOPIC, name, ("retention.ms", SET, "1")))


@case("IncrementalAlterConfigs", "several at once, one twice, a setting twice, unknown kinds")
def _(s):
    for suffix in ("a", "b"):
        create(s, creatable(s.topic(suffix), 1))
    a, b, missing = s.topic("a"), s.topic("b"), s.topic("missing")
    one = ("retention.ms", SET, "1000")
    change(s, resource(TOPIC, a, one), resource(TOPIC, missing, one), resource(TOPIC, b, ("retention.ms", SET, "x")))
    change(s, resource(TOPIC, a, one, ("retention.ms", SET, "3")))
    change(s, resource(TOPIC, a, one, ("retention.ms", DELETE, None)))
    change(s, resource(TOPIC, b, one), resource(TOPIC, b, one), resource(TOPIC, a, ("retention.ms", SET, "7")))
    for kind in (0, 1, 3, 5, 64, 127):
        change(s, resource(kind, "x", one))
    change(s)
    for name in (a, b):
        described(s, TOPIC, name, "retention.ms")


@case("IncrementalAlterConfigs", "only validated")
def _(s):
    create(s, creatable(s.topic(), 1))
    for value in ("1000", "x"):
        change(s, resource(TOPIC, s.topic(), ("retention.ms", SET, value)), validate_only=True)
    described(s, TOPIC, s.topic(), "retention.ms")
    change(s, resource(LOGGER, "1", ("root", SET, "x")), validate_only=True)


@case("IncrementalAlterConfigs", "what is changed acts")
def _(s):
    create(s, creatable(s.topic(), 1))
    produce(s, batch(b"v" * 2000), version=9)
    change(s, resource(TOPIC, s.topic(), ("max.message.bytes", SET, "1000")))
    produce(s, batch(b"v" * 2000), version=9)
    change(s, resource(TOPIC, s.topic(), ("max.message.bytes", DELETE, None)))
    produce(s, batch(b"v" * 2000), version=9)


@case("IncrementalAlterConfigs", "a broker, and all of them")
def _(s):
    keys = ("log.retention.ms", "log.cleaner.threads", "min.insync.replicas", "log.cleanup.policy", "nonsense")
    for name in ("1", ""):
        for changes in (
            [("log.retention.ms", SET, "3600000")],
            [("log.cleanup.policy", APPEND, "compact")],
            [("log.cleanup.policy", SUBTRACT, "delete")],
            [("nonsense", SET, "1")],
            [("log.retention.ms", SET, "x")],
            [("log.retention.ms", SET, "0")],
            [("log.retention.hours", SET, "1")],
            [("broker.id", SET, "2"), ("node.id", SET, "2")],
            [("ssl.keystore.location", SET, "/nowhere")],
            [("log.retention.ms", APPEND, "1")],
            [("min.insync.replicas", SET, "1")],
            [("min.insync.replicas", DELETE, None)],
            [("num.io.threads", SET, "3")],
            [("num.io.threads", SET, "17")],
            [("num.io.threads", SET, "9")],
        ):
            change(s, resource(BROKER, name, *changes))
            described(s, BROKER, name, *keys)
        change(s, resource(BROKER, name, *((key, DELETE, None) for key in ("log.retention.ms", "log.cleanup.policy"))))
        change(s, resource(BROKER, name, ("num.io.threads", DELETE, None), ("nonsense", DELETE, None)))
        described(s, BROKER, name, *keys)
    for name in ("2", "-1", "x", "01"):
        change(s, resource(BROKER, name, ("log.retention.ms", SET, "1000")))
    change(s, resource(BROKER, "", ("listeners", SET, "PLAINTEXT://:1")))


@case("IncrementalAlterConfigs", "a broker's setting is its topics' default")
def _(s):
    create(s, creatable(s.topic(), 1))
    change(s, resource(BROKER, "", ("log.retention.ms", SET, "7200000")))
    described(s, TOPIC, s.topic(), "retention.ms")
    change(s, resource(BROKER, "1", ("log.retention.ms", SET, "3600000")))
    described(s, TOPIC, s.topic(), "retention.ms")
    change(s, resource(TOPIC, s.topic(), ("retention.ms", SET, "1800000")))
    described(s, TOPIC, s.topic(), "retention.ms")
    for name in ("", "1"):
        change(s, resource(BROKER, name, ("log.retention.ms", DELETE, None)))
    described(s, TOPIC, s.topic(), "retention.ms")


@case("IncrementalAlterConfigs", "loggers")
def _(s):
    for node, changes in (
        ("1", [("root", SET, "INFO")]),
        ("1", [("root", SET, "info")]),
        ("1", [("root", DELETE, None)]),
        ("1", [("root", APPEND, "INFO")]),
        ("1", [("root", SUBTRACT, "INFO")]),
        ("1", [("no.such.logger", SET, "INFO")]),
        ("1", [("no.such.logger", DELETE, None)]),
        ("2", [("root", SET, "INFO")]),
        ("", [("root", SET, "INFO")]),
        ("x", [("root", SET, "INFO")]),
    ):
        change(s, resource(LOGGER, node, *changes))


@case("IncrementalAlterConfigs", "groups")
def _(s):
    group = s.topic("g")
    for changes in (
        [("consumer.session.timeout.ms", SET, "50000")],
        [("consumer.session.timeout.ms", SET, "1")],
        [("consumer.session.timeout.ms", SET, "60001")],
        [("consumer.heartbeat.interval.ms", SET, "15000"), ("consumer.session.timeout.ms", SET, "45000")],
        [("consumer.heartbeat.interval.ms", SET, "15001")],
        [("share.record.lock.duration.ms", SET, "1")],
        [("share.auto.offset.reset", SET, "nonsense")],
        [("streams.num.standby.replicas", SET, "3")],
        [("nonsense", SET, "3")],
        [("consumer.session.timeout.ms", DELETE, None)],
    ):
        change(s, resource(GROUP, group, *changes))
        described(s, GROUP, group, "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms")
    change(s, resource(GROUP, "", ("consumer.session.timeout.ms", SET, "50000")))


@case("IncrementalAlterConfigs", "client metrics")
def _(s):
    subscription = s.topic("m")
    for changes in (
        [("interval.ms", SET, "1000"), ("metrics", SET, "org.apache.kafka.,other")],
        [("metrics", APPEND, "more")],
        [("metrics", SUBTRACT, "other")],
        [("interval.ms", SET, "99")],
        [("interval.ms", SET, "3600001")],
        [("match", SET, "client_id=a.*,client_software_name=b")],
        [("match", SET, "client_id")],
        [("match", SET, "nonsense=a")],
        [("match", SET, "client_id=(")],
        [("match", SET, "client_id=a=b")],
        [("nonsense", SET, "3")],
        [("match", DELETE, None), ("interval.ms", DELETE, None)],
    ):
        change(s, resource(CLIENT_METRICS, subscription, *changes))
        described(s, CLIENT_METRICS, subscription)
    change(s, resource(CLIENT_METRICS, "", ("interval.ms", SET, "1000")))
    change(s, resource(CLIENT_METRICS, subscription, ("metrics", DELETE, None)))


@case("AlterConfigs", "what is not named goes")
def _(s):
    create(s, creatable(s.topic(), 1, configs={"retention.ms": "1000", "segment.bytes": "1048577"}))
    keys = ("retention.ms", "segment.bytes")
    replaced(s, TOPIC, s.topic(), retention_ms="2000")
    described(s, TOPIC, s.topic(), *keys)
    replaced(s, TOPIC, s.topic(), segment_bytes="1048578", validate_only=True)
    replaced(s, TOPIC, s.topic(), nonsense="1")
    replaced(s, TOPIC, s.topic(), retention_ms=None)
    replaced(s, TOPIC, s.topic(), retention_ms="x")
    described(s, TOPIC, s.topic(), *keys)
    replaced(s, TOPIC, s.topic())
    described(s, TOPIC, s.topic(), *keys)
    replaced(s, TOPIC, s.topic("missing"), retention_ms="1")
    replaced(s, TOPIC, "", retention_ms="1")


@case("AlterConfigs", "brokers, groups, subscriptions, loggers")
def _(s):
    for name in ("1", ""):
        replaced(s, BROKER, name, log_retention_ms="3600000", min_insync_replicas="1")
        replaced(s, BROKER, name, log_retention_ms="3600000")
        replaced(s, BROKER, name, broker_id="2")
        replaced(s, BROKER, name, log_retention_ms="x")
        described(s, BROKER, name, "log.retention.ms", "min.insync.replicas")
    replaced(s, BROKER, "1")
    replaced(s, BROKER, "", min_insync_replicas="1")
    described(s, BROKER, "", "log.retention.ms", "min.insync.replicas")
    replaced(s, BROKER, "2", log_retention_ms="3600000")
    replaced(s, GROUP, s.topic("g"), consumer_session_timeout_ms="50000")
    replaced(s, GROUP, s.topic("g"))
    replaced(s, CLIENT_METRICS, s.topic("m"), interval_ms="1000")
    replaced(s, CLIENT_METRICS, s.topic("m"))
    replaced(s, LOGGER, "1", root="INFO")
    replaced(s, 5, "1", root="INFO")


@case("ListConfigResources", "every kind, some, none that there is")
def _(s):
    group, subscription = s.topic("g"), s.topic("m")
    create(s, creatable(s.topic(), 1))
    s1 = Scene(s.probe, 1, s.prefix)
    change(s1, resource(GROUP, group, ("consumer.session.timeout.ms", SET, "50000")))
    change(s1, resource(CLIENT_METRICS, subscription, ("interval.ms", SET, "1000")))
    kinds = [[], [CLIENT_METRICS], [GROUP], [BROKER, LOGGER], [TOPIC, 5], [0]] if s.version else [[]]
    for asked in kinds:
        answer = s.ask(List(resource_types=asked), note=False)
        mine = (group, subscription, s.topic(), "1")
        found = [entry for entry in answer["config_resources"] if entry["resource_name"] in mine]
        s.probe.trace.append({**answer, "config_resources": found})
    change(s1, resource(GROUP, group, ("consumer.session.timeout.ms", DELETE, None)))
    change(s1, resource(CLIENT_METRICS, subscription, ("interval.ms", DELETE, None)))
