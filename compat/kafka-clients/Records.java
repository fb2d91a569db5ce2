import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** What a producer sends, and how it comes back or is refused. */
final class Records {
    private Records() { }

    static void add(Checks checks) {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            checks.once("produce: compression.type=" + codec, room -> compressed(room, codec));
        }
        checks.once("produce: compression by the topic", Records::compressedByTopic);
        checks.once("produce: headers, keys, tombstones, nothing", Records::shapes);
        checks.once("produce: where a record went", Records::metadata);
        checks.once("produce: a key has its partition", Records::keys);
        for (String acks : List.of("0", "1", "all")) {
            checks.once("produce: acks=" + acks, room -> acknowledged(room, acks));
        }
        checks.once("produce: idempotent, in order", Records::idempotent);
        checks.once("produce: records of a megabyte", Records::large);
        checks.once("produce: a record too large for the topic", Records::tooLarge);
        checks.once("produce: a record too large for the producer", Records::tooLargeForProducer);
        checks.once("produce: the broker's time", Records::appendTime);
        checks.once("produce: a time too far away", Records::badTime);
        checks.once("produce: no key in a compacted topic", Records::noKey);
        checks.once("produce: a topic with fewer replicas than min.insync.replicas", Records::replicas);
        checks.once("produce: a topic that is not there", Records::missing);
        checks.once("produce: a name that no topic may have", Records::badName);
        checks.once("fetch: records larger than a fetch may be", Records::largerThanFetch);
        checks.once("fetch: wait for as much as is wanted", Records::minimum);
    }

    private static void compressed(Room room, String codec) throws Exception {
        roundTrip(room, room.topic(1), "compression.type=" + codec);
    }

    private static void compressedByTopic(Room room) throws Exception {
        roundTrip(room, room.topic(1, "compression.type=zstd"), "compression.type=gzip");
    }

    private static void roundTrip(Room room, String topic, String setting) throws Exception {
        KafkaProducer<String, String> producer = room.producer(setting, "linger.ms=20", "batch.size=50000");
        List<String> sent = new ArrayList<>();
        for (int number = 0; number < 2000; number++) {
            sent.add(("value " + number + " ").repeat(number % 50));
            producer.send(new ProducerRecord<>(topic, 0, "key " + number, sent.get(number)));
        }
        producer.flush();
        List<ConsumerRecord<String, String>> got = Room.take(reader(room, topic), 2000);
        Room.check(Room.values(got).equals(sent), "the values come back in order");
        Room.same(got.get(1999).key(), "key 1999", "the last key");
    }

    private static void shapes(Room room) throws Exception {
        String topic = room.topic(1);
        long now = System.currentTimeMillis(); // what is old is deleted by retention
        List<Header> headers = List.of(header("trace", "1"), header("empty", ""), header("trace", "2"),
            header("schlüssel", "wert ✓"), new RecordHeader("null", (byte[]) null));
        List<ProducerRecord<String, String>> sent = List.of(
            new ProducerRecord<>(topic, 0, now + 1, "key", "value", headers),
            new ProducerRecord<>(topic, 0, now + 2, null, "no key"),
            new ProducerRecord<>(topic, 0, now + 3, "", "empty key"),
            new ProducerRecord<>(topic, 0, now + 4, "tombstone", (String) null),
            new ProducerRecord<>(topic, 0, now + 5, "empty value", ""),
            new ProducerRecord<>(topic, 0, now + 6, null, (String) null),
            new ProducerRecord<>(topic, 0, now + 7, "ключ", "значение ✓"));
        KafkaProducer<String, String> producer = room.producer();
        sent.forEach(producer::send);
        producer.flush();
        List<ConsumerRecord<String, String>> got = Room.take(reader(room, topic), sent.size());
        for (int index = 0; index < sent.size(); index++) {
            ConsumerRecord<String, String> one = got.get(index);
            ProducerRecord<String, String> wanted = sent.get(index);
            Room.same(one.key(), wanted.key(), "key");
            Room.same(one.value(), wanted.value(), "value");
            Room.same(one.timestamp(), wanted.timestamp(), "time");
            Room.same(one.timestampType(), TimestampType.CREATE_TIME, "whose time it is");
            Room.same(List.of(one.headers().toArray()), List.of(wanted.headers().toArray()), "headers");
        }
    }

    private static void metadata(Room room) throws Exception {
        String topic = room.topic(2);
        KafkaProducer<String, String> producer = room.producer();
        long now = System.currentTimeMillis();
        for (long offset = 0; offset < 3; offset++) {
            RecordMetadata got = Room.get(producer.send(new ProducerRecord<>(topic, 1, now + offset, "key", "value")));
            Room.same(got.topic() + " " + got.partition() + " " + got.offset() + " " + got.timestamp(),
                topic + " 1 " + offset + " " + (now + offset), "where it went");
        }
    }

    private static void keys(Room room) throws Exception {
        String topic = room.topic(6);
        KafkaProducer<String, String> producer = room.producer();
        for (int number = 0; number < 300; number++) {
            producer.send(new ProducerRecord<>(topic, "key " + number % 30, "" + number));
        }
        producer.flush();
        Map<String, Set<Integer>> places = new HashMap<>();
        Room.take(reader(room, topic, 6), 300).forEach(record ->
            places.computeIfAbsent(record.key(), key -> new HashSet<>()).add(record.partition()));
        Room.same(places.size(), 30, "keys");
        places.forEach((key, where) -> Room.same(where.size(), 1, "partitions of " + key));
        Room.check(places.values().stream().distinct().count() > 1, "keys are spread");
    }

    private static void acknowledged(Room room, String acks) throws Exception {
        String topic = room.topic(1);
        Room.get(room.producer().send(new ProducerRecord<>(topic, 0, null, "0")));
        KafkaProducer<String, String> producer = room.producer("acks=" + acks, "enable.idempotence=false");
        for (int number = 1; number < 500; number++) {
            Future<RecordMetadata> sent = producer.send(new ProducerRecord<>(topic, 0, null, "" + number));
            if (number == 499) {
                Room.same(Room.get(sent).offset(), acks.equals("0") ? -1L : 499L, "offset that the producer learns");
            }
        }
        Room.same(new TreeSet<>(Room.values(Room.take(reader(room, topic), 500))), Room.numbers(0, 500), "records");
    }

    private static void idempotent(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaProducer<String, String> producer =
            room.producer("enable.idempotence=true", "max.in.flight.requests.per.connection=5", "batch.size=200");
        for (int number = 0; number < 3000; number++) {
            producer.send(new ProducerRecord<>(topic, 0, null, "" + number));
        }
        producer.flush();
        int next = 0;
        for (String value : Room.values(Room.take(reader(room, topic), 3000))) {
            Room.same(value, "" + next++, "record");
        }
    }

    private static void large(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaProducer<String, String> producer = room.producer();
        for (int number = 0; number < 10; number++) {
            producer.send(new ProducerRecord<>(topic, 0, null, ("" + number).repeat(1_000_000)));
        }
        producer.flush();
        for (String value : Room.values(Room.take(reader(room, topic), 10))) {
            Room.same(value.length(), 1_000_000, "length");
        }
    }

    private static void tooLarge(Room room) throws Exception {
        String topic = room.topic(1, "max.message.bytes=10000");
        KafkaProducer<String, String> producer = room.producer();
        Room.refused(RecordTooLargeException.class,
            () -> Room.get(producer.send(new ProducerRecord<>(topic, 0, null, "x".repeat(20_000)))));
        Room.same(Room.get(producer.send(new ProducerRecord<>(topic, 0, null, "x".repeat(5_000)))).offset(), 0L, "the next");
    }

    private static void tooLargeForProducer(Room room) throws Exception {
        String topic = room.topic(1);
        Room.refused(RecordTooLargeException.class,
            () -> Room.get(room.producer().send(new ProducerRecord<>(topic, "x".repeat(2_000_000)))));
        KafkaProducer<String, String> producer = room.producer("max.request.size=3000000");
        Room.refused(RecordTooLargeException.class,
            () -> Room.get(producer.send(new ProducerRecord<>(topic, "x".repeat(2_000_000)))));
    }

    private static void appendTime(Room room) throws Exception {
        String topic = room.topic(1, "message.timestamp.type=LogAppendTime");
        long before = System.currentTimeMillis();
        RecordMetadata sent = Room.get(room.producer().send(new ProducerRecord<>(topic, 0, 1_000L, "key", "value")));
        ConsumerRecord<String, String> got = Room.take(reader(room, topic), 1).get(0);
        Room.same(got.timestampType(), TimestampType.LOG_APPEND_TIME, "whose time it is");
        Room.check(got.timestamp() >= before - 1000, "it is the time at which it came: " + got.timestamp());
        Room.same(sent.timestamp(), got.timestamp(), "the time that the producer learns");
    }

    private static void badTime(Room room) throws Exception {
        String topic = room.topic(1, "message.timestamp.before.max.ms=60000", "message.timestamp.after.max.ms=60000");
        KafkaProducer<String, String> producer = room.producer();
        for (long away : List.of(-3_600_000L, 3_600_000L)) {
            long time = System.currentTimeMillis() + away;
            Room.refused(InvalidTimestampException.class,
                () -> Room.get(producer.send(new ProducerRecord<>(topic, 0, time, "key", "value"))));
        }
        Room.get(producer.send(new ProducerRecord<>(topic, 0, System.currentTimeMillis(), "key", "value")));
    }

    private static void noKey(Room room) throws Exception {
        String topic = room.topic(1, "cleanup.policy=compact");
        KafkaProducer<String, String> producer = room.producer();
        Room.refused(InvalidRecordException.class, () -> Room.get(producer.send(new ProducerRecord<>(topic, "no key"))));
        Room.get(producer.send(new ProducerRecord<>(topic, "key", "value")));
    }

    private static void replicas(Room room) throws Exception {
        String topic = room.topic(1, "min.insync.replicas=2");
        Room.get(room.producer("acks=all").send(new ProducerRecord<>(topic, "value")));
    }

    private static void missing(Room room) {
        KafkaProducer<String, String> producer = room.producer("max.block.ms=2000");
        Room.refused(TimeoutException.class,
            () -> Room.get(producer.send(new ProducerRecord<>(Room.fresh("missing"), "value"))));
    }

    private static void badName(Room room) {
        Room.refused(InvalidTopicException.class,
            () -> Room.get(room.producer().send(new ProducerRecord<>("no topic: this", "x"))));
    }

    private static void largerThanFetch(Room room) throws Exception {
        String topic = room.topic(2);
        KafkaProducer<String, String> producer = room.producer();
        for (int number = 0; number < 10; number++) {
            producer.send(new ProducerRecord<>(topic, number % 2, null, ("" + number).repeat(100_000)));
        }
        producer.flush();
        KafkaConsumer<String, String> consumer =
            room.consumer("fetch.max.bytes=1000", "max.partition.fetch.bytes=1000");
        consumer.assign(Room.partitions(topic, 2));
        Room.take(consumer, 10);
    }

    private static void minimum(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaConsumer<String, String> consumer = room.consumer("fetch.min.bytes=100000", "fetch.max.wait.ms=20000");
        consumer.assign(Room.partitions(topic, 1));
        consumer.seekToBeginning(Room.partitions(topic, 1));
        consumer.position(Room.partitions(topic, 1).get(0));
        KafkaProducer<String, String> producer = room.producer("linger.ms=0");
        Room.get(producer.send(new ProducerRecord<>(topic, "little")));
        Room.check(consumer.poll(Duration.ofSeconds(2)).isEmpty(), "little is waited with");
        Room.get(producer.send(new ProducerRecord<>(topic, "x".repeat(200_000))));
        long begin = System.nanoTime();
        Room.take(consumer, 2);
        Room.check(System.nanoTime() - begin < 15_000_000_000L, "enough comes at once");
    }

    // -- what they need

    private static KafkaConsumer<String, String> reader(Room room, String topic) {
        return reader(room, topic, 1);
    }

    private static KafkaConsumer<String, String> reader(Room room, String topic, int partitions) {
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.assign(Room.partitions(topic, partitions));
        return consumer;
    }

    private static Header header(String key, String value) {
        return new RecordHeader(key, value.getBytes(StandardCharsets.UTF_8));
    }
}
