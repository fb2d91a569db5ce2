"""Apache Kafka's own tools for ACLs, users' credentials and delegation tokens, asserting on what a user reads."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from brokers import KAFKA_VERSION
from harness import Check
from scenarios import fresh


def _tools() -> Any:
    """The other suite's way of calling the programs; its file has the name of this one."""
    path = Path(__file__).resolve().parent.parent / "kafka-tools" / "run.py"
    sys.path.append(str(path.parent))  # for what it is made of
    spec = importlib.util.spec_from_file_location("kafka_tools", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOLS = _tools()
LIMIT_S: float = TOOLS.LIMIT_S
has: Callable[..., None] = TOOLS.has


def acls_kept(t: Any) -> None:
    topic = fresh("guarded")
    pattern = rf"ResourcePattern\(resourceType=TOPIC, name={topic}, patternType=LITERAL\)"
    allow = ("--allow-principal", "User:bob", "--allow-host", "10.0.0.1")
    shown = t("AclCommand", "--add", *allow, "--operation", "Read", "--operation", "Describe", "--topic", topic)
    has(shown, f"Adding ACLs for resource `{pattern}`")
    t("AclCommand", "--add", "--deny-principal", "User:eve", "--operation", "All", "--topic", topic)
    shown = t("AclCommand", "--list", "--topic", topic)
    has(
        shown,
        f"Current ACLs for resource `{pattern}`",
        r"\(principal=User:bob, host=10.0.0.1, operation=READ, permissionType=ALLOW\)",
        r"\(principal=User:bob, host=10.0.0.1, operation=DESCRIBE, permissionType=ALLOW\)",
        r"\(principal=User:eve, host=\*, operation=ALL, permissionType=DENY\)",
    )
    shown = t("AclCommand", "--list", "--principal", "User:eve")
    assert "User:bob" not in shown, shown
    t("AclCommand", "--remove", "--force", *allow, "--operation", "Read", "--topic", topic)
    shown = t("AclCommand", "--list", "--topic", topic)
    has(shown, "operation=DESCRIBE")
    assert "operation=READ" not in shown, shown
    t("AclCommand", "--remove", "--force", "--topic", topic)
    assert topic not in t("AclCommand", "--list")


def acls_for_roles(t: Any) -> None:
    name = fresh("guarded")
    # The first ACL on the cluster keeps everybody else from it.
    t("AclCommand", "--add", "--allow-principal", "User:ANONYMOUS", "--operation", "All", "--cluster")
    producer = ("--producer", "--idempotent", "--transactional-id", name)
    shown = t("AclCommand", "--add", "--allow-principal", "User:p", *producer, "--topic", name)
    has(
        shown,
        rf"resourceType=TOPIC, name={name}, patternType=LITERAL",
        rf"resourceType=TRANSACTIONAL_ID, name={name}, patternType=LITERAL",
        r"operation=IDEMPOTENT_WRITE",
    )
    consumer = ("--consumer", "--group", name, "--resource-pattern-type", "prefixed")
    shown = t("AclCommand", "--add", "--allow-principal", "User:c", *consumer, "--topic", name)
    has(shown, rf"resourceType=GROUP, name={name}, patternType=PREFIXED")
    shown = t("AclCommand", "--list", "--resource-pattern-type", "match", "--topic", f"{name}-1")
    has(shown, "principal=User:c")
    assert "principal=User:p" not in shown, shown
    for resource in ("--topic", "--group", "--transactional-id"):
        t("AclCommand", "--remove", "--force", "--resource-pattern-type", "any", resource, name)
    t("AclCommand", "--remove", "--force", "--allow-principal", "User:p", "--operation", "IdempotentWrite", "--cluster")
    assert name not in t("AclCommand", "--list")


def acls_acting(t: Any) -> None:
    topic = t.create()
    deny = ("--deny-principal", "User:ANONYMOUS", "--topic", topic)
    t("AclCommand", "--add", *deny, "--operation", "Write", "--operation", "Describe")
    has(t.topic("--describe", "--topic", topic, code=1), f"Topic '{topic}' does not exist as expected")
    assert topic not in t.topic("--list")
    t("AclCommand", "--remove", "--force", *deny, "--operation", "Describe")
    looking = ("--operation", "Describe", "--operation", "DescribeConfigs")
    t("AclCommand", "--add", "--allow-principal", "User:*", *looking, "--topic", topic)
    has(t.topic("--describe", "--topic", topic), f"Topic: {topic}")
    t("ConsoleProducer", "--topic", topic, said="refused\n", code=None)
    t("AclCommand", "--remove", "--force", "--topic", topic)
    t.produce(topic, ["let in"])
    has(t("GetOffsetShell", "--topic", topic), f"^{topic}:0:1$")  # and nothing of what was refused


def users_kept(t: Any) -> None:
    user = fresh("guarded")
    entity = ("--entity-type", "users", "--entity-name", user)
    for scram in ("SCRAM-SHA-256=[iterations=8192,password=secret]", "SCRAM-SHA-512=[password=secret]"):
        has(t("ConfigCommand", "--alter", "--add-config", scram, *entity), f"Completed updating config for user {user}")
    shown = t("ConfigCommand", "--describe", *entity)
    has(
        shown,
        f"SCRAM credential configs for user-principal '{user}' are .*SCRAM-SHA-256=iterations=8192",
        "SCRAM-SHA-512=iterations=4096",
    )
    t("ConfigCommand", "--alter", "--delete-config", "SCRAM-SHA-256", *entity)
    shown = t("ConfigCommand", "--describe", *entity)
    has(shown, "SCRAM-SHA-512=iterations=4096")
    assert "SCRAM-SHA-256" not in shown, shown
    t("ConfigCommand", "--alter", "--delete-config", "SCRAM-SHA-512", *entity)
    few = "SCRAM-SHA-256=[iterations=100,password=secret]"
    has(t("ConfigCommand", "--alter", "--add-config", few, *entity, code=1), "[Ii]terations")
    has(
        t("ConfigCommand", "--alter", "--delete-config", "SCRAM-SHA-512", *entity, code=1),
        "Attempt to delete a user credential that does not exist|does not exist",
    )


def tokens_refused(t: Any) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as settings:
        config = ("--command-config", settings.name)
        shown = t("DelegationTokenCommand", "--create", "--max-life-time-period", "-1", *config, code=1)
        has(shown, "Delegation Token requests are not allowed on PLAINTEXT/1-way SSL channels")


CHECKS: dict[str, Callable[[Any], None]] = {
    "kafka-acls: add, list, remove": acls_kept,
    "kafka-acls: producers, consumers, prefixes": acls_for_roles,
    "kafka-acls: what is denied": acls_acting,
    "kafka-configs: users' credentials": users_kept,
    "kafka-delegation-tokens: not for strangers": tokens_refused,
}


def checks(bootstrap: str) -> Iterator[Check]:
    t = TOOLS.Tools(bootstrap)
    for name, check in CHECKS.items():
        yield Check(name, lambda check=check: check(t), limit_s=4 * LIMIT_S)


if __name__ == "__main__":
    harness.main("Apache Kafka's tools, guarded", KAFKA_VERSION, checks)
