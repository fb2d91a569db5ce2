"""AlterClientQuotas (key 49), versions 0 to 1.

Each entity is answered by itself; one that is refused does not stop the others. A host as an IP entity must be known by
its name when it is asked for. When the answer leaves, the limits act.
"""

import trio

from kafkapy.cluster.client_quotas import IP, Entity, QuotaAlteration, entity_of, is_address
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest, AlterClientQuotasResponse


async def handle(request: AlterClientQuotasRequest, ctx: Context) -> AlterClientQuotasResponse:
    ctx.require(Operation.ALTER_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME)
    alterations = [
        QuotaAlteration(
            entity_of((part.entity_type, part.entity_name) for part in entry.entity),
            [(op.key, None if op.remove else op.value) for op in entry.ops],
        )
        for entry in request.entries
    ]
    hosts = {name for one in alterations for kind, name in one.entity if kind == IP and name}
    results = await ctx.rooms.cluster.alter_client_quotas(
        alterations, await _unresolvable(hosts), validate_only=request.validate_only
    )
    return AlterClientQuotasResponse(entries=[_packed(entity, refusal) for entity, refusal in results.items()])


async def _unresolvable(hosts: set[str]) -> frozenset[str]:
    """Those that are neither addresses nor known names."""
    unknown = set()
    for host in hosts:
        if not is_address(host):
            try:
                await trio.socket.getaddrinfo(host, None)
            except (OSError, UnicodeError):
                unknown.add(host)
    return frozenset(unknown)


def _packed(entity: Entity, refusal: KafkaError | None) -> AlterClientQuotasResponse.EntryData:
    return AlterClientQuotasResponse.EntryData(
        error_code=Error.NONE if refusal is None else refusal.error,
        error_message=None if refusal is None else refusal.message,
        entity=[AlterClientQuotasResponse.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
    )


def refuse(request: AlterClientQuotasRequest, refusal: KafkaError, ctx: Context) -> AlterClientQuotasResponse:
    """The error response: the error at every entity, as it was named."""
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponse.EntryData(
                error_code=refusal.error,
                error_message=refusal.error.text,
                entity=[
                    AlterClientQuotasResponse.EntityData(entity_type=part.entity_type, entity_name=part.entity_name)
                    for part in entry.entity
                ],
            )
            for entry in request.entries
        ]
    )
