import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;

/** Transactions, and what groups have to do with them. */
final class Transactions {
    private Transactions() { }

    static void add(Checks checks) {
        checks.both("read_committed beside what is aborted and what is open", Transactions::isolation);
        checks.both("read_uncommitted: all of it", Transactions::uncommitted);
        checks.both("offsets in a transaction: committed with it, dropped with it", Transactions::offsets);
        checks.both("offsets in a transaction: not told before it ends", Transactions::unstable);
        checks.both("offsets in a transaction: of a member that was put out", Transactions::staleMember);
        checks.both("offsets in a transaction: of nobody in particular, while there are members", Transactions::noMember);
        checks.both("copied exactly once by a group of two", Transactions::copied);
        checks.once("offsets in a transaction: of a static member that was fenced", Transactions::fencedMember);
        checks.once("transaction over several topics", Transactions::atomic);
        checks.once("transaction after transaction", Transactions::oneAfterTheOther);
        checks.once("a second producer of a transactional id fences the first", Transactions::fenced);
        checks.once("a transaction over its time", Transactions::timedOut);
        checks.once("admin: transactions listed and described", Transactions::described);
        checks.once("admin: producers described, a transaction aborted", Transactions::aborted);
        checks.once("admin: producers fenced", Transactions::fencedByAdmin);
        checks.once("admin: a transaction ended by force", Transactions::forced);
        checks.once("admin: a transactional id that nobody has", Transactions::unknown);
    }

