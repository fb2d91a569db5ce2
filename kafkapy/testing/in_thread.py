"""What runs in a thread of this process, with an event loop of its own: how a test starts it, asks it and stops it."""

import atexit
import os
import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Final, Self, TypeVar

import trio

from kafkapy.testing.handle import BrokerHandle
from kafkapy.testing.operations import Operations

T = TypeVar("T")
R = TypeVar("R")

START_TIMEOUT_SECONDS: Final = 30.0
STOP_TIMEOUT_SECONDS: Final = 15.0
_CALL_TIMEOUT_SECONDS: Final = 30.0


class InThread(BrokerHandle):
    """A handle of what `_serve` runs, from `start` to `stop`, or for the length of a `with` block."""

    def __init__(self, port: int, what: str) -> None:
        """`what` it is, in words."""
        super().__init__("127.0.0.1", port)
        self._what = what
        self._thread: threading.Thread | None = None
        self._process_id = 0
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None

    @abstractmethod
    async def _serve(self) -> None:
        """Run it until told to stop; `_await_stop` says that it runs."""

    def _let_go(self) -> None:
        """Let nothing keep it from stopping; in the event loop."""

    def start(self, timeout: float = START_TIMEOUT_SECONDS) -> Self:
        """Start it, and return when it accepts connections; TimeoutError after so many seconds."""
        if self._thread is not None:
            raise RuntimeError(f"the {self._what} was started already")
        self._process_id, self._failure = os.getpid(), None
        # A daemon: an interpreter that ends waits for no other thread before it comes to what is registered below.
        self._thread = threading.Thread(target=self._run, name="kafkapy", daemon=True)
        atexit.register(self.stop)
        self._thread.start()
        if not self._ready.wait(timeout):
            self.stop()
            raise TimeoutError(f"the {self._what} did not start within {timeout:g} s")
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure
        return self

    def stop(self) -> None:
        """Stop it, and return when its data is safe and its port free. A second time it does nothing."""
        thread = self._thread
        if thread is None or self._process_id != os.getpid() or thread is threading.current_thread():
            return
        atexit.unregister(self.stop)
        if self._token is not None and self._stop is not None:
            try:
                self._token.run_sync_soon(self._begin_to_stop, self._stop)
            except trio.RunFinishedError:
                pass  # it has ended by itself, and said why
        thread.join(STOP_TIMEOUT_SECONDS)
        super().close()  # not sooner: another thread may be waiting for an answer
        self._thread = None
        self._ready.clear()

    @property
    def operations(self) -> Operations:
        if not self._process_id:
            raise RuntimeError(f"the {self._what} was not started: use it in a with block, or call start")
        self._refuse_after_fork()
        if self._thread is None:
            raise RuntimeError(f"the {self._what} has stopped")
        return self._operations

    async def _await_stop(self) -> None:
        """It runs: return when it is told to stop."""
        assert self._stop is not None
        self._ready.set()
        await self._stop.wait()

    def _begin_to_stop(self, stop: trio.Event) -> None:
        self._let_go()
        stop.set()

    def _await(self, work: Callable[[T], Awaitable[R]], argument: T) -> R:
        """Do this in the event loop. RuntimeError where it does not run."""
        return trio.from_thread.run(work, argument, trio_token=self._token)

    def _call_running(self, work: Callable[[], T]) -> T:
        """The same as `_call`, but RuntimeError where it does not run."""
        assert self.operations
        return self._call(work)

    def _call(self, work: Callable[[], T]) -> T:
        """Do this in the event loop, and return what it returns. At once where it does not run yet."""
        self._refuse_after_fork()
        if self._token is None or threading.current_thread() is self._thread:
            return work()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as problem:  # noqa: BLE001  the caller's, wherever it is
                done.set_exception(problem)

        try:
            self._token.run_sync_soon(run)
        except trio.RunFinishedError:
            return work()  # there is nobody left whom it could disturb
        return done.result(_CALL_TIMEOUT_SECONDS)

    def _refuse_after_fork(self) -> None:
        if self._process_id not in (0, os.getpid()):
            raise RuntimeError(
                f"this process was forked from the one that runs the {self._what}: clients can reach it by its "
                "address, but the object belongs to the other process"
            )

    def _run(self) -> None:
        try:
            trio.run(self._begin, strict_exception_groups=True)
        except BaseException as failure:  # noqa: BLE001  handed to whoever starts or stops it
            self._failure = _the_one_in(failure)
        finally:
            self._ready.set()

    async def _begin(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        await self._serve()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._failure is not None and error is None:
            raise self._failure


def _the_one_in(failure: BaseException) -> BaseException:
    """What a group of one was made of."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
