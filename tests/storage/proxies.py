"""A proxy before PostgreSQL that cuts connections, and loses or holds statements or their answers, as it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trio


class _Fate:
    """What becomes of the next answer on a connection."""

    def __init__(self) -> None:
        self.is_dropped = False
        self.until: trio.Event | None = None


class Proxy:
    """What stands between stores and their server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_cut = False
        self.refused = trio.Event()
        """Set when somebody came who was sent away."""
        self.lost_count = 0
        self.held = trio.Event()
        """Set when something is held."""
        self._scopes: set[trio.CancelScope] = set()
        self._lose: tuple[bytes, bool] | None = None
        self._hold: tuple[bytes, bool] | None = None
        self._let_go = trio.Event()

    def cut(self) -> None:
        """End all connections."""
        for scope in list(self._scopes):
            scope.cancel()

    def lose(self, marked: bytes, *, answer: bool) -> None:
        """Of the next statement with these bytes lose the answer, or all of it, and end its connection."""
        self._lose = (marked, answer)

    def hold(self, sql: str, *, answer: bool) -> None:
        """Hold the next statement of this text, or its answer: it arrives later, even if who sent it has gone."""
        self._hold = (sql.encode(), answer)
        self.held, self._let_go = trio.Event(), trio.Event()

    def let_go(self) -> None:
        """Let what is held pass, and hold nothing more."""
        self._hold = None
        self._let_go.set()

    async def serve(self, client: trio.SocketStream, server_path: str) -> None:
        """One connection, to its end."""
        if self.is_cut:
            self.refused.set()
            await client.aclose()
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                server = await trio.open_unix_socket(server_path)
                async with client, server, trio.open_nursery() as nursery:
                    fate = _Fate()
                    nursery.start_soon(self._answers, server, client, fate, nursery.cancel_scope)
                    await self._statements(client, server, fate)
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._scopes.discard(scope)

    async def _statements(self, client: trio.SocketStream, server: trio.SocketStream, fate: _Fate) -> None:
        prepared: dict[bytes, bytes] = {}
        async for data in client:
            if self._lose is not None and self._lose[0] in data:
                is_answer = self._lose[1]
                self._lose = None
                self.lost_count += 1
                fate.is_dropped = True
                if is_answer:
                    await server.send_all(data)
                    await trio.sleep_forever()  # until the answer, which ends this
                return
            first, _, rest = data[5:].partition(b"\0")
            second, _, _ = rest.partition(b"\0")
            if data[:1] == b"P":  # Parse: a name, and the text
                prepared[first] = second
            elif data[:1] == b"B" and self._hold is not None and self._hold[0] in prepared.get(second, b""):
                is_answer = self._hold[1]
                self._hold = None
                if is_answer:
                    fate.until = self._let_go
                else:
                    self.held.set()
                    await self._let_go.wait()
            await server.send_all(data)

    async def _answers(
        self, server: trio.SocketStream, client: trio.SocketStream, fate: _Fate, scope: trio.CancelScope
    ) -> None:
        async for data in server:
            if fate.is_dropped:
                break
            if fate.until is not None:
                self.held.set()
                await fate.until.wait()
                fate.until = None
            await client.send_all(data)
        scope.cancel()


@asynccontextmanager
async def proxied(url: str, directory: Path) -> AsyncIterator[Proxy]:
    """A proxy before the server that this URL names by its socket's directory."""
    parts = urlsplit(url)
    [host] = parse_qs(parts.query)["host"]
    server_path = f"{host}/.s.PGSQL.{parts.port or 5432}"
    path = directory / ".s.PGSQL.5432"
    proxy = Proxy(f"postgresql://postgres@/postgres?host={directory}")
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(path))
        listening.listen(50)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.serve_listeners,
                lambda client: proxy.serve(client, server_path),
                [trio.SocketListener(listening)],
            )
            yield proxy
            nursery.cancel_scope.cancel()
