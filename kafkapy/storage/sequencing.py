"""May these batches be appended, and at which offset?

One `Head` per log holds what the answer depends on: the end offset, and for each producer id its epoch, its last
batches and its open transaction. `judge` decides without changing anything; once the bytes are written, `take` makes
the verdict true. A log is loaded by `replay`, which trusts what was written. Every store uses this, none repeats it.

Invariants
 1. Offsets are dense: an accepted write begins at the end offset.
 2. A producer's epoch never goes back.
 3. Within an epoch sequence numbers follow each other, wrapping from 2147483647 to 0. A producer that is unknown here,
    or whose state has expired, may begin anywhere, and who writes without an epoch may go on anywhere; a new epoch of
    a known producer begins at 0.
 4. A batch that repeats one of the producer's last five is answered with the offsets it got then, and not appended.
 5. The last stable offset is the first offset of the oldest open transaction, or the end offset.
 6. A transaction begins with a batch that comes with the verification that the log has of its producer then, where the
    writer says that it was verified at all. A marker of transaction version 2 ends what earlier epochs wrote.

Source: KIP-98, KIP-360, KIP-890, and Kafka's design chapter on idempotent producers.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kafkapy.errors import Error
from kafkapy.model import NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP
from kafkapy.records.batch import CONTROL, MAX_SEQUENCE, TRANSACTIONAL, BatchHeader
from kafkapy.records.control import ControlHeader, EndMarker
from kafkapy.storage.aborted import AbortedRow
from kafkapy.storage.base import ActiveProducer, Origin
from kafkapy.storage.verification import ALREADY_OPEN, Claim, Verification

REMEMBERED_BATCHES = 5
"""How many batches per producer can be recognised as repeats; clients keep at most as many in flight."""

_EPOCH_A_TRANSACTION = 2
"""The transaction version from which on a marker has the epoch after that of what it ends."""

_LAST_EPOCH = 2**15 - 1


class BatchMark(NamedTuple):
    """One batch of a producer, as remembered."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp: int


class Producer(NamedTuple):
    """What a log knows of one producer id."""

    epoch: int = NO_PRODUCER_EPOCH
    batches: tuple[BatchMark, ...] = ()
    last_timestamp: int = NO_TIMESTAMP
    coordinator_epoch: int = -1
    transaction_start: int | None = None

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else NO_SEQUENCE

    def has_open_transaction(self, epoch: int) -> bool:
        return self.transaction_start is not None and epoch == self.epoch


UNKNOWN = Producer()


@dataclass(slots=True)
class Accepted:
    """Append the batches: they take the offsets [base_offset, end_offset)."""

    base_offset: int
    end_offset: int
    producers: dict[int, Producer]
    aborted: list[AbortedRow]
    verified: tuple[int, ...] = ()
    """The producers of whom nothing is to be verified any longer."""


class Repeated(NamedTuple):
    """Do not append: the batch was appended before, at these offsets."""

    first_offset: int
    last_offset: int
    timestamp: int


class Refused(NamedTuple):
    """Do not append, and say why."""

    error: Error
    message: str


