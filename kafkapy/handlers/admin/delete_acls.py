"""DeleteAcls (key 31), versions 1 to 3.

Each filter is answered by the ACLs that it matched, which are gone when the answer leaves. Without an authorizer there
are no ACLs: SECURITY_DISABLED at each filter.
"""

from kafkapy.cluster.acls import Acl
from kafkapy.errors import KafkaError
from kafkapy.handlers.admin.acls import checked_filter, require_authorizer
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest, DeleteAclsResponse

Result = DeleteAclsResponse.DeleteAclsFilterResult


async def handle(request: DeleteAclsRequest, ctx: Context) -> DeleteAclsResponse:
    filters = [
        checked_filter(
            wanted.resource_type_filter,
            wanted.resource_name_filter,
            wanted.pattern_type_filter,
            wanted.principal_filter,
            wanted.host_filter,
            wanted.operation,
            wanted.permission_type,
        )
        for wanted in request.filters
    ]
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    require_authorizer(ctx, "No Authorizer is configured.")
    results = await ctx.rooms.cluster.delete_acls(filters)
    return DeleteAclsResponse(
        filter_results=[
            _refused(result)
            if isinstance(result, KafkaError)
            else Result(error_message=None, matching_acls=_told(result))
            for result in results
        ]
    )


def _told(acls: list[Acl]) -> list[DeleteAclsResponse.DeleteAclsMatchingAcl]:
    return [
        DeleteAclsResponse.DeleteAclsMatchingAcl(
            error_message=None,
            resource_type=acl.resource_type,
            resource_name=acl.resource_name,
            pattern_type=acl.pattern_type,
            principal=acl.principal,
            host=acl.host,
            operation=acl.operation,
            permission_type=acl.permission,
        )
        for acl in acls
    ]


def _refused(refusal: KafkaError) -> Result:
    return Result(error_code=refusal.error, error_message=refusal.message or refusal.error.text)


def refuse(request: DeleteAclsRequest, refusal: KafkaError, ctx: Context) -> DeleteAclsResponse:
    """The error response: the error at every filter."""
    return DeleteAclsResponse(filter_results=[_refused(refusal) for _ in request.filters])
