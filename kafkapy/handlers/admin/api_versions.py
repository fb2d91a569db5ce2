"""ApiVersions (key 18), versions 0 to 5.

What is served, read from the table of APIs; what brokers ask each other, at their listener alone. A version beyond ours
gets UNSUPPORTED_VERSION in the layout of version 0 with this API's own range, so that the client can ask again
(KIP-511). Produce is advertised from version 0 on although 0 to 2 are refused, because librdkafka takes their absence
for a broker without compression (KAFKA-18659). Features are told with the levels that this broker has and the one that
the cluster has settled on (`cluster/features.py`), as of the last change of the metadata.
A client that names the cluster and the node it means to reach (both, or neither) and has reached another one gets
REBOOTSTRAP_REQUIRED (KIP-1242): an address that has changed hands is not taken for the old broker.
"""

import re
from typing import Final

from kafkapy.cluster.features import SUPPORTED, finalized
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers import ALL, AMONG_BROKERS, Route
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

_KEY: Final = 18
_TELEMETRY: Final = (71, 72)
_SOFTWARE_FROM_VERSION: Final = 3
_ZERO_MINIMUM_FROM_VERSION: Final = 4
_DESTINATION_FROM_VERSION: Final = 5
_NO_NODE: Final = -1
_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


async def handle(request: ApiVersionsRequest, ctx: Context) -> ApiVersionsResponse:
    if ctx.api_version >= _DESTINATION_FROM_VERSION and (request.cluster_id is None) != (request.node_id == _NO_NODE):
        raise KafkaError(Error.INVALID_REQUEST)
    if ctx.api_version >= _SOFTWARE_FROM_VERSION:
        if not names_software(request):
            raise KafkaError(Error.INVALID_REQUEST)
        ctx.session.software_name = request.client_software_name
        ctx.session.software_version = request.client_software_version
    cluster = ctx.rooms.cluster
    here = (cluster.image.cluster_id, cluster.leadership.node_id)
    if request.cluster_id is not None and (request.cluster_id, request.node_id) != here:
        raise KafkaError(Error.REBOOTSTRAP_REQUIRED)
    return ApiVersionsResponse(
        api_keys=[
            _range(route.key, route.min_version, route.max_version)
            for route in ALL + _among_brokers(ctx)
            if route.key not in _TELEMETRY or ctx.rooms.telemetry.listens
        ],
        supported_features=[
            ApiVersionsResponse.SupportedFeatureKey(name=name, min_version=low, max_version=high)
            for name, (low, high, _) in SUPPORTED.items()
            if low or ctx.api_version >= _ZERO_MINIMUM_FROM_VERSION  # older clients choke on a minimum of 0
        ],
        finalized_features_epoch=cluster.metadata_offset,
        finalized_features=[
            ApiVersionsResponse.FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, level in finalized(cluster.image.kinds.features).items()
        ],
    )


def _among_brokers(ctx: Context) -> tuple[Route, ...]:
    """What only brokers ask for, at their own listener."""
    forwarding = ctx.rooms.forwarding
    return AMONG_BROKERS if forwarding is not None and ctx.session.listener == forwarding.listener else ()


def names_software(request: ApiVersionsRequest) -> bool:
    """Whether it says what the client is; requests before version 3 do not."""
    return bool(
        _SOFTWARE.fullmatch(request.client_software_name) and _SOFTWARE.fullmatch(request.client_software_version)
    )


def refuse(request: ApiVersionsRequest | None, refusal: KafkaError, ctx: Context) -> ApiVersionsResponse:
    """The error response; for a version that is not served it says which are."""
    response = ApiVersionsResponse(error_code=refusal.error)
    if refusal.error is Error.UNSUPPORTED_VERSION:
        own = next(route for route in ALL if route.key == _KEY)
        response.api_keys = [_range(_KEY, own.min_version, own.max_version)]
    return response


def _range(key: int, low: int, high: int) -> ApiVersionsResponse.ApiVersion:
    return ApiVersionsResponse.ApiVersion(
        api_key=key, min_version=min(low, APIS[key].advertised_from), max_version=high
    )
