import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** Who gets what: the assignors of both sides, and groups that pass from one way to another while their members work. */
final class Assignors {
    static final String[] COOPERATIVE = {strategy("CooperativeSticky")};
    private static final String[] RANGE = {strategy("Range")};
    private static final int PARTITIONS = 6;

    private Assignors() { }

    static void add(Checks checks) {
        checks.classic("RangeAssignor", room -> sideBySide(room, RANGE));
        checks.classic("RoundRobinAssignor", Assignors::roundRobin);
        checks.classic("StickyAssignor keeps what it can", room -> keeps(room, strategy("Sticky")));
        checks.classic("CooperativeStickyAssignor keeps what it can", room -> keeps(room, COOPERATIVE));
        checks.classic("CooperativeStickyAssignor revokes only what moves", Assignors::cooperative);
        checks.classic("RangeAssignor revokes everything", Assignors::eager);
        checks.classic("from RangeAssignor to CooperativeStickyAssignor, member by member", Assignors::upgraded);
        checks.classic("a member with none of the group's assignors", Assignors::inconsistent);
        checks.consumer("range assignor", room -> sideBySide(room, "group.remote.assignor=range"));
        checks.consumer("uniform assignor keeps what it can", room -> keeps(room, "group.remote.assignor=uniform"));
        checks.consumer("an assignor that the broker has not", Assignors::unknown);
        checks.consumer("members that want different assignors", Assignors::majority);
        checks.once("from the classic protocol to the consumer protocol, member by member", room ->
            migrated(room, Checks.CLASSIC, RANGE, Checks.CONSUMER));
        checks.once("from the classic protocol, cooperative, to the consumer protocol", room ->
            migrated(room, Checks.CLASSIC, COOPERATIVE, Checks.CONSUMER));
        checks.once("from the consumer protocol to the classic protocol, member by member", room ->
            migrated(room, Checks.CONSUMER, new String[0], Checks.CLASSIC));
        checks.once("members of both protocols stay together", Assignors::mixed);
        checks.once("an empty classic group becomes one of the consumer protocol", room ->
            passedOn(room, Checks.CLASSIC, Checks.CONSUMER));
        checks.once("an empty group of the consumer protocol becomes a classic one", room ->
            passedOn(room, Checks.CONSUMER, Checks.CLASSIC));
    }

    /** Of every topic the first half for one member and the second half for the other. */
    private static void sideBySide(Room room, String... settings) throws Exception {
        String[] topics = {room.topic(4), room.topic(4)};
        Member[] members = pair(room, topics, settings);
        Set<Set<Integer>> halves = Set.of(Set.of(0, 1), Set.of(2, 3));
        Room.until("each has one half of both topics", () -> "; they have " + members[0].owned + members[1].owned, () -> {
            for (String topic : topics) {
                if (!shares(members, topic).equals(halves)) {
                    return false;
                }
            }
            return numbers(members[0], topics[0]).equals(numbers(members[0], topics[1]));
        });
    }

    private static void roundRobin(Room room) throws Exception {
        String[] topics = {room.topic(3), room.topic(3)};
        Member[] members = pair(room, topics, strategy("RoundRobin"));
        Set<Set<Integer>> turns = Set.of(Set.of(0, 2), Set.of(1));
        Room.until("they take turns", () -> "; they have " + members[0].owned + members[1].owned, () -> {
            for (String topic : topics) {
                if (members[0].owned.size() != 3 || members[1].owned.size() != 3
                    || !shares(members, topic).equals(turns)) {
                    return false;
                }
            }
            return true;
        });
    }

