"""DeleteAcls (key 31), versions 1 to 3.

There is no authorizer yet, and so no ACLs: the answer is that of an Apache Kafka without one, at every filter.
"""

from typing import Final, NoReturn

from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest, DeleteAclsResponse

_UNKNOWN: Final = 0
"""In a type's place: a client that does not know what it asks for. Kafka takes the request for malformed."""


async def handle(request: DeleteAclsRequest, ctx: Context) -> NoReturn:
    for acl in request.filters:
        if _UNKNOWN in (acl.resource_type_filter, acl.pattern_type_filter, acl.operation, acl.permission_type):
            raise CloseConnection("an ACL filter of unknown type")
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    raise KafkaError(Error.SECURITY_DISABLED, "No Authorizer is configured.")


def refuse(request: DeleteAclsRequest, refusal: KafkaError, ctx: Context) -> DeleteAclsResponse:
    """The error response: the error at every filter."""
    message = refusal.message or refusal.error.text
    result = DeleteAclsResponse.DeleteAclsFilterResult(error_code=refusal.error, error_message=message)
    return DeleteAclsResponse(filter_results=[result for _ in request.filters])
