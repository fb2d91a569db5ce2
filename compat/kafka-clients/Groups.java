import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ClassicGroupState;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** What the admin client does with groups. */
final class Groups {
    private Groups() { }

    static void add(Checks checks) {
        checks.both("admin: a group described", Groups::described);
        checks.both("admin: a group without members described", Groups::describedEmpty);
        checks.both("admin: a group that is not there", Groups::missing);
        checks.both("admin: groups listed, by type, state and kind", Groups::listed);
        checks.both("admin: a group of offsets alone", Groups::offsetsAlone);
        checks.both("admin: offsets of several groups", Groups::offsetsListed);
        checks.both("admin: offsets altered", Groups::offsetsAltered);
        checks.both("admin: offsets deleted", Groups::offsetsDeleted);
        checks.both("admin: a group deleted", Groups::deleted);
        checks.classic("admin: a classic group described", Groups::classicDescribed);
        checks.consumer("admin: settings of a group", Groups::settings);
    }

    private static void described(Room room) throws Exception {
        String topic = room.topic(6);
        Member one = room.member(topic, "client.id=one");
        Member two = room.member(topic, "client.id=two", "group.instance.id=second");
        Member.share(topic, 6, 3, one, two);
        ConsumerGroupDescription found = describe(room);
        Room.same(found.groupId(), room.group, "group");
        Room.same(found.groupState(), GroupState.STABLE, "state");
        Room.same(found.type(), type(room), "type");
        Room.same(found.isSimpleConsumerGroup(), false, "whether it is of offsets alone");
        Room.same(found.partitionAssignor(), room.classic() ? "range" : "uniform", "assignor");
        Room.same(found.coordinator().port(), Integer.parseInt(room.bootstrap.split(":")[1]), "port of the coordinator");
        Room.same(found.groupEpoch().isPresent(), !room.classic(), "whether it has an epoch");
        Room.same(found.groupEpoch(), found.targetAssignmentEpoch(), "epochs of group and assignment");
        Room.same(found.members().stream().map(member -> member.clientId() + " " + member.groupInstanceId().orElse("-"))
            .collect(Collectors.toSet()), Set.of("one -", "two second"), "members");
        for (var member : found.members()) {
            Member wanted = member.clientId().equals("one") ? one : two;
            Room.same(member.assignment().topicPartitions(), wanted.owned, "partitions");
            Room.same(member.host(), "/127.0.0.1", "host");
            Room.same(member.consumerId(), wanted.ask(consumer -> consumer.groupMetadata().memberId()), "member id");
            if (!room.classic()) {
                Room.same(member.targetAssignment().get(), member.assignment(), "partitions that it is to have");
                Room.same(member.memberEpoch(), found.groupEpoch(), "epoch");
                Room.same(member.upgraded().get(), true, "whether it speaks the consumer protocol");
            }
        }
    }

    private static void describedEmpty(Room room) throws Exception {
        left(room, room.topic(2));
        ConsumerGroupDescription found = describe(room);
        Room.same(found.groupState(), GroupState.EMPTY, "state");
        Room.same(found.type(), type(room), "type");
        Room.same(found.members(), List.of(), "members");
    }

    private static void missing(Room room) {
        Room.refused(GroupIdNotFoundException.class, () -> describe(room));
        Room.refused(GroupIdNotFoundException.class,
            () -> Room.get(room.admin.deleteConsumerGroups(List.of(room.group)).all()));
        Room.refused(GroupIdNotFoundException.class,
            () -> Room.get(room.admin.deleteConsumerGroupOffsets(
            room.group, Set.of(new TopicPartition("topic", 0))).all()));
    }

    private static void listed(Room room) throws Exception {
        String topic = room.topic(2);
        Member member = room.member(topic);
        Member.share(topic, 2, 2, member);
        GroupListing found = list(room, new ListGroupsOptions()).get(0);
        Room.same(found.type().get(), type(room), "type");
        Room.same(found.protocol(), "consumer", "kind");
        Room.same(found.groupState().get(), GroupState.STABLE, "state");
        Room.same(found.isSimpleConsumerGroup(), false, "whether it is of offsets alone");
        GroupType other = room.classic() ? GroupType.CONSUMER : GroupType.CLASSIC;
        Room.same(list(room, new ListGroupsOptions().withTypes(Set.of(type(room)))).size(), 1, "groups of its type");
        Room.same(list(room, new ListGroupsOptions().withTypes(Set.of(other))).size(), 0, "groups of the other type");
        Room.same(list(room, ListGroupsOptions.forConsumerGroups()).size(), 1, "groups of consumers");
        Room.same(list(room, new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).size(), 1, "stable groups");
        Room.same(list(room, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).size(), 0, "empty groups");
        member.leave();
        Room.until("it is listed among the empty ones",
            () -> list(room, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).size() == 1);
    }

    private static void offsetsAlone(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.assign(Room.partitions(topic, 1));
        consumer.commitSync(at(topic, 0, 0));
        ConsumerGroupDescription found = describe(room);
        Room.same(found.groupState(), GroupState.EMPTY, "state");
        Room.same(found.type(), GroupType.CLASSIC, "type");
        Room.same(found.isSimpleConsumerGroup(), true, "whether it is of offsets alone");
        GroupListing listed = list(room, new ListGroupsOptions()).get(0);
        Room.same(listed.protocol(), "", "kind");
        Room.same(listed.isSimpleConsumerGroup(), true, "whether it is of offsets alone, as listed");
    }