    private static void keeps(Room room, String... settings) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, settings);
        Member two = room.member(topic, settings);
        Member three = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 2, one, two, three);
        Set<TopicPartition> first = Set.copyOf(one.owned);
        Set<TopicPartition> second = Set.copyOf(two.owned);
        three.leave();
        Member.share(topic, PARTITIONS, 3, one, two);
        Room.check(one.owned.containsAll(first) && two.owned.containsAll(second), "both still have what they had");
    }

    private static void cooperative(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, COOPERATIVE);
        Member.share(topic, PARTITIONS, PARTITIONS, one);
        Member.share(topic, PARTITIONS, 3, one, room.member(topic, COOPERATIVE));
        Room.same(one.told.stream().filter(event -> event.startsWith("revoked")).toList(), List.of("revoked 3"), "revoked");
    }

    private static void eager(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, RANGE);
        Member.share(topic, PARTITIONS, PARTITIONS, one);
        Member.share(topic, PARTITIONS, 3, one, room.member(topic, RANGE));
        Room.check(one.told.contains("revoked 6"), "everything is revoked at once: " + one.told);
    }

    private static void upgraded(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String both = COOPERATIVE[0] + ",org.apache.kafka.clients.consumer.RangeAssignor";
        Member[] members = {room.member(topic, RANGE), room.member(topic, RANGE)};
        Member.share(topic, PARTITIONS, 3, members);
        int count = 0;
        for (String next : List.of(both, COOPERATIVE[0])) {
            for (int index = 0; index < members.length; index++) {
                room.fill(topic, PARTITIONS, count, 60);
                count += 60;
                Member.seen(count, members);
                members[index].leave();
                Member replacement = room.member(topic, next);
                replacement.values.addAll(members[index].values);
                members[index] = replacement;
                Member.share(topic, PARTITIONS, 3, members);
            }
        }
        var group = Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group);
        Room.same(group.partitionAssignor(), "cooperative-sticky", "assignor in the end");
    }

    private static void inconsistent(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member.share(topic, PARTITIONS, PARTITIONS, room.member(topic, RANGE));
        KafkaConsumer<String, String> other = room.consumer(strategy("RoundRobin"));
        other.subscribe(List.of(topic));
        Room.refused(InconsistentGroupProtocolException.class, () -> Room.joined(other));
    }

    private static void unknown(Room room) throws Exception {
        KafkaConsumer<String, String> consumer = room.consumer("group.remote.assignor=fair");
        consumer.subscribe(List.of(room.topic(1)));
        Room.refused(UnsupportedAssignorException.class, () -> Room.joined(consumer));
    }

    private static void majority(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, "group.remote.assignor=range");
        Member two = room.member(topic, "group.remote.assignor=range");
        Member three = room.member(topic, "group.remote.assignor=uniform");
        Member.share(topic, PARTITIONS, 2, one, two, three);
        var group = Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group);
        Room.same(group.partitionAssignor(), "range", "the assignor that most of them want");
    }

    /** Two members of one protocol are replaced by two of the other, one after the other, and no record is missed. */
    private static void migrated(Room room, String from, String[] settings, String to) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member[] members = {room.memberOf(from, topic, settings), room.memberOf(from, topic, settings)};
        Member.share(topic, PARTITIONS, 3, members);
        Room.same(type(room), GroupType.parse(from), "type of the group before");
        int count = 0;
        for (int index = 0; index < members.length; index++) {
            room.fill(topic, PARTITIONS, count, 60);
            count += 60;
            Member.seen(count, members);
            Member next = room.memberOf(to, topic);
            Member.share(topic, PARTITIONS, 1, members[0], members[1], next);
            members[index].leave();
            next.values.addAll(members[index].values);
            members[index] = next;
            Member.share(topic, PARTITIONS, 3, members);
        }
        Room.same(type(room), GroupType.parse(to), "type of the group after");
        int all = count + 60;
        room.fill(topic, PARTITIONS, count, 60);
        Member.seen(all, members);
        long each = all / PARTITIONS;
        Room.until("all of it is committed", () -> room.committed(topic).values().stream().allMatch(at -> at == each));
    }

    private static void mixed(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member old = room.memberOf(Checks.CLASSIC, topic, COOPERATIVE);
        Member.share(topic, PARTITIONS, 6, old);
        Member modern = room.memberOf(Checks.CONSUMER, topic);
        Member.share(topic, PARTITIONS, 3, old, modern);
        Room.same(type(room), GroupType.CONSUMER, "type of the group");
        var group = Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group);
        Room.same(new HashSet<>(group.members().stream().map(member -> member.upgraded().orElse(null)).toList()),
            Set.of(true, false), "which of its members are upgraded");
        Member third = room.memberOf(Checks.CLASSIC, topic, COOPERATIVE);
        Member.share(topic, PARTITIONS, 2, old, modern, third);
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, old, modern, third);
        Room.same(room.ownership.overlaps, List.of(), "partitions that two members had");
        modern.leave();
        Member.share(topic, PARTITIONS, 3, old, third);
        Room.until("the group is a classic one again", () -> type(room) == GroupType.CLASSIC);
    }

    private static void passedOn(Room room, String from, String to) throws Exception {
        String topic = room.topic(PARTITIONS);
        room.fill(topic, PARTITIONS, 0, 60);
        Member old = room.memberOf(from, topic);
        Member.seen(60, old);
        old.leave();
        room.fill(topic, PARTITIONS, 60, 60);
        Member next = room.memberOf(to, topic);
        Member.seen(120, old, next);
        Room.same(next.values, Room.numbers(60, 60), "what was read after that");
        Room.same(type(room), GroupType.parse(to), "type of the group");
    }

    // -- what they need

    private static String strategy(String name) {
        return "partition.assignment.strategy=org.apache.kafka.clients.consumer." + name + "Assignor";
    }

    private static Member[] pair(Room room, String[] topics, String... settings) {
        Member[] members = {room.member(topics[0], settings), room.member(topics[0], settings)};
        for (Member member : members) {
            member.subscribe(topics);
        }
        return members;
    }

    private static Set<Integer> numbers(Member member, String topic) {
        return member.owned.stream().filter(partition -> partition.topic().equals(topic))
            .map(TopicPartition::partition).collect(Collectors.toSet());
    }

    private static Set<Set<Integer>> shares(Member[] members, String topic) {
        return new HashSet<>(List.of(numbers(members[0], topic), numbers(members[1], topic)));
    }

    private static GroupType type(Room room) throws Exception {
        return Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group).type();
    }
}
