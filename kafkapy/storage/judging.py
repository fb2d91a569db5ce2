"""May a write join its log, and what becomes of it if not? The same for every store."""

from kafkapy.errors import Error
from kafkapy.storage.base import Outcome, Write
from kafkapy.storage.sequencing import Accepted, Head, Refused


def judged(write: Write, head: Head, *, leader_epoch: int, log_start_offset: int) -> Accepted | Outcome:
    """Where it goes, or the outcome of a write that adds nothing.

    `leader_epoch`: the latest in which something was written to the log, or in which it is led, if that is known.
    """
    if write.expect_end is not None and write.expect_end != head.end_offset:
        return Outcome(error=Error.NOT_LEADER_OR_FOLLOWER, message="the log has grown under another owner")
    if write.leader_epoch < leader_epoch:
        return Outcome(error=Error.NOT_LEADER_OR_FOLLOWER, message="the log has another leader")
    verdict = head.judge(write.headers, write.origin, write.verification)
    if isinstance(verdict, Accepted):
        return verdict
    if isinstance(verdict, Refused):
        return Outcome(log_start_offset=log_start_offset, error=verdict.error, message=verdict.message)
    return Outcome(
        verdict.first_offset,
        verdict.last_offset + 1,
        log_start_offset,
        duplicate=True,
        repeated_timestamp=verdict.timestamp,
    )
