"""Every error of the Kafka protocol, and the exceptions that carry them.

One row an error: its code on the wire, whether a client may try again, and what it means.
Raise `KafkaError` where the error is known; the handler or the connection answers it in one place.
Source: the protocol error table of Apache Kafka 4.3.1.
"""

from enum import IntEnum


class Error(IntEnum):
    """A Kafka error: the value is the code on the wire."""

    retriable: bool
    text: str

    def __new__(cls, code: int, retriable: bool, text: str) -> "Error":
        row = int.__new__(cls, code)
        row._value_ = code
        row.retriable = retriable
        row.text = text
        return row

    @classmethod
    def of(cls, code: int) -> "Error":
        """The error with this code on the wire. Raises ValueError when Kafka has no such."""
        return cls(code)  # type: ignore[call-arg]  # how an enum is asked by value

    UNKNOWN_SERVER_ERROR = -1, False, "the broker failed in a way it did not expect while handling the request"
    NONE = 0, False, "no error"
    OFFSET_OUT_OF_RANGE = 1, False, "the offset lies outside the range that this partition holds"
    CORRUPT_MESSAGE = 2, True, "a batch failed its CRC, has an impossible size, or is damaged otherwise"
    UNKNOWN_TOPIC_OR_PARTITION = 3, True, "this broker has no such topic or partition"
    INVALID_FETCH_SIZE = 4, False, "the fetch size is not valid"
    LEADER_NOT_AVAILABLE = 5, True, "the partition has no leader at the moment"
    NOT_LEADER_OR_FOLLOWER = 6, True, "this broker is not the leader, or not a replica, of the partition"
    REQUEST_TIMED_OUT = 7, True, "the request ran out of its time"
    BROKER_NOT_AVAILABLE = 8, False, "the broker is not available"
    REPLICA_NOT_AVAILABLE = 9, True, "the replica is not available"
    MESSAGE_TOO_LARGE = 10, False, "a batch is larger than max.message.bytes allows"
    STALE_CONTROLLER_EPOCH = 11, False, "the controller has moved to another broker"
    OFFSET_METADATA_TOO_LARGE = (
        12,
        False,
        "the metadata beside the committed offset is larger than offset.metadata.max.bytes",
    )
    NETWORK_EXCEPTION = 13, True, "the connection went away before an answer came"
    COORDINATOR_LOAD_IN_PROGRESS = 14, True, "the coordinator is still loading"
    COORDINATOR_NOT_AVAILABLE = 15, True, "the coordinator is not available"
    NOT_COORDINATOR = 16, True, "this broker does not coordinate that group or transactional id"
    INVALID_TOPIC_EXCEPTION = 17, False, "the topic name is not valid, or the operation may not touch that topic"
    RECORD_LIST_TOO_LARGE = 18, False, "a batch is larger than segment.bytes"
    NOT_ENOUGH_REPLICAS = 19, True, "fewer replicas are in sync than min.insync.replicas asks for"
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, True, "the records are written, but to fewer in-sync replicas than required"
    INVALID_REQUIRED_ACKS = 21, False, "acks must be 0, 1 or -1"
    ILLEGAL_GENERATION = 22, False, "the generation id is not the group's current one"
    INCONSISTENT_GROUP_PROTOCOL = 23, False, "the member shares no protocol with the group, or named none"
    INVALID_GROUP_ID = 24, False, "the group id is not valid"
    UNKNOWN_MEMBER_ID = 25, False, "the group has no member with that id"
    INVALID_SESSION_TIMEOUT = (
        26,
        False,
        "the session timeout lies outside group.min.session.timeout.ms and group.max.session.timeout.ms",
    )
    REBALANCE_IN_PROGRESS = 27, False, "the group is rebalancing; join again"
    INVALID_COMMIT_OFFSET_SIZE = 28, False, "the offset commit is too large"
    TOPIC_AUTHORIZATION_FAILED = 29, False, "not authorized for the topic"
    GROUP_AUTHORIZATION_FAILED = 30, False, "not authorized for the group"
    CLUSTER_AUTHORIZATION_FAILED = 31, False, "not authorized for the cluster"
    INVALID_TIMESTAMP = 32, False, "a record's timestamp lies outside what the topic accepts"
    UNSUPPORTED_SASL_MECHANISM = 33, False, "the SASL mechanism is not enabled here"
    ILLEGAL_SASL_STATE = 34, False, "the request does not fit the connection's SASL state"
    UNSUPPORTED_VERSION = 35, False, "this version of the API is not supported"
    TOPIC_ALREADY_EXISTS = 36, False, "a topic with this name exists already"
    INVALID_PARTITIONS = 37, False, "the partition count must be at least 1"
    INVALID_REPLICATION_FACTOR = (
        38,
        False,
        "the replication factor must be at least 1 and at most the number of brokers",
    )
    INVALID_REPLICA_ASSIGNMENT = 39, False, "the replica assignment is not valid"
    INVALID_CONFIG = 40, False, "a setting is unknown or its value not valid"
    NOT_CONTROLLER = 41, True, "this broker is not the controller"
    INVALID_REQUEST = 42, False, "the request contradicts itself or lacks something it needs"
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, False, "the partition's message format does not support this request"
    POLICY_VIOLATION = 44, False, "the request violates a configured policy"
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, False, "the producer's sequence number does not follow the last one"
    DUPLICATE_SEQUENCE_NUMBER = 46, False, "the producer's sequence number was used before"
    INVALID_PRODUCER_EPOCH = 47, False, "a newer epoch of this producer exists"
    INVALID_TXN_STATE = 48, False, "the transaction's state does not allow this operation"
    INVALID_PRODUCER_ID_MAPPING = 49, False, "the producer id does not belong to the transactional id"
    INVALID_TRANSACTION_TIMEOUT = 50, False, "the transaction timeout is larger than transaction.max.timeout.ms"
    CONCURRENT_TRANSACTIONS = 51, True, "another operation on the same transaction is still under way"
    TRANSACTION_COORDINATOR_FENCED = 52, False, "the sender no longer coordinates this transaction"
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, False, "not authorized for the transactional id"
    SECURITY_DISABLED = 54, False, "security features are switched off"
    OPERATION_NOT_ATTEMPTED = 55, False, "the operation was not tried because another one of the request failed"
    KAFKA_STORAGE_ERROR = 56, True, "the disk failed under the partition's log"
    LOG_DIR_NOT_FOUND = 57, False, "the log directory is not one of the broker's"
    SASL_AUTHENTICATION_FAILED = 58, False, "SASL authentication failed"
    UNKNOWN_PRODUCER_ID = 59, False, "the partition knows nothing of this producer id"
    REASSIGNMENT_IN_PROGRESS = 60, False, "a reassignment of the partition is under way"
    DELEGATION_TOKEN_AUTH_DISABLED = 61, False, "delegation tokens are switched off"
    DELEGATION_TOKEN_NOT_FOUND = 62, False, "no such delegation token"
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, False, "the principal is neither owner nor renewer of the token"
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, False, "delegation tokens cannot be asked for on this connection"
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, False, "not authorized for the delegation token"
    DELEGATION_TOKEN_EXPIRED = 66, False, "the delegation token has expired"
    INVALID_PRINCIPAL_TYPE = 67, False, "the principal type is not supported"
    NON_EMPTY_GROUP = 68, False, "the group still has members"
    GROUP_ID_NOT_FOUND = 69, False, "no such group"
    FETCH_SESSION_ID_NOT_FOUND = 70, True, "no such fetch session"
    INVALID_FETCH_SESSION_EPOCH = 71, True, "the fetch session's epoch is not the expected one"
    LISTENER_NOT_FOUND = 72, True, "the leader has no listener of the name this request came in on"
    TOPIC_DELETION_DISABLED = 73, False, "topic deletion is switched off"
    FENCED_LEADER_EPOCH = 74, True, "the leader epoch in the request is older than the broker's"
    UNKNOWN_LEADER_EPOCH = 75, True, "the leader epoch in the request is newer than the broker's"
    UNSUPPORTED_COMPRESSION_TYPE = 76, False, "the client's version of the API cannot carry the compression type in use"
    STALE_BROKER_EPOCH = 77, False, "the broker's epoch has changed"
    OFFSET_NOT_AVAILABLE = 78, True, "the high watermark has not caught up since the last election"
    MEMBER_ID_REQUIRED = 79, False, "join again with the member id in this answer"
    PREFERRED_LEADER_NOT_AVAILABLE = 80, True, "the preferred leader is not available"
    GROUP_MAX_SIZE_REACHED = 81, False, "the group has group.max.size members already"
    FENCED_INSTANCE_ID = 82, False, "another member has taken over this group.instance.id"
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, True, "no replica is eligible to lead the partition"
    ELECTION_NOT_NEEDED = 84, True, "the partition needs no election"
    NO_REASSIGNMENT_IN_PROGRESS = 85, False, "no reassignment of the partition is under way"
    GROUP_SUBSCRIBED_TO_TOPIC = 86, False, "the group is subscribed to the topic, so its offsets stay"
    INVALID_RECORD = 87, False, "a record failed the broker's validation"
    UNSTABLE_OFFSET_COMMIT = 88, True, "a transaction holds offsets of this partition that are not decided yet"
    THROTTLING_QUOTA_EXCEEDED = 89, True, "the quota is used up for now"
    PRODUCER_FENCED = 90, False, "a newer producer with the same transactional id has taken over"
    RESOURCE_NOT_FOUND = 91, False, "the request names a resource that does not exist"
    DUPLICATE_RESOURCE = 92, False, "the request names a resource twice"
    UNACCEPTABLE_CREDENTIAL = 93, False, "the credential does not meet the requirements"
    INCONSISTENT_VOTER_SET = 94, False, "the sender or the receiver is not one of the expected voters"
    INVALID_UPDATE_VERSION = 95, False, "the feature version is not valid"
    FEATURE_UPDATE_FAILED = 96, False, "the features could not be updated"
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, False, "the forwarded principal could not be read"
    SNAPSHOT_NOT_FOUND = 98, False, "no such snapshot"
    POSITION_OUT_OF_RANGE = 99, False, "the position lies outside the snapshot"
    UNKNOWN_TOPIC_ID = 100, True, "this broker has no topic with that id"
    DUPLICATE_BROKER_REGISTRATION = 101, False, "the broker id is in use"
    BROKER_ID_NOT_REGISTERED = 102, False, "no broker is registered under that id"
    INCONSISTENT_TOPIC_ID = 103, True, "the topic id is not that of the partition's log"
    INCONSISTENT_CLUSTER_ID = 104, False, "the cluster id is not this cluster's"
    TRANSACTIONAL_ID_NOT_FOUND = 105, False, "no such transactional id"
    FETCH_SESSION_TOPIC_ID_ERROR = 106, True, "the fetch session mixes topic ids and topic names"
    INELIGIBLE_REPLICA = 107, False, "a replica of the new in-sync set is not eligible"
    NEW_LEADER_ELECTED = 108, False, "the partition was altered, and its leader has changed"
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, False, "the offset has moved to tiered storage"
    FENCED_MEMBER_EPOCH = (
        110,
        False,
        "the coordinator has fenced this member's epoch; give up all partitions and join again",
    )
    UNRELEASED_INSTANCE_ID = 111, False, "another member still uses this instance id"
    UNSUPPORTED_ASSIGNOR = 112, False, "the group does not support this assignor"
    STALE_MEMBER_EPOCH = 113, False, "the member's epoch is outdated; learn the new one by a heartbeat"
    MISMATCHED_ENDPOINT_TYPE = 114, False, "the request reached an endpoint of the wrong type"
    UNSUPPORTED_ENDPOINT_TYPE = 115, False, "this type of endpoint is not supported"
    UNKNOWN_CONTROLLER_ID = 116, False, "no such controller"
    UNKNOWN_SUBSCRIPTION_ID = 117, False, "the telemetry subscription id is unknown or outdated"
    TELEMETRY_TOO_LARGE = 118, False, "the telemetry push is too large"
    INVALID_REGISTRATION = 119, False, "the broker's registration is not valid"
    TRANSACTION_ABORTABLE = 120, False, "the transaction hit an error; abort it to go on with this transactional id"
    INVALID_RECORD_STATE = 121, False, "the record's delivery state does not allow this acknowledgement"
    SHARE_SESSION_NOT_FOUND = 122, True, "no such share session"
    INVALID_SHARE_SESSION_EPOCH = 123, True, "the share session's epoch is not the expected one"
    FENCED_STATE_EPOCH = 124, False, "the share group's state epoch does not match"
    INVALID_VOTER_KEY = 125, False, "the voter key is not the receiver's"
    DUPLICATE_VOTER = 126, False, "the voter is in the voter set already"
    VOTER_NOT_FOUND = 127, False, "the voter is not in the voter set"
    INVALID_REGULAR_EXPRESSION = 128, False, "the regular expression is not valid"
    REBOOTSTRAP_REQUIRED = 129, False, "the client's metadata is too old; bootstrap again"
    STREAMS_INVALID_TOPOLOGY = 130, False, "the topology is not valid"
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, False, "the topology epoch is not valid"
    STREAMS_TOPOLOGY_FENCED = 132, False, "the topology epoch is outdated"
    SHARE_SESSION_LIMIT_REACHED = 133, True, "the broker holds as many share sessions as it may"


class KafkaError(Exception):
    """An error to be answered to the client, with an optional message of its own.

    `message` is what goes into the response's error message field; None leaves the client its own text.
    """

    def __init__(self, error: Error, message: str | None = None) -> None:
        super().__init__(message or error.text)
        self.error = error
        self.message = message

    def __repr__(self) -> str:
        return f"KafkaError({self.error.name}, {self.message!r})"


class CloseConnection(Exception):
    """Raised where Kafka drops the connection without an answer; the text goes into one log line."""
