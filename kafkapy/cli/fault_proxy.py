"""`kafkapy fault-proxy`: stands before a Kafka until told to stop, and has requests go wrong as it is controlled."""

import argparse
import json
import logging
import os
import ssl
from typing import Any, Final

import trio

from kafkapy.cli import logs
from kafkapy.cli.failures import complain, explain
from kafkapy.cli.signals import watch_signals
from kafkapy.clock import SystemClock
from kafkapy.config.hosts import address_of, told_address
from kafkapy.config.setting import ConfigError
from kafkapy.testing.connection import Disconnected, TrioConnection
from kafkapy.testing.control import Control
from kafkapy.testing.fault_proxy import NO_DISK, find_kafka
from kafkapy.testing.operations import Operations
from kafkapy.testing.proxying import Proxy
from kafkapy.testing.routing import ClusterClient

_log = logging.getLogger("kafkapy")

_HOST: Final = "127.0.0.1"
_FAILED: Final = 1


def run(options: argparse.Namespace) -> int:
    """Stand before a Kafka; the process's exit code."""
    logs.configure(options.log_format, options.log_level)
    try:
        kafka = address_of(options.kafka)
        control_at = None if options.control is None else address_of(options.control)
        tls = None if options.tls is None else _tls(options.tls)
        find_kafka(*kafka, tls)
    except (ConfigError, Disconnected) as problem:
        complain(str(problem))
        return _FAILED
    try:
        trio.run(_serve, kafka, options.port, control_at, options.json_ready, tls)
    except (Exception, BaseExceptionGroup) as failure:  # noqa: BLE001  all that is left is to say why
        explain(failure, ready=False)
        return _FAILED
    _log.info("stopped")
    return 0


def _tls(trusted: str) -> ssl.SSLContext:
    """What trusts the certificates in a PEM file, or else those that the system does. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=trusted or None)
    except OSError as problem:
        raise ConfigError(f"--tls {trusted}: {problem}") from problem


async def _serve(
    kafka: tuple[str, int],
    port: int,
    control_at: tuple[str, int] | None,
    json_ready: bool,
    tls: ssl.SSLContext | None,
) -> None:
    told_to_stop = watch_signals()
    control = Control(None, no_disk=NO_DISK)
    proxy = Proxy(kafka, _HOST, control.faults, control.activity, SystemClock(), tls)
    async with trio.open_nursery() as nursery:
        bound: int = await nursery.start(proxy.run, port)
        ready: dict[str, Any] = {"bootstrap_servers": told_address(_HOST, bound), "port": bound, "pid": os.getpid()}
        if control_at is not None:
            host, _ = control_at
            operations = Operations(ClusterClient(TrioConnection, lambda: [(_HOST, bound)]))

            def about() -> dict[str, Any]:
                return {"bootstrap_servers": ready["bootstrap_servers"], "before": told_address(*kafka)}

            ready["control"] = told_address(host, await nursery.start(control.serve, operations, about, *control_at))
        _log.info("kafkapy stands before %s at %s", told_address(*kafka), ready["bootstrap_servers"])
        if json_ready:
            print(json.dumps(ready), flush=True)
        await told_to_stop.wait()
        nursery.cancel_scope.cancel()
