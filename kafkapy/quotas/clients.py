"""Which limit holds for a client, and what it has used of that: one kind of quota, for all users and client ids.

Pure. Who shares a limit, and in which order the levels are looked at, is Apache Kafka's: where limits of only one level
are set (users, client ids, or users with client ids), that level tells whose use is added up; where several are, the
most specific one that there is for this client does.

Invariant: what nobody limits is not counted, and what was not used for an hour is forgotten.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from kafkapy.cluster.client_quotas import CLIENT_ID, USER, QuotaTable
from kafkapy.quotas.rates import Rate, Windows

_UNUSED_KEPT_MS: Final = 3_600_000
_SWEEP_EVERY_MS: Final = 30_000


class _Default(Enum):
    """Stands for whoever has no limit of his own."""

    DEFAULT = "<default>"


_DEFAULT: Final = _Default.DEFAULT
_NONE: Final = ""
"""No user, or no client id, in what a limit is for; no entity has an empty name."""

_Name = str | _Default


class Client(NamedTuple):
    """Whose use is counted together: a user, a client id, or both; what does not matter is empty."""

    user: str
    client_id: str | None


Meter = TypeVar("Meter")


class _Use(Generic[Meter]):
    """What a client has used of its limit."""

    __slots__ = ("last_ms", "limit", "meter")

    def __init__(self, meter: Meter, limit: float, now_ms: int) -> None:
        self.meter = meter
        self.limit = limit
        self.last_ms = now_ms


class ClientLimits(Generic[Meter]):
    """The limits of one kind, and how much of each is used; `new_meter` makes what counts, for a limit from now on."""

    def __init__(self, new_meter: Callable[[float, int], Meter]) -> None:
        self._new_meter = new_meter
        self._limits: Mapping[tuple[_Name, _Name], float] = {}
        self._levels: frozenset[tuple[bool, bool]] = frozenset()  # has a user, has a client id
        self._uses: dict[Client, _Use[Meter]] = {}
        self._next_sweep_ms = 0

    def __len__(self) -> int:
        """How many clients' use is counted."""
        return len(self._uses)

    @property
    def is_set(self) -> bool:
        """Whether there is any limit of this kind."""
        return bool(self._limits)

    def follow(self, table: QuotaTable, key: str) -> None:
        """Hold whoever is named there to these limits from now on; what was used before counts."""
        limits: dict[tuple[_Name, _Name], float] = {}
        for entity, values in table.items():
            if key in values:
                names = dict(entity)
                limits[_name(names, USER), _name(names, CLIENT_ID)] = values[key]
        self._limits = limits
        self._levels = frozenset((user != _NONE, client_id != _NONE) for user, client_id in limits)
        for client, use in list(self._uses.items()):
            limit = self._limit_of(client)
            if limit is None:
                del self._uses[client]
            else:
                use.limit = limit

    def use_of(self, user: str, client_id: str | None, now_ms: int) -> _Use[Meter] | None:
        """What the client has used of its limit; None when it has no limit."""
        if not self._limits:
            return None
        client = self._counted_as(user, client_id)
        use = self._uses.get(client)
        if use is None:
            limit = self._limit_of(client)
            if limit is None:
                return None
            self._sweep(now_ms)
            use = self._uses[client] = _Use(self._new_meter(limit, now_ms), limit, now_ms)
        use.last_ms = now_ms
        return use

    def _sweep(self, now_ms: int) -> None:
        if now_ms >= self._next_sweep_ms:
            self._next_sweep_ms = now_ms + _SWEEP_EVERY_MS
            for client, use in list(self._uses.items()):
                if now_ms - use.last_ms >= _UNUSED_KEPT_MS:
                    del self._uses[client]

    def _counted_as(self, user: str, client_id: str | None) -> Client:
        if len(self._levels) == 1:
            [(has_user, has_client)] = self._levels
            return Client(user if has_user else _NONE, client_id if has_client else _NONE)
        for for_user in (user, _DEFAULT):
            if client_id is not None and (for_user, client_id) in self._limits:
                return Client(user, client_id)
            if (for_user, _DEFAULT) in self._limits:
                return Client(user, client_id)
            if (for_user, _NONE) in self._limits:
                return Client(user, _NONE)
        return Client(_NONE, client_id)

    def _limit_of(self, client: Client) -> float | None:
        user, client_id = client
        if client_id is None:
            return None
        users: tuple[_Name, ...] = (user, _DEFAULT) if user else (_NONE,)
        client_ids: tuple[_Name, ...] = (client_id, _DEFAULT) if client_id else (_NONE,)
        for for_user in users:
            for for_client in client_ids:
                limit = self._limits.get((for_user, for_client))
                if limit is not None:
                    return limit
        return None


class RateQuota:
    """A limit on how much comes by second: bytes, or the share of time that requests take."""

    def __init__(self, windows: Windows, longest_ms: float = inf) -> None:
        """`longest_ms`: nobody is to wait longer at a time."""
        self._windows = windows
        self._longest_ms = longest_ms
        self.limits: ClientLimits[Rate] = ClientLimits(lambda limit, now_ms: Rate(windows, now_ms))

    def record(self, user: str, client_id: str | None, value: float, now_ms: int) -> int:
        """Count in what a client used; for how many milliseconds it is to be held back now."""
        use = self.limits.use_of(user, client_id, now_ms)
        if use is None:
            return 0
        use.meter.record(value, now_ms)
        return int(min(use.meter.excess_ms(use.limit, now_ms), self._longest_ms))

    def take_back(self, user: str, client_id: str | None, value: float, now_ms: int) -> None:
        """What was recorded did not come after all."""
        use = self.limits.use_of(user, client_id, now_ms)
        if use is not None:
            use.meter.record(-value, now_ms)

    def most_at_once(self, user: str, client_id: str | None, now_ms: int) -> float:
        """More than this is over the limit, even if nothing came before."""
        use = self.limits.use_of(user, client_id, now_ms)
        return inf if use is None else use.limit * (self._windows.number - 1) * self._windows.length_ms / 1000


def _name(names: Mapping[str, str | None], kind: str) -> _Name:
    if kind not in names:
        return _NONE
    name = names[kind]
    return _DEFAULT if name is None else name
