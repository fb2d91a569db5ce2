"""Who may do what: the rules of Kafka's StandardAuthorizer, over the ACLs of one moment.

Pure: what is asked comes as arguments, and a verdict says by which rule it was reached. One ACL that denies outweighs
all that allow. Where no ACL speaks of the resource at all, whoever it names, `allow.everyone.if.no.acl.found` decides.
An ACL that allows READ, WRITE, DELETE or ALTER allows DESCRIBE as well, and one for ALTER_CONFIGS DESCRIBE_CONFIGS;
what is denied implies nothing. Called by the context of a request (`handlers/guarded.py`).
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kafkapy.cluster.acls import WILDCARD, Acl, AclTable, OfResource, PatternType, Permission, named
from kafkapy.model import Operation, ResourceType

_ANYBODY: Final = "User:*"
_IMPLYING: Final = {
    Operation.DESCRIBE: frozenset(
        {
            Operation.ALL,
            Operation.DESCRIBE,
            Operation.READ,
            Operation.WRITE,
            Operation.DELETE,
            Operation.ALTER,
        }
    ),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.ALL, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS}),
}
_SOME_RESOURCE: Final = "hardcode"
"""A name that nobody has ACLs for, by which Kafka finds out who may do something to every resource."""


class Asker(NamedTuple):
    """Who asks, as ACLs name it: the principal's type and name, and the address as Java writes it."""

    principal: str
    host: str


class Verdict(NamedTuple):
    """Whether it is allowed, and by which rule, in the words of Kafka's audit log."""

    allowed: bool
    rule: str


_SUPER_USER: Final = Verdict(True, "SuperUser")
_DEFAULT_DENY: Final = Verdict(False, "DefaultDeny")
_DEFAULT_ALLOW: Final = Verdict(True, "DefaultAllow")


class Authorizer:
    """The rules of one broker: `super.users` may do everything."""

    def __init__(self, super_users: frozenset[str], *, allow_everyone_if_no_acl_found: bool) -> None:
        self._super_users = super_users
        self._without_acls = _DEFAULT_ALLOW if allow_everyone_if_no_acl_found else _DEFAULT_DENY

    def decide(
        self, acls: AclTable, asker: Asker, operation: Operation, resource_type: ResourceType, name: str
    ) -> Verdict:
        """Whether the asker may do `operation` on the resource."""
        if asker.principal in self._super_users:
            return _SUPER_USER
        verdict = self._without_acls
        for of_resource in acls.applying_to(resource_type, name):
            if not verdict.allowed or verdict is _DEFAULT_ALLOW:
                verdict = _DEFAULT_DENY
            for acl in _of_asker(of_resource, asker):
                if acl.permission == Permission.DENY:
                    if acl.operation in (operation, Operation.ALL):
                        return Verdict(False, _told(acl))
                elif not verdict.allowed and _allows(acl, operation):
                    verdict = Verdict(True, _told(acl))
        return verdict

    def allows_somewhere(self, acls: AclTable, asker: Asker, operation: Operation, resource_type: ResourceType) -> bool:
        """Whether there may be a resource of the type on which the asker may do `operation`; nothing is implied."""
        if self.decide(acls, asker, operation, resource_type, _SOME_RESOURCE).allowed:
            return True
        literal = acls.of_type(resource_type, PatternType.LITERAL)
        prefixed = acls.of_type(resource_type, PatternType.PREFIXED)

        def says(of_resource: OfResource | None, permission: Permission) -> bool:
            return of_resource is not None and any(
                acl.permission == permission and acl.operation in (operation, Operation.ALL)
                for acl in _of_asker(of_resource, asker)
            )

        def is_denied(name: str) -> bool:
            return any(says(prefixed.get(name[:length]), Permission.DENY) for length in range(1, len(name) + 1))

        everything = literal.get(WILDCARD)
        if says(everything, Permission.DENY):
            return False
        if says(everything, Permission.ALLOW):
            return True
        return any(
            says(of_resource, Permission.ALLOW) and not says(of_resource, Permission.DENY) and not is_denied(name)
            for name, of_resource in literal.items()
        ) or any(says(of_resource, Permission.ALLOW) and not is_denied(name) for name, of_resource in prefixed.items())


def _of_asker(of_resource: OfResource, asker: Asker) -> Iterator[Acl]:
    """The ACLs that name the asker, and the host it asks from."""
    for principal in (asker.principal, _ANYBODY):
        for acl in of_resource.get(principal, ()):
            if acl.host in (WILDCARD, asker.host):
                yield acl


def _allows(acl: Acl, operation: Operation) -> bool:
    implying = _IMPLYING.get(operation)
    return acl.operation in (operation, Operation.ALL) if implying is None else acl.operation in implying


def _told(acl: Acl) -> str:
    return (
        f"MatchingAcl(acl=StandardAcl(resourceType={named(ResourceType, acl.resource_type)}, "
        f"resourceName={acl.resource_name}, patternType={named(PatternType, acl.pattern_type)}, "
        f"principal={acl.principal}, host={acl.host}, operation={named(Operation, acl.operation)}, "
        f"permissionType={named(Permission, acl.permission)}))"
    )
