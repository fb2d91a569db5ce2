"""ACLs as part of the cluster's metadata: how they are added and removed, and what images show of them.

What an ACL means is the authorizer's (`security/authorizer.py`). The table is indexed for it: by resource type and
pattern type, then by name, then by principal, so that a question costs as many look-ups as there are lengths of
prefixes, and not as many as there are ACLs. A change copies the tables that it touches, and shares the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.journal.cluster_metadata import AccessControlEntryRecord, RemoveAccessControlEntryRecord

MAX_RECORDS_PER_OPERATION: Final = 10_000
WILDCARD: Final = "*"


class PatternType(IntEnum):
    """How an ACL's resource name is compared; ANY and MATCH are for filters. The value is the code on the wire."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    """What an ACL does; ANY is for filters. The value is the code on the wire."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


class Acl(NamedTuple):
    """Who may (or may not) do what from where to which resources; the types are codes as on the wire."""

    resource_type: int
    resource_name: str
    pattern_type: int
    principal: str
    host: str
    operation: int
    permission: int


class AclFilter(NamedTuple):
    """Which ACLs are meant: None, and the codes for ANY, stand for all; pattern type MATCH for all that would apply."""

    resource_type: int
    resource_name: str | None
    pattern_type: int
    principal: str | None
    host: str | None
    operation: int
    permission: int

    def matches(self, acl: Acl) -> bool:
        """Whether the ACL is one of them."""
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self.pattern_type in (PatternType.ANY, PatternType.MATCH, acl.pattern_type)
            and (self.resource_name is None or self._names(acl, self.resource_name))
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
        )

    def _names(self, acl: Acl, name: str) -> bool:
        if self.pattern_type != PatternType.MATCH:
            return name == acl.resource_name
        if acl.pattern_type == PatternType.PREFIXED:
            return name.startswith(acl.resource_name)
        return acl.resource_name in (name, WILDCARD)


@dataclass(slots=True)
class CreateAcls:
    """Answered by a list: for each ACL None, or the `KafkaError` that refuses it. What is there already stays."""

    acls: Sequence[Acl]
    ids: Sequence[bytes]


@dataclass(slots=True)
class DeleteAcls:
    """Answered by a list: for each filter the ACLs that went, or a `KafkaError`."""

    filters: Sequence[AclFilter]


class _Resources(NamedTuple):
    """The resources of one type that ACLs name, by one type of pattern."""

    resource_type: int
    pattern_type: int


OfResource = Mapping[str, Sequence[Acl]]
"""The ACLs on one resource or prefix, by principal."""

_NO_TABLE: Final[Mapping[str, OfResource]] = {}


class AclTable:
    """All ACLs at one moment, which never changes. `by_id` is in the order in which they came."""

    __slots__ = ("_lengths", "_tables", "by_id")

    def __init__(self, by_id: Mapping[bytes, Acl], tables: Mapping[_Resources, Mapping[str, OfResource]]) -> None:
        self.by_id = by_id
        self._tables = tables
        self._lengths = {
            resources.resource_type: sorted({len(name) for name in names})
            for resources, names in tables.items()
            if resources.pattern_type == PatternType.PREFIXED
        }

    def applying_to(self, resource_type: int, name: str) -> Iterator[OfResource]:
        """The ACLs on the resource: by its own name, by each prefix of it, and by the name that stands for all."""
        literal = self._tables.get(_Resources(resource_type, PatternType.LITERAL), _NO_TABLE)
        if found := literal.get(name):
            yield found
        if name != WILDCARD and (found := literal.get(WILDCARD)):
            yield found
        prefixed = self._tables.get(_Resources(resource_type, PatternType.PREFIXED), _NO_TABLE)
        for length in self._lengths.get(resource_type, ()):
            if length > len(name):
                return
            if found := prefixed.get(name[:length]):
                yield found

    def of_type(self, resource_type: int, pattern_type: int) -> Mapping[str, OfResource]:
        """The ACLs on resources of a type, by name or prefix."""
        return self._tables.get(_Resources(resource_type, pattern_type), _NO_TABLE)

    def with_changes(
        self, by_id: Mapping[bytes, Acl], changed: Mapping[tuple[int, int, str], Sequence[Acl]]
    ) -> "AclTable":
        """The next table: `changed` has the ACLs of each resource (type, pattern type, name) that is another now."""
        tables = dict(self._tables)
        copied: dict[_Resources, dict[str, OfResource]] = {}
        for (resource_type, pattern_type, name), acls in changed.items():
            key = _Resources(resource_type, pattern_type)
            if key not in copied:
                tables[key] = copied[key] = dict(self._tables.get(key, _NO_TABLE))
            by_principal: dict[str, list[Acl]] = {}
            for acl in acls:
                by_principal.setdefault(acl.principal, []).append(acl)
            if by_principal:
                copied[key][name] = by_principal
            else:
                copied[key].pop(name, None)
        return AclTable(by_id, tables)


NO_ACLS: Final = AclTable({}, {})


