"""What DescribeConfigs tells of settings: values, where they come from, and what they hide."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kafkapy.config.broker import BROKER
from kafkapy.config.client_metrics import CLIENT_METRICS
from kafkapy.config.group import GROUP
from kafkapy.config.layers import BrokerConfig, Synonym, TopicConfig, definition
from kafkapy.config.setting import Setting, Source, Type, text_of
from kafkapy.config.topic import TOPIC


class DescribedConfig(NamedTuple):
    """One setting as DescribeConfigs answers it."""

    name: str
    value: str | None
    source: Source
    read_only: bool
    sensitive: bool
    synonyms: Sequence[Synonym]
    type: Type
    documentation: str


def describe_broker(config: BrokerConfig, cluster_defaults: bool = False) -> list[DescribedConfig]:
    """Every setting as the BROKER resource answers it; with `cluster_defaults` only what is set for all brokers.

    Kafka lists what it was given even when it does not know it, without the value, which could be a secret.
    """
    described = []
    names = [setting.name for setting in BROKER.values() if not setting.internal]
    given = {**config.dynamic_default, **config.dynamic_broker, **config.static}
    names += [name for name in given if name not in BROKER or BROKER[name].internal]
    for name in names:
        synonyms = config.synonyms(name)
        value = text_of(config[name]) if name in BROKER else given[name]
        if cluster_defaults:
            synonyms = [entry for entry in synonyms if entry.source is Source.DYNAMIC_DEFAULT_BROKER_CONFIG]
            if not synonyms:
                continue
            value = config.dynamic_default[name]
        setting = definition(name)
        described.append(_described(setting, value, synonyms, read_only=not setting.dynamic))
    return described


def describe_topic(config: TopicConfig) -> list[DescribedConfig]:
    """Every setting as the TOPIC resource answers it."""
    described = []
    for setting in TOPIC.values():
        if setting.internal and setting.name not in config.overrides:
            continue
        synonyms = config.broker.synonyms(setting.synonym) if setting.synonym else []
        if setting.name in config.overrides:
            own = Synonym(setting.name, text_of(config[setting.name]), Source.DYNAMIC_TOPIC_CONFIG)
            synonyms = [own, *synonyms]
        described.append(_described(setting, text_of(config[setting.name]), synonyms, read_only=False))
    return described


def describe_group(overrides: Mapping[str, str], broker: BrokerConfig) -> list[DescribedConfig]:
    """Every setting as the GROUP resource answers it."""
    return [
        _layered(setting, overrides, broker, Source.DYNAMIC_GROUP_CONFIG)
        for setting in GROUP.values()
        if not setting.internal or setting.name in overrides
    ]


def describe_client_metrics(overrides: Mapping[str, str]) -> list[DescribedConfig]:
    """Every setting as the CLIENT_METRICS resource answers it."""
    return [
        _layered(setting, overrides, None, Source.DYNAMIC_CLIENT_METRICS_CONFIG) for setting in CLIENT_METRICS.values()
    ]


def _layered(
    setting: Setting, overrides: Mapping[str, str], broker: BrokerConfig | None, own_source: Source
) -> DescribedConfig:
    synonyms: list[Synonym] = []
    if setting.name in overrides:
        synonyms.append(Synonym(setting.name, text_of(setting.parse(overrides[setting.name])), own_source))
    if broker and setting.synonym and setting.synonym in BROKER:
        synonyms += broker.synonyms(setting.synonym)
    elif setting.synonym and setting.default is not None:
        synonyms.append(Synonym(setting.synonym, setting.default, Source.DEFAULT_CONFIG))
    value = synonyms[0].value if synonyms else setting.default
    return _described(setting, value, synonyms, read_only=False)


def _described(setting: Setting, value: str | None, synonyms: Sequence[Synonym], *, read_only: bool) -> DescribedConfig:
    return DescribedConfig(
        name=setting.name,
        value=setting.shown(value),
        source=synonyms[0].source if synonyms else Source.DEFAULT_CONFIG,
        read_only=read_only,
        sensitive=setting.sensitive,
        synonyms=synonyms,
        type=setting.type,
        documentation=setting.doc,
    )
