"""What Produce does before it appends batches that are part of a transaction (KIP-98, KIP-890).

Where a batch would begin the transaction on its partition, the coordinator is asked. Versions before 12 have that
verified, unless `transaction.partition.verification.enable` is off; later ones have the partition added, and wait a
little where the last transaction is not quite over.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.log.appending import AppendResult, BatchToAppend
from kafkapy.log.request_batches import is_transactional
from kafkapy.records.batch import BatchHeader, CorruptBatch, read_header
from kafkapy.transactions.verifying import Claimed, error_for_producer

_KNOWS_ABORTABLE_FROM_VERSION: Final = 11
_ADDS_FROM_VERSION: Final = 12


async def verify(
    transactional_id: str, batches: Sequence[BatchToAppend], ctx: Context
) -> tuple[list[BatchToAppend], dict[int, AppendResult]]:
    """The batches that may be appended, with what that takes, and the answers to all others, by their place.

    Raises INVALID_PRODUCER_ID_MAPPING where they are of several producers.
    """
    headers = {batch.log: header for batch in batches if (header := _header(batch)) is not None}
    producers = {(header.producer_id, header.producer_epoch) for header in headers.values()}
    if len(producers) > 1:
        message = "Transactional records contained more than one producer ID"
        raise KafkaError(Error.INVALID_PRODUCER_ID_MAPPING, message)
    adds, is_verified = (
        ctx.api_version >= _ADDS_FROM_VERSION,
        ctx.rooms.config["transaction.partition.verification.enable"],
    )
    if not producers or not (adds or is_verified):
        return list(batches), {}
    claimed = Claimed(transactional_id, *producers.pop(), adds, ctx.api_version >= _KNOWS_ABORTABLE_FROM_VERSION)
    first_sequences = {log: header.base_sequence for log, header in headers.items()}
    outcomes = await ctx.rooms.verifier.verify(claimed, first_sequences, patient=adds)
    accepted: list[BatchToAppend] = []
    refused: dict[int, AppendResult] = {}
    for number, batch in enumerate(batches):
        outcome = outcomes.get(batch.log)
        if isinstance(outcome, Error):
            refusal = error_for_producer(outcome, adds=adds)
            refused[number] = AppendResult(refusal.error, refusal.message)
        else:
            accepted.append(replace(batch, verification=outcome if is_verified else None))
    return accepted, refused


def _header(batch: BatchToAppend) -> BatchHeader | None:
    """The header of a batch that is part of a producer's transaction."""
    records = batch.records
    if records is None or not is_transactional(records):
        return None
    try:
        header = read_header(records)
    except CorruptBatch:
        return None  # which whoever appends it says
    return header if header.has_producer else None
