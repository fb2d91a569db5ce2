"""DescribeAcls (key 29), versions 1 to 3.

There is no authorizer yet, and so no ACLs: the answer is that of an Apache Kafka without one.
"""

from typing import Final, NoReturn

from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest

_UNKNOWN: Final = 0
"""In a type's place: a client that does not know what it asks for. Kafka takes the request for malformed."""


async def handle(request: DescribeAclsRequest, ctx: Context) -> NoReturn:
    if _UNKNOWN in (
        request.resource_type_filter,
        request.pattern_type_filter,
        request.operation,
        request.permission_type,
    ):
        raise CloseConnection("an ACL filter of unknown type")
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    raise KafkaError(Error.SECURITY_DISABLED, "No Authorizer is configured on the broker")
