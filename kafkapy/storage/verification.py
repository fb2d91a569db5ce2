"""What shows that a transaction's first batch comes with its coordinator's knowledge (KIP-890).

Before a producer's first batch of a transaction is appended to a log, the coordinator is asked whether the log is part
of that transaction. The log remembers the question, and takes the batch only together with that very object: a marker
that came while the coordinator answered has made the log forget it, and what the answer said is no longer so.

Called by `storage/sequencing.py`, which keeps one for each producer id that is being asked about.
"""

from typing import Final, NamedTuple


class Claim(NamedTuple):
    """What a producer says of the batch with which a transaction is to begin on a log.

    `bumps_epoch`: its client knows transaction version 2, so that every transaction has an epoch of its own.
    """

    producer_id: int
    epoch: int
    first_sequence: int
    bumps_epoch: bool


class Verification:
    """A question to a coordinator that is under way, or has been answered without a batch appended since.

    No batch goes in whose sequence number is above `lowest_sequence`, the lowest one that was asked about: it may have
    been asked about first and be appended last.
    """

    __slots__ = ("begun_ms", "bumps_epoch", "epoch", "lowest_sequence")

    def __init__(self, claim: Claim, now_ms: int) -> None:
        self.begun_ms = now_ms
        self.bumps_epoch = claim.bumps_epoch
        self.epoch = claim.epoch
        self.lowest_sequence = claim.first_sequence

    def joined_by(self, claim: Claim) -> None:
        """The producer asks again, before the answer has led to anything."""
        if claim.epoch > self.epoch:
            self.epoch, self.lowest_sequence = claim.epoch, claim.first_sequence
        elif claim.epoch == self.epoch:
            self.lowest_sequence = min(self.lowest_sequence, claim.first_sequence)


ALREADY_OPEN: Final = Verification(Claim(-1, -1, -1, False), 0)
"""No question: the producer's transaction was open on the log already. It must be so still when the batch comes."""
