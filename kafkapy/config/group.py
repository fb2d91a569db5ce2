"""Every group setting of Apache Kafka, with the broker setting that gives its default."""

from kafkapy.config.setting import Setting, Type

# One row a line, however long: this is a table.
# fmt: off
_ROWS = (
    Setting("consumer.assignment.interval.ms", Type.INT, "1000", "Pause between two assignments of a consumer group, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="group.consumer.assignment.interval.ms"),
    Setting("consumer.assignor.offload.enable", Type.BOOLEAN, "true", "Whether assignments of a consumer group are computed beside the coordinator's thread.", internal=True, synonym="group.consumer.assignor.offload.enable"),
    Setting("consumer.heartbeat.interval.ms", Type.INT, "5000", "How often members of a consumer group send heartbeats, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.consumer.heartbeat.interval.ms"),
    Setting("consumer.session.timeout.ms", Type.INT, "45000", "Silence after which a member of a consumer group is dropped, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.consumer.session.timeout.ms"),
    Setting("errors.deadletterqueue.copy.record.enable", Type.BOOLEAN, "false", "Whether a dead letter carries the record itself.", dynamic=True, used=True, synonym="errors.deadletterqueue.copy.record.enable"),
    Setting("errors.deadletterqueue.topic.name", Type.STRING, "", "Topic for the records that a share group gives up; empty drops them.", dynamic=True, used=True, synonym="errors.deadletterqueue.topic.name"),
    Setting("share.assignment.interval.ms", Type.INT, "1000", "Pause between two assignments of a share group, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="group.share.assignment.interval.ms"),
    Setting("share.assignor.offload.enable", Type.BOOLEAN, "true", "Whether assignments of a share group are computed beside the coordinator's thread.", internal=True, synonym="group.share.assignor.offload.enable"),
    Setting("share.auto.offset.reset", Type.STRING, "latest", "Where a share group begins that has no offsets yet.", valid="[latest, earliest, by_duration:PnDTnHnMn.nS]", dynamic=True, used=True, synonym="share.auto.offset.reset"),
    Setting("share.delivery.count.limit", Type.INT, "5", "Deliveries of a record before a share group gives it up.", valid="[2,...]", dynamic=True, used=True, synonym="group.share.delivery.count.limit"),
    Setting("share.heartbeat.interval.ms", Type.INT, "5000", "How often members of a share group send heartbeats, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.share.heartbeat.interval.ms"),
    Setting("share.isolation.level", Type.STRING, "read_uncommitted", "Whether a share group sees records of open transactions.", valid="[read_committed, read_uncommitted]", dynamic=True, used=True, synonym="share.isolation.level"),
    Setting("share.partition.max.record.locks", Type.INT, "2000", "Records of a partition that a share group may hold at a time.", valid="[100,...]", dynamic=True, used=True, synonym="group.share.partition.max.record.locks"),
    Setting("share.record.lock.duration.ms", Type.INT, "30000", "How long a share group holds a record for its consumer, in milliseconds.", valid="[1000,...]", dynamic=True, used=True, synonym="group.share.record.lock.duration.ms"),
    Setting("share.renew.acknowledge.enable", Type.BOOLEAN, "true", "Whether consumers of a share group may prolong their hold on a record.", dynamic=True, used=True, synonym="share.renew.acknowledge.enable"),
    Setting("share.session.timeout.ms", Type.INT, "45000", "Silence after which a member of a share group is dropped, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.share.session.timeout.ms"),
    Setting("streams.acceptable.recovery.lag", Type.LONG, "10000", "Offsets that a task may lack and still count as caught up, in a streams group.", valid="[0,...]", used=True, internal=True, synonym="group.streams.acceptable.recovery.lag"),
    Setting("streams.assignment.interval.ms", Type.INT, "1000", "Pause between two assignments of a streams group, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="group.streams.assignment.interval.ms"),
    Setting("streams.assignor.name", Type.STRING, None, "Server-side assignor of a streams group.", dynamic=True, synonym="group.streams.assignors"),
    Setting("streams.assignor.offload.enable", Type.BOOLEAN, "true", "Whether assignments of a streams group are computed beside the coordinator's thread.", internal=True, synonym="group.streams.assignor.offload.enable"),
    Setting("streams.heartbeat.interval.ms", Type.INT, "5000", "How often members of a streams group send heartbeats, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.streams.heartbeat.interval.ms"),
    Setting("streams.initial.rebalance.delay.ms", Type.INT, "3000", "How long a new streams group waits before its first rebalance, in milliseconds.", valid="[0,...]", dynamic=True, used=True, synonym="group.streams.initial.rebalance.delay.ms"),
    Setting("streams.num.standby.replicas", Type.INT, "0", "Standby replicas of each task in a streams group.", valid="[0,...]", dynamic=True, used=True, synonym="group.streams.num.standby.replicas"),
    Setting("streams.num.warmup.replicas", Type.INT, "2", "Warm-up replicas of a streams group at a time.", valid="[0,...]", internal=True, synonym="group.streams.num.warmup.replicas"),
    Setting("streams.rack.aware.assignment.tags", Type.LIST, "", "Client tags by which standby tasks of a streams group are spread.", dynamic=True, used=True, synonym="group.streams.rack.aware.assignment.tags"),
    Setting("streams.session.timeout.ms", Type.INT, "45000", "Silence after which a member of a streams group is dropped, in milliseconds.", valid="[1,...]", dynamic=True, used=True, synonym="group.streams.session.timeout.ms"),
    Setting("streams.task.offset.interval.ms", Type.INT, "60000", "How often members of a streams group report the offsets of their tasks, in milliseconds.", valid="[1,...]", used=True, internal=True, synonym="group.streams.task.offset.interval.ms"),
)
# fmt: on

GROUP: dict[str, Setting] = {row.name: row for row in _ROWS}
