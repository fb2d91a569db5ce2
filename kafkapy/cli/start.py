"""`kafkapy start`: merges the settings, runs the broker until it is told to stop."""

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path

import trio

from kafkapy.broker import open_broker
from kafkapy.cli import logs
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.properties import from_environment, parse_properties
from kafkapy.config.setting import ConfigError
from kafkapy.errors import KafkaError
from kafkapy.network.listening import CannotListen, PortTaken

_log = logging.getLogger("kafkapy")

_DATA_SETTINGS = ("log.dirs", "log.dir")
_FAILED = 1
_INTERRUPTED_TWICE = 130


class StartError(Exception):
    """The broker cannot start; the text says why and what to do."""


def start(options: argparse.Namespace) -> int:
    """Run a broker; the process's exit code."""
    logs.configure(options.log_format, options.log_level)
    try:
        config = _configuration(options)
        data_dir = None if options.memory else _data_dir(config)
    except (StartError, ConfigError) as problem:
        print(f"kafkapy: {problem}", file=sys.stderr)
        return _FAILED
    for warning in config.warnings:
        _log.warning("%s", warning)
    try:
        trio.run(_run, config, data_dir, options)
    except BaseExceptionGroup as group:
        return _explain(group)
    except Exception as problem:  # noqa: BLE001  the end of the process: say it in a line where it is known
        return _explain(BaseExceptionGroup("start", [problem]))
    return 0


async def _run(config: BrokerConfig, data_dir: Path | None, options: argparse.Namespace) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_broker(
            config,
            data_dir=data_dir,
            cluster_id=os.environ.get("CLUSTER_ID") or None,
            advertise_host=options.advertise,
        ) as broker:
            where = "in memory" if data_dir is None else f"in {data_dir}"
            _log.info("kafkapy is ready at %s, cluster %s, data %s", broker.bootstrap_servers, broker.cluster_id, where)
            if options.json_ready:
                ready = {
                    "bootstrap_servers": broker.bootstrap_servers,
                    "port": broker.port,
                    "cluster_id": broker.cluster_id,
                    "data_dir": None if data_dir is None else str(data_dir),
                    "pid": os.getpid(),
                }
                print(json.dumps(ready), flush=True)
            async for number in signals:
                _log.info("%s: stopping; a second one stops at once", signal.Signals(number).name)
                break
            signal.signal(signal.SIGINT, _stop_at_once)
            signal.signal(signal.SIGTERM, _stop_at_once)
    _log.info("stopped")


def _stop_at_once(number: int, frame: object) -> None:
    # Nothing is lost that was acknowledged: the next start recovers, as after a crash.
    os._exit(_INTERRUPTED_TWICE)


def _configuration(options: argparse.Namespace) -> BrokerConfig:
    flags: dict[str, str] = {}
    for entry in options.settings:
        name, separator, value = entry.partition("=")
        if not separator:
            raise StartError(f"-c takes KEY=VALUE, not {entry!r}")
        flags[name.strip()] = value.strip()
    if options.port is not None:
        if not 0 <= options.port <= 65535:
            raise StartError(f"--port {options.port} is not a port")
        flags["listeners"] = f"PLAINTEXT://127.0.0.1:{options.port}"
    file: dict[str, str] = {}
    if options.properties is not None:
        try:
            file = parse_properties(Path(options.properties).read_text(encoding="iso-8859-1"))  # as Java reads them
        except OSError as problem:
            raise StartError(f"cannot read {options.properties}: {problem}") from None
    environment = from_environment(os.environ)
    if options.data_dir is not None:
        flags["log.dirs"] = str(Path(options.data_dir).absolute())
    elif not options.memory and not {*file, *environment, *flags}.intersection(_DATA_SETTINGS):
        from kafkapy.cli.folders import default_data_dir  # rarely needed, and not free

        flags["log.dirs"] = str(default_data_dir())
    return BrokerConfig.load(file=file, environment=environment, flags=flags)


def _data_dir(config: BrokerConfig) -> Path:
    name = next(name for name in _DATA_SETTINGS if config.is_set(name))
    directories = config[name]
    if len(directories) != 1:
        raise StartError(f"{name} names {len(directories)} directories; kafkapy keeps its log in one")
    return Path(directories[0]).absolute()


def _explain(group: BaseExceptionGroup[BaseException]) -> int:
    """One line for what a user can mend, a traceback for what they cannot."""
    from kafkapy.storage.embedded.store import DirectoryInUse, DirectoryMismatch

    problem: BaseException = group
    while isinstance(problem, BaseExceptionGroup) and len(problem.exceptions) == 1:
        problem = problem.exceptions[0]
    if isinstance(problem, PortTaken):
        from kafkapy.cli.ports import holder_of

        holder = holder_of(problem.endpoint.port)
        by = f" by {holder}" if holder else ""
        print(
            f"kafkapy: port {problem.endpoint.port} is in use{by}; stop that, or choose another port "
            "(--port 0 takes a free one)",
            file=sys.stderr,
        )
    elif isinstance(problem, DirectoryInUse):
        print(f"kafkapy: {problem}; name another one with --data-dir", file=sys.stderr)
    elif isinstance(problem, DirectoryMismatch | ConfigError | CannotListen):
        print(f"kafkapy: {problem}", file=sys.stderr)
    elif isinstance(problem, OSError | KafkaError):
        print(f"kafkapy: cannot start: {problem}", file=sys.stderr)
    else:
        _log.critical("kafkapy ends because it cannot trust its own state", exc_info=problem)
    return _FAILED
