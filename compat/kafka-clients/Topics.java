import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What the admin client does with topics. */
final class Topics {
    private Topics() { }

    static void add(Checks checks) {
        checks.once("admin: topics created", Topics::created);
        checks.once("admin: topics that cannot be created", Topics::refused);
        checks.once("admin: topics described, by name and by id", Topics::described);
        checks.once("admin: topics deleted, by name and by id", Topics::deleted);
        checks.once("admin: partitions added", Topics::grown);
        checks.once("admin: settings of a topic", Topics::settings);
        checks.once("admin: settings of the broker", Topics::brokerSettings);
        checks.once("admin: records deleted", Topics::recordsDeleted);
        checks.once("admin: offsets, every way to ask", Topics::offsets);
        checks.once("admin: the cluster described", Topics::cluster);
    }

    private static void created(Room room) throws Exception {
        String plain = Room.fresh("plain");
        String assigned = Room.fresh("assigned");
        String only = Room.fresh("only-validated");
        var result = room.admin.createTopics(List.of(
            new NewTopic(plain, 3, (short) 1).configs(Map.of("retention.ms", "1234567")),
            new NewTopic(assigned, Map.of(0, List.of(nodeId(room)), 1, List.of(nodeId(room))))));
        Room.same(Room.get(result.numPartitions(plain)), 3, "partitions");
        Room.same(Room.get(result.replicationFactor(plain)), 1, "replicas");
        Room.same(Room.get(result.config(plain)).get("retention.ms").value(), "1234567", "setting");
        Room.same(Room.get(result.numPartitions(assigned)), 2, "partitions of one whose replicas were given");
        Room.get(room.admin.createTopics(List.of(new NewTopic(only, 1, (short) 1)),
            new CreateTopicsOptions().validateOnly(true)).all());
        Room.until("both are there",
            () -> Room.get(room.admin.listTopics().names()).containsAll(List.of(plain, assigned)));
        Room.check(!Room.get(room.admin.listTopics().names()).contains(only), "what was only validated is not");
    }

    private static void refused(Room room) throws Exception {
        String there = room.topic(1);
        refused(room, TopicExistsException.class, new NewTopic(there, 1, (short) 1));
        refused(room, InvalidTopicException.class, new NewTopic("no topic: this", 1, (short) 1));
        refused(room, InvalidPartitionsException.class, new NewTopic(Room.fresh("none"), 0, (short) 1));
        refused(room, InvalidReplicationFactorException.class, new NewTopic(Room.fresh("many"), 1, (short) 5));
        refused(room, InvalidConfigurationException.class,
            new NewTopic(Room.fresh("bad"), 1, (short) 1).configs(Map.of("retention.ms", "soon")));
    }

    private static void refused(Room room, Class<? extends Throwable> wanted, NewTopic... topics) {
        Room.refused(wanted, () -> Room.get(room.admin.createTopics(List.of(topics)).all()));
    }

