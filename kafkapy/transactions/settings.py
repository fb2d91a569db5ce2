"""The broker settings that transactions read, as plain numbers: a machine knows no configuration."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

TRANSACTIONS_TOPIC: Final = "__transaction_state"

TRANSACTION_VERSION: Final = 2
"""The level of the feature `transaction.version`: each transaction has an epoch of its own (KIP-890)."""


class Settings(Protocol):
    """Parsed values by setting name."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class TransactionSettings:
    """Names and units are those of Kafka's broker settings (`transaction.*` and `transactional.*`)."""

    max_timeout_ms: int = 900_000
    id_expiration_ms: int = 7 * 24 * 3_600_000
    abort_timed_out_interval_ms: int = 10_000
    remove_expired_interval_ms: int = 3_600_000

    @classmethod
    def of(cls, config: Settings) -> "TransactionSettings":
        """Read them from a broker configuration."""
        return cls(
            max_timeout_ms=config["transaction.max.timeout.ms"],
            id_expiration_ms=config["transactional.id.expiration.ms"],
            abort_timed_out_interval_ms=config["transaction.abort.timed.out.transaction.cleanup.interval.ms"],
            remove_expired_interval_ms=config["transaction.remove.expired.transaction.cleanup.interval.ms"],
        )
