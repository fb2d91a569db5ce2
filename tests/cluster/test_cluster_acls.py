"""ACLs in the cluster's metadata: by commands and decisions, through the bytes of the log, and taken back."""

import pytest

from kafkapy.cluster.acls import Acl, AclFilter, CreateAcls, DeleteAcls, PatternType, Permission
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Operation, ResourceType
from tests.cluster.machines import Driver

EVERYTHING = AclFilter(ResourceType.ANY, None, PatternType.ANY, None, None, Operation.ANY, Permission.ANY)


def allow(
    name: str,
    principal: str = "User:alice",
    pattern_type: int = PatternType.LITERAL,
    operation: int = Operation.READ,
    resource_type: int = ResourceType.TOPIC,
    host: str = "*",
    permission: int = Permission.ALLOW,
) -> Acl:
    return Acl(resource_type, name, pattern_type, principal, host, operation, permission)


class AclDriver(Driver):
    """The cluster machine, asked for ACLs."""

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 0

    def create(self, *acls: Acl) -> list[object]:
        ids = [(self._next_id + number).to_bytes(16, "big") for number in range(len(acls))]
        self._next_id += len(acls)
        return self.do(CreateAcls(acls, ids))

    def acls(self) -> set[Acl]:
        return set(self.machine.state.advance().new.kinds.acls.by_id.values())


@pytest.fixture
def driver() -> AclDriver:
    return AclDriver()


def found(driver: AclDriver, name: str, resource_type: int = ResourceType.TOPIC) -> set[Acl]:
    table = driver.machine.state.advance().new.kinds.acls
    return {
        acl for of_resource in table.applying_to(resource_type, name) for acls in of_resource.values() for acl in acls
    }


def test_acls_are_there_once_whoever_creates_them_again(driver: AclDriver) -> None:
    assert driver.create(allow("a"), allow("a"), allow("b")) == [None, None, None]
    assert len(driver.log) == 2
    assert driver.create(allow("a")) == [None]
    assert len(driver.log) == 2
    assert driver.acls() == {allow("a"), allow("b")}


@pytest.mark.parametrize(
    ("acl", "problem"),
    [
        (allow("a", resource_type=ResourceType.ANY), "Invalid resourceType ANY"),
        (allow("a", resource_type=99), "Invalid resourceType UNKNOWN"),
        (allow("a", pattern_type=PatternType.MATCH), "Invalid patternType MATCH"),
        (allow("a", pattern_type=PatternType.ANY), "Invalid patternType ANY"),
        (allow("a", operation=Operation.ANY), "Invalid operation ANY"),
        (allow("a", operation=77), "Invalid operation UNKNOWN"),
        (allow("a", permission=Permission.ANY), "Invalid permissionType ANY"),
        (allow(""), "Resource name should not be empty"),
        (
            allow("a", principal="alice"),
            "Could not parse principal from `alice` "
            "(no colon is present separating the principal type from the principal name)",
        ),
    ],
)
def test_what_is_no_acl_is_refused_and_its_neighbours_are_not(driver: AclDriver, acl: Acl, problem: str) -> None:
    [refusal, nothing] = driver.create(acl, allow("b"))
    assert isinstance(refusal, KafkaError)
    assert (refusal.error, refusal.message) == (Error.INVALID_REQUEST, problem)
    assert nothing is None
    assert driver.acls() == {allow("b")}


