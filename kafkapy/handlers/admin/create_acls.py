"""CreateAcls (key 30), versions 1 to 3.

Each ACL is answered by itself; one that is there already is no error. When the answer leaves, what was added acts here.
Without an authorizer there are no ACLs: SECURITY_DISABLED at each of them.
"""

from kafkapy.cluster.acls import Acl
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.acls import check_types, require_authorizer
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.create_acls import CreateAclsRequest, CreateAclsResponse

Result = CreateAclsResponse.AclCreationResult


async def handle(request: CreateAclsRequest, ctx: Context) -> CreateAclsResponse:
    for acl in request.creations:
        check_types("an ACL", (acl.resource_type, acl.resource_pattern_type, acl.operation, acl.permission_type))
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    require_authorizer(ctx, "No Authorizer is configured.")
    results: list[KafkaError | None] = [_refusal(acl) for acl in request.creations]
    possible = [number for number, refusal in enumerate(results) if refusal is None]
    created = await ctx.rooms.cluster.create_acls([_acl(request.creations[number]) for number in possible])
    for number, result in zip(possible, created, strict=True):
        results[number] = result
    return CreateAclsResponse(results=[_result(refusal) for refusal in results])


def _refusal(acl: CreateAclsRequest.AclCreation) -> KafkaError | None:
    if acl.resource_type == ResourceType.CLUSTER and acl.resource_name != CLUSTER_NAME:
        message = f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}"
        return KafkaError(Error.INVALID_REQUEST, message)
    if not acl.resource_name:
        return KafkaError(Error.INVALID_REQUEST, "Invalid empty resource name")
    return None


def _acl(acl: CreateAclsRequest.AclCreation) -> Acl:
    return Acl(
        acl.resource_type,
        acl.resource_name,
        acl.resource_pattern_type,
        acl.principal,
        acl.host,
        acl.operation,
        acl.permission_type,
    )


def _result(refusal: KafkaError | None) -> Result:
    if refusal is None:
        return Result()
    return Result(error_code=refusal.error, error_message=refusal.message or refusal.error.text)


def refuse(request: CreateAclsRequest, refusal: KafkaError, ctx: Context) -> CreateAclsResponse:
    """The error response: the error at every ACL."""
    return CreateAclsResponse(results=[_result(refusal) for _ in request.creations])
