"""What a release of Apache Kafka says of itself, read and written down for `scripts/kafka_facts`."""
