"""The cases: functions that drive one API at one version, run against both brokers alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from probe import Probe

from kafkapy.handlers import ALL
from kafkapy.protocol.messages import APIS, request_class


@dataclass
class Scene:
    """What a case works with: a probe, the version under test, and names that no other case uses."""

    probe: Probe
    version: int
    prefix: str

    def topic(self, suffix: str = "t") -> str:
        return f"{self.prefix}-{suffix}"

    def ask(self, request: Any, *, version: int | None = None, note: bool = True) -> dict[str, Any]:
        return self.probe.call(request, self.version if version is None else version, note=note)

    def another(self) -> "Scene":
        """The same scene from a second connection; its answers go into the same trace."""
        probe = Probe(self.probe.host, self.probe.port)
        probe.trace = self.probe.trace
        return Scene(probe, self.version, self.prefix)

    def make(self, api: str, /, **fields: Any) -> Any:
        return request_class(KEYS[api])(**fields)


Case = Callable[[Scene], None]
KEYS = {api.name: key for key, api in APIS.items()}
CASES: list[tuple[str, str, Sequence[int], Case]] = []


def case(
    api: str, about: str, *, first: int = 0, last: int = 99, versions: Sequence[int] = range(100)
) -> Callable[[Case], Case]:
    """Register a case for every version of the API that kafkapy serves, within `first` and `last`, of `versions`."""
    route = next(row for row in ALL if row.key == KEYS[api])

    def register(function: Case) -> Case:
        served = range(max(first, route.min_version), min(last, route.max_version) + 1)
        CASES.append((api, about, [version for version in versions if version in served], function))
        return function

    return register