    private static void described(Room room) throws Exception {
        String topic = room.topic(3);
        TopicDescription named = Room.get(room.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        Room.same(named.partitions().size(), 3, "partitions");
        Room.same(named.isInternal(), false, "whether it is internal");
        Room.same(named.partitions().get(0).leader().id(), nodeId(room), "leader");
        Uuid id = named.topicId();
        TopicCollection ids = TopicCollection.ofTopicIds(List.of(id));
        TopicDescription same = Room.get(room.admin.describeTopics(ids).allTopicIds()).get(id);
        Room.same(same.name() + same.partitions().size(), topic + 3, "by its id");
        Room.same(Room.get(room.admin.listTopics().namesToListings()).get(topic).topicId(), id, "id, as listed");
        Room.refused(UnknownTopicOrPartitionException.class,
            () -> Room.get(room.admin.describeTopics(List.of(Room.fresh("missing"))).allTopicNames()));
        Room.refused(UnknownTopicIdException.class, () -> Room.get(
            room.admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds()));
    }

    private static void deleted(Room room) throws Exception {
        String one = room.topic(1);
        String other = room.topic(1);
        Uuid id = Room.get(room.admin.describeTopics(List.of(other)).allTopicNames()).get(other).topicId();
        Room.get(room.admin.deleteTopics(List.of(one)).all());
        Room.get(room.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
        Room.until("neither is there", () -> {
            Set<String> there = Room.get(room.admin.listTopics().names());
            return !there.contains(one) && !there.contains(other);
        });
        Room.refused(UnknownTopicOrPartitionException.class, () -> room.delete(one));
        Room.refused(UnknownTopicIdException.class,
            () -> Room.get(room.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
    }

    private static void grown(Room room) throws Exception {
        String topic = room.topic(2);
        Room.get(room.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
        Room.until("it has four", () ->
            Room.get(room.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size() == 4);
        for (int count : List.of(4, 3)) {
            Room.refused(InvalidPartitionsException.class,
                () -> Room.get(room.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(count))).all()));
        }
    }

    private static void settings(Room room) throws Exception {
        String topic = room.topic(1, "retention.ms=1000000");
        alter(room, topic, AlterConfigOp.OpType.SET, "max.message.bytes", "50000");
        alter(room, topic, AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact");
        Room.until("both are set", () -> config(room, topic).get("max.message.bytes").value().equals("50000")
            && config(room, topic).get("cleanup.policy").value().equals("delete,compact"));
        alter(room, topic, AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete");
        alter(room, topic, AlterConfigOp.OpType.DELETE, "retention.ms", "");
        Room.until("one is taken away, one deleted", () ->
            config(room, topic).get("cleanup.policy").value().equals("compact")
            && config(room, topic).get("retention.ms").value().equals("604800000"));
        ConfigEntry entry = config(room, topic).get("max.message.bytes");
        Room.same(entry.source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "where it is from");
        Room.same(entry.synonyms().stream().map(ConfigEntry.ConfigSynonym::name).toList(),
            List.of("max.message.bytes", "message.max.bytes"), "synonyms");
        Room.check(entry.documentation() != null, "it is explained");
        Room.same(entry.type(), ConfigEntry.ConfigType.INT, "type");
        Room.refused(InvalidConfigurationException.class,
            () -> alter(room, topic, AlterConfigOp.OpType.SET, "max.message.bytes", "much"));
    }

    private static void brokerSettings(Room room) throws Exception {
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "" + nodeId(room));
        Config found = Room.get(room.admin.describeConfigs(List.of(broker)).all()).get(broker);
        Room.same(found.get("group.max.size").value(), "5", "what suite.toml sets");
        Room.same(found.get("group.max.size").source(), ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG, "where it is from");
        Room.same(found.get("group.consumer.heartbeat.interval.ms").value(), "500", "another");
    }

    private static void recordsDeleted(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        var result = room.admin.deleteRecords(Map.of(
            first, RecordsToDelete.beforeOffset(4), second, RecordsToDelete.beforeOffset(-1))).lowWatermarks();
        Room.same(Room.get(result.get(first)).lowWatermark(), 4L, "the first that is left");
        Room.same(Room.get(result.get(second)).lowWatermark(), 10L, "the first that would be left");
        Room.refused(OffsetOutOfRangeException.class,
            () -> Room.get(room.admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(11))).all()));
    }

    private static void offsets(Room room) throws Exception {
        String topic = room.topic(1);
        long now = System.currentTimeMillis(); // what is old is deleted by retention
        KafkaProducer<String, String> producer = room.producer();
        for (long time : List.of(now + 1_000, now + 9_000, now + 5_000)) {
            Room.get(producer.send(new ProducerRecord<>(topic, 0, time, null, "at " + time)));
        }
        KafkaProducer<String, String> open = room.producer("transactional.id=" + Room.fresh("transactional"));
        open.initTransactions();
        open.beginTransaction();
        Room.get(open.send(new ProducerRecord<>(topic, 0, now + 3_000, null, "open")));
        Room.same(at(room, topic, OffsetSpec.earliest()).offset(), 0L, "earliest");
        Room.same(at(room, topic, OffsetSpec.latest()).offset(), 4L, "latest");
        Room.same(at(room, topic, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED).offset(), 3L, "latest, committed");
        Room.same(at(room, topic, OffsetSpec.maxTimestamp()).offset(), 1L, "of the latest time");
        Room.same(at(room, topic, OffsetSpec.maxTimestamp()).timestamp(), now + 9_000, "the latest time");
        Room.same(at(room, topic, OffsetSpec.forTimestamp(now + 2_000)).offset(), 1L, "of a time");
        Room.same(at(room, topic, OffsetSpec.forTimestamp(now + 2_000)).timestamp(), now + 9_000, "the time found there");
        Room.same(at(room, topic, OffsetSpec.forTimestamp(now + 9_001)).offset(), -1L, "of a time after the last");
        Room.same(at(room, topic, OffsetSpec.earliestLocal()).offset(), 0L, "earliest that is local");
        Room.same(at(room, topic, OffsetSpec.latestTiered()).offset(), -1L, "latest that is not");
        Room.same(at(room, topic, OffsetSpec.latest()).leaderEpoch(), Optional.of(0), "epoch of the leader");
        open.abortTransaction();
    }

    private static void cluster(Room room) throws Exception {
        var found = room.admin.describeCluster();
        Room.same(Room.get(found.nodes()).size(), 1, "nodes");
        Room.check(Room.get(found.clusterId()).length() == 22, "it has an id");
        Room.same(Room.get(found.controller()).id(), nodeId(room), "controller");
        var features = Room.get(room.admin.describeFeatures().featureMetadata()).finalizedFeatures();
        Room.check(features.containsKey("group.version"), "the feature of the consumer protocol is there");
    }

    // -- what they need

    private static int nodeId(Room room) throws Exception {
        return Room.get(room.admin.describeCluster().nodes()).iterator().next().id();
    }

    private static Config config(Room room, String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return Room.get(room.admin.describeConfigs(List.of(resource), options).all()).get(resource);
    }

    private static void alter(Room room, String topic, AlterConfigOp.OpType how, String name, String value)
        throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var op = new AlterConfigOp(new ConfigEntry(name, value), how);
        Room.get(room.admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all());
    }

    private static ListOffsetsResultInfo at(Room room, String topic, OffsetSpec spec) throws Exception {
        return at(room, topic, spec, IsolationLevel.READ_UNCOMMITTED);
    }

    private static ListOffsetsResultInfo at(Room room, String topic, OffsetSpec spec, IsolationLevel level)
        throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        var options = new ListOffsetsOptions(level);
        return Room.get(room.admin.listOffsets(Map.of(partition, spec), options).partitionResult(partition));
    }
}
