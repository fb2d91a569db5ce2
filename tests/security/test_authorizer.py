"""The authorizer's rules: which ACLs apply, which of them wins, what they imply, and what asking costs."""

import pytest

from kafkapy.cluster.acls import NO_ACLS, Acl, Acls, AclTable, PatternType, Permission
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.journal.cluster_metadata import AccessControlEntryRecord
from kafkapy.security.authorizer import Asker, Authorizer

ALICE = Asker("User:alice", "10.0.0.1")
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
READ, WRITE, DESCRIBE, ALL = Operation.READ, Operation.WRITE, Operation.DESCRIBE, Operation.ALL


def acl(
    name: str,
    operation: Operation = READ,
    *,
    deny: bool = False,
    prefixed: bool = False,
    principal: str = "User:alice",
    host: str = "*",
    kind: ResourceType = TOPIC,
) -> Acl:
    pattern_type = PatternType.PREFIXED if prefixed else PatternType.LITERAL
    return Acl(kind, name, pattern_type, principal, host, operation, Permission.DENY if deny else Permission.ALLOW)


def table(*acls: Acl) -> AclTable:
    kept = Acls()
    for number, one in enumerate(acls):
        fields = one._asdict()
        fields["permission_type"] = fields.pop("permission")
        kept.apply(AccessControlEntryRecord(id=number.to_bytes(16, "big"), **fields))
    return kept.shown


def authorizer(*super_users: str, default: bool = False) -> Authorizer:
    return Authorizer(frozenset(super_users), allow_everyone_if_no_acl_found=default)


def may(
    acls: AclTable, operation: Operation, name: str, asker: Asker = ALICE, kind: ResourceType = TOPIC, *, default=False
) -> bool:
    return authorizer(default=default).decide(acls, asker, operation, kind, name).allowed


@pytest.mark.parametrize(
    ("acls", "name", "allowed"),
    [
        ([], "t", False),
        ([acl("t")], "t", True),
        ([acl("t")], "tt", False),
        ([acl("t")], "T", False),
        ([acl("t", prefixed=True)], "tt", True),
        ([acl("t", prefixed=True)], "t", True),
        ([acl("tt", prefixed=True)], "t", False),
        ([acl("*")], "t", True),
        ([acl("*", prefixed=True)], "t", False),
        ([acl("*", prefixed=True)], "*t", True),
        ([acl("t", kind=GROUP)], "t", False),
        ([acl("t", principal="User:bob")], "t", False),
        ([acl("t", principal="User:*")], "t", True),
        ([acl("t", principal="Group:*")], "t", False),
        ([acl("t", principal="Group:alice")], "t", False),
        ([acl("t", host="10.0.0.1")], "t", True),
        ([acl("t", host="10.0.0.2")], "t", False),
        ([acl("t", operation=WRITE)], "t", False),
        ([acl("t", operation=ALL)], "t", True),
        ([acl("t"), acl("t", deny=True)], "t", False),
        ([acl("t"), acl("*", deny=True)], "t", False),
        ([acl("*"), acl("t", deny=True, prefixed=True)], "t1", False),
        ([acl("t"), acl("t", ALL, deny=True)], "t", False),
        ([acl("t"), acl("t", WRITE, deny=True)], "t", True),
        ([acl("t"), acl("t", deny=True, principal="User:*")], "t", False),
        ([acl("t"), acl("t", deny=True, principal="User:bob")], "t", True),
        ([acl("t"), acl("t", deny=True, host="10.0.0.2")], "t", True),
    ],
)
def test_an_acl_allows_and_another_denies(acls: list[Acl], name: str, allowed: bool) -> None:
    assert may(table(*acls), READ, name) is allowed
    assert may(table(*reversed(acls)), READ, name) is allowed


@pytest.mark.parametrize("operation", list(Operation)[3:])
def test_some_operations_imply_that_one_may_look(operation: Operation) -> None:
    acls = table(acl("t", operation))
    implying = {READ, WRITE, Operation.DELETE, Operation.ALTER, DESCRIBE}
    configs = {Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS}
    assert may(acls, DESCRIBE, "t") is (operation in implying)
    assert may(acls, Operation.DESCRIBE_CONFIGS, "t") is (operation in configs)
    assert may(acls, READ, "t") is (operation is READ)


def test_what_is_denied_implies_nothing() -> None:
    acls = table(acl("t", ALL), acl("t", READ, deny=True), acl("t", Operation.ALTER_CONFIGS, deny=True))
    assert may(acls, DESCRIBE, "t")
    assert may(acls, Operation.DESCRIBE_CONFIGS, "t")
    assert not may(acls, READ, "t")


