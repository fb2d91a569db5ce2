"""PostgreSQL, as the shared store uses it: the only place that knows psycopg.

libpq (`psycopg.pq`) is driven on the event loop: a statement is sent, and its answer waited for, in one task, without a
thread. Statements are prepared once a connection; values go and come in PostgreSQL's binary formats.

Invariants
 1. A link has one statement under way at most. One whose answer did not come, be it for time, cancellation or a broken
    connection, ends its connection: nothing that comes late can be taken for the answer to something else.
 2. What was not sent raises `Unreachable`: it has certainly not been done. What was sent and not answered raises
    `OutcomeUnknown`: it may have been done, or may be done later.
"""

import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, make_conninfo
from psycopg.pq import abc

from kafkapy.clock import Clock
from kafkapy.storage.shared.problems import OutcomeUnknown, StatementFailed, Unreachable

TIMEOUT_SECONDS: Final = 15.0
"""A server that does not answer a statement for so long is taken for gone."""

CONNECT_SECONDS: Final = 5.0

_DEFAULTS: Final = {
    "application_name": "kafkapy",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_BINARY: Final = 1


class Type(NamedTuple):
    """A type of values: PostgreSQL's number of it, and how they are written."""

    oid: int
    encode: Callable[[Any], bytes]


def _array_of(element: Type, oid: int) -> Type:
    head = struct.Struct(">iiiii")
    length = struct.Struct(">i")

    def encode(values: Sequence[Any]) -> bytes:
        parts = [head.pack(1, 0, element.oid, len(values), 1)]
        for value in values:
            data = element.encode(value)
            parts += (length.pack(len(data)), data)
        return b"".join(parts)

    return Type(oid, encode)


INT4: Final = Type(23, struct.Struct(">i").pack)
INT8: Final = Type(20, struct.Struct(">q").pack)
TEXT: Final = Type(25, str.encode)
BYTEA: Final = Type(17, bytes)
UUID: Final = Type(2950, bytes)
INT4S: Final = _array_of(INT4, 1007)
INT8S: Final = _array_of(INT8, 1016)
BYTEAS: Final = _array_of(BYTEA, 1001)
UUIDS: Final = _array_of(UUID, 2951)

_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda data: data != b"\0",
    17: bytes,
    19: bytes.decode,
    20: lambda data: int.from_bytes(data, "big", signed=True),
    23: lambda data: int.from_bytes(data, "big", signed=True),
    25: bytes.decode,
    2950: bytes,
}

Row = tuple[Any, ...]

