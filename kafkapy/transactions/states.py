"""What a transactional id may be in the middle of, and what may follow (KIP-98, KIP-890)."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class TransactionState(Enum):
    """A state, by the number that stands in its record; `label` is what administrators see."""

    EMPTY = 0, "Empty"
    """No transaction yet since the producer was initialized. A first partition -> ONGOING."""
    ONGOING = 1, "Ongoing"
    """Partitions are added. EndTxn -> PREPARE_COMMIT or PREPARE_ABORT; another instance, or the timeout, ->
    PREPARE_EPOCH_FENCE."""
    PREPARE_COMMIT = 2, "PrepareCommit"
    """Decided; the markers are on their way. When all are there -> COMPLETE_COMMIT."""
    PREPARE_ABORT = 3, "PrepareAbort"
    """Decided; the markers are on their way. When all are there -> COMPLETE_ABORT."""
    COMPLETE_COMMIT = 4, "CompleteCommit"
    """Over; the next transaction may begin -> ONGOING, the producer be initialized -> EMPTY."""
    COMPLETE_ABORT = 5, "CompleteAbort"
    """Over, as above."""
    DEAD = 6, "Dead"
    """Expired: about to be forgotten. Never in a record, and nobody sees it here: its tombstone is decided at once."""
    PREPARE_EPOCH_FENCE = 7, "PrepareEpochFence"
    """The producer is shut out by a new epoch, then its transaction aborted -> PREPARE_ABORT. Never in a record."""

    def __init__(self, number: int, label: str) -> None:
        self.number = number
        self.label = label

    @property
    def is_prepared(self) -> bool:
        """Whether the end is decided and markers are on their way."""
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)


_S = TransactionState

TRANSITIONS: Final[Mapping[TransactionState, frozenset[TransactionState]]] = MappingProxyType(
    {
        _S.EMPTY: frozenset({_S.EMPTY, _S.ONGOING, _S.PREPARE_ABORT, _S.DEAD}),
        _S.ONGOING: frozenset({_S.ONGOING, _S.PREPARE_COMMIT, _S.PREPARE_ABORT, _S.PREPARE_EPOCH_FENCE}),
        _S.PREPARE_COMMIT: frozenset({_S.COMPLETE_COMMIT}),
        _S.PREPARE_ABORT: frozenset({_S.COMPLETE_ABORT}),
        _S.COMPLETE_COMMIT: frozenset({_S.EMPTY, _S.ONGOING, _S.PREPARE_ABORT, _S.DEAD}),
        _S.COMPLETE_ABORT: frozenset({_S.EMPTY, _S.ONGOING, _S.PREPARE_ABORT, _S.DEAD}),
        _S.DEAD: frozenset(),
        _S.PREPARE_EPOCH_FENCE: frozenset({_S.PREPARE_ABORT}),
    }
)
"""What may follow a state. An abort of nothing is possible with `transaction.version` 2 alone."""

BY_NUMBER: Final = MappingProxyType({state.number: state for state in TransactionState})
BY_LABEL: Final = MappingProxyType({state.label: state for state in TransactionState})
