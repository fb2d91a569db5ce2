"""Writes the markers of prepared transactions, for one shard, as long as that lasts.

It asks the shard what is prepared, asks the leader of each partition for the marker (WriteTxnMarkers, through `Peers`),
again and again until it is there, and tells the shard which transactions are complete. `transactions/service.py` runs
one beside each shard. There is a task for each broker that is being asked, and none for a transaction.

Invariants
 1. A transaction is in hand once at most, and a partition of it asked for once at a time: a marker that came late would
    end the producer's next transaction, where that has the same epoch.
 2. A transaction is complete when each of its partitions has its marker, or is no more.
 3. A transaction in hand waits for an answer, for its turn, or for another try. It leaves when it is complete, or when
    a newer coordinator has it.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.runtime import Shard
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from kafkapy.timers import Timers
from kafkapy.transactions.commands import AwaitPrepared, CompleteTransactions, Prepared
from kafkapy.transactions.settings import TRANSACTIONS_TOPIC

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService

_log = logging.getLogger(__name__)

MAX_MARKERS_A_REQUEST: Final = 500
"""Transactions in one request: what a leader does at once."""

FIRST_BACKOFF_SECONDS: Final = 0.02
MAX_BACKOFF_SECONDS: Final = 1.0
"""How long before another try, doubled each time: the leader may just be moving, but a broker may be away for long."""

REQUEST_TIMEOUT_SECONDS: Final = 30.0
"""How long a leader may take, as for any request between brokers (request.timeout.ms)."""

# The marker is not there, and is not needed: the producer has a newer epoch on this partition, so whatever this
# transaction wrote there has ended; or the partition could never take the transaction's records in the first place.
_NOT_NEEDED: Final = {
    Error.INVALID_PRODUCER_EPOCH,
    Error.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    Error.UNSUPPORTED_VERSION,
}


class _InHand:
    """A transaction, and which of its partitions have no marker yet.

    The coordinators' own topic gets none, should it have been named: nobody reads transactions there, and a coordinator
    whose log grows by what it did not decide itself begins anew.
    """

    __slots__ = ("missing", "prepared", "to_retry", "tries")

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.missing = {partition for partition in prepared.partitions if partition.topic != TRANSACTIONS_TOPIC}
        self.to_retry: set[TopicPartition] = set()
        self.tries = 0


_Entry = tuple[_InHand, list[TopicPartition]]


class MarkerWriter:
    """The one shard's. `coordinator_epoch` is the leader epoch of its log; markers carry it."""

    def __init__(
        self, shard: Shard, coordinator_epoch: int, cluster: "ClusterService", peers: "Peers", clock: Clock
    ) -> None:
        self._shard = shard
        self._coordinator_epoch = coordinator_epoch
        self._cluster = cluster
        self._peers = peers
        self._clock = clock
        self._in_hand: dict[str, _InHand] = {}
        self._queues: dict[int, list[_Entry]] = {}  # by the broker that is being asked
        self._retries: Timers[str, _InHand] = Timers()
        self._wake = trio.Event()
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Write markers until the shard is over."""
        shard, everything = self._shard, False
        await shard.wait_loaded()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._retry)
            while shard.loaded:
                try:
                    prepared = await shard.execute(AwaitPrepared(everything))
                except KafkaError:
                    # What was told may be lost with a write that the log refused.
                    everything = True
                    await self._clock.sleep(FIRST_BACKOFF_SECONDS)
                else:
                    everything = False
                    self._take(prepared)
            self._nursery.cancel_scope.cancel()

    def _take(self, transactions: Iterable[Prepared]) -> None:
        new = [_InHand(each) for each in transactions if each.transactional_id not in self._in_hand]
        for transaction in new:
            self._in_hand[transaction.prepared.transactional_id] = transaction
        self._ask_for(new)

    def _ask_for(self, transactions: Iterable[_InHand], partitions: Iterable[TopicPartition] | None = None) -> None:
        """Ask the leaders of these partitions, or of all that have no marker, and go on with what is complete."""
        complete = []
        for transaction in transactions:
            if not self._has(transaction):
                continue
            if transaction.missing:
                self._ask_leaders(transaction, transaction.missing if partitions is None else partitions)
            else:
                self._let_go(transaction)  # before others can see it complete, and begin the next one
                complete.append(transaction)
        if complete:
            self._nursery.start_soon(self._complete, complete)

    def _ask_leaders(self, transaction: _InHand, partitions: Iterable[TopicPartition]) -> None:
        image, leadership = self._cluster.image, self._cluster.leadership
        by_leader: dict[int, list[TopicPartition]] = {}
        unknown = []
        for wanted in partitions:
            partition = image.partition(wanted.topic, wanted.partition)
            if partition is None:
                unknown.append(wanted)
                continue
            leader = leadership.of(partition).leader
            by_leader.setdefault(leader, []).append(wanted)
        if unknown:
            self._nursery.start_soon(self._drop_deleted, transaction, unknown)
        for node_id, theirs in by_leader.items():
            if leadership.broker(node_id) is None:
                self._retry_later(transaction, theirs)
            elif node_id in self._queues:
                self._queues[node_id].append((transaction, theirs))
            else:
                self._queues[node_id] = [(transaction, theirs)]
                self._nursery.start_soon(self._ask, node_id)

    async def _drop_deleted(self, transaction: _InHand, partitions: list[TopicPartition]) -> None:
        """No marker for partitions that are no more; what this broker has only not heard of yet gets one."""
        try:
            await self._cluster.catch_up()
        except KafkaError as refusal:
            _log.info("whether %s are gone cannot be seen, which is tried again: %s", partitions, refusal)
            self._retry_later(transaction, partitions)
            return
        image = self._cluster.image
        known = {wanted for wanted in partitions if image.partition(wanted.topic, wanted.partition) is not None}
        transaction.missing.difference_update(set(partitions) - known)
        self._ask_for([transaction], known)

    async def _ask(self, node_id: int) -> None:
        """Ask one broker for markers, as long as there are any to be asked for."""
        while queue := self._queues[node_id]:
            entries, self._queues[node_id] = queue[:MAX_MARKERS_A_REQUEST], queue[MAX_MARKERS_A_REQUEST:]
            request = WriteTxnMarkersRequest(markers=[self._marker(*entry) for entry in entries])
            response = None
            try:
                with self._clock.until(self._clock.monotonic() + REQUEST_TIMEOUT_SECONDS):
                    response = await self._peers.ask(node_id, request)
            except KafkaError as failure:
                _log.info("broker %d was asked for %d markers: %s", node_id, len(entries), failure)
            self._take_answers(entries, {} if response is None else _errors(response))
        del self._queues[node_id]

    def _marker(
        self, transaction: _InHand, partitions: Iterable[TopicPartition]
    ) -> WriteTxnMarkersRequest.WritableTxnMarker:
        topics: dict[str, list[int]] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, []).append(partition)
        prepared = transaction.prepared
        return WriteTxnMarkersRequest.WritableTxnMarker(
            producer_id=prepared.producer.producer_id,
            producer_epoch=prepared.producer.epoch,
            transaction_result=prepared.committed,
            topics=[
                WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=topic, partition_indexes=indexes)
                for topic, indexes in topics.items()
            ],
            coordinator_epoch=self._coordinator_epoch,
            transaction_version=prepared.transaction_version,
        )

    def _take_answers(self, entries: Sequence[_Entry], errors: dict[tuple[int, str, int], Error]) -> None:
        for transaction, partitions in entries:
            producer_id = transaction.prepared.producer.producer_id
            again = []
            for partition in partitions:
                error = errors.get((producer_id, *partition))
                if error is Error.NONE or error in _NOT_NEEDED:
                    transaction.missing.discard(partition)
                elif error is Error.TRANSACTION_COORDINATOR_FENCED:
                    self._let_go(transaction)  # a newer coordinator has it
                else:
                    again.append(partition)
                if error is not Error.NONE and error is not None:
                    _log.info("%s: marker of %r: %s", partition, transaction.prepared.transactional_id, error.name)
            if again:
                self._retry_later(transaction, again)
        self._ask_for((transaction for transaction, _ in entries), ())

    def _let_go(self, transaction: _InHand) -> None:
        if self._has(transaction):
            del self._in_hand[transaction.prepared.transactional_id]

    def _has(self, transaction: _InHand) -> bool:
        return self._in_hand.get(transaction.prepared.transactional_id) is transaction

    async def _complete(self, transactions: list[_InHand]) -> None:
        try:
            await self._shard.execute(CompleteTransactions([each.prepared for each in transactions]))
        except KafkaError:
            for transaction in transactions:
                if self._in_hand.setdefault(transaction.prepared.transactional_id, transaction) is transaction:
                    self._retry_later(transaction, ())

    def _retry_later(self, transaction: _InHand, partitions: Iterable[TopicPartition]) -> None:
        if not self._has(transaction):
            return
        transaction.to_retry.update(partitions)
        backoff_seconds = min(FIRST_BACKOFF_SECONDS * 2**transaction.tries, MAX_BACKOFF_SECONDS)
        transaction.tries = min(transaction.tries + 1, 16)
        self._retries.set(transaction.prepared.transactional_id, self._clock.monotonic() + backoff_seconds, transaction)
        self._wake.set()

    async def _retry(self) -> None:
        """Give everything its next try when its time has come."""
        while True:
            now = self._clock.monotonic()
            while (due := self._retries.pop_due(now)) is not None:
                transaction = due[1]
                partitions, transaction.to_retry = transaction.to_retry, set()
                self._ask_for([transaction], partitions)
            self._wake = trio.Event()
            with self._clock.until(self._retries.next):
                await self._wake.wait()


def _errors(response: WriteTxnMarkersResponse) -> dict[tuple[int, str, int], Error]:
    """What became of each marker, by producer id, topic and partition."""
    return {
        (marker.producer_id, topic.name, partition.partition_index): Error.of(partition.error_code)
        for marker in response.markers
        for topic in marker.topics
        for partition in topic.partitions
    }
