"""Every topic setting of Apache Kafka, with the broker setting that gives its default."""

from kafkapy.config.setting import Setting, Type

# One row a line, however long: this is a table.
# fmt: off
_ROWS = (
    Setting("cleanup.policy", Type.LIST, "delete", "What becomes of old segments: delete, compact, or both.", valid="[compact, delete]", dynamic=True, used=True, synonym="log.cleanup.policy", drops_repeats=True),
    Setting("compression.gzip.level", Type.INT, "-1", "Level for records that the broker compresses with gzip; -1 is the codec's own default.", valid="[1,...,9] or -1", dynamic=True, used=True, synonym="compression.gzip.level"),
    Setting("compression.lz4.level", Type.INT, "9", "Level for records that the broker compresses with lz4.", valid="[1,...,17]", dynamic=True, used=True, synonym="compression.lz4.level"),
    Setting("compression.type", Type.STRING, "producer", "Codec that stored batches must have; producer keeps what came.", valid="[uncompressed, zstd, lz4, snappy, gzip, producer]", dynamic=True, used=True, synonym="compression.type"),
    Setting("compression.zstd.level", Type.INT, "3", "Level for records that the broker compresses with zstd.", valid="[-131072,...,22]", dynamic=True, used=True, synonym="compression.zstd.level"),
    Setting("delete.retention.ms", Type.LONG, "86400000", "How long tombstones stay once compacted, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.cleaner.delete.retention.ms"),
    Setting("errors.deadletterqueue.group.enable", Type.BOOLEAN, "false", "Whether share groups may use the topic for dead letters.", dynamic=True, used=True),
    Setting("file.delete.delay.ms", Type.LONG, "60000", "Delay before deleted files leave the disk, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.segment.delete.delay.ms"),
    Setting("flush.messages", Type.LONG, "9223372036854775807", "Records appended before the log is synced to the disk.", valid="[1,...]", dynamic=True, used=True, synonym="log.flush.interval.messages"),
    Setting("flush.ms", Type.LONG, "9223372036854775807", "Longest time records stay unsynced, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.flush.interval.ms"),
    Setting("follower.replication.throttled.replicas", Type.LIST, "", "Replicas whose followers are throttled: partition:broker pairs, or *.", valid="[partitionId]:[brokerId],[partitionId]:[brokerId],...", dynamic=True),
    Setting("index.interval.bytes", Type.INT, "4096", "Bytes of the log between two rows of its indexes.", valid="[0,...]", dynamic=True, used=True, synonym="log.index.interval.bytes"),
    Setting("internal.segment.bytes", Type.INT, None, "Segment size without a lower bound, in bytes, for tests.", used=True, internal=True),
    Setting("leader.replication.throttled.replicas", Type.LIST, "", "Replicas whose leaders are throttled: partition:broker pairs, or *.", valid="[partitionId]:[brokerId],[partitionId]:[brokerId],...", dynamic=True),
    Setting("local.retention.bytes", Type.LONG, "-2", "Bytes of a tiered log that stay on local disk; -2 follows retention.bytes.", valid="[-2,...]", dynamic=True, synonym="log.local.retention.bytes"),
    Setting("local.retention.ms", Type.LONG, "-2", "How long a tiered log stays on local disk, in milliseconds; -2 follows retention.ms.", valid="[-2,...]", dynamic=True, synonym="log.local.retention.ms"),
    Setting("max.compaction.lag.ms", Type.LONG, "9223372036854775807", "Longest time a record may stay uncompacted, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="log.cleaner.max.compaction.lag.ms"),
    Setting("max.decompressed.message.bytes", Type.INT, "2147483639", "Largest size that a single record of a compressed batch may have once inflated, in bytes.", valid="[1,...,2147483639]", dynamic=True, used=True, synonym="max.decompressed.message.bytes"),
    Setting("max.message.bytes", Type.INT, "1048588", "Largest batch that is accepted, in bytes.", valid="[0,...]", dynamic=True, used=True, synonym="message.max.bytes"),
    Setting("message.timestamp.after.max.ms", Type.LONG, "3600000", "How far in the future a record's timestamp may lie, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.message.timestamp.after.max.ms"),
    Setting("message.timestamp.before.max.ms", Type.LONG, "9223372036854775807", "How far in the past a record's timestamp may lie, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.message.timestamp.before.max.ms"),
    Setting("message.timestamp.type", Type.STRING, "CreateTime", "Whose time a record carries: the producer's (CreateTime) or the broker's (LogAppendTime).", valid="[CreateTime, LogAppendTime]", dynamic=True, used=True, synonym="log.message.timestamp.type"),
    Setting("min.cleanable.dirty.ratio", Type.DOUBLE, "0.5", "Share of the log that must be dirty before it is compacted.", valid="[0,...,1]", dynamic=True, used=True, synonym="log.cleaner.min.cleanable.ratio"),
    Setting("min.compaction.lag.ms", Type.LONG, "0", "Shortest time a record stays uncompacted, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.cleaner.min.compaction.lag.ms"),
    Setting("min.insync.replicas", Type.INT, "1", "Replicas that must have a record before acks=all is answered; never more than there are.", valid="[1,...]", dynamic=True, used=True, synonym="min.insync.replicas"),
    Setting("preallocate", Type.BOOLEAN, "false", "Whether new segment files get their full size at once.", dynamic=True, used=True, synonym="log.preallocate"),
    Setting("remote.copy.lag.bytes", Type.LONG, "-1", "Bytes of closed segments that stay uncopied before tiering copies them; -1 follows local retention.", valid="[-1,...]", dynamic=True, synonym="log.remote.copy.lag.bytes"),
    Setting("remote.copy.lag.ms", Type.LONG, "0", "Age at which closed segments are copied to tiered storage, in milliseconds; -1 follows local retention.", valid="[-1,...]", dynamic=True, synonym="log.remote.copy.lag.ms"),
    Setting("remote.log.copy.disable", Type.BOOLEAN, "false", "Whether copying to tiered storage is paused.", dynamic=True),
    Setting("remote.log.delete.on.disable", Type.BOOLEAN, "false", "Whether tiered data goes when tiering is switched off.", dynamic=True),
    Setting("remote.storage.enable", Type.BOOLEAN, "false", "Whether the topic is tiered.", dynamic=True),
    Setting("retention.bytes", Type.LONG, "-1", "Size beyond which the oldest segments are deleted, in bytes; -1 keeps all.", dynamic=True, used=True, synonym="log.retention.bytes"),
    Setting("retention.ms", Type.LONG, "604800000", "How long records are kept, in milliseconds; -1 is for ever.", valid="[-1,...]", dynamic=True, used=True, synonym="log.retention.ms"),
    Setting("segment.bytes", Type.INT, "1073741824", "Size at which a new segment begins, in bytes.", valid="[1048576,...]", dynamic=True, used=True, synonym="log.segment.bytes"),
    Setting("segment.index.bytes", Type.INT, "10485760", "Largest index file of a segment, in bytes.", valid="[4,...]", dynamic=True, used=True, synonym="log.index.size.max.bytes"),
    Setting("segment.jitter.ms", Type.LONG, "0", "Random part taken off segment.ms, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="log.roll.jitter.ms"),
    Setting("segment.ms", Type.LONG, "604800000", "Age at which a new segment begins, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="log.roll.ms"),
    Setting("unclean.leader.election.enable", Type.BOOLEAN, "false", "Whether a replica that is not in sync may lead when no other can.", dynamic=True, synonym="unclean.leader.election.enable"),
)
# fmt: on

TOPIC: dict[str, Setting] = {row.name: row for row in _ROWS}
