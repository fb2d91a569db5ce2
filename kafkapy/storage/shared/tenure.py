"""Which lanes this process owns: takes those that are free, renews its leases, hands them over at the end.

A lease says who may take a lane over, and when; it does not decide who may write, which the lane's head does. Expiry is
the database's clock alone.

Today one process owns all lanes: a second one beside it is refused, and a next one waits until the leases of one that
was killed have run out.
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Final, NamedTuple

from kafkapy.clock import Clock
from kafkapy.storage.shared.database import INT4, INT4S, INT8, TEXT, Link, Statement
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.problems import DatabaseInUse, StatementFailed, UnfitDatabase

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Of the tables, and of what they hold."""

LANES: Final = 64

_LOCK: Final = 7307_1234
"""Whoever makes the tables holds this advisory lock meanwhile; any number would do."""

_FOUND: Final = Statement(
    "insert into cluster (id, format, lanes) values ($1, $2, $3) on conflict (one) do nothing", (TEXT, INT4, INT4)
)
_CLUSTER: Final = Statement("select id, format, lanes from cluster")

_MAKE_LANES: Final = Statement(
    "insert into lanes (lane) select generate_series(0, $1::int - 1) on conflict (lane) do nothing", (INT4,)
)

_TAKE: Final = Statement(
    """
    update lanes set owner = $1, node_id = $2, epoch = epoch + 1, expires = now() + $3 * interval '1 millisecond'
    where lane = any($4) and (expires < now() or owner = $1) returning lane, epoch, seq
    """,
    (TEXT, INT4, INT8, INT4S),
)

_RENEW: Final = Statement(
    """
    with b as (update brokers set seen = now() where incarnation = $1)
    update lanes set expires = now() + $2 * interval '1 millisecond'
    where lane = any($3) and owner = $1 returning lane, epoch, seq
    """,
    (TEXT, INT8, INT4S),
)

_RELEASE: Final = Statement("update lanes set owner = null, expires = now() where owner = $1", (TEXT,))

_ANNOUNCE: Final = Statement(
    "insert into brokers (incarnation, node_id, host, seen) values ($1, $2, $3, now())", (TEXT, INT4, TEXT)
)
_WITHDRAW: Final = Statement("delete from brokers where incarnation = $1 or seen < now() - interval '1 day'", (TEXT,))

_OTHERS: Final = Statement(
    """
    select l.node_id, coalesce(b.host, '?'), count(*), extract(epoch from max(l.expires - now()) * 1000)::bigint
    from lanes l left join brokers b on b.incarnation = l.owner
    where l.expires >= now() and l.owner <> $1 group by 1, 2
    """,
    (TEXT,),
)

_SETTINGS: Final = Statement(
    """
    select current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('fsync'),
      current_setting('full_page_writes'), current_setting('synchronous_standby_names')
    """
)

_OLDEST_SERVER: Final = 140000


class Cluster(NamedTuple):
    """What the database says of the cluster."""

    id: str
    lanes: int


async def prepare(link: Link, schema: str, cluster_id: str) -> Cluster:
    """Judge the database, make what is missing in it, and return what it is. Raises UnfitDatabase, DatabaseError."""
    await _judge(link)
    sql = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    try:
        await link.script(
            f'begin; select pg_advisory_xact_lock({_LOCK}); create schema if not exists "{schema}"; {sql} commit'
        )
    except StatementFailed as failure:
        raise UnfitDatabase(f"the tables cannot be made in schema {schema}: {failure}") from failure
    await link.run(_FOUND, cluster_id, FORMAT, LANES)
    [(known_id, known_format, lanes)] = await link.run(_CLUSTER)
    if known_format != FORMAT:
        raise UnfitDatabase(f"its tables are of format {known_format}, and this kafkapy knows {FORMAT}")
    await link.run(_MAKE_LANES, lanes)
    return Cluster(known_id, lanes)


