"""The broker's loggers, as resources that have a level for each (KIP-412): Python's loggers of kafkapy, and the root.

A level that is set lasts as long as the process. Called by the handlers of settings.
"""

import logging
from collections.abc import Sequence
from typing import Final

from kafkapy.config.altering import Alteration, Op
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error, KafkaError

_ROOT: Final = "root"

_TRACE: Final = 5
logging.addLevelName(_TRACE, "TRACE")

_LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "INFO": logging.INFO,
    "TRACE": _TRACE,
    "WARN": logging.WARNING,
}
_NAMES: Final = {"WARNING": "WARN", "CRITICAL": "FATAL", "NOTSET": "TRACE"}

_log = logging.getLogger(__name__)


def levels() -> list[tuple[str, str]]:
    """Each logger, and the level at which it speaks."""
    return [(name, _level(logging.getLogger(name))) for name in _names()]


def alter_levels(alterations: Sequence[Alteration], *, validate_only: bool) -> None:
    """Set or unset the levels, all or none. Raises KafkaError INVALID_CONFIG, INVALID_REQUEST."""
    names = set(_names())
    for name, op, level in alterations:
        if op not in (Op.SET, Op.DELETE):
            raise KafkaError(
                Error.INVALID_REQUEST, f"{op.name} operation is not allowed for the BROKER_LOGGER resource"
            )
        if name not in names:
            raise ConfigError(f"Logger {name} does not exist!")
        if op is Op.SET and level not in _LEVELS:
            raise ConfigError(
                f"Cannot set the log level of {name} to {level} as it is not a supported log level. "
                f"Valid log levels are {', '.join(_LEVELS)}"
            )
        if op is Op.DELETE and name == _ROOT:
            raise KafkaError(Error.INVALID_REQUEST, f"Removing the log level of the {_ROOT} logger is not allowed")
    if validate_only:
        return
    for name, op, level in alterations:
        logging.getLogger(name).setLevel(_LEVELS[level] if op is Op.SET and level else logging.NOTSET)
        _log.warning("%s the log level of %s", f"set to {level}" if op is Op.SET else "unset", name)


def _names() -> list[str]:
    return [_ROOT, *sorted(name for name in logging.root.manager.loggerDict if name.startswith("kafkapy"))]


def _level(logger: logging.Logger) -> str:
    name = logging.getLevelName(logger.getEffectiveLevel())
    return _NAMES.get(name, name)
