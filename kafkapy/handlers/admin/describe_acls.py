"""DescribeAcls (key 29), versions 1 to 3.

The ACLs that a filter matches, resource by resource. Without an authorizer there are none: SECURITY_DISABLED.
"""

from kafkapy.cluster.acls import Acl
from kafkapy.handlers.admin.acls import checked_filter, require_authorizer
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse


async def handle(request: DescribeAclsRequest, ctx: Context) -> DescribeAclsResponse:
    wanted = checked_filter(
        request.resource_type_filter,
        request.resource_name_filter,
        request.pattern_type_filter,
        request.principal_filter,
        request.host_filter,
        request.operation,
        request.permission_type,
    )
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    require_authorizer(ctx, "No Authorizer is configured on the broker")
    by_resource: dict[tuple[int, str, int], list[Acl]] = {}
    for acl in ctx.rooms.cluster.image.kinds.acls.by_id.values():
        if wanted.matches(acl):
            by_resource.setdefault((acl.resource_type, acl.resource_name, acl.pattern_type), []).append(acl)
    return DescribeAclsResponse(
        resources=[
            DescribeAclsResponse.DescribeAclsResource(
                resource_type=resource_type,
                resource_name=name,
                pattern_type=pattern_type,
                acls=[
                    DescribeAclsResponse.AclDescription(
                        principal=acl.principal,
                        host=acl.host,
                        operation=acl.operation,
                        permission_type=acl.permission,
                    )
                    for acl in acls
                ],
            )
            for (resource_type, name, pattern_type), acls in by_resource.items()
        ],
    )