class Acls:
    """Who may do what, while that may still change. A kind of metadata facts (`kinds.py`)."""

    facts: ClassVar[tuple[type[Any], ...]] = (AccessControlEntryRecord, RemoveAccessControlEntryRecord)
    commands: ClassVar[tuple[type[Any], ...]] = (CreateAcls, DeleteAcls)

    def __init__(self) -> None:
        self._by_id: dict[bytes, Acl] = {}
        self._by_resource: dict[tuple[int, int, str], dict[Acl, bytes]] = {}
        self._stale: set[tuple[int, int, str]] = set()
        self._shown = NO_ACLS

    def decide(self, command: CreateAcls | DeleteAcls, moment: Moment) -> tuple[Sequence[Any], Any]:
        return self._create(command) if isinstance(command, CreateAcls) else self._delete(command)

    def _create(self, command: CreateAcls) -> tuple[list[AccessControlEntryRecord], list[KafkaError | None]]:
        facts: dict[Acl, AccessControlEntryRecord] = {}
        results: list[KafkaError | None] = []
        for acl, acl_id in zip(command.acls, command.ids, strict=True):
            problem = _problem(acl)
            results.append(None if problem is None else KafkaError(Error.INVALID_REQUEST, problem))
            if problem is None and acl not in facts and acl not in self._by_resource.get(_resource(acl), ()):
                facts[acl] = _fact(acl_id, acl)
        if len(facts) > MAX_RECORDS_PER_OPERATION:
            raise KafkaError(Error.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")
        return list(facts.values()), results

    def _delete(self, command: DeleteAcls) -> tuple[list[RemoveAccessControlEntryRecord], list[list[Acl] | KafkaError]]:
        doomed: dict[bytes, RemoveAccessControlEntryRecord] = {}
        results: list[list[Acl] | KafkaError] = []
        for wanted in command.filters:
            problem = _filter_problem(wanted)
            if problem is not None:
                results.append(KafkaError(Error.INVALID_REQUEST, problem))
                continue
            found = {acl_id: acl for acl_id, acl in self._by_id.items() if wanted.matches(acl)}
            results.append(list(found.values()))
            doomed.update((acl_id, RemoveAccessControlEntryRecord(id=acl_id)) for acl_id in found)
        if len(doomed) > MAX_RECORDS_PER_OPERATION:
            raise KafkaError(
                Error.INVALID_REQUEST,
                f"Cannot remove more than {MAX_RECORDS_PER_OPERATION} acls in a single delete operation.",
            )
        return list(doomed.values()), results

    def apply(self, fact: AccessControlEntryRecord | RemoveAccessControlEntryRecord) -> None:
        if isinstance(fact, RemoveAccessControlEntryRecord):
            self._drop(fact.id)
        else:
            self._put(
                fact.id,
                Acl(
                    fact.resource_type,
                    fact.resource_name,
                    fact.pattern_type,
                    fact.principal,
                    fact.host,
                    fact.operation,
                    fact.permission_type,
                ),
            )

    def undo_of(self, fact: AccessControlEntryRecord | RemoveAccessControlEntryRecord) -> Callable[[], None]:
        if isinstance(fact, RemoveAccessControlEntryRecord):
            return partial(self._put, fact.id, self._by_id[fact.id])
        return partial(self._drop, fact.id)

    def _put(self, acl_id: bytes, acl: Acl) -> None:
        self._by_id[acl_id] = acl
        self._by_resource.setdefault(_resource(acl), {})[acl] = acl_id
        self._stale.add(_resource(acl))

    def _drop(self, acl_id: bytes) -> None:
        acl = self._by_id.pop(acl_id, None)
        if acl is None:
            raise LookupError(f"no record has told of an ACL with the id {acl_id.hex()}")
        resource = _resource(acl)
        del self._by_resource[resource][acl]
        if not self._by_resource[resource]:
            del self._by_resource[resource]
        self._stale.add(resource)

    @property
    def shown(self) -> AclTable:
        if self._stale:
            changed = {resource: list(self._by_resource.get(resource, ())) for resource in self._stale}
            self._shown = self._shown.with_changes(dict(self._by_id), changed)
            self._stale.clear()
        return self._shown

    @staticmethod
    def snapshot(shown: AclTable) -> Iterator[AccessControlEntryRecord]:
        return (_fact(acl_id, acl) for acl_id, acl in shown.by_id.items())


def _resource(acl: Acl) -> tuple[int, int, str]:
    return acl.resource_type, acl.pattern_type, acl.resource_name


def _fact(acl_id: bytes, acl: Acl) -> AccessControlEntryRecord:
    return AccessControlEntryRecord(
        id=acl_id,
        resource_type=acl.resource_type,
        resource_name=acl.resource_name,
        pattern_type=acl.pattern_type,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )


def _problem(acl: Acl) -> str | None:
    """What is wrong with an ACL that is to be."""
    if named(ResourceType, acl.resource_type) in ("UNKNOWN", "ANY"):
        return f"Invalid resourceType {named(ResourceType, acl.resource_type)}"
    if acl.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
        return f"Invalid patternType {named(PatternType, acl.pattern_type)}"
    if named(Operation, acl.operation) in ("UNKNOWN", "ANY"):
        return f"Invalid operation {named(Operation, acl.operation)}"
    if acl.permission not in (Permission.DENY, Permission.ALLOW):
        return f"Invalid permissionType {named(Permission, acl.permission)}"
    if not acl.resource_name:
        return "Resource name should not be empty"
    if ":" not in acl.principal:
        return (
            f"Could not parse principal from `{acl.principal}` "
            "(no colon is present separating the principal type from the principal name)"
        )
    return None


def _filter_problem(wanted: AclFilter) -> str | None:
    if "UNKNOWN" in (named(ResourceType, wanted.resource_type), named(PatternType, wanted.pattern_type)):
        return "Unknown patternFilter."
    if "UNKNOWN" in (named(Operation, wanted.operation), named(Permission, wanted.permission)):
        return "Unknown entryFilter."
    return None


def named(kind: type[IntEnum], code: int) -> str:
    """Kafka's name for a code; UNKNOWN when it has none."""
    try:
        return kind(code).name
    except ValueError:
        return "UNKNOWN"
