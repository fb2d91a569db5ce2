"""Kinds of metadata facts that have a module of their own: what the cluster's machine and state ask of each.

Pure. A kind has its commands, decides on them, adds its facts up, and shows what they come to in images. To add one,
write its module, give it a line in `KINDS` and a field in `Shown` (`image.py`), and its records a row in `journal.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final, Protocol

from kafkapy.cluster.acls import Acls
from kafkapy.cluster.client_quotas import ClientQuotas
from kafkapy.cluster.delegation_tokens import DelegationTokens
from kafkapy.cluster.features import Features
from kafkapy.cluster.registrations import Registrations
from kafkapy.cluster.scram_credentials import ScramCredentials
from kafkapy.coordination.shard import Moment


class Kind(Protocol):
    """What facts of one kind add up to, while it may still change."""

    facts: ClassVar[tuple[type[Any], ...]]
    """The records that are its facts."""

    commands: ClassVar[tuple[type[Any], ...]]
    """What it decides on."""

    @property
    def shown(self) -> Any:
        """What images show of it. It never changes: a fact that changes anything puts another in its place."""
        ...

    def decide(self, command: Any, moment: Moment) -> tuple[Sequence[Any], Any]:
        """The facts that come of a command, and its answer. Raises the `KafkaError` that refuses it."""
        ...

    def apply(self, fact: Any) -> None:
        """Take one fact."""
        ...

    def undo_of(self, fact: Any) -> Callable[[], None]:
        """What takes the fact back once it is applied, if all that is applied after it was taken back before."""
        ...

    @staticmethod
    def snapshot(shown: Any) -> Iterator[Any]:
        """Facts that bring back what an image shows."""
        ...


KINDS: Final[dict[str, type[Kind]]] = {
    "acls": Acls,
    "client_quotas": ClientQuotas,
    "features": Features,
    "delegation_tokens": DelegationTokens,
    "scram_credentials": ScramCredentials,
    "registrations": Registrations,
}
"""By the name of the field of `Shown` that shows it."""
