"""The topics that coordinators keep their memory in, as a broker creates them for itself."""

from kafkapy.cluster.machine import NewTopic
from kafkapy.config.layers import BrokerConfig


def internal_topic(name: str, config: BrokerConfig) -> NewTopic:
    """An internal topic as the broker creates it for itself."""
    if name == "__consumer_offsets":
        return NewTopic(
            name,
            config["offsets.topic.num.partitions"],
            config["offsets.topic.replication.factor"],
            overrides={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config["offsets.topic.segment.bytes"]),
            },
        )
    if name == "__transaction_state":
        return NewTopic(
            name,
            config["transaction.state.log.num.partitions"],
            config["transaction.state.log.replication.factor"],
            overrides={
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(config["transaction.state.log.min.isr"]),
                "segment.bytes": str(config["transaction.state.log.segment.bytes"]),
                "unclean.leader.election.enable": "false",
            },
        )
    return NewTopic(
        name,
        config["share.coordinator.state.topic.num.partitions"],
        config["share.coordinator.state.topic.replication.factor"],
        overrides={
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "min.insync.replicas": str(config["share.coordinator.state.topic.min.isr"]),
            "retention.ms": "-1",
            "segment.bytes": str(config["share.coordinator.state.topic.segment.bytes"]),
        },
    )
