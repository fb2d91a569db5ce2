"""What stock clients do for the journals' run: topics made, grown and deleted, groups joined, committed to and left.

Each client is alone in its groups, so that both brokers see the same order.
"""

import time
from collections.abc import Callable

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

TOPIC = "stock"
_PATIENCE_SECONDS = 20
_SILENT = 0  # librdkafka complains of a broker that is gone, and it is gone in the end


def stock_clients(bootstrap: str) -> None:
    """All of it, one client after the other."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": _SILENT})
    configured = {"cleanup.policy": "compact", "retention.ms": "1000000"}
    for future in admin.create_topics(
        [NewTopic(TOPIC, 2, 1), NewTopic("configured", 1, 1, config=configured)]
    ).values():
        future.result()
    for future in admin.create_partitions([confluent_kafka.admin.NewPartitions(TOPIC, 4)]).values():
        future.result()
    _until(lambda: len(admin.list_topics(TOPIC).topics[TOPIC].partitions) == 4)
    producer = KafkaProducer(bootstrap_servers=bootstrap, client_id="stock")
    for partition in range(4):
        producer.send(TOPIC, b"value", partition=partition)
    producer.close()
    _kafka_python(bootstrap)
    _confluent(bootstrap)
    for future in admin.delete_topics(["configured"]).values():
        future.result()
    for future in admin.delete_consumer_groups(["confluent"]).values():
        future.result()


def _kafka_python(bootstrap: str) -> None:
    for instance in (None, "static"):
        group = f"kafka-python-{instance}"
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id="stock",
            group_instance_id=instance,
            enable_auto_commit=False,
            session_timeout_ms=6000,
        )
        consumer.subscribe([TOPIC])
        consumer.partitions_for_topic(TOPIC)  # who hears of them after having joined joins once more
        _until(lambda consumer=consumer: consumer.poll(100) is not None and consumer.assignment())
        consumer.commit({TopicPartition(TOPIC, 1): OffsetAndMetadata(1, "said by a stock client", -1)})
        consumer.close()
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, client_id="stock")
    admin.delete_group_offsets("kafka-python-None", [TopicPartition(TOPIC, 1)])
    admin.close()


def _confluent(bootstrap: str) -> None:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "confluent",
            "client.id": "stock",
            "log_level": _SILENT,
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([TOPIC])
    _until(lambda: consumer.poll(0.1) is not None or consumer.assignment())
    consumer.commit(offsets=[confluent_kafka.TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    consumer.close()


def _until(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < deadline, "a stock client gets no partitions"
