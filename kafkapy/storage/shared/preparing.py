"""Judges a database, and makes in it what is missing, before anything else is asked of it."""

import logging
from importlib import resources
from typing import Final, NamedTuple

from kafkapy.storage.shared.database import INT4, TEXT, Link, Statement
from kafkapy.storage.shared.problems import DatabaseInUse, StatementFailed, UnfitDatabase

_log = logging.getLogger(__name__)

FORMAT: Final = 3
"""Of the tables, and of what they hold."""

LANES: Final = 64

_LOCK: Final = 7307_1234
"""Whoever makes the tables holds this advisory lock meanwhile; any number would do."""

_FORMER_OWNERS: Final = """
do $$ begin
  if to_regclass('cluster') is not null then
    if (select format from cluster) = 1 then
      if exists (select from lanes where expires >= now()) then raise exception 'FORMER'; end if;
    elsif (select format from cluster) < 3 then
      if exists (select from brokers where expires >= now()) then raise exception 'FORMER'; end if;
    end if;
  end if;
end $$;
"""
"""Processes of format 1 have their leases in the table of lanes, later ones in that of brokers."""

_FOUND: Final = Statement(
    "insert into cluster (id, format, lanes) values ($1, $2, $3) on conflict (one) do nothing", (TEXT, INT4, INT4)
)
_CLUSTER: Final = Statement("select id, format, lanes from cluster")

_MAKE_LANES: Final = Statement(
    "insert into lanes (lane) select generate_series(0, $1::int - 1) on conflict (lane) do nothing", (INT4,)
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
    """Judge the database, make what is missing in it, and return what it is.

    Raises UnfitDatabase, DatabaseInUse, DatabaseError.
    """
    await _judge(link)
    sql = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    try:
        await link.script(
            f'begin; select pg_advisory_xact_lock({_LOCK}); create schema if not exists "{schema}"; {_FORMER_OWNERS}'
            f"{sql} commit"
        )
    except StatementFailed as failure:
        link.close()  # and with it the transaction
        if "FORMER" in str(failure):
            raise DatabaseInUse(
                "processes of an earlier kafkapy have it, or had it some seconds ago: stop them first"
            ) from failure
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
