"""Which lanes this process owns: takes those that are free, hears of those that are lost, lets go.

A lease says who may take a lane over, and when; it does not decide who may write, which the lane's head does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from kafkapy.storage.shared.database import INT4, INT4S, TEXT, Link, Statement
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.members import RENEW
from kafkapy.storage.shared.problems import lost_entries

TAKE: Final = Statement(
    """
    with d as (update lanes l set owner = $1, epoch = l.epoch + 1
               where l.lane = any($2) and (l.owner is null or l.owner = $1
                 or not exists (select from brokers b where b.incarnation = l.owner and b.expires >= now()))
               returning l.lane, l.epoch, l.seq),
         m as (update cluster set moves = moves + 1 where exists (select from d))
    select lane, epoch, seq from d
    """,
    (TEXT, INT4S),
)

_RAISE: Final = Statement(
    """
    with d as (update lanes set epoch = $3 where lane = $1 and owner = $2 and epoch = $4 returning epoch),
         m as (update cluster set moves = moves + 1 where exists (select from d))
    select epoch from d
    """,
    (INT4, TEXT, INT4, INT4),
)

RELEASE: Final = Statement(
    """
    with d as (update lanes set owner = null where lane = any($2) and owner = $1 returning lane),
         m as (update cluster set moves = moves + 1 where exists (select from d))
    select lane from d
    """,
    (TEXT, INT4S),
)

_LOOK: Final = Statement("select lane, owner, epoch, seq from lanes order by lane")


class LaneRow(NamedTuple):
    """A lane, and the incarnation that has it."""

    number: int
    owner: str | None
    epoch: int
    seq: int


class Tenure:
    """This process's lanes. `lost` is told of each that turns out to be another's."""

    lost: Callable[[Lane], None]

    def __init__(self, link: Link, incarnation: str, ttl_ms: int) -> None:
        self._link = link
        self._incarnation = incarnation
        self._ttl_ms = ttl_ms
        self._highest: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        """Of all lanes, when they were looked at last."""
        self.owned: dict[int, Lane] = {}

    async def take(self, numbers: Collection[int]) -> list[Lane]:
        """Those of these that were free, empty, in their new epochs. Raises DatabaseError, UnfitDatabase."""
        lanes = []
        for number, epoch, seq in await self._link.run(TAKE, self._incarnation, sorted(numbers)):
            self._check(number, seq, self._highest)
            lane = Lane(number)
            lane.epoch = epoch
            lanes.append(lane)
        return lanes

    async def raise_epoch(self, lane: Lane, highest: int) -> bool:
        """Go beyond this epoch; false: the lane is lost. Raises DatabaseError."""
        if highest >= lane.epoch:
            if not await self._link.run(_RAISE, lane.number, self._incarnation, highest + 1, lane.epoch):
                return False
            lane.epoch = highest + 1
        return True

    async def renew(self) -> bool:
        """Keep the lease; what is not ours any more is lost. False when this process is taken for gone.

        Raises DatabaseError, UnfitDatabase.
        """
        before = {number: (lane, lane.epoch) for number, lane in self.owned.items()}
        highest = dict(self._highest)  # commits may come back before this statement does
        rows = await self._link.run(
            RENEW, self._incarnation, self._ttl_ms, timeout_seconds=max(self._ttl_ms / 2000, 0.2)
        )
        kept = set()
        for number, epoch, seq in rows:
            if number is not None:
                self._check(number, seq, highest)
                kept.add((number, epoch))
        for number, (lane, epoch) in before.items():
            if (number, epoch) not in kept and lane.epoch == epoch:
                self.lost(lane)
        return bool(rows)

    async def look(self) -> list[LaneRow]:
        """All lanes, whoever has them. Raises DatabaseError, UnfitDatabase."""
        highest = dict(self._highest)
        rows = [LaneRow(*row) for row in await self._link.run(_LOOK)]
        for row in rows:
            self._check(row.number, row.seq, highest)
            self._highest[row.number] = max(row.seq, self._highest.get(row.number, 0))
            self.epochs[row.number] = row.epoch
        return rows

    def committed(self, lane: Lane) -> None:
        """The lane has this many entries for certain."""
        self._highest[lane.number] = lane.seq

    async def release(self, numbers: Sequence[int]) -> None:
        """Let these go. Raises DatabaseError."""
        await self._link.run(RELEASE, self._incarnation, list(numbers))

    @staticmethod
    def _check(number: int, seq: int, highest: Mapping[int, int]) -> None:
        """Raises UnfitDatabase."""
        if seq < highest.get(number, 0):
            raise lost_entries(number, seq, highest[number])
