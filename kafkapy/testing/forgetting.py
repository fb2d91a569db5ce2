"""What a broker keeps beside topics and groups, and forgets between tests: rights, users, limits, changed settings."""

from typing import Final

from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.alter_configs import AlterConfigsRequest
from kafkapy.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest
from kafkapy.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
from kafkapy.protocol.messages.list_config_resources import ListConfigResourcesRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.testing.client import Client, check

_ANY: Final = 1
"""In a filter of ACLs: whatever there is."""

_ALL_BROKERS: Final = ""
MIN_ISR: Final = "min.insync.replicas"
_NOT_CHANGED: Final = (4, 5)
"""Where the value of a setting comes from that nobody changed, as DescribeConfigs has it: a file, or the default."""
_CHANGED: Final = (ConfigResource.BROKER, ConfigResource.GROUP, ConfigResource.CLIENT_METRICS)


async def forget_rights(client: Client) -> None:
    """Delete all ACLs, if the broker has an authorizer, and the credentials of all users. Raises KafkaError."""
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
    check(answer.filter_results, but={Error.SECURITY_DISABLED})
    users = (await client.ask(DescribeUserScramCredentialsRequest(users=None))).results
    deletions = [
        AlterUserScramCredentialsRequest.ScramCredentialDeletion(name=user.user, mechanism=one.mechanism)
        for user in users
        for one in user.credential_infos
    ]
    if deletions:
        check((await client.ask(AlterUserScramCredentialsRequest(deletions=deletions))).results)


async def forget_limits(client: Client) -> None:
    """Take back all quotas. Raises KafkaError."""
    request = AlterClientQuotasRequest
    entries = [
        request.EntryData(
            entity=[
                request.EntityData(entity_type=one.entity_type, entity_name=one.entity_name) for one in limit.entity
            ],
            ops=[request.OpData(key=value.key, remove=True) for value in limit.values],
        )
        for limit in (await client.ask(DescribeClientQuotasRequest())).entries or ()
    ]
    if entries:
        check((await client.ask(request(entries=entries))).entries)


async def forget_settings(client: Client) -> None:
    """Take back what was changed of brokers', groups' and subscriptions' settings. Raises KafkaError."""
    listed = (await client.ask(ListConfigResourcesRequest(resource_types=[*_CHANGED]))).config_resources
    names = [(one.resource_type, one.resource_name) for one in listed]
    resources = [
        AlterConfigsRequest.AlterConfigsResource(resource_type=kind, resource_name=name)
        for kind, name in [(ConfigResource.BROKER, _ALL_BROKERS), *names]
    ]
    [of_all, *others] = (await client.ask(AlterConfigsRequest(resources=resources))).responses
    check(others)
    if of_all.error_code == Error.INVALID_CONFIG:  # this one setting can be changed, and not taken back (KIP-966)
        own = AlterConfigsRequest.AlterableConfig(name=MIN_ISR, value=await first_min_isr(client))
        resources[0].configs = [own]
        [of_all] = (await client.ask(AlterConfigsRequest(resources=resources[:1]))).responses
    check([of_all])


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