_Params = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A statement, and the types of its parameters. Rows come as ints, texts, bytes, bools and None."""

    sql: str
    takes: tuple[Type, ...] = ()


class Link:
    """A connection to the database, made when it is needed and again when it has broken."""

    def __init__(self, url: str, schema: str, clock: Clock) -> None:
        self._params: _Params = {**_DEFAULTS, **conninfo_to_dict(url)}
        self._reached: _Params | None = None
        self._schema = schema
        self._clock = clock
        self._turn = trio.Lock()
        self._connection: abc.PGconn | None = None
        self._prepared: dict[Statement, bytes] = {}

    async def run(self, statement: Statement, *values: Any, timeout_seconds: float = TIMEOUT_SECONDS) -> list[Row]:
        """The statement's rows. Raises Unreachable, OutcomeUnknown, StatementFailed."""
        async with self._turn:
            connection = self._connection or await self._connect()
            name = self._prepared.get(statement)
            if name is None:
                name = b"s%d" % len(self._prepared)
                sql, types = statement.sql.encode(), [kind.oid for kind in statement.takes]
                try:
                    await self._answered(
                        connection, partial(connection.send_prepare, name, sql, types), timeout_seconds
                    )
                except OutcomeUnknown as lost:
                    raise Unreachable(str(lost)) from lost  # nothing is done by preparing
                self._prepared[statement] = name
            encoded = [
                None if value is None else kind.encode(value)
                for kind, value in zip(statement.takes, values, strict=True)
            ]
            formats = [_BINARY] * len(encoded)
            return await self._answered(
                connection,
                lambda: connection.send_query_prepared(name, encoded, formats, result_format=_BINARY),
                timeout_seconds,
            )

    async def script(self, sql: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Have several statements carried out, which have no parameters, and of which nothing is to be read."""
        async with self._turn:
            connection = self._connection or await self._connect()
            await self._answered(connection, lambda: connection.send_query(sql.encode()), timeout_seconds)

    def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            connection.finish()

    async def _connect(self) -> abc.PGconn:
        """Connect to the first of the servers that will do, the one of last time before others.

        Each has its share of the time: libpq would wait for one that does not answer, whoever comes after it.
        """
        try:
            # It looks names up, and would hold the loop up meanwhile.
            attempts = await trio.to_thread.run_sync(conninfo_attempts, self._params)
        except psycopg.Error as unknown:
            raise Unreachable(str(unknown)) from unknown
        attempts.sort(key=lambda attempt: attempt != self._reached)
        problems = []
        for attempt in attempts:
            try:
                connection = await self._connect_to(attempt, CONNECT_SECONDS / len(attempts))
            except Unreachable as problem:
                problems.append(str(problem))
            else:
                self._reached = attempt
                return connection
        raise Unreachable("; ".join(problems))

    async def _connect_to(self, server: _Params, seconds: float) -> abc.PGconn:
        is_there = False
        with self._clock.until(self._clock.monotonic() + seconds):
            conninfo = make_conninfo(**server).encode()
            connection = await trio.to_thread.run_sync(pq.PGconn.connect_start, conninfo)
            self._connection = connection
            try:
                await _poll(connection)
                connection.nonblocking = 1
                await self._answered(connection, lambda: connection.send_query(self._setup().encode()), seconds)
            except (OutcomeUnknown, StatementFailed, psycopg.Error) as failure:
                raise Unreachable(str(failure)) from failure
            else:
                is_there = True
                return connection
            finally:
                if not is_there:
                    self.close()
        raise Unreachable("the database does not answer")

    def _setup(self) -> str:
        # An acknowledgement is a commit that is on disk, whatever the database's default is; and no lock outlives a
        # process that stands still.
        return (
            f'set search_path to "{self._schema}"; set statement_timeout to {int(TIMEOUT_SECONDS * 1000)};'
            f" set idle_in_transaction_session_timeout to {int(TIMEOUT_SECONDS * 1000)};"
            " do $$ begin if current_setting('synchronous_commit') in ('off', 'local')"
            " then set synchronous_commit to on; end if; end $$"
        )

    async def _answered(self, connection: abc.PGconn, send: Callable[[], None], timeout_seconds: float) -> list[Row]:
        """Send something, and wait for its answer."""
        failure: StatementFailed | None = None
        rows: list[Row] = []
        problem, answered = "the database does not answer", False
        try:
            with self._clock.until(self._clock.monotonic() + timeout_seconds):
                send()
                await _flush(connection)
                while (result := await _next_result(connection)) is not None:
                    if result.status == pq.ExecStatus.TUPLES_OK:
                        rows = _rows(result)
                    elif result.status == pq.ExecStatus.FATAL_ERROR:
                        failure = _failure(result)
                answered = connection.status == pq.ConnStatus.OK
        except psycopg.Error as broken:
            problem = str(broken)
        finally:
            if not answered:
                self.close()
        if not answered:
            raise OutcomeUnknown(str(failure or problem))
        if failure is not None:
            raise failure
        return rows


async def _poll(connection: abc.PGconn) -> None:
    """See a connection through."""
    status = pq.PollingStatus.WRITING
    while status != pq.PollingStatus.OK:
        if connection.status == pq.ConnStatus.BAD or status == pq.PollingStatus.FAILED:
            raise Unreachable(connection.get_error_message().strip() or "the database cannot be reached")
        if status == pq.PollingStatus.READING:
            await trio.lowlevel.wait_readable(connection.socket)
        else:
            await trio.lowlevel.wait_writable(connection.socket)
        status = pq.PollingStatus(connection.connect_poll())


async def _flush(connection: abc.PGconn) -> None:
    while connection.flush():
        # The server may have to be read before it takes more.
        async with trio.open_nursery() as nursery:
            for wait in (trio.lowlevel.wait_writable, trio.lowlevel.wait_readable):
                nursery.start_soon(_then_cancel, wait, connection.socket, nursery.cancel_scope)
        connection.consume_input()


async def _then_cancel(wait: Callable[[int], Awaitable[None]], socket: int, scope: trio.CancelScope) -> None:
    await wait(socket)
    scope.cancel()


async def _next_result(connection: abc.PGconn) -> abc.PGresult | None:
    while connection.is_busy():
        await trio.lowlevel.wait_readable(connection.socket)
        connection.consume_input()
    return connection.get_result()


def _rows(result: abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    decoders = [_DECODERS.get(result.ftype(column), bytes) for column in columns]
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else decoders[column](value) for column in columns
        )
        for row in range(result.ntuples)
    ]


def _failure(result: abc.PGresult) -> StatementFailed:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    return StatementFailed(result.get_error_message().strip(), state)
