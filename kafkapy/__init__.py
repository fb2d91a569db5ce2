"""kafkapy: a Kafka broker in Python that stock Kafka clients cannot tell from Apache Kafka."""

__version__ = "0.1.0"
