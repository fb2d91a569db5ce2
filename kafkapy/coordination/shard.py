"""What a coordinator is made of: a machine that decides, a journal that writes its facts down.

A machine is pure. It sees commands, tickets and the moment; it returns a `Decision`. The runtime
(coordination/runtime.py) applies the facts, appends them to the shard's log, and only then releases the answers; facts
that the log refuses, it has the machine take back. Loading a shard is applying facts, so start-up is the same code as
running.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from kafkapy.errors import KafkaError
from kafkapy.records.control import EndMarker
from kafkapy.storage.verification import Verification

Ticket = int
"""Names one waiting caller. An answer may come in the decision about its own command, or in any later one."""


class Moment(NamedTuple):
    """When a machine decides: the wall clock's milliseconds, and the cluster as it is known here then.

    The image is whatever `node.py` hands in as one; None for a machine that needs none.
    """

    now_ms: int
    image: Any = None


class SetTimer(NamedTuple):
    """Hand `command` to the machine (with ticket 0) once the clock reads `deadline_ms`. A key has one timer at most."""

    key: object
    deadline_ms: int
    command: Any


class CancelTimer(NamedTuple):
    """Forget the timer of this key, if there is one."""

    key: object


class Answer(NamedTuple):
    """What a waiting caller gets: a value, or a `KafkaError` to be raised there."""

    ticket: Ticket
    value: Any


class ProducerEpoch(NamedTuple):
    """A producer and its epoch: whose transaction something belongs to."""

    producer_id: int
    epoch: int


class InTransaction(NamedTuple):
    """A fact that a producer's transaction wrote: it counts from the marker that commits it on, or never."""

    producer_id: int
    fact: Any


class TransactionEnded(NamedTuple):
    """A producer's marker, as a fact: what its transaction wrote counts now, or never will."""

    producer_id: int
    committed: bool


@dataclass(slots=True)
class Decision:
    """Effects as data: facts to persist, answers to release once they are persisted, timers to set or cancel.

    With a `producer`, the facts belong to its transaction: they are written as its own, and applied as `InTransaction`;
    `verification` is what shows the log that they may begin it. With a `marker` as well, its transaction ends here,
    after these facts.
    """

    facts: list[Any] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    timers: list[SetTimer | CancelTimer] = field(default_factory=list)
    producer: ProducerEpoch | None = None
    verification: Verification | None = None
    marker: EndMarker | None = None


class Machine(Protocol):
    """The pure part of a shard."""

    def decide(self, command: Any, ticket: Ticket, moment: Moment) -> Decision:
        """Decide one command. May change soft state (who is waiting), never durable state.

        Raises `KafkaError` to refuse.
        """

    def apply(self, fact: Any) -> None:
        """Take one fact, just decided or read back from the log: the only way durable state changes.

        Facts come in the log's order, but for those of a key that others of the same key supersede, outside of
        transactions. `InTransaction` and `TransactionEnded` come to machines in whose logs there are transactions.
        """

    def undo_of(self, fact: Any) -> Any:
        """What `revert` needs to take this fact back. Asked when the fact was decided, just before it is applied."""

    def revert(self, undos: Iterable[Any], error: KafkaError, moment: Moment) -> Decision:
        """Take back what the log refused, given the last applied first, so that the durable state is the log's again.

        What was only waiting for these facts is answered with `error`; who has nothing to do with them goes on.
        """

    def loaded(self, moment: Moment) -> Decision:
        """Called once the log is replayed: the timers (and facts) that the loaded state calls for."""

    def snapshot(self) -> Iterable[Any]:
        """Facts that bring back the durable state of now when they are applied, in order, to a new machine.

        What open transactions wrote is part of it, as `InTransaction`. Cheap to begin, and read bit by bit afterwards:
        what is applied meanwhile does not show in it.
        """


Fact = TypeVar("Fact")


class Entry(NamedTuple):
    """A fact as a record: `value` None is a tombstone."""

    key: bytes | None
    value: bytes | None


class Journal(Protocol[Fact]):
    """Facts to records and back, in Kafka's own record formats."""

    def encode(self, fact: Fact) -> Sequence[Entry]:
        """The record or records that carry the fact."""

    def decode(self, entry: Entry) -> Fact | None:
        """The fact behind a record; None for a record type that this machine does not use.

        Raises CorruptBatch, ProtocolError or ValueError for what is not to be read.
        """


def _no_view(machine: Any) -> None:
    return None


class ShardType(NamedTuple):
    """What a room's shards have in common: how a machine is made, how facts are written, what others may see of it."""

    machine_factory: Callable[[], Machine]
    journal: Journal[Any]
    view: Callable[[Any], Any] = _no_view
    records_add_up: bool = False
    """Whether a record adds to those of its key before it, instead of superseding them. Such a log is not compacted,
    and whoever cuts it off must be able to say what is redundant: its shards are loaded from it alone, without
    checkpoints.
    """
    is_trimmed: bool = False
    """Whether what two checkpoints hold goes from the log, which cannot be loaded without one of them then."""
