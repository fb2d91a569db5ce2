"""Puts what share groups give up into their dead-letter queues: topics that groups name in their settings (KIP-1191).

A queue is written to like any topic, by its leader, and made where that is allowed and it is not there yet. Its name
begins as the broker's settings say, and the topic must permit it by a setting of its own. What cannot be put into the
queue is given up without: it is only logged. Called by `partitions.py`.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.sharing.in_flight import DeadLetter
from kafkapy.sharing.letters import GivenUp, Origin, Originals, originals_in, packed
from kafkapy.sharing.settings import copies_dead_letters, dead_letter_topic
from kafkapy.storage.base import Logs, Read
from kafkapy.turns import Turns

if TYPE_CHECKING:
    from kafkapy.cluster.image import TopicInfo
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService

_log = logging.getLogger(__name__)

_PERMITTED: Final = "errors.deadletterqueue.group.enable"
_MAX_READ_BYTES: Final = 1 << 20
_TIMEOUT_MS: Final = 30_000
_CREATE_TIMEOUT_MS: Final = 60_000
_ACKS_ALL: Final = -1
_NO_MORE: Final = 1 << 63

_BACKOFFS_SECONDS: Final = (1, 2, 4, 8)
"""As Kafka waits before its second to fifth attempt."""

_CREATED_LATER: Final = frozenset(
    {Error.TOPIC_ALREADY_EXISTS, Error.THROTTLING_QUOTA_EXCEEDED, Error.BROKER_NOT_AVAILABLE, Error.REQUEST_TIMED_OUT}
)
_LED_LATER: Final = frozenset({Error.NOT_LEADER_OR_FOLLOWER, Error.BROKER_NOT_AVAILABLE, Error.REQUEST_TIMED_OUT})


class DeadLetterQueues:
    """The queues of all share groups whose partitions this broker leads."""

    def __init__(self, cluster: "ClusterService", logs: Logs, peers: "Peers", turns: Turns, clock: Clock) -> None:
        self._cluster = cluster
        self._logs = logs
        self._peers = peers
        self._turns = turns
        self._clock = clock

    async def write(self, group_id: str, log: LogId, letters: Sequence[DeadLetter]) -> None:
        """Put these records of the log into the group's queue; returns when that is done, or is given up."""
        records = [
            GivenUp(offset, count, is_rejected)
            for first, last, count, is_rejected in letters
            for offset in range(first, last + 1)
        ]
        try:
            await self._write(group_id, log, records)
        except KafkaError as refusal:
            _log.error(
                "Share group %s gives up records of %s that are in no dead-letter queue: %s", group_id, log, refusal
            )

    async def _write(self, group_id: str, log: LogId, records: list[GivenUp]) -> None:
        origin, place = Origin(group_id, log.topic, log.partition), 0
        originals, read_from = None, -1
        while place < len(records):
            queue = self._queue(group_id) or await self._create(group_id)
            left, max_bytes = records[place:], queue.config["max.message.bytes"]
            if not copies_dead_letters(self._cluster.image, group_id):
                originals = None
            elif originals is None or not read_from <= left[0].offset < originals.next_offset:
                read_from = left[0].offset
                originals = await self._originals(log, left, max_bytes)
            batch, count = packed(origin, left, originals, self._clock.now_ms(), max_bytes)
            await self._append(queue.partitions[log.partition % len(queue.partitions)].log, batch)
            place += count

    def _queue(self, group_id: str) -> "TopicInfo | None":
        """The group's queue; None where it has yet to be made. Raises INVALID_CONFIG where it has none."""
        image = self._cluster.image
        name, prefix = dead_letter_topic(image, group_id), image.config["errors.deadletterqueue.topic.name.prefix"]
        queue = image.topic(name)
        if not name:
            raise KafkaError(Error.INVALID_CONFIG, "the group has none")
        if name.startswith("__") or not name.startswith(prefix):
            raise KafkaError(Error.INVALID_CONFIG, f"the name of topic {name} does not begin with {prefix}")
        if queue is not None and not queue.config[_PERMITTED]:
            raise KafkaError(Error.INVALID_CONFIG, f"{_PERMITTED} is off at topic {name}")
        if queue is None and not image.config["errors.deadletterqueue.auto.create.topics.enable"]:
            raise KafkaError(Error.INVALID_CONFIG, f"topic {name} is not there, and must not be made")
        return queue

    async def _create(self, group_id: str) -> "TopicInfo":
        """The group's queue, which is made."""
        for backoff_seconds in _attempts():
            name = dead_letter_topic(self._cluster.image, group_id)
            cls = CreateTopicsRequest
            settings = {_PERMITTED: "true", "message.timestamp.type": "CreateTime"}
            topic = cls.CreatableTopic(
                name=name,
                num_partitions=-1,
                replication_factor=-1,
                configs=[cls.CreatableTopicConfig(name=key, value=value) for key, value in settings.items()],
            )
            try:
                request = cls(topics=[topic], timeout_ms=_CREATE_TIMEOUT_MS)
                response = await self._peers.ask(self._cluster.leadership.controller_id, request)
                error = Error.of(response.topics[0].error_code)
            except KafkaError as refusal:
                error = refusal.error
            queue = self._queue(group_id)
            if queue is not None:
                return queue
            if error and error not in _CREATED_LATER:
                raise KafkaError(error, f"topic {name} cannot be made")
            if backoff_seconds:
                await self._clock.sleep(backoff_seconds)
        raise KafkaError(error or Error.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name} is not made")

    async def _originals(self, log: LogId, records: Sequence[GivenUp], max_bytes: int) -> Originals:
        """What stands in the log from the first of the records on."""
        first = records[0].offset
        [piece] = await self._logs.read([Read(log, first, _MAX_READ_BYTES)], _MAX_READ_BYTES)
        if piece.error or not piece.size_bytes:
            _log.warning("Records of %s from %d on cannot be copied into a dead-letter queue", log, first)
            return Originals({}, _NO_MORE)
        wanted = frozenset(record.offset for record in records)
        found, next_offset = await self._turns.finish(originals_in(piece.records, wanted, max_bytes))
        return Originals(found, max(next_offset, first + 1))

    async def _append(self, log: LogId, batch: bytes) -> None:
        """Append the batch to the queue, wherever that is led."""
        error = Error.NONE
        for backoff_seconds in _attempts():
            cls = ProduceRequest
            data = cls.TopicProduceData(
                name=log.topic,
                topic_id=log.topic_id,
                partition_data=[cls.PartitionProduceData(index=log.partition, records=batch)],
            )
            request = cls(acks=_ACKS_ALL, timeout_ms=_TIMEOUT_MS, topic_data=[data])
            try:
                response = await self._peers.ask(self._cluster.leadership.holder(log).node_id, request)
                error = Error.of(response.responses[0].partition_responses[0].error_code)
            except KafkaError as refusal:
                error = refusal.error
            if not error:
                return
            if error not in _LED_LATER or not backoff_seconds:
                break
            await self._clock.sleep(backoff_seconds)
        raise KafkaError(error, f"{log} does not take it")


def _attempts() -> Iterator[int]:
    """One for each attempt: how long to wait before the next one, 0 at the last."""
    return iter((*_BACKOFFS_SECONDS, 0))