@dataclass(slots=True)
class Head:
    """The moving end of a log.

    It is told of batches by their headers alone; those of control batches must be `ControlHeader`s.
    """

    end_offset: int = 0
    producers: dict[int, Producer] = field(default_factory=dict)
    open_transactions: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """First offset by producer id, the oldest first."""
    verifications: dict[int, Verification] = field(default_factory=dict)
    """By producer id. A start forgets them."""

    @property
    def last_stable_offset(self) -> int:
        return next(iter(self.open_transactions.values())) if self.open_transactions else self.end_offset

    def judge(
        self, headers: Sequence[BatchHeader], origin: Origin, verification: Verification | None = None
    ) -> Accepted | Repeated | Refused:
        """Decide about one write, which has these batches. `verification`: as of `Write`."""
        if len(headers) == 1 and (verdict := self._judge_usual(headers[0])):
            return verdict
        return self._judge_each(headers, origin, verification)

    def begin_verification(self, claim: Claim, now_ms: int) -> Verification | Error:
        """What a batch of this producer has to bring along. See `Logs.begin_verification`."""
        producer = self.producers.get(claim.producer_id, UNKNOWN)
        if claim.epoch < producer.epoch:
            return Error.INVALID_PRODUCER_EPOCH
        if producer.has_open_transaction(claim.epoch):
            return ALREADY_OPEN
        verification = self.verifications.get(claim.producer_id)
        if verification is None:
            verification = self.verifications[claim.producer_id] = Verification(claim, now_ms)
        else:
            verification.joined_by(claim)
        return verification

    def active_producers(self) -> list[ActiveProducer]:
        """The producers, as administrators see them."""
        return [
            ActiveProducer(
                producer_id,
                producer.epoch,
                producer.last_sequence,
                producer.last_timestamp,
                producer.coordinator_epoch,
                -1 if producer.transaction_start is None else producer.transaction_start,
            )
            for producer_id, producer in self.producers.items()
        ]

    def _judge_usual(self, header: BatchHeader) -> Accepted | None:
        """The verdict about nearly every write: nothing is to be remembered, or the producer's next batch has come.

        None leaves it to `_judge_each`, which would say the same at three times the cost.
        """
        offset = self.end_offset
        _, _, _, _, _, attributes, last_offset_delta, _, timestamp, producer_id, epoch, first_sequence, _ = header
        if producer_id < 0:
            return Accepted(offset, offset + last_offset_delta + 1, {}, [])
        known = self.producers.get(producer_id)
        if known is None or (self.verifications and producer_id in self.verifications):
            return None
        known_epoch, batches, _, coordinator_epoch, transaction_start = known
        last_sequence = first_sequence + last_offset_delta
        if (
            epoch != known_epoch
            or not batches
            or first_sequence != batches[-1].last_sequence + 1
            or last_sequence > MAX_SEQUENCE
            or attributes & (CONTROL | TRANSACTIONAL) != (0 if transaction_start is None else TRANSACTIONAL)
        ):
            return None
        last_offset = offset + last_offset_delta
        mark = BatchMark(first_sequence, last_sequence, offset, last_offset, timestamp)
        batches = (*batches[1 - REMEMBERED_BATCHES :], mark)
        producer = Producer(epoch, batches, timestamp, coordinator_epoch, transaction_start)
        return Accepted(offset, last_offset + 1, {producer_id: producer}, [])

    def _judge_each(
        self, headers: Sequence[BatchHeader], origin: Origin, verification: Verification | None = None
    ) -> Accepted | Repeated | Refused:
        offset = self.end_offset
        changed: dict[int, Producer] = {}
        aborted: list[AbortedRow] = []
        verified: list[int] = []
        for header in headers:
            if header.has_producer:
                producer = changed.get(header.producer_id) or self.producers.get(header.producer_id, UNKNOWN)
                if origin is Origin.CLIENT and (repeated := _find_repeat(producer, header)):
                    return repeated
                marker, known = _marker(header), self.verifications.get(header.producer_id)
                if marker:
                    refused = _check_marker(producer, header, marker)
                else:
                    refused = _check(producer, header, origin, known, verification)
                if refused:
                    return refused
                if known and header.is_transactional and not _is_of_the_next(known, header):
                    verified.append(header.producer_id)
                if marker and not marker.committed and producer.transaction_start is not None:
                    aborted.append(self._aborted(header.producer_id, producer.transaction_start, offset, changed))
                changed[header.producer_id] = _advance(producer, header, marker, offset)
            offset += header.last_offset_delta + 1
        return Accepted(self.end_offset, offset, changed, aborted, tuple(verified))

    def take(self, accepted: Accepted) -> None:
        """The batches are written: the verdict becomes the state."""
        self.end_offset = accepted.end_offset
        if accepted.producers:
            self._set_all(accepted.producers)
        for producer_id in accepted.verified:
            self.verifications.pop(producer_id, None)

    def replay(self, header: BatchHeader) -> AbortedRow | None:
        """Take a batch that is in the log already; the row it adds to the aborted transactions, if any."""
        row = None
        if header.has_producer:
            producer = self.producers.get(header.producer_id, UNKNOWN)
            marker = _marker(header)
            if marker and not marker.committed and producer.transaction_start is not None:
                row = self._aborted(header.producer_id, producer.transaction_start, header.base_offset, {})
            self._set(header.producer_id, _advance(producer, header, marker, header.base_offset))
        self.end_offset = header.next_offset
        return row

    def restore(self, producers: dict[int, Producer], end_offset: int) -> None:
        """Begin from a snapshot of the producers, taken when the log ended at `end_offset`."""
        self.end_offset = end_offset
        self.producers.clear()
        self.open_transactions.clear()
        self._set_all(producers)

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        """Forget producers that wrote nothing for `expiration_ms` and have no open transaction, and old questions."""
        stale = [
            producer_id
            for producer_id, producer in self.producers.items()
            if producer.transaction_start is None and now_ms - producer.last_timestamp >= expiration_ms
        ]
        for producer_id in stale:
            del self.producers[producer_id]
        for producer_id, verification in list(self.verifications.items()):
            if now_ms - verification.begun_ms >= expiration_ms:
                del self.verifications[producer_id]

    def _set_all(self, producers: Mapping[int, Producer]) -> None:
        changes = list(producers.items())
        if len(changes) > 1:  # transactions come in the order in which they began
            changes.sort(key=lambda change: change[1].transaction_start or 0)
        for producer_id, producer in changes:
            self._set(producer_id, producer)

    def _set(self, producer_id: int, producer: Producer) -> None:
        self.producers[producer_id] = producer
        start = producer.transaction_start
        if start is None:
            if self.open_transactions:
                self.open_transactions.pop(producer_id, None)
        elif self.open_transactions.get(producer_id) != start:
            self.open_transactions.pop(producer_id, None)  # another takes its place at the end of the order
            self.open_transactions[producer_id] = start

    def _aborted(self, producer_id: int, start: int, marker_offset: int, changed: Mapping[int, Producer]) -> AbortedRow:
        """The row of the transaction that an abort marker at this offset ends.

        `changed` are the producers after the earlier batches of the same write.
        """
        stable = marker_offset + 1
        for other, first in self.open_transactions.items():
            if other != producer_id and (other not in changed or changed[other].transaction_start == first):
                stable = first
                break
        else:
            for other, producer in changed.items():
                if other != producer_id and producer.transaction_start is not None:
                    stable = min(stable, producer.transaction_start)
        return AbortedRow(producer_id, start, marker_offset, stable)


