"""A limit on how many partitions a client has created and deleted by second (KIP-599).

Pure but for the function that tells the time. Where it is strict, nothing is done for a client that has used more than
it may; otherwise all is done, and the client held back afterwards.
"""

from collections.abc import Callable

from kafkapy.errors import Error, KafkaError
from kafkapy.quotas.clients import ClientLimits
from kafkapy.quotas.rates import TokenBucket, Windows


class MutationQuota:
    """The limits of all clients."""

    def __init__(self, windows: Windows) -> None:
        self.limits: ClientLimits[TokenBucket] = ClientLimits(lambda limit, now_ms: TokenBucket(windows, limit, now_ms))

    def of_request(self, user: str, client_id: str | None, now_ms: Callable[[], int], *, strict: bool) -> "Spending":
        """What one request of a client may do."""
        return Spending(self.limits, user, client_id, now_ms, strict=strict)


class Spending:
    """What one request does to partitions: called with the number of each of its parts, before that is done."""

    def __init__(
        self,
        limits: ClientLimits[TokenBucket],
        user: str,
        client_id: str | None,
        now_ms: Callable[[], int],
        *,
        strict: bool,
    ) -> None:
        self._limits = limits
        self._client = (user, client_id)
        self._now_ms = now_ms
        self._strict = strict
        self._ends_ms = 0

    def __call__(self, partitions: int) -> None:
        """Count them in. Raises THROTTLING_QUOTA_EXCEEDED when that must not be done now."""
        now_ms = self._now_ms()
        use = self._limits.use_of(*self._client, now_ms)
        if use is None:
            return
        if self._strict:
            debt_ms = use.meter.debt_ms(use.limit, now_ms)
            if not debt_ms:
                use.meter.take(partitions, use.limit, now_ms)
        else:
            use.meter.take(partitions, use.limit, now_ms)
            debt_ms = use.meter.debt_ms(use.limit, now_ms)
        if debt_ms:
            self._ends_ms = now_ms + debt_ms
            if self._strict:
                raise KafkaError(Error.THROTTLING_QUOTA_EXCEEDED)

    @property
    def throttle_ms(self) -> int:
        """For how long the client is to be held back, from now on."""
        return max(self._ends_ms - self._now_ms(), 0) if self._ends_ms else 0
