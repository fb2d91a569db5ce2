import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What one check works with: clients of the broker, names that nobody else has, and ways to wait and to compare. */
final class Room implements AutoCloseable {
    /** On a busy machine. */
    static final Duration PATIENCE = Duration.ofSeconds(60);

    final String bootstrap;
    final String protocol;
    final String group = fresh("group");
    final Admin admin;
    final Ownership ownership = new Ownership();
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    Room(String bootstrap, String protocol) {
        this.bootstrap = bootstrap;
        this.protocol = protocol;
        this.admin = closing(Admin.create(Map.of("bootstrap.servers", bootstrap)));
    }

    @Override
    public void close() throws Exception {
        while (!open.isEmpty()) {
            open.pop().close();
        }
    }

    boolean classic() {
        return protocol.equals(Checks.CLASSIC);
    }

    /** Have something closed when the check is over. */
    <T extends AutoCloseable> T closing(T thing) {
        open.push(thing);
        return thing;
    }

    // -- names and topics

    static String fresh(String stem) {
        return stem + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** A new topic; settings are "name=value". */
    String topic(int partitions, String... settings) throws Exception {
        return create(fresh("topic"), partitions, settings);
    }

    String create(String name, int partitions, String... settings) throws Exception {
        NewTopic topic = new NewTopic(name, Optional.of(partitions), Optional.empty()).configs(pairs(settings));
        get(admin.createTopics(List.of(topic)).all());
        until("the topic is there", () -> get(admin.listTopics().names()).contains(name));
        return name;
    }

    void delete(String topic) throws Exception {
        get(admin.deleteTopics(List.of(topic)).all());
    }

    void setForGroup(String name, String value) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        get(admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all());
        until("the group has the setting", () ->
            value.equals(get(admin.describeConfigs(List.of(resource)).all()).get(resource).get(name).value()));
    }

    // -- clients

    KafkaProducer<String, String> producer(String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        all.putAll(pairs(settings));
        return closing(new KafkaProducer<>(all, new StringSerializer(), new StringSerializer()));
    }

    /** A consumer of the check's protocol and group, which begins at the beginning and commits when it is told to. */
    KafkaConsumer<String, String> consumer(String... settings) {
        return closing(new KafkaConsumer<>(
            consumerSettings(protocol, settings), new StringDeserializer(), new StringDeserializer()));
    }

    Map<String, Object> consumerSettings(String protocol, String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap,
            "group.id", group,
            "group.protocol", protocol,
            "auto.offset.reset", "earliest",
            "enable.auto.commit", "false",
            "metadata.max.age.ms", "1000"));
        if (protocol.equals(Checks.CLASSIC)) { // with the other protocol the broker says
            all.put("heartbeat.interval.ms", "500");
        }
        all.putAll(pairs(settings));
        return all;
    }

    /** A member that reads a topic and commits by itself. */
    Member member(String topic, String... settings) {
        return memberOf(protocol, topic, settings);
    }

    /** One that is not subscribed yet. */
    Member member() {
        return closing(new Member(this, protocol));
    }

    Member memberOf(String protocol, String topic, String... settings) {
        Member member = closing(new Member(this, protocol, settings));
        member.subscribe(topic);
        return member;
    }

    /** Records "FIRST".."FIRST + COUNT - 1", one partition after the other. */
    void fill(String topic, int partitions, int first, int count) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            for (int number = first; number < first + count; number++) {
                producer.send(new ProducerRecord<>(topic, number % partitions, null, "" + number));
            }
        }
    }

    // -- waiting and comparing

    interface Condition {
        boolean holds() throws Exception;
    }

    static void until(String what, Condition condition) throws Exception {
        until(what, () -> "", condition);
    }

    /** Return as soon as it holds; "instead" tells what was so in its place. */
    static void until(String what, Supplier<?> instead, Condition condition) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("never came true: " + what + " " + instead.get());
            }
            Thread.sleep(20);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError("not so: " + what);
        }
    }

    static void same(Object got, Object wanted, String what) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError(what + ": got " + got + ", not " + wanted);
        }
    }

    interface Step {
        void run() throws Exception;
    }

    /** The step has to fail with this; a future's failure is what was behind it. */
    static <T extends Throwable> T refused(Class<T> wanted, Step step) {
        try {
            step.run();
        } catch (Throwable failure) {
            Throwable cause = failure instanceof ExecutionException ? failure.getCause() : failure;
            if (!wanted.isInstance(cause)) {
                throw new AssertionError("refused with " + cause + ", not with " + wanted.getSimpleName(), cause);
            }
            return wanted.cast(cause);
        }
        throw new AssertionError("not refused; wanted is " + wanted.getSimpleName());
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }

    /** Poll until so many records are there. */
    static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> taken = new ArrayList<>();
        until(count + " records", () -> "; there are " + values(taken), () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(taken::add);
            return taken.size() >= count;
        });
        same(taken.size(), count, "records");
        return taken;
    }

    static void joined(KafkaConsumer<String, String> consumer) throws Exception {
        until("the consumer has partitions", () -> {
            consumer.poll(Duration.ofMillis(100));
            return !consumer.assignment().isEmpty();
        });
    }

    static List<String> values(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    static TreeSet<String> numbers(int first, int count) {
        return IntStream.range(first, first + count).mapToObj(String::valueOf)
            .collect(Collectors.toCollection(TreeSet::new));
    }

    static List<TopicPartition> partitions(String topic, int count) {
        return IntStream.range(0, count).mapToObj(number -> new TopicPartition(topic, number)).toList();
    }

    /** How many members the group has; none when it is not there. */
    int memberCount() throws Exception {
        try {
            return get(admin.describeConsumerGroups(List.of(group)).all()).get(group).members().size();
        } catch (ExecutionException failure) {
            if (failure.getCause() instanceof GroupIdNotFoundException) {
                return 0;
            }
            throw failure;
        }
    }

    /** What the group has committed, by partition of the topic. */
    Map<Integer, Long> committed(String topic) throws Exception {
        Map<Integer, Long> found = new HashMap<>();
        Map<TopicPartition, OffsetAndMetadata> all =
            get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        all.forEach((partition, at) -> {
            if (at != null && partition.topic().equals(topic)) {
                found.put(partition.partition(), at.offset());
            }
        });
        return found;
    }

    private static Map<String, String> pairs(String... settings) {
        return Arrays.stream(settings).map(setting -> setting.split("=", 2))
            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
    }
}
