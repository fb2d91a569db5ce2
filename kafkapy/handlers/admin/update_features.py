"""UpdateFeatures (key 57), versions 0 to 2.

Settles the cluster on other levels of features; ApiVersions tells them. All updates are made, or none; the first that
may not be is told of at the top. Up to version 1 features are listed when all went well, each with the words that Kafka
has there. In version 0 levels only rise.
"""

from kafkapy.cluster.features import FeatureUpdate
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

_RESULTS_UP_TO_VERSION = 1


async def handle(request: UpdateFeaturesRequest, ctx: Context) -> UpdateFeaturesResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    updates = [
        FeatureUpdate(update.feature, update.max_version_level, update.upgrade_type)
        for update in request.feature_updates
    ]
    await ctx.rooms.cluster.update_features(updates, validate_only=request.validate_only)
    response = UpdateFeaturesResponse(error_message=None)
    if ctx.api_version <= _RESULTS_UP_TO_VERSION:
        response.results = [
            UpdateFeaturesResponse.UpdatableFeatureResult(
                feature=name, error_code=Error.NONE, error_message=Error.NONE.name
            )
            for name in dict.fromkeys(update.name for update in updates)
        ]
    return response
