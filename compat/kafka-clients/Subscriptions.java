import java.time.Duration;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.InvalidTopicException;

/** Whatever a consumer can subscribe to, and what becomes of a subscription when topics come and go. */
final class Subscriptions {
    private Subscriptions() { }

    static void add(Checks checks) {
        checks.both("subscribed by list", Subscriptions::byList);
        checks.both("subscribed by a pattern: topics come and go", Subscriptions::byPattern);
        checks.both("subscribed by a pattern of Java's alone", Subscriptions::byPatternOfJava);
        checks.both("subscribed by a pattern: records of all members", Subscriptions::membersByPattern);
        checks.consumer("subscribed by a pattern that RE2 does not know", Subscriptions::badPattern);
        checks.consumer("subscribed by another pattern, then by list", Subscriptions::patternChanged);
        checks.both("subscription changed: a topic more, a topic less", Subscriptions::changed);
        checks.both("subscription changed many times", Subscriptions::changedOften);
        checks.both("unsubscribed and subscribed again", Subscriptions::unsubscribed);
        checks.both("members with different subscriptions", Subscriptions::different);
        checks.both("subscribed before the topic is there", Subscriptions::early);
        checks.both("partitions added to a subscribed topic", Subscriptions::grown);
        checks.both("a subscribed topic deleted", Subscriptions::deleted);
        checks.both("a subscribed topic deleted and made anew", Subscriptions::recreated);
        checks.both("subscribed to a name that no topic may have", Subscriptions::badName);
    }

