"""The context of a client's request where there is an authorizer: each answer about a resource is its verdict.

What was asked once in a request is remembered for the rest of it. Every verdict goes to the audit log, in Kafka's words
and to the logger that Kafka has for it: what was refused at INFO, what was allowed at DEBUG, and what was only asked so
as to tell or to leave out at neither.
"""

import logging
from dataclasses import dataclass, field
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import OPERATIONS, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages import APIS
from kafkapy.security.authorizer import Asker, Verdict

_audit = logging.getLogger("kafka.authorizer.logger")

_DENIALS: Final = {
    ResourceType.TOPIC: Error.TOPIC_AUTHORIZATION_FAILED,
    ResourceType.GROUP: Error.GROUP_AUTHORIZATION_FAILED,
    ResourceType.CLUSTER: Error.CLUSTER_AUTHORIZATION_FAILED,
    ResourceType.TRANSACTIONAL_ID: Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ResourceType.DELEGATION_TOKEN: Error.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
    ResourceType.USER: Error.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
}


@dataclass(slots=True)
class GuardedContext(Context):
    """One request's surroundings, where not everybody may do everything."""

    _known: dict[tuple[Operation, ResourceType, str], Verdict] = field(default_factory=dict, repr=False)

    def require(self, operation: Operation, resource_type: ResourceType, name: str) -> None:
        if self.permits(operation, resource_type, name):
            return
        message = None
        if resource_type is ResourceType.CLUSTER:
            message = f"Request {APIS[self.api_key].name} needs {operation.name} permission."
        raise KafkaError(_DENIALS[resource_type], message)

    def permits(
        self, operation: Operation, resource_type: ResourceType, name: str, *, denial_is_logged: bool = True
    ) -> bool:
        known = self._known.get((operation, resource_type, name))
        if known is not None:
            return known.allowed
        verdict = self._verdict(operation, resource_type, name)
        self._known[operation, resource_type, name] = verdict
        if verdict.allowed:
            if _audit.isEnabledFor(logging.DEBUG):
                _audit.debug("%s", self._told(operation, resource_type, name, verdict))
        elif denial_is_logged:
            _audit.info("%s", self._told(operation, resource_type, name, verdict))
        return verdict.allowed

    def permits_somewhere(self, operation: Operation, resource_type: ResourceType) -> bool:
        authorizer, acls = self.rooms.authorizer, self.rooms.cluster.image.kinds.acls
        return authorizer is None or authorizer.allows_somewhere(acls, self._asker(), operation, resource_type)

    def authorized_operations(self, resource_type: ResourceType, name: str) -> int:
        bits = 0
        for operation in OPERATIONS[resource_type]:
            if self._verdict(operation, resource_type, name).allowed:
                bits |= 1 << operation
        return bits

    def _verdict(self, operation: Operation, resource_type: ResourceType, name: str) -> Verdict:
        authorizer, acls = self.rooms.authorizer, self.rooms.cluster.image.kinds.acls
        assert authorizer is not None  # the registry makes no guarded context without one
        return authorizer.decide(acls, self._asker(), operation, resource_type, name)

    def _asker(self) -> Asker:
        return Asker(str(self.session.principal), self.session.address)

    def _told(self, operation: Operation, resource_type: ResourceType, name: str, verdict: Verdict) -> str:
        kind = resource_type.name.title().replace("_", "")
        told = (
            f"Principal = {self.session.principal} is {'Allowed' if verdict.allowed else 'Denied'} "
            f"operation = {operation.name} from host = {self.session.address} on resource = {kind}:LITERAL:{name} "
            f"for request = {APIS[self.api_key].name} with resourceRefCount = 1 based on rule {verdict.rule}"
        )
        # Who asks may not write lines of the log.
        return told if told.isprintable() else told.encode("unicode_escape").decode("ascii")
