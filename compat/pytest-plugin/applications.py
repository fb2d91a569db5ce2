"""Four small services, as people write them: each reads orders from one topic and writes invoices to another."""

import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, Producer
from faststream.kafka import KafkaBroker
from kafka import KafkaConsumer, KafkaProducer

GROUP = "invoices"


def invoice(order: bytes) -> bytes:
    return b"invoice for " + order


def with_faststream(bootstrap: str, orders: str, invoices: str) -> KafkaBroker:
    """The service as a FastStream broker, yet to be started."""
    broker = KafkaBroker(bootstrap)

    @broker.subscriber(orders, group_id=GROUP, auto_offset_reset="earliest")
    @broker.publisher(invoices)
    async def bill(order: bytes) -> bytes:
        return invoice(order)

    return broker


async def with_aiokafka(bootstrap: str, orders: str, invoices: str) -> None:
    """Until it is cancelled."""
    consumer = AIOKafkaConsumer(
        orders, bootstrap_servers=bootstrap, group_id=GROUP, auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    async with consumer, producer:
        async for record in consumer:
            await producer.send_and_wait(invoices, invoice(record.value), key=record.key)
            await consumer.commit()


def with_confluent_kafka(bootstrap: str, orders: str, invoices: str, stop: threading.Event) -> None:
    """Until `stop` is set; each order is a transaction."""
    reading = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, **reading})
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "biller"})
    producer.init_transactions(30)
    consumer.subscribe([orders])
    while not stop.is_set():
        record = consumer.poll(0.1)
        if record is None or record.error():
            continue
        producer.begin_transaction()
        producer.produce(invoices, invoice(record.value()), key=record.key())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
    consumer.close()


def with_kafka_python(bootstrap: str, orders: str, invoices: str, stop: threading.Event) -> None:
    """Until `stop` is set."""
    consumer = KafkaConsumer(
        orders, bootstrap_servers=bootstrap, group_id=GROUP, auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    while not stop.is_set():
        # not much shorter: kafka-python forgets a join that is under way when a poll ends (../kafka-python/FINDINGS.md)
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                producer.send(invoices, invoice(record.value), key=record.key).get(30)
            consumer.commit()
    consumer.close()
    producer.close()
