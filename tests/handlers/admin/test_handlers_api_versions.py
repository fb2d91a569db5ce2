"""ApiVersions and UpdateFeatures: what is served, and the levels that the cluster has settled on."""

from pathlib import Path

import pytest

from kafkapy.cluster.features import SUPPORTED
from kafkapy.errors import Error
from kafkapy.handlers import ALL
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kafkapy.protocol.messages.update_features import UpdateFeaturesRequest
from tests.handlers.admin.conftest import Broker, OpenBroker

OURS_ALONE = {"eligible.leader.replicas.version": (1, 1, 1)}
"""Features with other levels than Kafka's: one replica knows who may lead, and cannot not know it."""


def features_of_kafka() -> dict[str, tuple[int, ...]]:
    """A fresh node's features, read by `scripts/kafka_facts`: lowest and highest level, the finalized one."""
    data = Path(__file__).resolve().parents[2] / "protocol" / "data" / "features.tsv"
    rows = (line.split("\t") for line in data.read_text().splitlines()[1:])
    return {name: tuple(map(int, levels)) for name, *levels in rows}


async def api_versions(broker: Broker, version: int = 4) -> ApiVersionsResponse:
    request = ApiVersionsRequest()
    if version >= 3:
        request = ApiVersionsRequest(client_software_name="some-client", client_software_version="1.2.3")
    response: ApiVersionsResponse = await broker.ask(request, version)
    assert response.error_code == 0
    return response


async def levels(broker: Broker) -> dict[str, int]:
    return {row.name: row.max_version_level for row in (await api_versions(broker)).finalized_features}


async def update(broker: Broker, name: str, level: int, upgrade_type: int = 1, **fields: bool) -> int:
    one = UpdateFeaturesRequest.FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=upgrade_type)
    error: int = (await broker.ask(UpdateFeaturesRequest(feature_updates=[one], **fields))).error_code
    return error


@pytest.mark.parametrize("version", range(6))
async def test_api_versions_names_every_api_that_is_served(broker: Broker, version: int) -> None:
    response = await api_versions(broker, version)
    ranges = {row.api_key: (row.min_version, row.max_version) for row in response.api_keys}
    assert ranges == {r.key: (r.min_version, r.max_version) for r in ALL} | {0: (0, 13)}
    assert not response.zk_migration_ready
    if version >= 3:
        assert (broker.session.software_name, broker.session.software_version) == ("some-client", "1.2.3")


@pytest.mark.parametrize("version", range(3, 6))
async def test_features_have_the_levels_of_a_fresh_node_of_kafka(broker: Broker, version: int) -> None:
    response = await api_versions(broker, version)
    finalized = {row.name: row.max_version_level for row in response.finalized_features}
    supported = {row.name: (row.min_version, row.max_version) for row in response.supported_features}
    assert finalized.keys() == SUPPORTED.keys()
    # Clients before version 4 choke on a lowest level of 0.
    assert supported.keys() == {name for name, level in SUPPORTED.items() if version >= 4 or level.lowest}
    kafka = features_of_kafka() | OURS_ALONE
    for name, (low, high) in supported.items():
        assert (low, high, finalized[name]) == kafka[name]


async def test_another_level_is_told_and_kept(broker: Broker, open_broker: OpenBroker) -> None:
    before = (await api_versions(broker)).finalized_features_epoch
    assert await update(broker, "transaction.version", 1, upgrade_type=2) == 0
    after = await api_versions(broker)
    assert (await levels(broker))["transaction.version"] == 1
    assert after.finalized_features_epoch > before, "clients take over what is newer only"
    assert (await levels(await open_broker()))["transaction.version"] == 1, "after a restart"
    assert await update(broker, "transaction.version", 0, upgrade_type=2) == 0
    assert "transaction.version" not in await levels(broker), "level 0 is not finalized"
    assert "transaction.version" not in await levels(await open_broker())


async def test_what_is_validated_only_or_refused_changes_nothing(broker: Broker) -> None:
    before = await levels(broker)
    assert await update(broker, "transaction.version", 1, upgrade_type=2, validate_only=True) == 0
    assert await update(broker, "transaction.version", 1) == Error.INVALID_UPDATE_VERSION
    assert await update(broker, "share.version", 3) == Error.INVALID_UPDATE_VERSION
    assert await levels(broker) == before
