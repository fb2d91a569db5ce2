"""ACLs on a broker that has no authorizer: each API says so where its answer has room for it."""

from typing import Any

import pytest

from kafkapy.errors import CloseConnection, Error
from kafkapy.protocol.messages.create_acls import CreateAclsRequest
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest

TOPIC, LITERAL, READ, ALLOW = 2, 3, 3, 3


def creation(operation: int = READ) -> CreateAclsRequest.AclCreation:
    return CreateAclsRequest.AclCreation(
        resource_type=TOPIC, resource_name="t", principal="User:x", host="*", operation=operation, permission_type=ALLOW
    )


def matching(operation: int = READ) -> DeleteAclsRequest.DeleteAclsFilter:
    return DeleteAclsRequest.DeleteAclsFilter(
        resource_type_filter=TOPIC, pattern_type_filter=LITERAL, operation=operation, permission_type=ALLOW
    )


def question(operation: int = READ) -> DescribeAclsRequest:
    return DescribeAclsRequest(resource_type_filter=TOPIC, operation=operation, permission_type=ALLOW)


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_there_is_no_authorizer(broker: Any, version: int) -> None:
    described = await broker.ask(question(), version)
    assert described.error_code == Error.SECURITY_DISABLED
    assert "No Authorizer" in described.error_message
    assert described.resources == []
    created = await broker.ask(CreateAclsRequest(creations=[creation(), creation()]), version)
    deleted = await broker.ask(DeleteAclsRequest(filters=[matching(), matching()]), version)
    for results in (created.results, deleted.filter_results):
        assert [result.error_code for result in results] == [Error.SECURITY_DISABLED] * 2
        assert "No Authorizer" in results[0].error_message


async def test_a_client_that_does_not_know_what_it_asks_is_cut_off(broker: Any) -> None:
    unknown = 0
    requests = [
        question(unknown),
        CreateAclsRequest(creations=[creation(), creation(unknown)]),
        DeleteAclsRequest(filters=[matching(unknown)]),
    ]
    for request in requests:
        with pytest.raises(CloseConnection):
            await broker.ask(request)
