"""The cluster machine driven by hand: commands in, facts applied through the journal's bytes, answers out."""

from typing import Any

from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.machine import ClusterMachine
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shard import Entry, Moment

TICKET = 7


class Driver:
    """A machine whose facts are applied at once, at a time that the test sets."""

    def __init__(self) -> None:
        self.machine = self.fresh()
        self.log: list[Entry] = []
        self.undos: list[Any] = []
        self.now_ms = 1000

    @staticmethod
    def fresh() -> ClusterMachine:
        return ClusterMachine("cluster", BrokerConfig.load())

    def do(self, command: object) -> Any:
        decision = self.machine.decide(command, TICKET, Moment(self.now_ms))
        journal = MetadataJournal()
        for fact in decision.facts:
            self.log += journal.encode(fact)
            self.undos.append(self.machine.undo_of(fact))
            self.machine.apply(fact)
        [answer] = decision.answers
        assert answer.ticket == TICKET
        return answer.value

    def replayed(self) -> ClusterMachine:
        """Another machine, made of what is in the log."""
        machine, journal = self.fresh(), MetadataJournal()
        for entry in self.log:
            machine.apply(journal.decode(entry))
        return machine

    @property
    def shown(self) -> Any:
        """What the image has beside topics, kind by kind."""
        return self.machine.state.advance().new.kinds
