"""Share sessions: what the members of share groups fetch from this broker (KIP-932).

A session is a member's; requests name only what is other in it, and carry an epoch that tells a repeat from what was
lost. Pure. Called by the handlers of ShareFetch and ShareAcknowledge.

Invariants
 1. A member has one session at most, and the broker no more than `slots`. None is ever dropped to make room.
 2. A request that is refused changes nothing.
 3. An answer in a session tells of a partition if it has records or an error, had one the last time, or is new.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError

INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
_LAST_EPOCH: Final = 2**31 - 1


class SessionKey(NamedTuple):
    """Whose session it is."""

    group_id: str
    member_id: str


class FetchedPartition(NamedTuple):
    """A partition as requests name it."""

    topic_id: bytes
    partition: int


class ShareSession:
    """One member's."""

    __slots__ = ("epoch", "is_told", "key")

    def __init__(self, key: SessionKey, partitions: Iterable[FetchedPartition]) -> None:
        self.key = key
        self.epoch = 1
        """What the next request is to carry."""
        self.is_told = dict.fromkeys(partitions, True)
        """The partitions in their order; whether nothing but news has to be told of each."""

    def advance(self) -> None:
        self.epoch = 1 if self.epoch == _LAST_EPOCH else self.epoch + 1

    def tells(self, partition: FetchedPartition, *, has_records: bool, has_error: bool) -> bool:
        """Whether an answer is to have this in it; the session takes note that it has."""
        is_told = self.is_told.get(partition, True)
        if partition in self.is_told:
            self.is_told[partition] = not has_error
            if has_records:
                self.is_told[partition] = self.is_told.pop(partition)  # so that the others get their turn
        return has_records or has_error or not is_told


class ShareSessions:
    """All sessions of a broker."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._sessions: dict[SessionKey, ShareSession] = {}
        self._member_counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def has_members(self, group_id: str) -> bool:
        """Whether any member of the group has a session here."""
        return group_id in self._member_counts

    def get(self, key: SessionKey) -> ShareSession:
        """The member's session. Raises SHARE_SESSION_NOT_FOUND."""
        session = self._sessions.get(key)
        if session is None:
            raise KafkaError(Error.SHARE_SESSION_NOT_FOUND)
        return session

    def is_open(self, session: ShareSession) -> bool:
        """Whether it is its member's session still."""
        return self._sessions.get(session.key) is session

    def open(self, key: SessionKey, partitions: Sequence[FetchedPartition]) -> ShareSession:
        """A new session, instead of the one that the member had. Raises SHARE_SESSION_LIMIT_REACHED."""
        self.close(key)
        if len(self._sessions) >= self._slots:
            raise KafkaError(Error.SHARE_SESSION_LIMIT_REACHED)
        session = self._sessions[key] = ShareSession(key, partitions)
        self._member_counts[key.group_id] = self._member_counts.get(key.group_id, 0) + 1
        return session

    def proceed(
        self,
        key: SessionKey,
        epoch: int,
        added: Iterable[FetchedPartition] = (),
        forgotten: Iterable[FetchedPartition] = (),
    ) -> ShareSession:
        """Go on with the session. Raises SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH."""
        session = self.get(key)
        if session.epoch != epoch:
            raise KafkaError(Error.INVALID_SHARE_SESSION_EPOCH)
        for partition in added:
            session.is_told.setdefault(partition, False)
        for partition in forgotten:
            session.is_told.pop(partition, None)
        session.advance()
        return session

    def close(self, key: SessionKey) -> ShareSession | None:
        """The session is over; it, if there was one."""
        session = self._sessions.pop(key, None)
        if session is not None:
            count = self._member_counts[key.group_id] - 1
            if count:
                self._member_counts[key.group_id] = count
            else:
                del self._member_counts[key.group_id]
        return session
