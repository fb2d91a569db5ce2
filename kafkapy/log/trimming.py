"""Deletes records from the start of a log, as a client asks for it (KIP-107). Called by the DeleteRecords handler."""

from typing import Final

from kafkapy.config.layers import TopicConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.storage.base import Logs

TO_THE_END: Final = -1
"""In place of an offset: everything that readers can see."""


async def delete_records(logs: Logs, log: LogId, config: TopicConfig, before: int) -> int:
    """Delete what lies before the offset `before`, and return where the log starts then.

    Raises KafkaError: POLICY_VIOLATION for a topic that is only compacted, OFFSET_OUT_OF_RANGE for an offset beyond the
    high watermark or below 0, KAFKA_STORAGE_ERROR when the disk fails, UNKNOWN_TOPIC_OR_PARTITION without such a log.
    """
    bounds = logs.bounds(log)
    if isinstance(bounds, Error):
        raise KafkaError(bounds)
    policies = config["cleanup.policy"]
    if "compact" in policies and "delete" not in policies:
        raise KafkaError(Error.POLICY_VIOLATION)
    offset = bounds.high_watermark if before == TO_THE_END else before
    if not 0 <= offset <= bounds.high_watermark:
        raise KafkaError(Error.OFFSET_OUT_OF_RANGE)
    return await logs.trim(log, offset)
