"""Delegation tokens (KIP-48, KIP-900): who has which, how long they last, and what images show of them.

Pure. A kind of metadata facts (`kinds.py`). What a token's bearer proves is made of its id and the broker's secret
(`security/tokens.py`), and is nowhere kept.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Principal
from kafkapy.protocol.journal.cluster_metadata import DelegationTokenRecord, RemoveDelegationTokenRecord
from kafkapy.protocol.primitives import MAX_STRING_SIZE

_MAX_REMOVED_AT_ONCE: Final = 1000
_MAX_TIME_MS: Final = (1 << 63) - 1


class DelegationToken(NamedTuple):
    """A token. Whoever has it acts as its owner until `expires_ms`, which may be moved up to `max_ms`."""

    token_id: str
    owner: Principal
    requester: Principal
    renewers: tuple[Principal, ...]
    issued_ms: int
    max_ms: int
    expires_ms: int

    def has_expired(self, now_ms: int) -> bool:
        """Whether it is of no use any more."""
        return min(self.max_ms, self.expires_ms) < now_ms

    def belongs_to(self, principal: Principal) -> bool:
        """Whether it is the principal's to see."""
        return principal in (self.owner, self.requester, *self.renewers)


@dataclass(slots=True)
class CreateToken:
    """Answered by the `DelegationToken`."""

    token_id: str
    owner: Principal
    requester: Principal
    renewers: tuple[Principal, ...]
    lifetime_ms: int
    renewal_ms: int


@dataclass(slots=True)
class RenewToken:
    """Moves a token's end to so many milliseconds from now, for its owner or a renewer. Answered by the end."""

    token_id: str
    asker: Principal
    period_ms: int


@dataclass(slots=True)
class ExpireToken:
    """Moves a token's end likewise; a negative period ends it at once. Answered by the end."""

    token_id: str
    asker: Principal
    period_ms: int


@dataclass(slots=True)
class RemoveExpiredTokens:
    """Answered by how many tokens were removed, of those that have expired; some may be left for the next time."""


class DelegationTokens:
    """The tokens that all facts so far add up to."""

    facts: ClassVar[tuple[type[Any], ...]] = (DelegationTokenRecord, RemoveDelegationTokenRecord)
    commands: ClassVar[tuple[type[Any], ...]] = (CreateToken, RenewToken, ExpireToken, RemoveExpiredTokens)

    def __init__(self) -> None:
        self._tokens: dict[str, DelegationToken] = {}
        self._shown: Mapping[str, DelegationToken] | None = None

    @property
    def shown(self) -> Mapping[str, DelegationToken]:
        if self._shown is None:
            self._shown = dict(self._tokens)
        return self._shown

    def decide(self, command: Any, moment: Moment) -> tuple[list[Any], Any]:
        now_ms = moment.now_ms
        match command:
            case CreateToken():
                _check_length(command.owner, command.requester, *command.renewers)
                max_ms = _later(now_ms, command.lifetime_ms)
                expires_ms = min(max_ms, _later(now_ms, command.renewal_ms))
                token = DelegationToken(
                    command.token_id, command.owner, command.requester, command.renewers, now_ms, max_ms, expires_ms
                )
                return [_record(token)], token
            case RenewToken():
                token = self._token_of(command)
                _check_alive(token, now_ms)
                _check_asker(token, command.asker)
                return _moved(token, now_ms + command.period_ms)
            case ExpireToken():
                token = self._token_of(command)
                _check_asker(token, command.asker)
                if command.period_ms < 0:
                    return [RemoveDelegationTokenRecord(token_id=token.token_id)], now_ms
                _check_alive(token, now_ms)
                return _moved(token, _later(now_ms, command.period_ms))
        expired = [token_id for token_id, token in self._tokens.items() if token.has_expired(now_ms)]
        del expired[_MAX_REMOVED_AT_ONCE:]
        return [RemoveDelegationTokenRecord(token_id=token_id) for token_id in expired], len(expired)

    def _token_of(self, command: RenewToken | ExpireToken) -> DelegationToken:
        token = self._tokens.get(command.token_id)
        if token is None:
            raise KafkaError(Error.DELEGATION_TOKEN_NOT_FOUND)
        return token

    def apply(self, fact: DelegationTokenRecord | RemoveDelegationTokenRecord) -> None:
        self._set(fact.token_id, _token(fact) if isinstance(fact, DelegationTokenRecord) else None)

    def undo_of(self, fact: DelegationTokenRecord | RemoveDelegationTokenRecord) -> Callable[[], None]:
        return partial(self._set, fact.token_id, self._tokens.get(fact.token_id))

    def _set(self, token_id: str, token: DelegationToken | None) -> None:
        self._shown = None
        if token is None:
            self._tokens.pop(token_id, None)
        else:
            self._tokens[token_id] = token

    @staticmethod
    def snapshot(shown: Mapping[str, DelegationToken]) -> Iterator[DelegationTokenRecord]:
        return map(_record, shown.values())


def _check_length(*principals: Principal) -> None:
    """Whether a record can hold them: it has in one string what a request has in two, or only half of."""
    if any(len(str(principal).encode("utf-8", "surrogatepass")) > MAX_STRING_SIZE for principal in principals):
        raise KafkaError(Error.UNKNOWN_SERVER_ERROR)  # as Kafka answers


def _check_alive(token: DelegationToken, now_ms: int) -> None:
    if token.has_expired(now_ms):
        raise KafkaError(Error.DELEGATION_TOKEN_EXPIRED)


def _check_asker(token: DelegationToken, asker: Principal) -> None:
    if asker not in (token.owner, *token.renewers):
        raise KafkaError(Error.DELEGATION_TOKEN_OWNER_MISMATCH)


def _later(now_ms: int, duration_ms: int) -> int:
    return min(now_ms + duration_ms, _MAX_TIME_MS)


def _moved(token: DelegationToken, expires_ms: int) -> tuple[list[DelegationTokenRecord], int]:
    moved = token._replace(expires_ms=min(token.max_ms, expires_ms))
    return [_record(moved)], moved.expires_ms


def _record(token: DelegationToken) -> DelegationTokenRecord:
    return DelegationTokenRecord(
        owner=str(token.owner),
        requester=str(token.requester),
        renewers=[str(renewer) for renewer in token.renewers],
        issue_timestamp=token.issued_ms,
        max_timestamp=token.max_ms,
        expiration_timestamp=token.expires_ms,
        token_id=token.token_id,
    )


def _token(fact: DelegationTokenRecord) -> DelegationToken:
    return DelegationToken(
        fact.token_id,
        _principal(fact.owner),
        _principal(fact.requester),
        tuple(map(_principal, fact.renewers)),
        fact.issue_timestamp,
        fact.max_timestamp,
        fact.expiration_timestamp,
    )


def _principal(text: str) -> Principal:
    kind, _, name = text.partition(":")
    return Principal(kind, name)
