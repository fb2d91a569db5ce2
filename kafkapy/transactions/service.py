"""The transaction coordinator's door: one typed method an API, called by handlers.

Each asks the shard of its transactional id, one of those that `coordination/shards.py` runs on `__transaction_state`; a
writer of markers runs beside each. `node.py` runs the service (`run`) in the nursery that outlives the connections.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.runtime import Shard
from kafkapy.coordination.shard import ProducerEpoch, ShardType
from kafkapy.coordination.shards import Shards
from kafkapy.coordination.waiting import Waiting
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, TopicPartition
from kafkapy.storage.base import Leases, Logs
from kafkapy.transactions.commands import (
    AddPartitions,
    DescribeTransaction,
    EndTransaction,
    InitProducer,
    ListedTransaction,
    ListTransactions,
    VerifyPartitions,
)
from kafkapy.transactions.facts import Transaction
from kafkapy.transactions.journal import TransactionJournal
from kafkapy.transactions.machine import TransactionMachine
from kafkapy.transactions.markers import MarkerWriter
from kafkapy.transactions.producer_ids import ProducerIds
from kafkapy.transactions.settings import TRANSACTIONS_TOPIC, TransactionSettings

if TYPE_CHECKING:
    from kafkapy.cluster.membership import Peers
    from kafkapy.cluster.service import ClusterService
    from kafkapy.config.layers import BrokerConfig


class TransactionService:
    """All transactional ids of this broker."""

    def __init__(
        self,
        cluster: "ClusterService",
        logs: Logs,
        leases: Leases,
        peers: "Peers",
        producer_ids: ProducerIds,
        clock: Clock,
        config: "BrokerConfig",
    ) -> None:
        self._cluster = cluster
        self._peers = peers
        self._producer_ids = producer_ids
        self._clock = clock
        self._settings = TransactionSettings.of(config)
        self._shards = Shards(
            TRANSACTIONS_TOPIC,
            "transaction coordinator",
            ShardType(functools.partial(TransactionMachine, self._settings), TransactionJournal()),
            logs,
            leases,
            clock,
            lambda: cluster.image,
            beside=self._write_markers,
        )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once every shard with a past is on its way."""
        await self._shards.run(task_status)

    # One method an API

    async def coordinating_log(self, transactional_id: str) -> LogId:
        """The log whose leader coordinates the id: the topic of transactions comes into being when first needed.

        Raises as of `ClusterService.ensure_internal_topic`.
        """
        if self._cluster.image.topic(TRANSACTIONS_TOPIC) is None:
            await self._cluster.ensure_internal_topic(TRANSACTIONS_TOPIC)
        return self._shards.log_of(transactional_id)

    async def init_producer(self, command: InitProducer) -> ProducerEpoch:
        """InitProducerId with a transactional id: the producer id and epoch to go on with."""
        _require_id(command.transactional_id)
        if not 0 < command.timeout_ms <= self._settings.max_timeout_ms:
            raise KafkaError(Error.INVALID_TRANSACTION_TIMEOUT)
        return await self._execute_with_producer_id(command)

    async def add_partitions(
        self, commands: Sequence[AddPartitions | VerifyPartitions]
    ) -> list[frozenset[TopicPartition] | KafkaError]:
        """AddPartitionsToTxn, AddOffsetsToTxn: for each those partitions that are in the transaction now, or why not.

        All are decided before the first is waited for, so that those of a shard share a write.
        """
        answers = [await self._submit(command) for command in commands]
        return [await _answer_of(answer) if isinstance(answer, Waiting) else answer for answer in answers]

    async def end(self, command: EndTransaction) -> ProducerEpoch:
        """EndTxn: the producer id and epoch to go on with, once the decision cannot be lost any more."""
        _require_id(command.transactional_id)
        return await self._execute_with_producer_id(command)

    async def describe(self, transactional_id: str) -> Transaction:
        """DescribeTransactions for one id. Raises TRANSACTIONAL_ID_NOT_FOUND."""
        _require_id(transactional_id)
        shard = await self._shards.of(transactional_id)
        transaction: Transaction = await shard.execute(DescribeTransaction(transactional_id))
        return transaction

    async def list_transactions(self, command: ListTransactions) -> list[ListedTransaction]:
        """ListTransactions: the ids of this broker. Raises COORDINATOR_LOAD_IN_PROGRESS while one may be missing."""
        listed: list[ListedTransaction] = []
        for shard in self._shards.running():
            await self._shards.wait_loaded(shard)
            try:
                listed += await shard.execute(command)
            except KafkaError as refusal:
                if refusal.error is not Error.NOT_COORDINATOR:  # its ids are another's by now
                    raise
        return listed

    async def _submit(self, command: AddPartitions | VerifyPartitions) -> Any:
        try:
            _require_id(command.transactional_id)
            return (await self._shards.of(command.transactional_id)).submit(command)
        except KafkaError as refusal:
            return refusal

    async def _execute_with_producer_id(self, command: InitProducer | EndTransaction) -> ProducerEpoch:
        shard = await self._shards.of(command.transactional_id)
        if shard.machine.needs_producer_id(command):
            command = command._replace(new_producer_id=await self._producer_ids.next_producer_id())
        producer: ProducerEpoch = await shard.execute(command)
        return producer

    async def _write_markers(self, shard: Shard, coordinator_epoch: int) -> None:
        await MarkerWriter(shard, coordinator_epoch, self._cluster, self._peers, self._clock).run()


def _require_id(transactional_id: str) -> None:
    if not transactional_id:
        raise KafkaError(Error.INVALID_REQUEST)


async def _answer_of(waiting: Waiting) -> Any:
    try:
        return await waiting.wait()
    except KafkaError as refusal:
        return refusal
