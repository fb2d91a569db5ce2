"""DescribeClientQuotas (key 48), versions 0 to 1.

A filter names types of entities, each with a name, as the default, or however it is named; strict, it finds entities of
just these types. Without types it finds all.
"""

from kafkapy.cluster.client_quotas import CLIENT_ID, IP, USER, Entity
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest, DescribeClientQuotasResponse

_EXACT, _DEFAULT, _SPECIFIED = 0, 1, 2


async def handle(request: DescribeClientQuotasRequest, ctx: Context) -> DescribeClientQuotasResponse:
    if not ctx.permits(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
        raise KafkaError(Error.CLUSTER_AUTHORIZATION_FAILED)
    names, types = _filter(request)
    return DescribeClientQuotasResponse(
        entries=[
            DescribeClientQuotasResponse.EntryData(
                entity=[
                    DescribeClientQuotasResponse.EntityData(entity_type=kind, entity_name=name) for kind, name in entity
                ],
                values=[DescribeClientQuotasResponse.ValueData(key=key, value=limit) for key, limit in limits.items()],
            )
            for entity, limits in ctx.rooms.cluster.image.kinds.client_quotas.items()
            if _matches(entity, names, types, strict=request.strict)
        ]
    )


def _filter(request: DescribeClientQuotasRequest) -> tuple[dict[str, str | None], set[str]]:
    """The types that must have a certain name (None: be the default), and those that may have any."""
    names: dict[str, str | None] = {}
    types: set[str] = set()
    for component in request.components:
        kind, match_type, match = component.entity_type, component.match_type, component.match
        if not kind:
            raise KafkaError(Error.INVALID_REQUEST, "Invalid empty entity type.")
        if kind in names or kind in types:
            raise KafkaError(Error.INVALID_REQUEST, f"Entity type {kind} cannot appear more than once in the filter.")
        if kind not in (IP, USER, CLIENT_ID):
            raise KafkaError(Error.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")
        if match_type == _EXACT:
            if match is None:
                raise KafkaError(
                    Error.INVALID_REQUEST, "Request specified MATCH_TYPE_EXACT, but set match string to null."
                )
            names[kind] = match
        elif match_type in (_DEFAULT, _SPECIFIED):
            if match is not None:
                name = "MATCH_TYPE_DEFAULT" if match_type == _DEFAULT else "MATCH_TYPE_SPECIFIED"
                raise KafkaError(Error.INVALID_REQUEST, f"Request specified {name}, but also specified a match string.")
            if match_type == _DEFAULT:
                names[kind] = None
            else:
                types.add(kind)
        else:
            raise KafkaError(Error.INVALID_REQUEST, f"Unknown match type {match_type}")
    asked = types | set(names)
    if IP in asked and len(asked) > 1:
        raise KafkaError(
            Error.INVALID_REQUEST,
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId "
            "filter component.",
        )
    return names, types


def _matches(entity: Entity, names: dict[str, str | None], types: set[str], *, strict: bool) -> bool:
    own = dict(entity)
    if strict and len(own) != len(names) + len(types):
        return False
    return all(kind in own and own[kind] == name for kind, name in names.items()) and all(kind in own for kind in types)


def refuse(request: DescribeClientQuotasRequest, refusal: KafkaError, ctx: Context) -> DescribeClientQuotasResponse:
    """The error response: no list of entities at all."""
    return DescribeClientQuotasResponse(error_code=refusal.error, error_message=refusal.message, entries=None)
