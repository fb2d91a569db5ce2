"""Tells what is in a broker as entries, so that it can be put back: topics with their records, groups with their
offsets, rights, limits, changed settings.

It is read as clients read. So what none is shown is not in it: passwords, and values that are kept secret; transactions
under way. Where offsets have gaps, of markers and of what was compacted or deleted, they are closed, and what groups
committed moves along.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest
from kafkapy.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest
from kafkapy.protocol.messages.describe_configs import DescribeConfigsRequest
from kafkapy.protocol.messages.list_config_resources import ListConfigResourcesRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.testing.client import Client, check
from kafkapy.testing.entries import Entry
from kafkapy.testing.forgetting import MIN_ISR, first_min_isr
from kafkapy.testing.nouns import ConsumedRecord

_ANY: Final = 1
_BY_NAME: Final = 9
"""The last version of OffsetFetch in which topics go by their names."""

_DYNAMIC: Final = {
    ConfigResource.TOPIC: 1,
    ConfigResource.BROKER: 2,
    ConfigResource.CLIENT_METRICS: 7,
    ConfigResource.GROUP: 8,
}
"""Where a setting that was changed comes from, as DescribeConfigs has it."""
_ALL_BROKERS: Final = ""
_DYNAMIC_DEFAULT: Final = 3
"""The same for all brokers."""


async def topic_settings(client: Client, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings that topics have of their own."""
    if not names:
        return {}
    found = await _changed(client, [(ConfigResource.TOPIC, name) for name in names])
    return {name: config for (_, name), config in found.items()}


async def group_offsets(
    client: Client, groups: Sequence[str], records: Mapping[str, Sequence[ConsumedRecord]]
) -> list[Entry]:
    """What the groups committed, as offsets of the records as they will be written."""
    if not groups:
        return []
    offsets: dict[TopicPartition, list[int]] = {}
    for topic, found in records.items():
        for record in found:
            offsets.setdefault(TopicPartition(topic, record.partition), []).append(record.offset)
    cls = OffsetFetchRequest
    asked = [cls.OffsetFetchRequestGroup(group_id=group, topics=None) for group in groups]
    answer = await client.ask(cls(groups=asked), most=_BY_NAME)
    check(answer.groups)
    entries: list[Entry] = []
    for group in answer.groups:
        for topic in group.topics:
            for one in topic.partitions:
                if one.committed_offset >= 0 and topic.name in records:
                    kept = offsets.get(TopicPartition(topic.name, one.partition_index), [])
                    entry = {
                        "group": group.group_id,
                        "topic": topic.name,
                        "partition": one.partition_index,
                        "offset": bisect_left(kept, one.committed_offset),
                    }
                    entries.append(entry | ({"metadata": one.metadata} if one.metadata else {}))
    return entries


async def rights_and_settings(client: Client) -> AsyncIterator[Entry]:
    """ACLs, where the broker has an authorizer, limits of clients, changed settings."""
    everything = DescribeAclsRequest(
        resource_type_filter=_ANY,
        resource_name_filter=None,
        pattern_type_filter=_ANY,
        principal_filter=None,
        host_filter=None,
        operation=_ANY,
        permission_type=_ANY,
    )
    try:
        resources = (await client.ask(everything)).resources
    except KafkaError as refusal:
        if refusal.error is not Error.SECURITY_DISABLED:
            raise
        resources = []
    for resource in resources:
        for acl in resource.acls:
            yield {
                "acl": {
                    "resource_type": resource.resource_type,
                    "resource_name": resource.resource_name,
                    "resource_pattern_type": resource.pattern_type,
                    "principal": acl.principal,
                    "host": acl.host,
                    "operation": acl.operation,
                    "permission_type": acl.permission_type,
                }
            }
    for limit in (await client.ask(DescribeClientQuotasRequest())).entries or ():
        yield {
            "limit": {one.entity_type: one.entity_name for one in limit.entity},
            "values": {value.key: value.value for value in limit.values},
        }
    kinds = [kind for kind in _DYNAMIC if kind is not ConfigResource.TOPIC]
    listed = (await client.ask(ListConfigResourcesRequest(resource_types=[*kinds]))).config_resources
    named = [(ConfigResource(one.resource_type), one.resource_name) for one in listed]
    for (kind, name), config in (await _changed(client, [(ConfigResource.BROKER, _ALL_BROKERS), *named])).items():
        if (kind, name) == (ConfigResource.BROKER, _ALL_BROKERS) and config.get(MIN_ISR) == await first_min_isr(client):
            del config[MIN_ISR]
        if config:
            yield {"setting": kind.name.lower(), "name": name, "config": config}


async def _changed(
    client: Client, resources: Sequence[tuple[ConfigResource, str]]
) -> dict[tuple[ConfigResource, str], dict[str, str]]:
    cls = DescribeConfigsRequest
    asked = [
        cls.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
        for kind, name in resources
    ]
    results: Any = (await client.ask(cls(resources=asked))).results
    check(results)
    changed = {}
    for result in results:
        kind = ConfigResource(result.resource_type)
        is_default = (kind, result.resource_name) == (ConfigResource.BROKER, _ALL_BROKERS)
        source = _DYNAMIC_DEFAULT if is_default else _DYNAMIC[kind]
        changed[kind, result.resource_name] = {
            one.name: one.value for one in result.configs if one.config_source == source and one.value is not None
        }
    return changed
