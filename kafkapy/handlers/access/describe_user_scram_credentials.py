"""DescribeUserScramCredentials (key 50), version 0.

Which credentials for SCRAM users have, and how many iterations each took (KIP-554): of all users that have any, where
none are named. What is stored of a password is not told.
"""

from collections import Counter

from kafkapy.errors import Error, KafkaError, fitting
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
)

Result = DescribeUserScramCredentialsResponse.DescribeUserScramCredentialsResult


async def handle(request: DescribeUserScramCredentialsRequest, ctx: Context) -> DescribeUserScramCredentialsResponse:
    if not ctx.permits(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME):
        raise KafkaError(Error.CLUSTER_AUTHORIZATION_FAILED)
    found: dict[str, list[DescribeUserScramCredentialsResponse.CredentialInfo]] = {}
    for (user, mechanism), credential in ctx.rooms.cluster.image.kinds.scram_credentials.items():
        found.setdefault(user, []).append(
            DescribeUserScramCredentialsResponse.CredentialInfo(mechanism=mechanism, iterations=credential.iterations)
        )
    asked = Counter(user.name for user in request.users or ()) or Counter(list(found))
    results = []
    for user, count in asked.items():
        if count > 1:
            message = "Cannot describe SCRAM credentials for the same user twice in a single request: "
            results.append(
                Result(user=user, error_code=Error.DUPLICATE_RESOURCE, error_message=fitting(message + user))
            )
        elif user not in found:
            message = "Attempt to describe a user credential that does not exist: "
            results.append(
                Result(user=user, error_code=Error.RESOURCE_NOT_FOUND, error_message=fitting(message + user))
            )
        else:
            infos = sorted(found[user], key=lambda info: info.mechanism)
            results.append(Result(user=user, credential_infos=infos))
    return DescribeUserScramCredentialsResponse(results=results)


def refuse(
    request: DescribeUserScramCredentialsRequest, refusal: KafkaError, ctx: Context
) -> DescribeUserScramCredentialsResponse:
    """The error response: the error as a whole, and once a user, who as in Kafka is not named."""
    return DescribeUserScramCredentialsResponse(
        error_code=refusal.error,
        error_message=refusal.message,
        results=[Result(error_code=refusal.error, error_message=refusal.message) for _ in request.users or ()],
    )