def test_filters_delete_what_they_match_and_an_acl_that_two_match_goes_once(driver: AclDriver) -> None:
    acls = [
        allow("topic"),
        allow("top", pattern_type=PatternType.PREFIXED),
        allow("*"),
        allow("topic", resource_type=ResourceType.GROUP),
        allow("other"),
        allow("topic", principal="User:bob", host="1.2.3.4", operation=Operation.ALL, permission=Permission.DENY),
    ]
    driver.create(*acls)
    both = [
        EVERYTHING._replace(resource_type=ResourceType.TOPIC, resource_name="topic", pattern_type=PatternType.MATCH),
        EVERYTHING._replace(host="1.2.3.4"),
        EVERYTHING._replace(permission=44),
        EVERYTHING._replace(pattern_type=44),
    ]
    matched, from_host, *refused = driver.do(DeleteAcls(both))
    assert set(matched) == {acls[0], acls[1], acls[2], acls[5]}
    assert from_host == [acls[5]]
    assert [(r.error, r.message) for r in refused] == [
        (Error.INVALID_REQUEST, "Unknown entryFilter."),
        (Error.INVALID_REQUEST, "Unknown patternFilter."),
    ]
    assert driver.acls() == {acls[3], acls[4]}
    assert len(driver.log) == len(acls) + 4


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({}, {0, 1, 2, 3}),
        ({"resource_name": "topic"}, {0, 3}),
        ({"resource_name": "topic", "pattern_type": PatternType.PREFIXED}, {3}),
        ({"resource_name": "topic-1", "pattern_type": PatternType.MATCH}, {2, 3}),
        ({"principal": "User:bob"}, {1}),
        ({"operation": Operation.WRITE}, {1}),
        ({"operation": Operation.ALL}, set()),
        ({"permission": Permission.DENY}, {2}),
        ({"resource_type": ResourceType.GROUP}, set()),
        ({"host": "h"}, {2}),
    ],
)
def test_a_filter_matches_by_every_field_that_it_names(
    driver: AclDriver, changes: dict[str, object], numbers: set[int]
) -> None:
    acls = [
        allow("topic"),
        allow("t", principal="User:bob", operation=Operation.WRITE),
        allow("*", permission=Permission.DENY, host="h"),
        allow("topic", pattern_type=PatternType.PREFIXED),
    ]
    assert {number for number, acl in enumerate(acls) if EVERYTHING._replace(**changes).matches(acl)} == numbers


def test_too_many_at_once_are_refused_as_a_whole(driver: AclDriver) -> None:
    with pytest.raises(KafkaError) as refusal:
        driver.create(*(allow(f"t{number}") for number in range(10_001)))
    assert refusal.value.error is Error.POLICY_VIOLATION
    for hundred in range(101):
        driver.create(*(allow(f"t{hundred}-{number}") for number in range(100)))
    with pytest.raises(KafkaError) as refusal:
        driver.do(DeleteAcls([EVERYTHING]))
    assert refusal.value.error is Error.INVALID_REQUEST
    assert len(driver.acls()) == 10_100


def test_replayed_and_restored_it_is_the_same(driver: AclDriver) -> None:
    driver.create(allow("a"), allow("b"), allow("a", pattern_type=PatternType.PREFIXED))
    driver.do(DeleteAcls([EVERYTHING._replace(resource_name="b")]))
    replayed, restored, journal = driver.fresh(), driver.fresh(), MetadataJournal()
    for entry in driver.log:
        replayed.apply(journal.decode(entry))
    for fact in driver.machine.snapshot():
        [entry] = journal.encode(fact)
        restored.apply(journal.decode(entry))
    before = driver.machine.state.advance().new.kinds.acls
    for other in (replayed, restored):
        assert other.state.advance().new.kinds.acls.by_id == before.by_id


def test_what_the_log_refused_is_taken_back_and_images_of_before_stay(driver: AclDriver) -> None:
    driver.create(allow("a"), allow("b"))
    before = driver.machine.state.advance().new
    driver.undos.clear()
    driver.create(allow("a", principal="User:bob"), allow("c"))
    driver.do(DeleteAcls([EVERYTHING._replace(resource_name="a")]))
    assert driver.acls() == {allow("b"), allow("c")}
    assert found(driver, "a") == set()
    driver.machine.revert(reversed(driver.undos), KafkaError(Error.NOT_CONTROLLER), Moment(0))
    assert driver.acls() == {allow("a"), allow("b")}
    assert found(driver, "a") == {allow("a")}
    assert found(driver, "c") == set()
    assert set(before.kinds.acls.by_id.values()) == {allow("a"), allow("b")}


def test_acls_of_a_resource_are_found_by_its_name_its_prefixes_and_the_wildcard(driver: AclDriver) -> None:
    applying = {
        allow("orders-eu"),
        allow("*"),
        allow("o", pattern_type=PatternType.PREFIXED),
        allow("orders-", pattern_type=PatternType.PREFIXED),
        allow("orders-eu", pattern_type=PatternType.PREFIXED, principal="User:*"),
    }
    others = {
        allow("orders-"),
        allow("orders-eu-1"),
        allow("orders-eu-1", pattern_type=PatternType.PREFIXED),
        allow("p", pattern_type=PatternType.PREFIXED),
        allow("*", pattern_type=PatternType.PREFIXED),
        allow("orders-eu", resource_type=ResourceType.GROUP),
    }
    driver.create(*applying, *others)
    assert found(driver, "orders-eu") == applying