    private static void offsetsListed(Room room) throws Exception {
        String topic = room.topic(3);
        String other = Room.fresh("other");
        left(room, topic);
        Room.get(room.admin.alterConsumerGroupOffsets(room.group, at(topic, 1, 5)).all());
        Room.get(room.admin.alterConsumerGroupOffsets(other, at(topic, 2, 6)).all());
        TopicPartition never = new TopicPartition(room.topic(1), 0);
        TopicPartition set = new TopicPartition(topic, 1);
        var spec = new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(never, set));
        var found = Room.get(room.admin.listConsumerGroupOffsets(
            Map.of(room.group, spec, other, new ListConsumerGroupOffsetsSpec())).all());
        Room.same(found.get(room.group).keySet(), Set.of(never, set), "partitions asked for");
        Room.same(found.get(room.group).get(never), null, "where none is committed");
        Room.same(found.get(room.group).get(set).offset(), 5L, "where one is");
        Room.same(found.get(other).keySet(), Set.of(new TopicPartition(topic, 2)), "all of the other group");
    }

    private static void offsetsAltered(Room room) throws Exception {
        String topic = room.topic(2);
        Member member = room.member(topic);
        Member.share(topic, 2, 2, member);
        Room.refused(UnknownMemberIdException.class,
            () -> Room.get(room.admin.alterConsumerGroupOffsets(room.group, at(topic, 0, 5)).all()));
        member.leave();
        Room.until("it has left", () -> room.memberCount() == 0);
        Room.get(room.admin.alterConsumerGroupOffsets(room.group, at(topic, 0, 5)).all());
        Room.same(room.committed(topic).get(0), 5L, "offset");
    }

    private static void offsetsDeleted(Room room) throws Exception {
        String topic = room.topic(2);
        String former = room.topic(1);
        room.fill(topic, 2, 0, 2);
        Member member = room.member(topic);
        Room.until("both are committed", () -> room.committed(topic).equals(Map.of(0, 1L, 1, 1L)));
        member.ask(consumer -> {
            consumer.commitSync(at(former, 0, 7));
            return null;
        });
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition old = new TopicPartition(former, 0);
        var deleted = room.admin.deleteConsumerGroupOffsets(room.group, Set.of(first, old));
        Room.refused(GroupSubscribedToTopicException.class, () -> Room.get(deleted.partitionResult(first)));
        Room.get(deleted.partitionResult(old));
        Room.same(room.committed(former), Map.of(), "of a topic that it is not subscribed to");
        member.leave();
        Room.until("it has left", () -> room.memberCount() == 0);
        Room.get(room.admin.deleteConsumerGroupOffsets(room.group, Set.of(first)).all());
        Room.same(room.committed(topic), Map.of(1, 1L), "offsets left");
    }

    private static void deleted(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 2);
        Member member = room.member(topic);
        Room.until("both are committed", () -> room.committed(topic).equals(Map.of(0, 1L, 1, 1L)));
        Room.refused(GroupNotEmptyException.class,
            () -> Room.get(room.admin.deleteConsumerGroups(List.of(room.group)).all()));
        member.leave();
        Room.until("it has left", () -> room.memberCount() == 0);
        Room.get(room.admin.deleteConsumerGroups(List.of(room.group)).all());
        Room.refused(GroupIdNotFoundException.class, () -> describe(room));
        Room.same(list(room, new ListGroupsOptions()), List.of(), "groups listed of that name");
        Member again = room.member(topic);
        Member.seen(2, again);
    }

    private static void classicDescribed(Room room) throws Exception {
        String topic = room.topic(4);
        Member one = room.member(topic);
        Member two = room.member(topic);
        Member.share(topic, 4, 2, one, two);
        var found = Room.get(room.admin.describeClassicGroups(List.of(room.group)).all()).get(room.group);
        Room.same(found.state(), ClassicGroupState.STABLE, "state");
        Room.same(found.protocol(), "consumer", "kind");
        Room.same(found.protocolData(), "range", "assignor");
        Room.same(found.members().size(), 2, "members");
    }

    private static void settings(Room room) throws Exception {
        room.setForGroup("consumer.heartbeat.interval.ms", "700");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, room.group);
        ConfigEntry found = Room.get(room.admin.describeConfigs(List.of(resource)).all()).get(resource)
            .get("consumer.heartbeat.interval.ms");
        Room.same(found.value(), "700", "what is set");
        Room.same(found.source(), ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "where it is from");
        Room.refused(InvalidConfigurationException.class, () -> room.setForGroup("consumer.heartbeat.interval.ms", "1"));
        Room.refused(InvalidConfigurationException.class,
            () -> room.setForGroup("consumer.session.timeout.ms", "999999999"));
    }

    // -- what they need

    private static ConsumerGroupDescription describe(Room room) throws Exception {
        return Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group);
    }

    private static GroupType type(Room room) {
        return GroupType.parse(room.protocol);
    }

    private static List<GroupListing> list(Room room, ListGroupsOptions options) throws Exception {
        Collection<GroupListing> all = Room.get(room.admin.listGroups(options).all());
        return all.stream().filter(one -> one.groupId().equals(room.group)).toList();
    }

    /** There was a member, and it has left. */
    private static void left(Room room, String topic) throws Exception {
        Member member = room.member(topic);
        Room.until("it has partitions", () -> !member.owned.isEmpty());
        member.leave();
        Room.until("it has left", () -> room.memberCount() == 0);
    }

    private static Map<TopicPartition, OffsetAndMetadata> at(String topic, int partition, long offset) {
        return Map.of(new TopicPartition(topic, partition), new OffsetAndMetadata(offset));
    }
}