async def _judge(link: Link) -> None:
    [(version, in_recovery, fsync, full_page_writes, standbys)] = await link.run(_SETTINGS)
    if version < _OLDEST_SERVER:
        raise UnfitDatabase(f"PostgreSQL {version // 10000} is too old: it must be 14 or later")
    if in_recovery:
        raise UnfitDatabase("it is a standby: name the primary, or all servers with target_session_attrs=read-write")
    if fsync == "off" or full_page_writes == "off":
        raise UnfitDatabase("fsync or full_page_writes is off: a crash of its machine would damage what is stored")
    if not standbys:
        _log.warning(
            "the database has no synchronous standby (synchronous_standby_names is empty): what was acknowledged is "
            "as safe as that server's disk, and is lost with it"
        )


class Tenure:
    """This process's leases. `gained` has a lane loaded and served, `lost` has it forgotten."""

    def __init__(
        self, link: Link, clock: Clock, incarnation: str, node_id: int, ttl_ms: int, lost: Callable[[Lane], None]
    ) -> None:
        self.incarnation = incarnation
        self._link = link
        self._clock = clock
        self._node_id = node_id
        self._ttl_ms = ttl_ms
        self._lost = lost
        self._highest: dict[int, int] = {}
        self.owned: dict[int, Lane] = {}

    async def take(self, numbers: Sequence[int]) -> list[Lane]:
        """Those of these lanes that were free, empty and under their new epochs. Raises DatabaseError."""
        lanes = []
        for number, epoch, seq in await self._link.run(
            _TAKE, self.incarnation, self._node_id, self._ttl_ms, list(numbers)
        ):
            _check(number, seq, self._highest)
            lane = self.owned[number] = Lane(number)
            lane.epoch = epoch
            lanes.append(lane)
        return lanes

    async def take_all(self, count: int) -> list[Lane]:
        """All lanes, once whoever had them has let them go. Raises DatabaseInUse, DatabaseError."""
        await self._link.run(_ANNOUNCE, self.incarnation, self._node_id, socket.gethostname())
        numbers = list(range(count))
        lanes = await self.take(numbers)
        waited = 0
        while len(lanes) < count:
            others = await self._link.run(_OTHERS, self.incarnation)
            left_ms = max((left for *_, left in others), default=0)
            if others and waited > left_ms + self._ttl_ms:
                node_id, host, *_ = others[0]
                raise DatabaseInUse(
                    f"node {node_id} on {host} has the cluster in this database: today one process serves it at a time"
                )
            if not waited and others:
                _log.info("waiting up to %d ms for the leases of the process before", left_ms)
            pause = min(left_ms + 50, 500)
            await self._clock.sleep(pause / 1000)
            waited += pause
            lanes += await self.take([number for number in numbers if number not in self.owned])
        return lanes

    async def renew(self) -> None:
        """Keep what is ours; what is not any more is lost. Raises DatabaseError, UnfitDatabase."""
        before = {number: (lane, lane.epoch) for number, lane in self.owned.items()}
        highest = dict(self._highest)  # commits may come back before this statement does
        rows = await self._link.run(_RENEW, self.incarnation, self._ttl_ms, list(before))
        kept = set()
        for number, epoch, seq in rows:
            _check(number, seq, highest)
            if epoch == before[number][1]:
                kept.add(number)
        for number, (lane, epoch) in before.items():
            if number not in kept and lane.epoch == epoch:
                self._lost(lane)

    def committed(self, lane: Lane) -> None:
        """The lane has this many entries for certain."""
        self._highest[lane.number] = lane.seq

    async def release(self) -> None:
        """Let everything go. Raises DatabaseError."""
        await self._link.run(_RELEASE, self.incarnation)
        await self._link.run(_WITHDRAW, self.incarnation)


def _check(number: int, seq: int, highest: Mapping[int, int]) -> None:
    """A database that has lost what it acknowledged must not be served from. Raises UnfitDatabase."""
    if seq < highest.get(number, 0):
        raise UnfitDatabase(
            f"lane {number} ends at entry {seq} and had {highest[number]}: the database has lost what it "
            "acknowledged; has an asynchronous standby become the primary?"
        )


def new_incarnation() -> str:
    """A name for this run of this process."""
    return os.urandom(8).hex()
