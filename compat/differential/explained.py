"""Differences that stand, each with its reason: a text that occurs in the line -> why."""

EXPLAINED: dict[str, str] = {
    "Metadata: null name and zero id answers[0]": (
        "Kafka fails with a null pointer (UNKNOWN_SERVER_ERROR); kafkapy says INVALID_REQUEST at the same place"
    ),
    "Produce: null records": "Kafka fails inside and never answers; kafkapy closes the connection",
    "Fetch: a session over a topic that is deleted and made again answers[1]": (
        "just after the topic is deleted: Kafka may still serve it for a moment, and later answers by the name it "
        "remembers (UNKNOWN_TOPIC_OR_PARTITION) where kafkapy answers by the id (UNKNOWN_TOPIC_ID)"
    ),
    "IncrementalAlterConfigs: a broker, and all of them answers[14]": (
        "both names of the node's id: Kafka lists them in the order of a hash table"
    ),
    "IncrementalAlterConfigs: a broker, and all of them answers[47]": "the same, validated only",
}

EXPLAINED_BATCHES: dict[str, str] = {}
"""The same for `fuzz_batches`: a text that occurs in "codec, topic: lines" of a difference -> why."""