    private static void byList(Room room) throws Exception {
        String one = room.topic(3);
        String other = room.topic(2);
        room.fill(one, 3, 0, 30);
        room.fill(other, 2, 30, 20);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(one, other));
        Room.same(consumer.subscription(), Set.of(one, other), "subscription");
        Room.same(new TreeSet<>(Room.values(Room.take(consumer, 50))), Room.numbers(0, 50), "records");
        Room.same(consumer.assignment(), of(Room.partitions(one, 3), Room.partitions(other, 2)), "assignment");
    }

    private static void byPattern(Room room) throws Exception {
        String stem = Room.fresh("stem");
        String before = room.create(stem + ".a", 2);
        room.create("not-" + stem + ".a", 1);
        KafkaConsumer<String, String> consumer = room.consumer();
        if (room.classic()) {
            consumer.subscribe(Pattern.compile(stem + "\\.[a-z]"));
        } else {
            consumer.subscribe(new SubscriptionPattern(stem + "\\.[a-z]"));
        }
        assigned(consumer, of(Room.partitions(before, 2)));
        String after = room.create(stem + ".b", 3);
        room.create(stem + ".1", 1);
        assigned(consumer, of(Room.partitions(before, 2), Room.partitions(after, 3)));
        room.fill(after, 3, 0, 9);
        Room.take(consumer, 9);
        room.delete(before);
        assigned(consumer, of(Room.partitions(after, 3)));
    }

    private static void byPatternOfJava(Room room) throws Exception {
        String stem = Room.fresh("stem");
        String wanted = room.create(stem + ".a", 2);
        room.create(stem + ".secret", 1);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(Pattern.compile(stem + "\\.(?!secret).*"));
        assigned(consumer, of(Room.partitions(wanted, 2)));
        String late = room.create(stem + ".late", 1);
        assigned(consumer, of(Room.partitions(wanted, 2), Room.partitions(late, 1)));
    }

    private static void membersByPattern(Room room) throws Exception {
        String stem = Room.fresh("stem");
        String topic = room.create(stem + ".a", 6);
        Member[] members = {room.member(), room.member()};
        for (Member member : members) {
            member.subscribe(consumer -> {
                if (room.classic()) {
                    consumer.subscribe(Pattern.compile(stem + ".*"), member);
                } else {
                    consumer.subscribe(new SubscriptionPattern(stem + ".*"), member);
                }
            });
        }
        Member.share(topic, 6, 3, members);
        room.fill(topic, 6, 0, 60);
        Member.seen(60, members);
    }

    private static void badPattern(Room room) {
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(new SubscriptionPattern("a(?!b)"));
        Room.refused(InvalidRegularExpression.class, () -> Room.joined(consumer));
    }

    private static void patternChanged(Room room) throws Exception {
        String stem = Room.fresh("stem");
        String one = room.create(stem + ".1", 1);
        String two = room.create(stem + ".2", 2);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(new SubscriptionPattern(stem + "\\.1"));
        assigned(consumer, of(Room.partitions(one, 1)));
        consumer.subscribe(new SubscriptionPattern(stem + "\\.2"));
        assigned(consumer, of(Room.partitions(two, 2)));
        consumer.unsubscribe();
        consumer.subscribe(List.of(one));
        assigned(consumer, of(Room.partitions(one, 1)));
    }

    private static void changed(Room room) throws Exception {
        String one = room.topic(2);
        String two = room.topic(2);
        Member member = room.member(one);
        Member.share(one, 2, 2, member);
        member.subscribe(one, two);
        owns(member, of(Room.partitions(one, 2), Room.partitions(two, 2)));
        member.subscribe(two);
        owns(member, of(Room.partitions(two, 2)));
        room.fill(two, 2, 0, 10);
        Member.seen(10, member);
    }

    private static void changedOften(Room room) throws Exception {
        String one = room.topic(3);
        String two = room.topic(3);
        room.fill(two, 3, 0, 30);
        KafkaConsumer<String, String> consumer = room.consumer();
        for (int round = 0; round < 30; round++) {
            consumer.subscribe(round % 2 == 0 ? List.of(one) : List.of(one, two));
            consumer.poll(Duration.ofMillis(round % 5 * 20));
            if (round % 3 == 0) {
                consumer.unsubscribe();
            }
        }
        consumer.subscribe(List.of(two));
        assigned(consumer, of(Room.partitions(two, 3)));
        consumer.seekToBeginning(Room.partitions(two, 3));
        Room.take(consumer, 30);
    }

    private static void unsubscribed(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 10);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 10);
        consumer.commitSync();
        consumer.unsubscribe();
        Room.same(consumer.assignment(), Set.of(), "assignment");
        Room.until("the group is empty", () -> room.memberCount() == 0);
        consumer.subscribe(List.of(topic));
        Room.joined(consumer);
        room.fill(topic, 2, 10, 10);
        Room.same(new TreeSet<>(Room.values(Room.take(consumer, 10))), Room.numbers(10, 10), "records");
    }

    private static void different(Room room) throws Exception {
        String one = room.topic(2);
        String two = room.topic(2);
        String three = room.topic(2);
        Member left = room.member(one);
        left.subscribe(one, two);
        Member right = room.member(three);
        right.subscribe(two, three);
        Room.until("each has its own, and the rest is shared", () -> left.owned + " " + right.owned, () ->
            left.owned.containsAll(Room.partitions(one, 2)) && right.owned.containsAll(Room.partitions(three, 2))
                && left.owned.size() + right.owned.size() == 6
                && of(left.owned, right.owned).containsAll(Room.partitions(two, 2)));
    }

    private static void early(Room room) throws Exception {
        String name = Room.fresh("early");
        Member member = room.member(name);
        Room.until("the member is in the group", () -> room.memberCount() == 1);
        room.create(name, 2);
        room.fill(name, 2, 0, 10);
        Member.share(name, 2, 2, member);
        Member.seen(10, member);
    }

    private static void grown(Room room) throws Exception {
        String topic = room.topic(2);
        Member[] members = {room.member(topic), room.member(topic)};
        Member.share(topic, 2, 1, members);
        room.fill(topic, 2, 0, 10);
        Room.get(room.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(6))).all());
        Member.share(topic, 6, 3, members);
        room.fill(topic, 6, 10, 60);
        Member.seen(70, members);
    }

    private static void deleted(Room room) throws Exception {
        String gone = room.topic(2);
        String kept = room.topic(2);
        // one that commits by itself tries to for the deleted topic, and may wait with the rebalance until that succeeds
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(gone, kept));
        assigned(consumer, of(Room.partitions(gone, 2), Room.partitions(kept, 2)));
        room.fill(gone, 2, 0, 10);
        Room.take(consumer, 10);
        consumer.commitSync();
        room.delete(gone);
        assigned(consumer, of(Room.partitions(kept, 2)));
        room.fill(kept, 2, 0, 10);
        Room.take(consumer, 10);
        Room.until("the deleted topic's offsets are gone", () -> room.committed(gone).isEmpty());
    }

    private static void recreated(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 10);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 10);
        consumer.commitSync();
        room.delete(topic);
        Room.until("its offsets are gone", () -> room.committed(topic).isEmpty());
        room.create(topic, 2);
        room.fill(topic, 2, 10, 4);
        Room.same(new TreeSet<>(Room.values(Room.take(consumer, 4))), Room.numbers(10, 4), "records");
    }

    private static void badName(Room room) {
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of("no topic: this"));
        Room.refused(InvalidTopicException.class, () -> Room.joined(consumer));
    }

    private static void assigned(KafkaConsumer<String, String> consumer, Set<TopicPartition> wanted) throws Exception {
        Room.until("the consumer has " + wanted, () -> "; it has " + consumer.assignment(), () -> {
            if (consumer.assignment().equals(wanted)) {
                return true;
            }
            consumer.poll(Duration.ofMillis(50));
            return false;
        });
    }

    private static void owns(Member member, Set<TopicPartition> wanted) throws Exception {
        Room.until("the member has " + wanted, () -> "; it has " + member.owned + ", ended by " + member.failure,
            () -> member.owned.equals(wanted));
    }

    @SafeVarargs
    private static Set<TopicPartition> of(Collection<TopicPartition>... parts) {
        Set<TopicPartition> all = new HashSet<>();
        for (Collection<TopicPartition> part : parts) {
            all.addAll(part);
        }
        return all;
    }
}
