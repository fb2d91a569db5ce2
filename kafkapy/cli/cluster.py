"""`kafkapy cluster N`: so many brokers on this machine, each a process, over one PostgreSQL, which may be embedded.

Each is a `kafkapy start` with the settings that are given here, its own node id, and listeners beyond those of the one
before (`config/several.py`). What they log comes with their node id before it. When all are ready their addresses are
printed as one line. The first signal stops all; a broker that does not start ends all, with its own words, and one that
dies later is told of, and with --restart started anew, where it was. They end with this process, however that ends.
"""

import argparse
import json
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import trio

from kafkapy.cli import logs
from kafkapy.cli.embedded_database import embedded_database
from kafkapy.cli.failures import StartError, complain
from kafkapy.cli.start import configuration
from kafkapy.clock import SystemClock
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.config.several import config_of, with_ports

_log = logging.getLogger("kafkapy")

_FAILED: Final = 1
_RESTART_SECONDS: Final = 1.0
_OWN: Final = ("node.id", "listeners", "advertised.listeners", "broker.rack", "kafkapy.metrics.port")
"""What is said to each broker by itself."""


def cluster(options: argparse.Namespace) -> int:
    """Run a cluster; the process's exit code."""
    logs.configure(options.log_format, options.log_level)
    try:
        # Where they keep their data is not theirs to say.
        common = configuration(argparse.Namespace(**{**vars(options), "data_dir": None, "memory": True}))
        if options.database is not None:
            return _run(options, common, options.database)
        with embedded_database(options.data_dir) as database:
            return _run(options, common, database)
    except (StartError, ConfigError) as problem:
        complain(str(problem))
        return _FAILED


def _run(options: argparse.Namespace, common: BrokerConfig, database: str) -> int:
    racks = [rack for rack in options.racks.split(",") if rack]
    brokers = [
        _Broker(options, config_of(common, number, racks[number % len(racks)] if racks else None), database)
        for number in range(options.brokers)
    ]
    return trio.run(_Cluster(options, brokers, database).serve)


class _Broker:
    """One of them: how it is started, and its process while it runs."""

    def __init__(self, options: argparse.Namespace, config: BrokerConfig, database: str) -> None:
        self.node_id: int = config["node.id"]
        self.ready: dict[str, Any] | None = None
        """What it has said of itself, once it was ready."""
        self.process: trio.Process | None = None
        self._told: int | None = None
        self._options = options
        self._config = config
        self._database = database

    async def run(self, is_ready: Callable[[], None]) -> int:
        """Run it to its end; its exit code. `is_ready` is called when it is."""
        self.process = process = await trio.lowlevel.open_process(
            self._command(),
            stdin=subprocess.PIPE,  # which ends with this process, however that ends
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # a terminal's interrupt is for us alone: we tell them, once
        )
        if self._told is not None:  # before there was anybody to hear it
            process.send_signal(self._told)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, process)
            assert process.stdout is not None
            told = b""
            async for chunk in process.stdout:
                told += chunk
                if told.endswith(b"\n"):
                    self._take(json.loads(told))
                    is_ready()
                    told = b""
            await process.wait()
        self.process = None
        assert process.returncode is not None
        return process.returncode

    def tell(self, number: int) -> None:
        """Send it a signal: now, or once it runs."""
        self._told = number
        if self.process is not None:
            self.process.send_signal(number)

    def _take(self, ready: dict[str, Any]) -> None:
        self.ready = ready
        # Should it come again, it is to come to where it was.
        ports = {name: int(at.rpartition(":")[2]) for name, at in ready["listeners"].items()}
        self._config = with_ports(self._config, ports)

    async def _pass_on(self, process: trio.Process) -> None:
        """Log what it logs."""
        assert process.stderr is not None
        prefix, rest = f"[{self.node_id}] ".encode(), b""
        async for chunk in process.stderr:
            *lines, rest = (rest + chunk).split(b"\n")
            sys.stderr.buffer.write(b"".join(prefix + line + b"\n" for line in lines))
            sys.stderr.buffer.flush()
        if rest:
            sys.stderr.buffer.write(prefix + rest + b"\n")

    def _command(self) -> list[str]:
        options = self._options
        file = [] if options.properties is None else [options.properties]
        given = [part for setting in options.settings for part in ("-c", setting)]
        own = [
            part
            for name in _OWN
            if (value := self._config.static.get(name)) is not None
            for part in ("-c", f"{name}={value}")
        ]
        told = ["--json-ready", "--log-format", options.log_format, "--log-level", options.log_level]
        database = ["--database", self._database, "--end-with-stdin"]
        return [sys.executable, "-m", "kafkapy", "start", *file, *given, *own, *database, *told]


class _Cluster:
    """All of them."""

    def __init__(self, options: argparse.Namespace, brokers: Sequence[_Broker], database: str) -> None:
        self._options = options
        self._brokers = brokers
        self._database = database
        self._clock = SystemClock()
        self._stopping = trio.Event()
        self._is_ready = False
        self._code = 0

    async def serve(self) -> int:
        """Run them; the process's exit code."""
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, signals)
                    async with trio.open_nursery() as lives:
                        for broker in self._brokers:
                            lives.start_soon(self._live, broker)
                    nursery.cancel_scope.cancel()
        finally:
            for broker in self._brokers:
                broker.tell(signal.SIGKILL)
        return self._code

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """Stop all at the first signal; at the second, which they are told as well, they end at once."""
        async for number in signals:
            _log.info("%s: stopping", signal.Signals(number).name)
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for broker in self._brokers:
            broker.tell(signal.SIGTERM)

    async def _live(self, broker: _Broker) -> None:
        while True:
            code = await broker.run(self._look)
            if self._stopping.is_set():
                self._code = self._code or max(code, 0)
                return None
            if broker.ready is None:
                complain(f"broker {broker.node_id} did not start")
                return self._fail()
            _log.error("broker %d has ended (%s)", broker.node_id, _told(code))
            if not self._options.restart:
                return None if any(other.process is not None for other in self._brokers) else self._fail()
            with self._clock.until(self._clock.monotonic() + _RESTART_SECONDS):
                await self._stopping.wait()
                return None

    def _fail(self) -> None:
        self._code = _FAILED
        self._stop()

    def _look(self) -> None:
        """Say that all are ready, once they are."""
        if self._is_ready or any(broker.ready is None for broker in self._brokers):
            return
        self._is_ready = True
        told = [broker.ready for broker in self._brokers if broker.ready is not None]
        addresses = ",".join(one["bootstrap_servers"] for one in told)
        if self._options.json_ready:
            brokers = {str(broker.node_id): broker.ready for broker in self._brokers}
            ready = {"bootstrap_servers": addresses, "database": self._database, "brokers": brokers}
            print(json.dumps(ready), flush=True)
        else:
            print(addresses, flush=True)


def _told(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
