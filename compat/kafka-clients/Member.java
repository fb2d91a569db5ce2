import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.FutureTask;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;
import java.util.function.Function;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group on a thread of its own, which polls and commits by itself, and keeps what it was told. */
final class Member implements ConsumerRebalanceListener, AutoCloseable {
    final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
    final Set<String> values = ConcurrentHashMap.newKeySet();
    /** "assigned", "revoked" and "lost", in order, each with how many partitions: an eager one is told of none as well. */
    final List<String> told = new CopyOnWriteArrayList<>();
    /** What ended it. */
    volatile RuntimeException failure;
    private final Ownership ownership;
    private final KafkaConsumer<String, String> consumer;
    private final BlockingQueue<FutureTask<?>> jobs = new LinkedBlockingQueue<>();
    private final Thread thread = new Thread(this::run);
    private CountDownLatch stalled = new CountDownLatch(0);
    private boolean subscribed;
    private volatile CloseOptions closing;

    Member(Room room, String protocol, String... settings) {
        ownership = room.ownership;
        Map<String, Object> all = room.consumerSettings(protocol, settings);
        all.put("enable.auto.commit", "true");
        all.put("auto.commit.interval.ms", "200");
        consumer = new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
        thread.setDaemon(true);
        thread.start();
    }

    void subscribe(String... topics) {
        subscribe(consumer -> consumer.subscribe(Arrays.asList(topics), this));
    }

    void subscribe(Consumer<KafkaConsumer<String, String>> how) {
        jobs.add(new FutureTask<>(() -> {
            how.accept(consumer);
            subscribed = true;
        }, null));
    }

    /** Have the member's own thread do something, and wait for what comes of it. */
    <T> T ask(Function<KafkaConsumer<String, String>, T> question) throws Exception {
        FutureTask<T> job = new FutureTask<>(() -> question.apply(consumer));
        jobs.add(job);
        return Room.get(job);
    }

    /** From now on it does not poll. */
    void stall() {
        CountDownLatch latch = stalled = new CountDownLatch(1);
        jobs.add(new FutureTask<>(() -> {
            latch.await();
            return null;
        }));
    }

    void resume() {
        stalled.countDown();
    }

    /** Close as a client closes by default. */
    void leave() throws Exception {
        close(CloseOptions.timeout(Duration.ofSeconds(30)));
    }

    /** Close and leave, also one that has a name. */
    void leaveForGood() throws Exception {
        close(CloseOptions.timeout(Duration.ofSeconds(30))
            .withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
    }

    /** Close, and stay a member until the session runs out. */
    void remain() throws Exception {
        close(CloseOptions.timeout(Duration.ofSeconds(30))
            .withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP));
    }

    @Override
    public void close() throws Exception {
        close(CloseOptions.timeout(Duration.ofSeconds(5)));
    }

    private void close(CloseOptions options) throws Exception {
        closing = options;
        resume();
        thread.join(Room.PATIENCE.toMillis());
    }

    private void run() {
        try {
            while (closing == null) {
                for (FutureTask<?> job = jobs.poll(); job != null; job = jobs.poll()) {
                    job.run();
                }
                if (subscribed) {
                    consumer.poll(Duration.ofMillis(50)).forEach(this::took);
                }
            }
        } catch (RuntimeException thrown) {
            failure = thrown;
        } finally {
            consumer.close(closing == null ? CloseOptions.timeout(Duration.ZERO) : closing);
            owned.forEach(partition -> ownership.gone(partition, this));
            owned.clear();
        }
    }

    private void took(ConsumerRecord<String, String> record) {
        values.add(record.value());
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        told.add("assigned " + partitions.size());
        partitions.forEach(partition -> ownership.assigned(partition, this));
        owned.addAll(partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        told.add("revoked " + partitions.size());
        gone(partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        told.add("lost " + partitions.size());
        gone(partitions);
    }

    private void gone(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> ownership.gone(partition, this));
        owned.removeAll(partitions);
    }

    // -- several of them

    /** Until these, and nobody else, have all the topic's partitions, so many each at least. */
    static void share(String topic, int partitions, int least, Member... members) throws Exception {
        Set<TopicPartition> all = Set.copyOf(Room.partitions(topic, partitions));
        Room.until("all " + partitions + " partitions are shared", () -> "; they have " + owned(members), () -> {
            for (Member member : members) {
                if (member.failure != null) {
                    throw member.failure;
                }
            }
            int sum = Arrays.stream(members).mapToInt(member -> member.owned.size()).sum();
            return sum == partitions
                && Arrays.stream(members).allMatch(member -> member.owned.size() >= least && all.containsAll(member.owned));
        });
    }

    /** Until these have seen all records from 0 on between them. */
    static void seen(int count, Member... members) throws Exception {
        TreeSet<String> missing = Room.numbers(0, count);
        Room.until("all " + count + " records are read", () -> "; missing are " + missing, () -> {
            for (Member member : members) {
                missing.removeAll(member.values);
            }
            return missing.isEmpty();
        });
    }

    private static List<Set<TopicPartition>> owned(Member... members) {
        return Arrays.stream(members).map(member -> member.owned).toList();
    }
}
