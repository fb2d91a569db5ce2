"""Metadata facts as records, in the format of Kafka's metadata log.

A fact is one of the generated metadata records. On disk it is the value of a record without a key: a frame version
(1), the record's API key and its version as unsigned varints, then the message.
"""

from collections.abc import Sequence
from typing import Final

from kafkapy.coordination.shard import Entry
from kafkapy.protocol.journal.cluster_metadata import (
    AccessControlEntryRecord,
    BrokerRegistrationChangeRecord,
    ClientQuotaRecord,
    ConfigRecord,
    DelegationTokenRecord,
    FeatureLevelRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveAccessControlEntryRecord,
    RemoveDelegationTokenRecord,
    RemoveTopicRecord,
    RemoveUserScramCredentialRecord,
    TopicRecord,
    UnregisterBrokerRecord,
    UserScramCredentialRecord,
)
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.records.batch import CorruptBatch

MetadataFact = (
    TopicRecord
    | PartitionRecord
    | PartitionChangeRecord
    | ConfigRecord
    | RemoveTopicRecord
    | FeatureLevelRecord
    | ProducerIdsRecord
    | ClientQuotaRecord
    | AccessControlEntryRecord
    | RemoveAccessControlEntryRecord
    | UserScramCredentialRecord
    | RemoveUserScramCredentialRecord
    | DelegationTokenRecord
    | RemoveDelegationTokenRecord
    | BrokerRegistrationChangeRecord
    | RegisterBrokerRecord
    | UnregisterBrokerRecord
)

_FRAME_VERSION: Final = 1
_WRITTEN_VERSIONS: Final[dict[type[MetadataFact], int]] = {
    TopicRecord: 0,
    PartitionRecord: 2,
    PartitionChangeRecord: 2,
    ConfigRecord: 0,
    RemoveTopicRecord: 0,
    FeatureLevelRecord: 0,
    ProducerIdsRecord: 0,
    ClientQuotaRecord: 0,
    AccessControlEntryRecord: 0,
    RemoveAccessControlEntryRecord: 0,
    UserScramCredentialRecord: 0,
    RemoveUserScramCredentialRecord: 0,
    DelegationTokenRecord: 0,
    RemoveDelegationTokenRecord: 0,
    RegisterBrokerRecord: 3,
    UnregisterBrokerRecord: 0,
    BrokerRegistrationChangeRecord: 0,
}
_BY_KEY: Final = {fact.API_KEY: fact for fact in _WRITTEN_VERSIONS}


class MetadataJournal:
    """Facts to records and back."""

    def encode(self, fact: MetadataFact) -> Sequence[Entry]:
        version = _WRITTEN_VERSIONS[type(fact)]
        out = bytearray((_FRAME_VERSION, fact.API_KEY, version))  # each below 128: one byte as a varint
        fact.encode(version, out)
        return [Entry(None, bytes(out))]

    def decode(self, entry: Entry) -> MetadataFact | None:
        value = entry.value
        if value is None or len(value) < 3 or value[0] != _FRAME_VERSION:
            raise CorruptBatch("a metadata record without a frame")
        fact_class = _BY_KEY.get(value[1])
        if fact_class is None:
            return None
        try:
            fact, _ = fact_class.decode(value[2], value, 3)
        except ProtocolError as error:
            raise CorruptBatch(f"a {fact_class.__name__} that does not parse: {error}") from None
        return fact
