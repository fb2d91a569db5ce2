"""Asks the coordinators of transactions whether batches may begin one on the logs of this broker (KIP-890).

Called by the Produce and TxnOffsetCommit handlers before they append. Clients of transaction version 2 have the
partition added to the transaction by that, others only verified. `node.py` runs it.

Invariants
 1. A coordinator is asked one request at a time; whoever comes meanwhile shares the next. A request has a transactional
    id once at most.
 2. Whoever asks gets an answer: the coordinator's, or NETWORK_EXCEPTION when none comes in request.timeout.ms.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from kafkapy.storage.base import Logs
from kafkapy.storage.verification import ALREADY_OPEN, Claim, Verification
from kafkapy.transactions.settings import TRANSACTIONS_TOPIC

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService

Outcome = Verification | Error
"""What a batch is to bring along to its log, or why it may not be appended."""

_AskedTopic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
_AskedTransaction = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction


class Claimed(NamedTuple):
    """Whose transaction is to begin on a log, as a client's request says.

    `adds`: the client has the partition added by this (Produce 12, TxnOffsetCommit 5). `knows_abortable`: it
    understands TRANSACTION_ABORTABLE (one version earlier each).
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    adds: bool
    knows_abortable: bool


class _Batch:
    """What the next request to a coordinator will ask, and what came of it."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Claimed, list[LogId]]] = {}
        self.errors: dict[tuple[str, str, int], Error] = {}  # transactional id, topic, partition
        self.failure: Error | None = None
        self.is_answered = trio.Event()

    def request(self) -> AddPartitionsToTxnRequest:
        return AddPartitionsToTxnRequest(
            transactions=[
                _AskedTransaction(
                    transactional_id=claimed.transactional_id,
                    producer_id=claimed.producer_id,
                    producer_epoch=claimed.producer_epoch,
                    verify_only=not claimed.adds,
                    topics=_by_topic(logs),
                )
                for claimed, logs in self.asked.values()
            ]
        )

    def error(self, claimed: Claimed, log: LogId) -> Error:
        """What the coordinator says of this log, as the producer is to hear it."""
        if self.failure is not None:
            return self.failure
        error = self.errors.get((claimed.transactional_id, log.topic, log.partition), Error.UNKNOWN_SERVER_ERROR)
        if error is Error.PRODUCER_FENCED:
            return Error.INVALID_PRODUCER_EPOCH  # as producers expect it of a partition
        if error is Error.TRANSACTION_ABORTABLE and not claimed.knows_abortable:
            return Error.INVALID_TXN_STATE
        return error


class Verifier:
    """For all logs of this broker."""

    def __init__(self, cluster: "ClusterService", logs: Logs, peers: "Peers", clock: Clock) -> None:
        self._cluster = cluster
        self._logs = logs
        self._peers = peers
        self._clock = clock
        self._queues: dict[int, list[_Batch]] = {}  # by the broker that is being asked
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def verify(
        self, claimed: Claimed, first_sequences: Mapping[LogId, int], *, patient: bool = False
    ) -> dict[LogId, Outcome]:
        """What the batches with these first sequence numbers are to bring along.

        CONCURRENT_TRANSACTIONS means that the markers of the last transaction are on their way: who is `patient` waits
        a little for them, as Kafka does for producers, whose batches are dear to send again.
        """
        config = self._cluster.image.config
        patience_ms = min(config["add.partitions.to.txn.retry.backoff.max.ms"], config["request.timeout.ms"])
        give_up_at = self._clock.monotonic() + patience_ms / 1000
        while True:
            outcomes = await self._verify(claimed, first_sequences)
            is_over = Error.CONCURRENT_TRANSACTIONS not in outcomes.values()
            if is_over or not patient or self._clock.monotonic() >= give_up_at:
                return outcomes
            await self._clock.sleep(config["add.partitions.to.txn.retry.backoff.ms"] / 1000)

    async def _verify(self, claimed: Claimed, first_sequences: Mapping[LogId, int]) -> dict[LogId, Outcome]:
        now_ms, outcomes = self._clock.now_ms(), dict[LogId, Outcome]()
        for log, first_sequence in first_sequences.items():
            claim = Claim(claimed.producer_id, claimed.producer_epoch, first_sequence, claimed.adds)
            outcomes[log] = self._logs.begin_verification(log, claim, now_ms)
        in_question = [
            log
            for log, outcome in outcomes.items()
            if isinstance(outcome, Verification) and outcome is not ALREADY_OPEN
        ]
        if in_question:
            outcomes |= await self._ask(claimed, in_question)
        return outcomes

    async def _ask(self, claimed: Claimed, logs: list[LogId]) -> dict[LogId, Error]:
        """What the coordinator objects to."""
        node_id = self._coordinator_of(claimed.transactional_id)
        if node_id is None or self._nursery is None:
            return dict.fromkeys(logs, Error.COORDINATOR_NOT_AVAILABLE)
        queue = self._queues.get(node_id)
        if queue is None:
            queue = self._queues[node_id] = []
            self._nursery.start_soon(self._serve, node_id, queue)
        batch = next((batch for batch in queue if claimed.transactional_id not in batch.asked), None)
        if batch is None:
            batch = _Batch()
            queue.append(batch)
        batch.asked[claimed.transactional_id] = (claimed, logs)
        await batch.is_answered.wait()
        errors = {log: batch.error(claimed, log) for log in logs}
        return {log: error for log, error in errors.items() if error is not Error.NONE}

    def _coordinator_of(self, transactional_id: str) -> int | None:
        topic = self._cluster.image.topic(TRANSACTIONS_TOPIC)
        if topic is None:
            return None
        leadership = self._cluster.leadership
        log = topic.partitions[partition_for(transactional_id, len(topic.partitions))].log
        node_id = leadership.holder(log).node_id
        return node_id if leadership.broker(node_id) is not None else None

    async def _serve(self, node_id: int, queue: list[_Batch]) -> None:
        """Ask one broker, as long as there is anything to be asked."""
        while queue:
            batch = queue.pop(0)
            await self._send(node_id, batch)
            batch.is_answered.set()
        del self._queues[node_id]

    async def _send(self, node_id: int, batch: _Batch) -> None:
        batch.failure = Error.NETWORK_EXCEPTION
        timeout_ms = self._cluster.image.config["request.timeout.ms"]
        try:
            with self._clock.until(self._clock.monotonic() + timeout_ms / 1000):
                response = await self._peers.ask(node_id, batch.request())
                batch.failure = _failure(response)
                batch.errors = _errors(response)
        except KafkaError:
            return  # nobody is there


def error_for_producer(error: Error, *, adds: bool) -> KafkaError:
    """What a producer hears of a batch that may not be appended: old ones only know some of these errors."""
    if error is Error.INVALID_TXN_STATE:
        return KafkaError(error, "Partition was not added to the transaction")
    if error in _NOT_VERIFIED or (error is Error.CONCURRENT_TRANSACTIONS and not adds):
        return KafkaError(
            Error.NOT_ENOUGH_REPLICAS,  # has it come back without asking for metadata first
            f"Unable to verify the partition has been added to the transaction. Underlying error: {error.name}",
        )
    return KafkaError(error)


_NOT_VERIFIED: Final = {
    Error.NETWORK_EXCEPTION,
    Error.COORDINATOR_LOAD_IN_PROGRESS,
    Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_COORDINATOR,
}


def _by_topic(logs: Iterable[LogId]) -> list[_AskedTopic]:
    topics: dict[str, _AskedTopic] = {}
    for log in logs:
        topics.setdefault(log.topic, _AskedTopic(name=log.topic)).partitions.append(log.partition)
    return list(topics.values())


def _failure(response: AddPartitionsToTxnResponse) -> Error | None:
    """Why nothing at all is verified."""
    error = Error.of(response.error_code)
    if error is Error.NONE:
        return None
    # What this broker may not ask is no business of the client's.
    return Error.INVALID_TXN_STATE if error is Error.CLUSTER_AUTHORIZATION_FAILED else error


def _errors(response: AddPartitionsToTxnResponse) -> dict[tuple[str, str, int], Error]:
    return {
        (result.transactional_id, topic.name, partition.partition_index): Error.of(partition.partition_error_code)
        for result in response.results_by_transaction
        for topic in result.topic_results
        for partition in topic.results_by_partition
    }
