"""CreateAcls (key 30), versions 1 to 3.

There is no authorizer yet to keep ACLs: the answer is that of an Apache Kafka without one, at every ACL.
"""

from typing import Final, NoReturn

from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.create_acls import CreateAclsRequest, CreateAclsResponse

_UNKNOWN: Final = 0
"""In a type's place: a client that does not know what it asks for. Kafka takes the request for malformed."""


async def handle(request: CreateAclsRequest, ctx: Context) -> NoReturn:
    for acl in request.creations:
        if _UNKNOWN in (acl.resource_type, acl.resource_pattern_type, acl.operation, acl.permission_type):
            raise CloseConnection("an ACL of unknown type")
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    raise KafkaError(Error.SECURITY_DISABLED, "No Authorizer is configured.")


def refuse(request: CreateAclsRequest, refusal: KafkaError, ctx: Context) -> CreateAclsResponse:
    """The error response: the error at every ACL."""
    message = refusal.message or refusal.error.text
    result = CreateAclsResponse.AclCreationResult(error_code=refusal.error, error_message=message)
    return CreateAclsResponse(results=[result for _ in request.creations])
