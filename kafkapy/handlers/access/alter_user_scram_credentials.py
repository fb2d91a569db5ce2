"""AlterUserScramCredentials (key 51), version 0.

Sets and removes users' credentials for SCRAM (KIP-554). Each user is answered by itself, and named once: what is asked
for it twice is refused. The client hashes passwords; what is stored is derived of the hash. When the answer leaves, who
logs in here is asked for the new one.
"""

from collections.abc import Iterable

from kafkapy.cluster.scram_credentials import AlterScramCredentials, CredentialKey, Upsertion
from kafkapy.errors import KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
)


async def handle(request: AlterUserScramCredentialsRequest, ctx: Context) -> AlterUserScramCredentialsResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    command = AlterScramCredentials(
        [CredentialKey(deletion.name, deletion.mechanism) for deletion in request.deletions],
        [
            Upsertion(asked.name, asked.mechanism, asked.iterations, asked.salt, asked.salted_password)
            for asked in request.upsertions
        ],
    )
    return _response((await ctx.rooms.cluster.alter_scram_credentials(command)).items())


def _response(results: Iterable[tuple[str, KafkaError | None]]) -> AlterUserScramCredentialsResponse:
    return AlterUserScramCredentialsResponse(
        results=[
            AlterUserScramCredentialsResponse.AlterUserScramCredentialsResult(
                user=user,
                error_code=0 if refusal is None else refusal.error,
                error_message=None if refusal is None else refusal.message,
            )
            for user, refusal in results
        ]
    )


def refuse(
    request: AlterUserScramCredentialsRequest, refusal: KafkaError, ctx: Context
) -> AlterUserScramCredentialsResponse:
    """The error response: the error at every user."""
    users = {deletion.name for deletion in request.deletions} | {asked.name for asked in request.upsertions}
    return _response((user, refusal) for user in sorted(users))
