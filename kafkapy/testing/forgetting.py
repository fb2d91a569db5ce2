"""Forgets between tests what is in a broker: topics, and with Kafka's own groups, producers and transactions; rights,
users, limits, changed settings. Its image says what there is, so that nothing is asked for, and nothing is sent about
what is not there.
"""

from typing import Final

from kafkapy.cluster.image import ClusterImage
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest
from kafkapy.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.testing.client import Client, check

TIMEOUT_MS: Final = 10_000
_ANY: Final = 1
"""In a filter of ACLs: whatever there is."""

_ALL_BROKERS: Final = ""
MIN_ISR: Final = "min.insync.replicas"
_NOT_CHANGED: Final = (4, 5)
"""Where the value of a setting comes from that nobody changed, as DescribeConfigs has it: a file, or the default."""
_CHANGED: Final = (ConfigResource.BROKER, ConfigResource.GROUP, ConfigResource.CLIENT_METRICS)


async def forget_all(client: Client, image: ClusterImage) -> None:
    """Have nothing of that be there any more. Raises KafkaError."""
    if image.topics:
        topics = [DeleteTopicsRequest.DeleteTopicState(name=name) for name in image.topics]
        answer = await client.ask(DeleteTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS))
        # What is gone by now, whoever is still at work may have deleted.
        check(answer.responses, but={Error.UNKNOWN_TOPIC_OR_PARTITION})
    await _forget_rights(client, image)
    await _forget_limits(client, image)
    await _forget_settings(client, image)


async def _forget_rights(client: Client, image: ClusterImage) -> None:
    if image.kinds.acls.by_id:
        everything = DeleteAclsRequest.DeleteAclsFilter(
            resource_type_filter=_ANY,
            resource_name_filter=None,
            pattern_type_filter=_ANY,
            principal_filter=None,
            host_filter=None,
            operation=_ANY,
            permission_type=_ANY,
        )
        answer = await client.ask(DeleteAclsRequest(filters=[everything]))
        check(answer.filter_results, but={Error.SECURITY_DISABLED})  # which nobody acts on then
    if image.kinds.scram_credentials:
        deletions = [
            AlterUserScramCredentialsRequest.ScramCredentialDeletion(name=user, mechanism=mechanism)
            for user, mechanism in image.kinds.scram_credentials
        ]
        check((await client.ask(AlterUserScramCredentialsRequest(deletions=deletions))).results)


async def _forget_limits(client: Client, image: ClusterImage) -> None:
    cls = AlterClientQuotasRequest
    entries = [
        cls.EntryData(
            entity=[cls.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
            ops=[cls.OpData(key=key, remove=True) for key in limits],
        )
        for entity, limits in image.kinds.client_quotas.items()
    ]
    if entries:
        check((await client.ask(cls(entries=entries))).entries)


async def _forget_settings(client: Client, image: ClusterImage) -> None:
    """Take back what was changed of brokers', groups' and subscriptions' settings."""
    cls = AlterConfigsRequest
    # This one can be changed for all, and not taken back (KIP-966).
    first = {MIN_ISR: image.config.static.get(MIN_ISR, "1")}
    resources = [
        cls.AlterConfigsResource(resource_type=kind, resource_name=name)
        for (kind, name), overrides in image.overrides.items()
        if overrides and kind in _CHANGED and not (name == _ALL_BROKERS and overrides == first)
    ]
    for resource in resources:
        if resource.resource_name == _ALL_BROKERS and MIN_ISR in image.overrides_of(ConfigResource.BROKER, ""):
            resource.configs = [cls.AlterableConfig(name=name, value=value) for name, value in first.items()]
    if resources:
        check((await client.ask(cls(resources=resources))).responses)


async def first_min_isr(client: Client) -> str:
    """What min.insync.replicas is for the cluster before anybody changes it: it is kept as if it had been changed."""
    node_id = (await client.ask(MetadataRequest(topics=[]))).brokers[0].node_id
    cls = DescribeConfigsRequest
    asked = cls.DescribeConfigsResource(
        resource_type=ConfigResource.BROKER, resource_name=str(node_id), configuration_keys=[MIN_ISR]
    )
    [found] = (await client.ask(cls(resources=[asked], include_synonyms=True))).results
    check([found])
    return next(str(one.value) for one in found.configs[0].synonyms if one.source in _NOT_CHANGED)
