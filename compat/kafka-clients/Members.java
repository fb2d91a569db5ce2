import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupMaxSizeReachedException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

/** Members that come, leave, are killed, stall, and come back by their name. */
final class Members {
    private static final int PARTITIONS = 6;
    /** Longer than a check has patience: what happens does not wait for a session to end. */
    private static final String LONG_SESSION_MS = "200000";
    /** For those that wait for one to end. Elsewhere it is 45 s, so that a busy machine ends none. */
    private static final String SHORT_SESSION_MS = "6000";

    private Members() { }

    static void add(Checks checks) {
        checks.both("three members, one leaves, one comes", Members::threeMembers);
        checks.both("revoked before another member has it", Members::noOverlap);
        checks.both("more members than partitions", Members::moreThanPartitions);
        checks.both("a member leaves: no session has to end", Members::leaves);
        checks.classic("a member stays when it closes: its session has to end", Members::remains);
        checks.both("a member killed hard", Members::killed);
        checks.both("a member over max.poll.interval.ms, and back", Members::stalled);
        checks.both("commit of a member that was put out", Members::lateCommit);
        checks.both("a group that is full", Members::full);
        checks.both("the group's metadata of a member", Members::groupMetadata);
        checks.consumer("session and heartbeat of a group of its own", Members::groupSettings);
        checks.classic("a rebalance that a member asks for", Members::enforced);
        checks.both("static: back within the session, nobody notices", Members::staticBack);
        checks.both("static: back after the session", Members::staticLate);
        checks.both("static: leaves for good when told so", Members::staticLeaves);
        checks.classic("static: fenced by a second one of its name", Members::fencedBySecond);
        checks.consumer("static: a second one of its name waits", Members::secondRefused);
        checks.both("static: removed by an administrator", Members::removed);
        checks.both("all members removed by an administrator", Members::allRemoved);
    }