def _marker(header: BatchHeader) -> EndMarker | None:
    if not header.is_control:
        return None
    assert isinstance(header, ControlHeader), "a control batch is judged by what its marker says"
    return header.marker


def _find_repeat(producer: Producer, header: BatchHeader) -> Repeated | None:
    if header.producer_epoch != producer.epoch:
        return None
    wanted = (header.base_sequence, header.last_sequence)
    for mark in producer.batches:
        if (mark.first_sequence, mark.last_sequence) == wanted:
            return Repeated(mark.first_offset, mark.last_offset, mark.timestamp)
    return None


def _check_marker(producer: Producer, header: BatchHeader, marker: EndMarker) -> Refused | None:
    if refused := _check_epoch(producer, header):
        return refused
    # From transaction version 2 on the marker has the epoch after that of what it ends, if there is any: one that has
    # the epoch of an open transaction ended the one before, and comes late. Where none is open, it is a repeat.
    if (
        marker.transaction_version >= _EPOCH_A_TRANSACTION
        and producer.has_open_transaction(header.producer_epoch)
        and header.producer_epoch != _LAST_EPOCH
    ):
        return Refused(
            Error.INVALID_PRODUCER_EPOCH,
            f"a marker of epoch {header.producer_epoch} does not end what producer {header.producer_id} wrote in it",
        )
    if marker.coordinator_epoch < producer.coordinator_epoch:
        return Refused(
            Error.TRANSACTION_COORDINATOR_FENCED,
            f"coordinator epoch {marker.coordinator_epoch} is older than {producer.coordinator_epoch}",
        )
    return None


def _check_epoch(producer: Producer, header: BatchHeader) -> Refused | None:
    if header.producer_epoch < producer.epoch:
        return Refused(
            Error.INVALID_PRODUCER_EPOCH,
            f"producer {header.producer_id} writes with epoch {header.producer_epoch}, its last one here is "
            f"{producer.epoch}",
        )
    return None


def _check(
    producer: Producer,
    header: BatchHeader,
    origin: Origin,
    known: Verification | None,
    verification: Verification | None,
) -> Refused | None:
    """Whether a batch that ends no transaction may go in, while `known` is what the log has of its producer."""
    who = f"producer {header.producer_id}"
    if refused := _check_epoch(producer, header):
        return refused
    if header.is_control:
        return None
    begins = header.is_transactional and not producer.has_open_transaction(header.producer_epoch)
    if begins and verification is not None and verification is not known:
        return Refused(Error.INVALID_TXN_STATE, f"{who} writes to a transaction that is not open here")
    if origin is not Origin.CLIENT:
        return None
    sequence = header.base_sequence
    if known and (sequence > known.lowest_sequence or (known.bumps_epoch and sequence and not producer.batches)):
        return Refused(
            Error.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{who} begins its transaction with sequence number {sequence}"
        )
    if header.producer_epoch != producer.epoch:
        if sequence != 0 and producer.epoch != NO_PRODUCER_EPOCH:
            return Refused(
                Error.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"{who} begins epoch {header.producer_epoch} with sequence number {sequence}",
            )
    elif producer.epoch != NO_PRODUCER_EPOCH and not _follows(producer.last_sequence, sequence):
        return Refused(
            Error.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"{who} sends sequence number {sequence} after {producer.last_sequence}",
        )
    if producer.transaction_start is not None and not header.is_transactional:
        return Refused(Error.INVALID_TXN_STATE, f"{who} writes outside of its open transaction")
    return None


def _is_of_the_next(known: Verification, header: BatchHeader) -> bool:
    """Whether the question is about the transaction that follows the one that this marker ends: it stays."""
    return header.is_control and known.bumps_epoch and header.producer_epoch == known.epoch


def _follows(last: int, following: int) -> bool:
    return following == last + 1 or (following == 0 and last == MAX_SEQUENCE)


def _advance(producer: Producer, header: BatchHeader, marker: EndMarker | None, offset: int) -> Producer:
    """The producer after this batch, which begins at `offset`."""
    batches = producer.batches if header.producer_epoch == producer.epoch else ()
    if header.is_control:
        coordinator_epoch = marker.coordinator_epoch if marker else producer.coordinator_epoch
        return Producer(header.producer_epoch, batches, header.max_timestamp, coordinator_epoch, None)
    last_offset = offset + header.last_offset_delta
    mark = BatchMark(header.base_sequence, header.last_sequence, offset, last_offset, header.max_timestamp)
    start = producer.transaction_start
    if start is None and header.is_transactional:
        start = offset
    return Producer(
        header.producer_epoch,
        (*batches[-(REMEMBERED_BATCHES - 1) :], mark),
        header.max_timestamp,
        producer.coordinator_epoch,
        start,
    )
