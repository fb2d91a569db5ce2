"""A catalogue that tests write by hand, and the store's following it."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from kafkapy.model import LogId
from kafkapy.storage.base import Logs, LogSettings


class HandCatalogue:
    """Logs that were created and deleted by hand."""

    def __init__(self) -> None:
        self.known: dict[LogId, LogSettings] = {}
        self.gone: set[LogId] = set()
        self.origins: dict[LogId, int] = {}
        self.version = 0

    def settings(self, log: LogId) -> LogSettings | None:
        return self.known.get(log)

    def epoch_origin(self, log: LogId) -> int:
        return self.origins.get(log, 0)

    def is_gone(self, log: LogId) -> bool:
        return log in self.gone

    def logs(self) -> Iterable[LogId]:
        return list(self.known)


_CATALOGUES: "WeakKeyDictionary[Logs, HandCatalogue]" = WeakKeyDictionary()


def catalogue_of(logs: Logs) -> HandCatalogue:
    """The catalogue that this store follows; the first call has it adopted."""
    catalogue = _CATALOGUES.get(logs)
    if catalogue is None:
        catalogue = _CATALOGUES[logs] = HandCatalogue()
        logs.adopt(catalogue)
    return catalogue


async def create(logs: Logs, log: LogId, settings: LogSettings | None = None, epoch_origin: int = 0) -> None:
    """There is such a log, or it has these settings from now on."""
    catalogue = catalogue_of(logs)
    catalogue.origins[log] = epoch_origin
    catalogue.known[log] = settings or LogSettings()
    catalogue.version += 1
    await logs.catalogue_changed([log])


async def delete(logs: Logs, *doomed: LogId) -> None:
    """There are no such logs any longer."""
    catalogue = catalogue_of(logs)
    for log in doomed:
        catalogue.known.pop(log, None)
        catalogue.gone.add(log)
    catalogue.version += 1
    await logs.catalogue_changed(doomed)
