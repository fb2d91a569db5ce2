"""Incremental fetch sessions (KIP-227).

A session remembers which partitions a client fetches and what it was last told about each, so that requests name only
changes and answers carry only news. Pure: the time and new session ids come as arguments. Called by the Fetch handler.

Invariants
 1. Partitions are served in the session's order; one that returned records moves to the back, so that none starves.
 2. An incremental answer carries a partition if it has records, an error, a diverging epoch, or a changed high
    watermark or log start offset; and no other.
 3. The cache holds at most `slots` sessions. A full cache makes room for a new session only by dropping one that was
    not used for two minutes, or a smaller one that has had its two minutes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError

FULL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
NO_SESSION: Final = 0
EVICTION_MS: Final = 120_000
_MAX_EPOCH: Final = 2**31 - 1
_IDS_FROM_VERSION: Final = 13


class PartitionKey(NamedTuple):
    """A partition as the client names it: by topic name, or by topic id (the other one is empty)."""

    topic: str
    topic_id: bytes
    partition: int


class Wanted(NamedTuple):
    """What a client wants of one partition."""

    key: PartitionKey
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1


class News(NamedTuple):
    """What an answer says about one partition, as far as sessions care."""

    has_records: bool
    high_watermark: int
    log_start_offset: int
    error: Error = Error.NONE
    diverges: bool = False


@dataclass(slots=True)
class _Cached:
    """One partition in a session: what is wanted, and what the client was last told."""

    wanted: Wanted
    high_watermark: int = -1
    log_start_offset: int = -1

    def differs(self, news: News) -> bool:
        """Whether the client must hear this; remembers it as told."""
        changed = news.has_records or news.diverges
        if self.high_watermark != news.high_watermark:
            self.high_watermark = news.high_watermark
            changed = True
        if self.log_start_offset != news.log_start_offset:
            self.log_start_offset = news.log_start_offset
            changed = True
        if news.error is not Error.NONE:
            # So that the next answer without the error differs.
            self.high_watermark = -1
            changed = True
        return changed


@dataclass(slots=True)
class Session:
    """One client's session."""

    session_id: int
    uses_topic_ids: bool
    created_ms: int
    last_used_ms: int
    epoch: int = 1
    partitions: OrderedDict[PartitionKey, _Cached] = field(default_factory=OrderedDict)


class FetchContext:
    """One request's view: what to fetch, and what of the outcome to tell."""

    def __init__(self, wanted: Sequence[Wanted], session: Session | None, *, incremental: bool) -> None:
        self.wanted = wanted
        self._session = session
        self._incremental = incremental

    @property
    def is_incremental(self) -> bool:
        """Whether it goes on with a session that there was before."""
        return self._incremental

    @property
    def session_id(self) -> int:
        return self._session.session_id if self._session else NO_SESSION

    def select(self, outcomes: Iterable[tuple[PartitionKey, News]]) -> set[PartitionKey] | None:
        """The partitions to tell about, None for all; the session takes note of what is told."""
        session = self._session
        if session is None:
            return None
        told: set[PartitionKey] = set()
        for key, news in outcomes:
            cached = session.partitions.get(key)
            if cached is None:
                continue
            if cached.differs(news):
                told.add(key)
                if self._incremental and news.has_records:
                    session.partitions.move_to_end(key)
        return told if self._incremental else None


class FetchSessionCache:
    """All sessions of a broker."""

    def __init__(self, slots: int, new_session_id: Callable[[], int]) -> None:
        self._slots = slots
        self._new_session_id = new_session_id
        self._sessions: OrderedDict[int, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self,
        *,
        session_id: int,
        epoch: int,
        wanted: Sequence[Wanted],
        forgotten: Iterable[PartitionKey],
        api_version: int,
        now_ms: int,
    ) -> FetchContext:
        """The context of a request; raises the session errors that Kafka knows."""
        if epoch in (FULL_EPOCH, FINAL_EPOCH):
            self._sessions.pop(session_id, None)
            if epoch == FINAL_EPOCH:
                return FetchContext(wanted, None, incremental=False)
            session = self._create(wanted, api_version, now_ms)
            return FetchContext(wanted, session, incremental=False)
        known = self._sessions.get(session_id)
        if known is None:
            raise KafkaError(Error.FETCH_SESSION_ID_NOT_FOUND)
        if known.uses_topic_ids != (api_version >= _IDS_FROM_VERSION):
            raise KafkaError(Error.FETCH_SESSION_TOPIC_ID_ERROR)
        if known.epoch != epoch:
            raise KafkaError(Error.INVALID_FETCH_SESSION_EPOCH)
        self._update(known, wanted, forgotten)
        if not known.partitions:
            del self._sessions[session_id]
            return FetchContext([], None, incremental=False)
        known.epoch = 1 if known.epoch == _MAX_EPOCH else known.epoch + 1
        known.last_used_ms = now_ms
        self._sessions.move_to_end(session_id)
        return FetchContext([cached.wanted for cached in known.partitions.values()], known, incremental=True)

    def throttled(self, context: FetchContext) -> int:
        """The session id of an answer that tells nothing: a session that would begin with it does not."""
        if context.is_incremental:
            return context.session_id
        self._sessions.pop(context.session_id, None)
        return NO_SESSION

    def _create(self, wanted: Sequence[Wanted], api_version: int, now_ms: int) -> Session | None:
        if not self._make_room(len(wanted), now_ms):
            return None
        session_id = self._new_session_id()
        while session_id in self._sessions or session_id <= NO_SESSION:
            session_id = self._new_session_id()
        session = Session(session_id, api_version >= _IDS_FROM_VERSION, now_ms, now_ms)
        for one in wanted:
            session.partitions[one.key] = _Cached(one)
        self._sessions[session_id] = session
        return session

    def _make_room(self, size: int, now_ms: int) -> bool:
        if len(self._sessions) < self._slots:
            return True
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if now_ms - oldest.last_used_ms > EVICTION_MS:
            del self._sessions[oldest.session_id]
            return True
        settled = [s for s in self._sessions.values() if now_ms - s.created_ms > EVICTION_MS]
        smallest = min(settled, key=lambda s: len(s.partitions), default=None)
        if smallest is not None and len(smallest.partitions) < size:
            del self._sessions[smallest.session_id]
            return True
        return False

    def _update(self, session: Session, wanted: Iterable[Wanted], forgotten: Iterable[PartitionKey]) -> None:
        for one in wanted:
            cached = session.partitions.get(one.key)
            if cached is None:
                session.partitions[one.key] = _Cached(one)
            else:
                cached.wanted = one
        for key in forgotten:
            session.partitions.pop(key, None)
