"""`kafkapy start`: merges the settings, runs the broker until it is told to stop."""

import argparse
import gc
import json
import logging
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from kafkapy.broker import Broker, open_broker
from kafkapy.cli import logs
from kafkapy.cli.failures import StartError, complain, explain
from kafkapy.cli.signals import watch_signals
from kafkapy.config.broker import BROKER
from kafkapy.config.hosts import address_of, is_host, is_loopback, told_address
from kafkapy.config.layers import DEVELOPMENT_PROFILE, BrokerConfig
from kafkapy.config.properties import from_environment, parse_properties
from kafkapy.config.setting import ConfigError
from kafkapy.errors import KafkaError
from kafkapy.handlers.registry import Registry
from kafkapy.network.connection import Dispatch

if TYPE_CHECKING:
    from kafkapy.testing.broker_control import BrokerControl
    from kafkapy.testing.releases import Release

_log = logging.getLogger("kafkapy")

_DATA_SETTINGS: Final = ("log.dirs", "log.dir")
_FAILED: Final = 1
_ANY_NUMBER: Final = 1 << 15
"""Of brokers: how many processes there are is another one's to know."""


_LOADED_OBJECTS: Final = 100_000
"""While a broker starts, so many new objects at a time are looked through for garbage: what is loaded stays, and with
many logs a fifth of the start was looking through them over and over."""


def start(options: argparse.Namespace) -> int:
    """Run a broker; the process's exit code."""
    logs.configure(options.log_format, options.log_level)
    try:
        config = configuration(options)
        data_dirs = _data_dirs(config) if _has_directory(options) else []
        control_at = None if options.control is None else address_of(options.control)
        if options.as_version is not None and options.database is not None:
            raise StartError("--as-version is for clients; brokers over one --database ask each other as they are")
        release = None if options.as_version is None else _release(options.as_version)
    except (StartError, ConfigError) as problem:
        complain(str(problem))
        return _FAILED
    for warning in config.warnings:
        _log.warning("%s", warning)
    _allow_many_descriptors()
    return _Process(config, data_dirs, options, control_at, release).run()


class _Process:
    """One broker, from the first setting to the last line of its log."""

    def __init__(
        self,
        config: BrokerConfig,
        data_dirs: Sequence[Path],
        options: argparse.Namespace,
        control_at: tuple[str, int] | None,
        release: "Release | None",
    ) -> None:
        self._config = config
        self._data_dir = data_dirs[0] if data_dirs else None
        self._other_dirs = data_dirs[1:]
        self._options = options
        self._control_at = control_at
        self._release = release
        self._ready = False

    def run(self) -> int:
        try:
            trio.run(self._serve)
        except (Exception, BaseExceptionGroup) as failure:  # noqa: BLE001  all that is left is to say why
            explain(failure, ready=self._ready)
            return _FAILED
        _log.info("stopped")
        return 0

    async def _serve(self) -> None:
        told_to_stop = watch_signals()
        thresholds = gc.get_threshold()
        gc.set_threshold(_LOADED_OBJECTS)
        control = self._control()
        async with (
            open_broker(
                self._config,
                data_dir=self._data_dir,
                other_dirs=self._other_dirs,
                database=self._options.database,
                cluster_id=_cluster_id(),
                advertise_host=self._options.advertise,
                brokers=self._options.brokers,
                shares=self._options.database is not None and self._options.brokers == 1,
                racks=[rack for rack in self._options.racks.split(",") if rack],
                clock=None if control is None else control.clock,
                disk=None if control is None else control.disk,
                dispatch_of=self._dispatch_of if control is None else control.dispatch_of,
            ) as broker,
            trio.open_nursery() as aside,
        ):
            if self._options.seed is not None:
                await _seed(broker, self._options.seed)
            if control is not None and self._control_at is not None:
                host, _ = self._control_at
                self._control_at = (host, await aside.start(control.serve_broker, broker, *self._control_at))
            self._ready = True
            # Modules, settings and recovered logs stay: the collector need not look at them over and over.
            gc.freeze()
            gc.set_threshold(*thresholds)
            self._announce(broker)
            if self._options.end_with_stdin:
                aside.start_soon(_end_with_stdin, told_to_stop)
            await told_to_stop.wait()
            aside.cancel_scope.cancel()

    def _control(self) -> "BrokerControl | None":
        """What a test has the broker do, and fail to do, where it is asked for."""
        if self._control_at is None:
            return None
        from kafkapy.testing.broker_control import BrokerControl  # a broker that is not controlled does without

        if not is_loopback(self._control_at[0]):
            _log.warning("--control: whoever reaches %s:%d may empty this broker, and have it fail", *self._control_at)
        return BrokerControl(has_disk=self._data_dir is not None, release=self._release)

    def _dispatch_of(self, registry: Registry) -> Dispatch:
        if self._release is None:
            return registry.dispatch
        from kafkapy.testing.as_version import answering_of

        return answering_of(registry, self._release).dispatch

    def _announce(self, broker: Broker) -> None:
        if self._options.database is not None:
            where = f"in {broker.rooms.logs.log_dirs()[0].path}"
        elif self._data_dir is None:
            where = "in memory"
        else:
            where = f"in {', '.join(map(str, [self._data_dir, *self._other_dirs]))}"
        at = broker.bootstrap_servers
        if len(broker.listeners) > 1:
            at = ", ".join(f"{address} ({listener})" for listener, address in broker.listeners.items())
        _log.info("kafkapy is ready at %s, cluster %s, data %s", at, broker.cluster_id, where)
        if self._options.json_ready:
            ready: dict[str, Any] = {
                "bootstrap_servers": broker.bootstrap_servers,
                "port": broker.port,
                "listeners": broker.listeners,
                "brokers": {str(node_id): node.listeners for node_id, node in broker.fleet.nodes.items()},
                "cluster_id": broker.cluster_id,
                "data_dir": None if self._data_dir is None else str(self._data_dir),
                "pid": os.getpid(),
            }
            if self._control_at is not None:
                ready["control"] = told_address(*self._control_at)
            print(json.dumps(ready), flush=True)


