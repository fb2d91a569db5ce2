"""The APIs that kafkapy serves: one row each, and nowhere else.

The registry, ApiVersions, the version check and the generated documents all read `ALL`. A handler module is imported
when its first request comes, so a row carries what must be known before: the key and the range of versions. What else
brokers of several processes ask each other, at the listener between them, is in `AMONG_BROKERS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """An API key, the module under `kafkapy.handlers` that serves it, and the versions served.

    `by_controller`: what is asked for is decided by the controller, to which it is forwarded as Kafka's brokers do.
    """

    key: int
    module: str
    min_version: int
    max_version: int
    by_controller: bool = False


ALL: tuple[Route, ...] = (
    Route(0, "data.produce", 3, 13),
    Route(1, "data.fetch", 4, 18),
    Route(2, "data.list_offsets", 1, 11),
    Route(3, "admin.metadata", 0, 13),
    Route(8, "groups.offset_commit", 2, 10),
    Route(9, "groups.offset_fetch", 1, 10),
    Route(10, "groups.find_coordinator", 0, 6),
    Route(11, "groups.join_group", 0, 9),
    Route(12, "groups.heartbeat", 0, 4),
    Route(13, "groups.leave_group", 0, 5),
    Route(14, "groups.sync_group", 0, 5),
    Route(15, "groups.describe_groups", 0, 6),
    Route(16, "groups.list_groups", 0, 5),
    Route(17, "access.sasl_handshake", 0, 1),
    Route(18, "admin.api_versions", 0, 5),
    Route(19, "admin.create_topics", 2, 7, by_controller=True),
    Route(20, "admin.delete_topics", 1, 6, by_controller=True),
    Route(21, "data.delete_records", 0, 2),
    Route(22, "data.init_producer_id", 0, 5),
    Route(23, "data.offset_for_leader_epoch", 2, 4),
    Route(24, "transactions.add_partitions_to_txn", 0, 5),
    Route(25, "transactions.add_offsets_to_txn", 0, 4),
    Route(26, "transactions.end_txn", 0, 5),
    Route(27, "transactions.write_txn_markers", 1, 2),
    Route(28, "groups.txn_offset_commit", 0, 6),
    Route(29, "admin.describe_acls", 1, 3),
    Route(30, "admin.create_acls", 1, 3, by_controller=True),
    Route(31, "admin.delete_acls", 1, 3, by_controller=True),
    Route(32, "admin.describe_configs", 1, 4),
    Route(33, "admin.alter_configs", 0, 2, by_controller=True),
    Route(34, "admin.alter_replica_log_dirs", 1, 2),
    Route(35, "admin.describe_log_dirs", 1, 5),
    Route(36, "access.sasl_authenticate", 0, 2),
    Route(37, "admin.create_partitions", 0, 3, by_controller=True),
    Route(38, "access.create_delegation_token", 1, 3, by_controller=True),
    Route(39, "access.renew_delegation_token", 1, 2, by_controller=True),
    Route(40, "access.expire_delegation_token", 1, 2, by_controller=True),
    Route(41, "access.describe_delegation_token", 1, 3),
    Route(42, "groups.delete_groups", 0, 3),
    Route(43, "admin.elect_leaders", 0, 2, by_controller=True),
    Route(44, "admin.incremental_alter_configs", 0, 1, by_controller=True),
    Route(45, "admin.alter_partition_reassignments", 0, 1, by_controller=True),
    Route(46, "admin.list_partition_reassignments", 0, 0, by_controller=True),
    Route(47, "groups.offset_delete", 0, 0),
    Route(48, "admin.describe_client_quotas", 0, 1),
    Route(49, "admin.alter_client_quotas", 0, 1, by_controller=True),
    Route(50, "access.describe_user_scram_credentials", 0, 0),
    Route(51, "access.alter_user_scram_credentials", 0, 0, by_controller=True),
    Route(55, "admin.describe_quorum", 0, 2, by_controller=True),
    Route(57, "admin.update_features", 0, 2, by_controller=True),
    Route(60, "admin.describe_cluster", 0, 2),
    Route(61, "data.describe_producers", 0, 0),
    Route(64, "admin.unregister_broker", 0, 0, by_controller=True),
    Route(65, "transactions.describe_transactions", 0, 0),
    Route(66, "transactions.list_transactions", 0, 2),
    Route(68, "groups.consumer_group_heartbeat", 0, 1),
    Route(69, "groups.consumer_group_describe", 0, 1),
    Route(71, "admin.get_telemetry_subscriptions", 0, 0),
    Route(72, "admin.push_telemetry", 0, 0),
    Route(74, "admin.list_config_resources", 0, 1),
    Route(75, "admin.describe_topic_partitions", 0, 0),
    Route(76, "groups.share_group_heartbeat", 1, 1),
    Route(77, "groups.share_group_describe", 1, 1),
    Route(78, "sharing.share_fetch", 1, 2),
    Route(79, "sharing.share_acknowledge", 1, 2),
    Route(80, "admin.add_raft_voter", 0, 1),
    Route(81, "admin.remove_raft_voter", 0, 0),
    Route(83, "sharing.initialize_share_group_state", 0, 0),
    Route(84, "sharing.read_share_group_state", 0, 0),
    Route(85, "sharing.write_share_group_state", 0, 1),
    Route(86, "sharing.delete_share_group_state", 0, 0),
    Route(87, "sharing.read_share_group_state_summary", 0, 1),
    Route(88, "groups.streams_group_heartbeat", 0, 1),
    Route(89, "groups.streams_group_describe", 0, 1),
    Route(90, "groups.describe_share_group_offsets", 0, 1),
    Route(91, "groups.alter_share_group_offsets", 0, 0),
    Route(92, "groups.delete_share_group_offsets", 0, 0),
    Route(93, "groups.streams_group_topology_description_update", 0, 0),
)

AMONG_BROKERS: tuple[Route, ...] = (
    Route(58, "brokers.envelope", 0, 0),
    Route(67, "brokers.allocate_producer_ids", 0, 0),
)