    private static void threeMembers(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic);
        Member two = room.member(topic);
        Member three = room.member(topic);
        Member.share(topic, PARTITIONS, 2, one, two, three);
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, one, two, three);
        two.leave();
        room.fill(topic, PARTITIONS, 60, 60);
        Member.share(topic, PARTITIONS, 3, one, three);
        Member.seen(120, one, two, three);
        Member four = room.member(topic);
        Member.share(topic, PARTITIONS, 2, one, three, four);
        room.fill(topic, PARTITIONS, 120, 60);
        Member.seen(180, one, two, three, four);
        Room.until("all of it is committed", () -> room.committed(topic).values().stream().allMatch(at -> at == 30));
    }

    private static void noOverlap(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = room.classic() ? Assignors.COOPERATIVE : new String[0];
        Member one = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 6, one);
        Member two = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 3, one, two);
        Room.check(one.told.contains("revoked 3"), "the first one gave up half and no more: " + one.told);
        Member three = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 2, one, two, three);
        one.leave();
        Member.share(topic, PARTITIONS, 3, two, three);
        Room.same(room.ownership.overlaps, List.of(), "partitions that two members had");
    }

    private static void moreThanPartitions(Room room) throws Exception {
        String topic = room.topic(2);
        Member[] members = {room.member(topic), room.member(topic), room.member(topic)};
        Member.share(topic, 2, 0, members);
        Room.until("the third one is in the group too", () -> room.memberCount() == 3);
        Member.share(topic, 2, 0, members);
        for (Member member : members) {
            if (!member.owned.isEmpty()) {
                member.leave();
                break;
            }
        }
        Member.share(topic, 2, 0, members);
        Room.until("each of the two has one",
            () -> List.of(members).stream().filter(one -> one.owned.size() == 1).count() == 2);
    }

    private static void leaves(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, LONG_SESSION_MS);
        Member one = room.member(topic, settings);
        Member two = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 3, one, two);
        two.leave();
        Member.share(topic, PARTITIONS, 6, one);
    }

    private static void remains(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, SHORT_SESSION_MS);
        Member one = room.member(topic, settings);
        Member two = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 3, one, two);
        two.remain();
        Room.same(room.memberCount(), 2, "members, when one is closed");
        Member.share(topic, PARTITIONS, 6, one);
        Room.same(room.memberCount(), 1, "members, when its session is over");
    }

    private static void killed(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, SHORT_SESSION_MS);
        Member one = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 6, one);
        try (Doomed two = new Doomed(room, topic, 3, settings)) {
            room.fill(topic, PARTITIONS, 0, 60);
            two.kill();
            Member.share(topic, PARTITIONS, 6, one);
            Member.seen(60, one); // the other one committed nothing
        }
    }

    private static void stalled(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, "max.poll.interval.ms=10000");
        Member two = room.member(topic, "max.poll.interval.ms=10000");
        Member.share(topic, PARTITIONS, 3, one, two);
        two.stall();
        Room.until("the other one has it all", () -> one.owned.size() == PARTITIONS);
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, one);
        two.resume();
        Room.until("it learns that it lost them", () -> two.told.contains("lost 3"));
        Member.share(topic, PARTITIONS, 3, one, two);
    }

    private static void lateCommit(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        KafkaConsumer<String, String> late = room.consumer("max.poll.interval.ms=10000");
        late.subscribe(List.of(topic));
        Room.take(late, 10);
        Member next = room.member(topic);
        Room.until("another one has its partition", () -> next.owned.size() == 1);
        Member.seen(10, next);
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(3));
        Room.refused(CommitFailedException.class, () -> late.commitSync(offsets));
        Room.until("what the other one committed stays", () -> room.committed(topic).equals(Map.of(0, 10L)));
    }

    private static void full(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member[] members = new Member[5]; // as many as suite.toml lets in
        for (int number = 0; number < members.length; number++) {
            members[number] = room.member(topic);
        }
        // while a classic group rebalances a newcomer may take the place of one that is still to come
        Member.share(topic, PARTITIONS, 1, members);
        KafkaConsumer<String, String> sixth = room.consumer();
        sixth.subscribe(List.of(topic));
        Room.refused(GroupMaxSizeReachedException.class, () -> Room.joined(sixth));
    }

    private static void groupMetadata(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic, "group.instance.id=one");
        Member.share(topic, PARTITIONS, 6, one);
        int before = one.ask(consumer -> consumer.groupMetadata().generationId());
        Room.check(before > 0, "it has a generation or epoch: " + before);
        Room.same(one.ask(consumer -> consumer.groupMetadata().groupInstanceId().get()), "one", "its name");
        String id = one.ask(consumer -> consumer.groupMetadata().memberId());
        Member.share(topic, PARTITIONS, 3, one, room.member(topic));
        Room.same(one.ask(consumer -> consumer.groupMetadata().memberId()), id, "its member id after a rebalance");
        int after = one.ask(consumer -> consumer.groupMetadata().generationId());
        Room.check(after > before, "its generation or epoch rose: " + before + ", " + after);
        var member = Room.get(room.admin.describeConsumerGroups(List.of(room.group)).all()).get(room.group).members()
            .stream().filter(other -> other.consumerId().equals(id)).findFirst().orElseThrow();
        Room.same(member.groupInstanceId().get(), "one", "its name, as the admin client sees it");
        Room.same(member.assignment().topicPartitions(), one.owned, "its partitions, as the admin client sees them");
    }

    private static void groupSettings(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        room.setForGroup("consumer.session.timeout.ms", SHORT_SESSION_MS);
        Member one = room.member(topic);
        Member two = room.member(topic, "group.instance.id=two");
        Member.share(topic, PARTITIONS, 3, one, two);
        long begin = System.nanoTime();
        two.leave(); // who has a name is waited for
        Member.share(topic, PARTITIONS, 6, one);
        Room.check(System.nanoTime() - begin < 40_000_000_000L, "it is missed before the 45 s that others have are over");
    }

    private static void enforced(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member one = room.member(topic);
        Member two = room.member(topic);
        Member.share(topic, PARTITIONS, 3, one, two);
        int before = one.ask(consumer -> consumer.groupMetadata().generationId());
        two.ask(consumer -> {
            consumer.enforceRebalance("a check wants it");
            return null;
        });
        Room.until("the generation rises", () -> one.ask(consumer -> consumer.groupMetadata().generationId()) > before);
        Member.share(topic, PARTITIONS, 3, one, two);
    }

    private static void staticBack(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, LONG_SESSION_MS);
        Member one = room.member(topic, with(settings, "group.instance.id=one"));
        Member two = room.member(topic, with(settings, "group.instance.id=two"));
        Member.share(topic, PARTITIONS, 3, one, two);
        Set<TopicPartition> had = Set.copyOf(two.owned);
        List<String> told = List.copyOf(one.told);
        two.leave(); // who has a name does not
        Room.same(room.memberCount(), 2, "members, when one is closed");
        Member again = room.member(topic, with(settings, "group.instance.id=two"));
        Room.until("it has its partitions again", () -> "; it has " + again.owned, () -> again.owned.equals(had));
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, one, again);
        Room.same(one.told, told, "what the other one was told");
    }

    private static void staticLate(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, SHORT_SESSION_MS);
        Member one = room.member(topic, with(settings, "group.instance.id=one"));
        Member two = room.member(topic, with(settings, "group.instance.id=two"));
        Member.share(topic, PARTITIONS, 3, one, two);
        two.leave();
        Member.share(topic, PARTITIONS, 6, one);
        Member again = room.member(topic, with(settings, "group.instance.id=two"));
        Member.share(topic, PARTITIONS, 3, one, again);
    }

    private static void staticLeaves(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, LONG_SESSION_MS);
        Member one = room.member(topic, with(settings, "group.instance.id=one"));
        Member two = room.member(topic, with(settings, "group.instance.id=two"));
        Member.share(topic, PARTITIONS, 3, one, two);
        two.leaveForGood();
        Member.share(topic, PARTITIONS, 6, one);
    }

    private static void fencedBySecond(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member first = room.member(topic, "group.instance.id=one");
        Member.share(topic, PARTITIONS, 6, first);
        Member second = room.member(topic, "group.instance.id=one");
        Room.until("the first one is fenced", () -> first.failure instanceof FencedInstanceIdException);
        Member.share(topic, PARTITIONS, 6, second);
    }

    private static void secondRefused(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        Member first = room.member(topic, "group.instance.id=one");
        Member.share(topic, PARTITIONS, 6, first);
        Member second = room.member(topic, "group.instance.id=one");
        Room.until("the second one is refused", () -> second.failure instanceof UnreleasedInstanceIdException);
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, first);
        first.leave();
        Member third = room.member(topic, "group.instance.id=one");
        Member.share(topic, PARTITIONS, 6, third);
    }

    private static void removed(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, LONG_SESSION_MS);
        Member one = room.member(topic, with(settings, "group.instance.id=one"));
        Member two = room.member(topic, with(settings, "group.instance.id=two"));
        Member.share(topic, PARTITIONS, 3, one, two);
        two.leave();
        Room.get(room.admin.removeMembersFromConsumerGroup(room.group,
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("two")))).all());
        Member.share(topic, PARTITIONS, 6, one);
        Room.same(room.memberCount(), 1, "members");
    }

    private static void allRemoved(Room room) throws Exception {
        String topic = room.topic(PARTITIONS);
        String[] settings = session(room, LONG_SESSION_MS);
        Member one = room.member(topic, settings);
        Member two = room.member(topic, settings);
        Member.share(topic, PARTITIONS, 3, one, two);
        room.fill(topic, PARTITIONS, 0, 60);
        Member.seen(60, one, two); // one that still asks where it is to begin would end of being nobody
        String before = two.ask(consumer -> consumer.groupMetadata().memberId());
        Room.get(room.admin.removeMembersFromConsumerGroup(room.group, new RemoveMembersFromConsumerGroupOptions()).all());
        for (Member member : List.of(one, two)) {
            Room.until("each learns of it", () -> "; it was told " + member.told, () -> member.told.contains("lost 3"));
        }
        Member.share(topic, PARTITIONS, 3, one, two);
        String after = two.ask(consumer -> consumer.groupMetadata().memberId());
        Room.same(after.equals(before), !room.classic(), "whether it comes back by its id");
    }

    // -- what they need

    private static String[] session(Room room, String timeoutMs) throws Exception {
        if (room.classic()) {
            return new String[] {"session.timeout.ms=" + timeoutMs};
        }
        room.setForGroup("consumer.session.timeout.ms", timeoutMs);
        return new String[0];
    }

    private static String[] with(String[] settings, String one) {
        String[] all = Arrays.copyOf(settings, settings.length + 1);
        all[settings.length] = one;
        return all;
    }
}