    private static void isolation(Room room) throws Exception {
        String topic = room.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaProducer<String, String> plain = room.producer();
        KafkaProducer<String, String> producer = begun(room);
        send(producer, topic, "committed 1", "committed 2");
        producer.commitTransaction();
        producer.beginTransaction();
        send(producer, topic, "aborted");
        producer.flush();
        producer.abortTransaction();
        send(plain, topic, "plain");
        plain.flush();
        producer.beginTransaction();
        send(producer, topic, "open");
        producer.flush();
        send(plain, topic, "after");
        plain.flush();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 3)), List.of("committed 1", "committed 2", "plain"), "before the end");
        Room.check(consumer.poll(Duration.ofMillis(500)).isEmpty(), "nothing behind what is open is seen");
        long stable = consumer.endOffsets(List.of(partition)).get(partition);
        Room.same(stable, 6L, "end of what is committed: two records, two ends, one aborted, one plain");
        producer.commitTransaction();
        Room.same(Room.values(Room.take(consumer, 2)), List.of("open", "after"), "after the end");
        Room.same(consumer.endOffsets(List.of(partition)).get(partition), 9L, "end of everything");
    }

    private static void uncommitted(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaProducer<String, String> producer = begun(room);
        send(producer, topic, "aborted");
        producer.flush();
        producer.abortTransaction();
        producer.beginTransaction();
        send(producer, topic, "open");
        producer.flush();
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 2)), List.of("aborted", "open"), "records");
        Room.same(consumer.position(new TopicPartition(topic, 0)), 3L, "position, behind the end of a transaction");
    }

    private static void offsets(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        KafkaConsumer<String, String> consumer = joined(room, topic);
        KafkaProducer<String, String> producer = begun(room);
        producer.sendOffsetsToTransaction(at(topic, 4), consumer.groupMetadata());
        producer.abortTransaction();
        Room.same(room.committed(topic), Map.of(), "after an abort");
        producer.beginTransaction();
        producer.sendOffsetsToTransaction(at(topic, 5), consumer.groupMetadata());
        producer.commitTransaction();
        Room.until("it is committed", () -> room.committed(topic).equals(Map.of(0, 5L)));
        producer.beginTransaction();
        producer.sendOffsetsToTransaction(at(topic, 6), consumer.groupMetadata());
        producer.abortTransaction();
        Room.same(room.committed(topic), Map.of(0, 5L), "after another abort");
    }

    private static void unstable(Room room) throws Exception {
        String topic = room.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> consumer = joined(room, topic);
        KafkaProducer<String, String> producer = begun(room);
        producer.sendOffsetsToTransaction(at(topic, 5), consumer.groupMetadata());
        var spec = new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(partition));
        for (boolean stable : List.of(false, true)) {
            var options = new ListConsumerGroupOffsetsOptions().requireStable(stable);
            var found = Room.get(room.admin.listConsumerGroupOffsets(Map.of(room.group, spec), options).all());
            // an admin client leaves out what is not stable
            Room.same(found.get(room.group).containsKey(partition), !stable, "whether an admin client is told");
            Room.same(found.get(room.group).get(partition), null, "what it is told");
        }
        KafkaConsumer<String, String> other = room.consumer();
        Room.refused(TimeoutException.class, () -> other.committed(Set.of(partition), Duration.ofSeconds(2)));
        producer.commitTransaction();
        Room.same(other.committed(Set.of(partition)).get(partition).offset(), 5L, "committed");
    }

    private static void staleMember(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaConsumer<String, String> consumer = joined(room, topic);
        ConsumerGroupMetadata former = consumer.groupMetadata();
        consumer.close();
        KafkaConsumer<String, String> next = joined(room, topic);
        KafkaProducer<String, String> producer = begun(room);
        Room.refused(CommitFailedException.class, () -> producer.sendOffsetsToTransaction(at(topic, 5), former));
        producer.abortTransaction();
        producer.beginTransaction();
        producer.sendOffsetsToTransaction(at(topic, 6), next.groupMetadata());
        producer.commitTransaction();
        Room.until("the right one's are committed", () -> room.committed(topic).equals(Map.of(0, 6L)));
    }

    @SuppressWarnings("removal") // the way of clients before 2.5
    private static void noMember(Room room) throws Exception {
        String topic = room.topic(1);
        joined(room, topic);
        KafkaProducer<String, String> producer = begun(room);
        producer.sendOffsetsToTransaction(at(topic, 5), new ConsumerGroupMetadata(room.group));
        producer.commitTransaction();
        Room.until("it is committed", () -> room.committed(topic).equals(Map.of(0, 5L)));
    }

    private static void fencedMember(Room room) throws Exception {
        String topic = room.topic(1);
        Map<String, Object> settings = room.consumerSettings(Checks.CLASSIC, "group.instance.id=one");
        var text = new org.apache.kafka.common.serialization.StringDeserializer();
        KafkaConsumer<String, String> first = room.closing(new KafkaConsumer<>(settings, text, text));
        first.subscribe(List.of(topic));
        Room.joined(first);
        ConsumerGroupMetadata former = first.groupMetadata();
        KafkaConsumer<String, String> second = room.closing(new KafkaConsumer<>(settings, text, text));
        second.subscribe(List.of(topic));
        Room.joined(second);
        KafkaProducer<String, String> producer = begun(room);
        Room.refused(FencedInstanceIdException.class, () -> producer.sendOffsetsToTransaction(at(topic, 5), former));
        producer.abortTransaction();
    }

    /** Two that copy; another comes and one of them goes in the middle: every record is there once. */
    private static void copied(Room room) throws Exception {
        String source = room.topic(6);
        String target = room.topic(3);
        room.fill(source, 6, 0, 300);
        Copier one = new Copier(room, source, target);
        Copier two = new Copier(room, source, target);
        one.start();
        two.start();
        KafkaConsumer<String, String> reader = room.consumer(
            "isolation.level=read_committed", "group.id=" + Room.fresh("reader"));
        reader.assign(Room.partitions(target, 3));
        Map<String, Integer> times = new HashMap<>();
        Room.until("half is copied", () -> count(reader, times) >= 150);
        Copier three = new Copier(room, source, target);
        three.start();
        room.fill(source, 6, 300, 300);
        Room.until("more is copied", () -> count(reader, times) >= 400);
        one.end();
        room.fill(source, 6, 600, 300);
        Room.until("all is copied", () -> "; " + times.size() + " are there", () -> count(reader, times) >= 900);
        two.end();
        three.end();
        Room.check(times.values().stream().allMatch(number -> number == 1), "each is there once");
        Room.same(room.committed(source).values().stream().mapToLong(Long::longValue).sum(), 900L, "committed");
    }

    private static int count(KafkaConsumer<String, String> reader, Map<String, Integer> times) {
        reader.poll(Duration.ofMillis(50)).forEach(record -> times.merge(record.value(), 1, Integer::sum));
        return times.size();
    }

    private static void atomic(Room room) throws Exception {
        String one = room.topic(2);
        String two = room.topic(2);
        KafkaProducer<String, String> producer = begun(room);
        for (int number = 0; number < 20; number++) {
            producer.send(new ProducerRecord<>(number % 2 == 0 ? one : two, number / 2 % 2, null, "" + number));
        }
        producer.flush();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(one, two));
        Room.joined(consumer);
        Room.check(consumer.poll(Duration.ofMillis(500)).isEmpty(), "nothing is seen before the end");
        producer.commitTransaction();
        Room.take(consumer, 20);
    }

    private static void oneAfterTheOther(Room room) throws Exception {
        String topic = room.topic(3);
        KafkaProducer<String, String> producer = begun(room);
        for (int number = 0; number < 100; number++) {
            producer.send(new ProducerRecord<>(topic, "" + number));
            if (number % 4 == 3) {
                producer.flush();
                producer.abortTransaction();
            } else {
                producer.commitTransaction();
            }
            producer.beginTransaction();
        }
        producer.commitTransaction();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(topic));
        for (String value : Room.values(Room.take(consumer, 75))) {
            Room.check(Integer.parseInt(value) % 4 != 3, "what was aborted is not seen: " + value);
        }
    }

    private static void fenced(Room room) throws Exception {
        String topic = room.topic(1);
        String id = Room.fresh("transactional");
        KafkaProducer<String, String> first = begun(room, id);
        send(first, topic, "of the first");
        first.flush();
        KafkaProducer<String, String> second = begun(room, id);
        Room.refused(ProducerFencedException.class, first::commitTransaction);
        send(second, topic, "of the second");
        second.commitTransaction();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 1)), List.of("of the second"), "records");
    }

    private static void timedOut(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaProducer<String, String> producer =
            room.producer("transactional.id=" + Room.fresh("transactional"), "transaction.timeout.ms=2000");
        producer.initTransactions();
        producer.beginTransaction();
        send(producer, topic, "late");
        producer.flush();
        KafkaProducer<String, String> plain = room.producer();
        send(plain, topic, "plain");
        plain.flush();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 1)), List.of("plain"), "what is seen when the broker has aborted it");
        Room.refused(KafkaException.class, producer::commitTransaction);
    }

    private static void described(Room room) throws Exception {
        String topic = room.topic(1);
        String id = Room.fresh("transactional");
        KafkaProducer<String, String> producer = begun(room, id);
        send(producer, topic, "open");
        producer.flush();
        TransactionDescription open = Room.get(room.admin.describeTransactions(List.of(id)).description(id));
        Room.same(open.state(), TransactionState.ONGOING, "state");
        Room.same(open.topicPartitions(), Set.of(new TopicPartition(topic, 0)), "partitions");
        Room.same(open.transactionTimeoutMs(), 60000L, "timeout");
        Room.check(open.transactionStartTimeMs().isPresent(), "it has begun some time");
        var ongoing = new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING));
        Room.check(listed(room, id, ongoing), "it is listed among those that go on");
        producer.commitTransaction();
        Room.until("it is done", () -> Room.get(room.admin.describeTransactions(List.of(id)).description(id)).state()
            == TransactionState.COMPLETE_COMMIT);
        Room.check(!listed(room, id, ongoing), "it is not listed among those that go on");
        Room.check(listed(room, id, new ListTransactionsOptions()), "it is listed among all");
        Room.check(listed(room, id, new ListTransactionsOptions().filterProducerIds(Set.of(open.producerId()))),
            "it is listed by its producer id");
        var pattern = new ListTransactionsOptions().filterOnTransactionalIdPattern(id.substring(0, 16) + ".*");
        Room.check(listed(room, id, pattern), "it is listed by a pattern");
    }

    private static boolean listed(Room room, String id, ListTransactionsOptions options) throws Exception {
        return Room.get(room.admin.listTransactions(options).all()).stream()
            .anyMatch(one -> one.transactionalId().equals(id));
    }

    private static void aborted(Room room) throws Exception {
        String topic = room.topic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaProducer<String, String> producer = begun(room);
        send(producer, topic, "open 1", "open 2");
        producer.flush();
        ProducerState state = producers(room, partition).get(0);
        Room.same(state.lastSequence(), 1, "last sequence number");
        Room.same(state.currentTransactionStartOffset().getAsLong(), 0L, "start of its transaction");
        Room.get(room.admin.abortTransaction(new AbortTransactionSpec(
            partition, state.producerId(), (short) state.producerEpoch(), state.coordinatorEpoch().orElse(0))).all());
        Room.check(producers(room, partition).get(0).currentTransactionStartOffset().isEmpty(), "no transaction is open");
        KafkaProducer<String, String> plain = room.producer();
        send(plain, topic, "plain");
        plain.flush();
        KafkaConsumer<String, String> consumer = room.consumer("isolation.level=read_committed");
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 1)), List.of("plain"), "what is seen");
    }

    private static List<ProducerState> producers(Room room, TopicPartition partition) throws Exception {
        return Room.get(room.admin.describeProducers(List.of(partition)).partitionResult(partition)).activeProducers();
    }

    private static void fencedByAdmin(Room room) throws Exception {
        String topic = room.topic(1);
        String id = Room.fresh("transactional");
        KafkaProducer<String, String> producer = begun(room, id);
        send(producer, topic, "open");
        producer.flush();
        Room.get(room.admin.fenceProducers(List.of(id)).all());
        Room.refused(KafkaException.class, producer::commitTransaction);
        Room.same(Room.get(room.admin.describeTransactions(List.of(id)).description(id)).state(), TransactionState.EMPTY,
            "state when its transaction is aborted");
    }

    private static void forced(Room room) throws Exception {
        String topic = room.topic(1);
        String id = Room.fresh("transactional");
        KafkaProducer<String, String> producer = begun(room, id);
        send(producer, topic, "open");
        producer.flush();
        Room.get(room.admin.forceTerminateTransaction(id).result());
        Room.same(Room.get(room.admin.describeTransactions(List.of(id)).description(id)).state(), TransactionState.EMPTY,
            "state when its transaction is aborted");
    }

    private static void unknown(Room room) {
        String id = Room.fresh("nobody");
        Room.refused(TransactionalIdNotFoundException.class,
            () -> Room.get(room.admin.describeTransactions(List.of(id)).description(id)));
    }

    // -- what they need

    private static KafkaProducer<String, String> begun(Room room) {
        return begun(room, Room.fresh("transactional"));
    }

    private static KafkaProducer<String, String> begun(Room room, String id) {
        KafkaProducer<String, String> producer = room.producer("transactional.id=" + id);
        producer.initTransactions();
        producer.beginTransaction();
        return producer;
    }

    private static void send(KafkaProducer<String, String> producer, String topic, String... values) {
        Arrays.stream(values).forEach(value -> producer.send(new ProducerRecord<>(topic, 0, null, value)));
    }

    private static KafkaConsumer<String, String> joined(Room room, String topic) throws Exception {
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.joined(consumer);
        return consumer;
    }

    private static Map<TopicPartition, OffsetAndMetadata> at(String topic, long offset) {
        return Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(offset));
    }

    /** Takes, transforms and writes in transactions, as Kafka's documentation has it. */
    private static final class Copier extends Thread {
        private final KafkaConsumer<String, String> consumer;
        private final KafkaProducer<String, String> producer;
        private final String source;
        private final String target;
        private volatile boolean ending;

        Copier(Room room, String source, String target) {
            this.source = source;
            this.target = target;
            consumer = room.consumer("isolation.level=read_committed", "max.poll.records=10");
            producer = room.producer("transactional.id=" + Room.fresh("copier"));
            setDaemon(true);
        }

        void end() throws InterruptedException {
            ending = true;
            join(Room.PATIENCE.toMillis());
        }

        @Override
        public void run() {
            producer.initTransactions();
            consumer.subscribe(List.of(source));
            while (!ending) {
                var records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                try {
                    for (ConsumerRecord<String, String> record : records) {
                        producer.send(new ProducerRecord<>(target, record.value()));
                    }
                    producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
                    producer.commitTransaction();
                } catch (CommitFailedException rebalanced) {
                    producer.abortTransaction();
                    consumer.committed(consumer.assignment()).forEach((partition, at) ->
                        consumer.seek(partition, at == null ? 0 : at.offset()));
                }
            }
            consumer.close();
        }
    }
}