async def _end_with_stdin(told_to_stop: trio.Event) -> None:
    """Stop once whoever started this process has ended, in whichever way."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for _ in stdin:
            pass
    _log.info("standard input has ended: stopping")
    told_to_stop.set()


def _release(version: str) -> "Release | None":
    from kafkapy.testing.as_version import release_of  # most brokers are what they are

    return release_of(version)


def _allow_many_descriptors() -> None:
    """Take as many descriptors as the system gives without being asked, as a JVM does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as refused:  # macOS: "unlimited" is more than it allows
            _log.debug("left the limit of open files at %d: %s", soft, refused)


def configuration(options: argparse.Namespace) -> BrokerConfig:
    """The settings, from all places where they may be. Raises StartError, ConfigError."""
    flags = _flags(options)
    environment = from_environment(os.environ)
    file = _file(options.properties) if options.properties is not None else {}
    if options.data_dir is not None:
        flags["log.dirs"] = str(Path(options.data_dir).absolute())
    elif _has_directory(options) and not {*file, *environment, *flags}.intersection(_DATA_SETTINGS):
        from kafkapy.cli.folders import default_data_dir  # rarely needed, and not free

        flags["log.dirs"] = str(default_data_dir())
    if options.brokers < 1:
        raise StartError(f"--brokers {options.brokers} is less than one")
    profile = DEVELOPMENT_PROFILE
    if options.control is not None:
        from kafkapy.testing.settings import WHOLE_FETCHES

        profile = {**profile, **WHOLE_FETCHES}
    brokers = options.brokers
    if options.database is not None and brokers == 1:
        profile = {name: value for name, value in profile.items() if name != "node.id"}  # which the database gives out
        brokers = _ANY_NUMBER
    return BrokerConfig.load(file=file, environment=environment, flags=flags, profile=profile, brokers=brokers)


def _has_directory(options: argparse.Namespace) -> bool:
    """Whether the data lies in directories."""
    return not options.memory and options.database is None


def _flags(options: argparse.Namespace) -> dict[str, str]:
    flags: dict[str, str] = {}
    for entry in options.settings:
        name, separator, value = entry.partition("=")
        if not separator or not name.strip():
            raise StartError(f"-c takes KEY=VALUE, not {entry!r}")
        flags[name.strip()] = value.strip()
    if options.port is not None:
        if not 0 <= options.port <= 65535:
            raise StartError(f"--port {options.port} is not a port")
        if "listeners" in flags:
            raise StartError("--port and -c listeners=… exclude each other")
        flags["listeners"] = f"PLAINTEXT://127.0.0.1:{options.port}"
    if options.metrics_port is not None:
        flags["kafkapy.metrics.port"] = str(options.metrics_port)
    if options.database is not None and not options.database.startswith(("postgresql://", "postgres://")):
        raise StartError(f"--database: {options.database!r} is no URL of a PostgreSQL: postgresql://user@host/name")
    if options.advertise is not None and not is_host(options.advertise):
        raise StartError(f"--advertise takes a host's name or address, not {options.advertise!r}")
    return flags


def _file(path: str) -> dict[str, str]:
    try:
        settings = parse_properties(Path(path).read_text(encoding="iso-8859-1"))  # as Java reads them
    except OSError as problem:
        raise StartError(f"cannot read {path}: {problem.strerror}") from None
    if settings and not any(name in BROKER for name in settings):
        raise StartError(f"{path} is no server.properties: it holds no setting of a broker")
    return settings


def _cluster_id() -> str | None:
    """What the environment calls the cluster, by the names that the container images read."""
    return os.environ.get("CLUSTER_ID") or os.environ.get("KAFKA_KRAFT_CLUSTER_ID") or None


def _data_dirs(config: BrokerConfig) -> list[Path]:
    name = next(name for name in _DATA_SETTINGS if config.is_set(name))
    return [Path(directory).absolute() for directory in config[name]]


async def _seed(broker: Broker, path: str) -> None:
    """Write what the file says. Raises StartError."""
    from kafkapy.testing.entries import BadEntry  # rarely asked for
    from kafkapy.testing.in_trio import TrioBroker

    operations = TrioBroker(broker)
    try:
        await operations.seed(path)
    except (OSError, BadEntry, KafkaError) as problem:
        raise StartError(f"--seed {path}: {problem}") from None
    finally:
        await operations.close()