def test_the_default_holds_for_a_resource_that_no_acl_speaks_of() -> None:
    acls = table(acl("t", principal="User:bob"), acl("p", WRITE, prefixed=True, principal="User:bob"))
    assert may(acls, READ, "other", default=True)
    assert not may(acls, READ, "other")
    assert not may(acls, READ, "t", default=True)
    assert not may(acls, READ, "pq", default=True)
    assert may(acls, READ, "t", kind=GROUP, default=True)


def test_a_super_user_may_do_everything() -> None:
    verdict = authorizer("User:alice").decide(table(acl("t", ALL, deny=True)), ALICE, READ, TOPIC, "t")
    assert verdict == (True, "SuperUser")
    assert not authorizer("User:alic").decide(NO_ACLS, ALICE, READ, TOPIC, "t").allowed


def test_the_rule_is_named() -> None:
    def rule(*acls: Acl, default: bool = False) -> str:
        return authorizer(default=default).decide(table(*acls), ALICE, READ, TOPIC, "t").rule

    assert rule() == "DefaultDeny"
    assert rule(default=True) == "DefaultAllow"
    assert rule(acl("t", WRITE), default=True) == "DefaultDeny"
    assert rule(acl("t", deny=True, host="10.0.0.1"), acl("*")) == (
        "MatchingAcl(acl=StandardAcl(resourceType=TOPIC, resourceName=t, patternType=LITERAL, principal=User:alice, "
        "host=10.0.0.1, operation=READ, permissionType=DENY))"
    )


@pytest.mark.parametrize(
    ("acls", "allowed"),
    [
        ([], False),
        ([acl("t", WRITE)], True),
        ([acl("t", ALL)], True),
        ([acl("t", READ)], False),
        ([acl("t", WRITE, principal="User:*")], True),
        ([acl("t", WRITE, principal="User:bob")], False),
        ([acl("t", WRITE, host="10.0.0.2")], False),
        ([acl("t", WRITE, kind=GROUP)], False),
        ([acl("*", WRITE)], True),
        ([acl("*", WRITE), acl("*", WRITE, deny=True)], False),
        ([acl("t", WRITE), acl("*", WRITE, deny=True)], False),
        ([acl("*", WRITE), acl("t", WRITE, deny=True)], True),
        ([acl("t", WRITE), acl("t", WRITE, deny=True)], False),
        ([acl("t", WRITE), acl("t", READ, deny=True)], True),
        ([acl("tt", WRITE), acl("t", WRITE, deny=True, prefixed=True)], False),
        ([acl("tt", WRITE, prefixed=True), acl("t", WRITE, deny=True, prefixed=True)], False),
        ([acl("t", WRITE, prefixed=True), acl("t", WRITE, deny=True, prefixed=True)], False),
        ([acl("t", WRITE, prefixed=True), acl("tt", WRITE, deny=True, prefixed=True)], True),
        ([acl("t", WRITE, prefixed=True), acl("t", WRITE, deny=True)], True),
    ],
)
def test_somewhere_one_may_write_or_nowhere(acls: list[Acl], allowed: bool) -> None:
    assert authorizer().allows_somewhere(table(*acls), ALICE, WRITE, TOPIC) is allowed


def test_what_holds_everywhere_holds_somewhere() -> None:
    assert authorizer("User:alice").allows_somewhere(table(acl("*", ALL, deny=True)), ALICE, WRITE, TOPIC)
    assert authorizer(default=True).allows_somewhere(table(acl("t", ALL, deny=True)), ALICE, WRITE, TOPIC)


class CountingDict(dict):
    """Counts how often it is asked."""

    looked_up = 0

    def get(self, *key):
        CountingDict.looked_up += 1
        return super().get(*key)


def test_a_question_costs_as_much_with_many_acls_as_with_few() -> None:
    """Ten thousand ACLs on other topics, as many on this one for other people, and prefixes of three lengths."""
    others = [acl(f"other-{number}") for number in range(10_000)]
    people = [acl("topic", principal=f"User:{number}") for number in range(10_000)]
    prefixes = [acl(f"{number:0{length}}", prefixed=True) for length in (2, 3, 4) for number in range(50)]
    acls = table(*others, *people, *prefixes, acl("topic"))
    acls._tables = {key: CountingDict(names) for key, names in acls._tables.items()}
    CountingDict.looked_up = 0
    assert may(acls, READ, "topic")
    assert CountingDict.looked_up <= 2 + 3
