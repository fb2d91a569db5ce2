import java.time.Duration;
import java.time.Instant;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;

/** Where a consumer reads, and what it commits. */
final class Positions {
    private Positions() { }

    static void add(Checks checks) {
        checks.both("assigned by hand, without a group", Positions::byHand);
        checks.both("assigned by hand, with commits", Positions::byHandCommitted);
        checks.both("seek, to an offset, the beginning and the end", Positions::seek);
        checks.both("offsets at the beginning, at the end, and by time", Positions::byTime);
        checks.both("partitions and topics asked for", Positions::metadata);
        checks.both("pause and resume", Positions::pause);
        checks.both("lag", Positions::lag);
        checks.both("max.poll.records, in order", Positions::fewAtATime);
        checks.both("commit, all and by partition", Positions::commit);
        checks.both("commit in the background", Positions::commitAsync);
        checks.both("commit with metadata and leader epoch", Positions::commitMetadata);
        checks.both("commit with metadata that is too long", Positions::commitTooMuch);
        checks.both("commit by itself, and on closing", Positions::autoCommit);
        checks.both("commit from outside while the group has members", Positions::commitFromOutside);
        checks.both("auto.offset.reset=latest", Positions::resetToLatest);
        checks.both("auto.offset.reset=none", Positions::noReset);
        checks.both("auto.offset.reset=by_duration", Positions::resetByDuration);
        checks.both("committed before records were deleted", Positions::deletedMeanwhile);
        checks.both("group.id of a group that has offsets alone", Positions::goesOn);
    }

    private static void byHand(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        KafkaConsumer<String, String> consumer = room.consumer();
        TopicPartition second = new TopicPartition(topic, 1);
        consumer.assign(List.of(second));
        List<String> odd = IntStream.range(0, 10).mapToObj(number -> "" + (2 * number + 1)).toList();
        Room.same(Room.values(Room.take(consumer, 10)), odd, "records");
        Room.same(consumer.position(second), 10L, "position");
        Room.same(consumer.assignment(), Set.of(second), "assignment");
    }

    private static void byHandCommitted(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.assign(Room.partitions(topic, 2));
        Room.take(consumer, 20);
        consumer.commitSync();
        Room.same(room.committed(topic), Map.of(0, 10L, 1, 10L), "committed");
        room.fill(topic, 2, 20, 2);
        KafkaConsumer<String, String> other = room.consumer();
        other.assign(Room.partitions(topic, 2));
        Room.same(Set.copyOf(Room.values(Room.take(other, 2))), Set.of("20", "21"), "what another one reads then");
    }

    private static void seek(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 20);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 20);
        consumer.seek(partition, 15);
        Room.same(Room.values(Room.take(consumer, 5)), List.of("15", "16", "17", "18", "19"), "from 15");
        consumer.seek(partition, new OffsetAndMetadata(18, Optional.of(0), ""));
        Room.same(Room.values(Room.take(consumer, 2)), List.of("18", "19"), "from 18, at an epoch");
        consumer.seekToBeginning(List.of(partition));
        Room.same(consumer.position(partition), 0L, "the beginning");
        Room.take(consumer, 20);
        consumer.seekToBeginning(List.of(partition));
        consumer.seekToEnd(List.of(partition));
        Room.same(consumer.position(partition), 20L, "the end");
        consumer.seek(partition, 1000);
        Room.take(consumer, 20); // as auto.offset.reset says
    }

    private static void byTime(Room room) throws Exception {
        String topic = room.topic(3);
        long begin = System.currentTimeMillis() - 3_600_000;
        KafkaProducer<String, String> producer = room.producer();
        for (int number = 0; number < 10; number++) {
            producer.send(new ProducerRecord<>(topic, 0, begin + 1000 * number, null, "" + number));
            producer.send(new ProducerRecord<>(topic, 1, begin - 1000 * number, null, "" + number));
        }
        producer.flush();
        Room.get(room.admin.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(3))).all());
        List<TopicPartition> all = Room.partitions(topic, 3);
        KafkaConsumer<String, String> consumer = room.consumer();
        Room.same(consumer.beginningOffsets(all), Map.of(all.get(0), 3L, all.get(1), 0L, all.get(2), 0L), "beginning");
        Room.same(consumer.endOffsets(all), Map.of(all.get(0), 10L, all.get(1), 10L, all.get(2), 0L), "end");
        Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(
            Map.of(all.get(0), begin + 4500, all.get(1), begin - 500, all.get(2), begin));
        Room.same(found.get(all.get(0)), new OffsetAndTimestamp(5, begin + 5000, Optional.of(0)), "rising times");
        Room.same(found.get(all.get(1)), new OffsetAndTimestamp(0, begin, Optional.of(0)), "falling times");
        Room.same(found.get(all.get(2)), null, "no records");
        Room.same(consumer.offsetsForTimes(Map.of(all.get(0), begin + 9001)).get(all.get(0)), null, "after the last");
    }

    private static void metadata(Room room) throws Exception {
        String topic = room.topic(3);
        KafkaConsumer<String, String> consumer = room.consumer();
        List<PartitionInfo> found = consumer.partitionsFor(topic);
        Room.same(found.size(), 3, "partitions");
        for (PartitionInfo one : found) {
            Room.check(one.leader() != null && one.inSyncReplicas().length == 1, "it has a leader: " + one);
        }
        Room.same(consumer.listTopics().get(topic).size(), 3, "partitions among all topics");
        List<PartitionInfo> missing = consumer.partitionsFor(Room.fresh("missing"));
        Room.check(missing == null || missing.isEmpty(), "a missing topic has none: " + missing);
    }

    private static void pause(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        KafkaConsumer<String, String> consumer = room.consumer("max.poll.records=2");
        consumer.subscribe(List.of(topic));
        Room.joined(consumer);
        List<TopicPartition> all = Room.partitions(topic, 2);
        consumer.seekToBeginning(all);
        consumer.pause(List.of(all.get(0)));
        Room.same(consumer.paused(), Set.of(all.get(0)), "paused");
        Room.take(consumer, 10).forEach(record -> Room.same(record.partition(), 1, "partition of what comes meanwhile"));
        for (int round = 0; round < 5; round++) {
            Room.check(consumer.poll(Duration.ofMillis(100)).isEmpty(), "nothing more comes");
        }
        Room.same(consumer.position(all.get(0)), 0L, "position of the paused one");
        consumer.resume(List.of(all.get(0)));
        Room.take(consumer, 10).forEach(record -> Room.same(record.partition(), 0, "partition of what comes then"));
    }

    private static void lag(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> consumer = room.consumer("max.poll.records=4");
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 4);
        Room.same(consumer.currentLag(partition), OptionalLong.of(6), "lag");
    }

    private static void fewAtATime(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 1000);
        KafkaConsumer<String, String> consumer = room.consumer("max.poll.records=7");
        consumer.subscribe(List.of(topic));
        int next = 0;
        while (next < 1000) {
            var polled = consumer.poll(Duration.ofSeconds(10));
            Room.check(polled.count() <= 7, "no more than 7 come at a time");
            for (var record : polled) {
                Room.same(record.value(), "" + next, "record " + next);
                next++;
            }
        }
    }

    private static void commit(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 20);
        TopicPartition second = new TopicPartition(topic, 1);
        consumer.commitSync(Map.of(second, new OffsetAndMetadata(7)));
        Room.same(room.committed(topic), Map.of(1, 7L), "committed by partition");
        var asked = consumer.committed(Set.copyOf(Room.partitions(topic, 2)));
        Room.same(asked.get(second).offset(), 7L, "what the consumer sees of it");
        Room.same(asked.get(new TopicPartition(topic, 0)), null, "what it sees where there is none");
        consumer.commitSync();
        Room.same(room.committed(topic), Map.of(0, 10L, 1, 10L), "committed where it reads");
        consumer.commitSync(Map.of(second, new OffsetAndMetadata(3)), Duration.ofSeconds(30));
        Room.same(room.committed(topic), Map.of(0, 10L, 1, 3L), "committed backwards");
    }

    private static void commitAsync(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 10);
        CompletableFuture<Map<TopicPartition, OffsetAndMetadata>> done = new CompletableFuture<>();
        consumer.commitAsync((offsets, failure) -> {
            if (failure == null) {
                done.complete(offsets);
            } else {
                done.completeExceptionally(failure);
            }
        });
        Room.until("the callback is called", () -> {
            consumer.poll(Duration.ofMillis(50));
            return done.isDone();
        });
        Room.same(done.get().get(new TopicPartition(topic, 0)).offset(), 10L, "what the callback is told");
        Room.same(room.committed(topic), Map.of(0, 10L), "committed");
    }

    private static void commitMetadata(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 10);
        OffsetAndMetadata wanted = new OffsetAndMetadata(5, Optional.of(0), "half ✓");
        consumer.commitSync(Map.of(partition, wanted));
        Room.same(consumer.committed(Set.of(partition)).get(partition), wanted, "committed");
    }

    private static void commitTooMuch(Room room) throws Exception {
        String topic = room.topic(1);
        KafkaConsumer<String, String> consumer = room.consumer();
        consumer.subscribe(List.of(topic));
        Room.joined(consumer);
        OffsetAndMetadata large = new OffsetAndMetadata(0, "x".repeat(5000));
        Room.refused(OffsetMetadataTooLarge.class, () -> consumer.commitSync(Map.of(new TopicPartition(topic, 0), large)));
    }

    private static void autoCommit(Room room) throws Exception {
        String topic = room.topic(2);
        room.fill(topic, 2, 0, 20);
        KafkaConsumer<String, String> consumer = room.consumer("enable.auto.commit=true", "auto.commit.interval.ms=300");
        consumer.subscribe(List.of(topic));
        Room.take(consumer, 20);
        Room.until("it is committed", () -> {
            consumer.poll(Duration.ofMillis(50));
            return room.committed(topic).equals(Map.of(0, 10L, 1, 10L));
        });
        KafkaConsumer<String, String> next = room.consumer("enable.auto.commit=true", "auto.commit.interval.ms=3600000");
        consumer.close();
        room.fill(topic, 2, 20, 2);
        next.subscribe(List.of(topic));
        Room.same(Set.copyOf(Room.values(Room.take(next, 2))), Set.of("20", "21"), "what the next one reads");
        next.close();
        Room.same(room.committed(topic), Map.of(0, 11L, 1, 11L), "committed on closing");
    }

    private static void commitFromOutside(Room room) throws Exception {
        String topic = room.topic(1);
        Member member = room.member(topic);
        Member.share(topic, 1, 1, member);
        KafkaConsumer<String, String> outside = room.consumer();
        outside.assign(Room.partitions(topic, 1));
        Room.refused(CommitFailedException.class,
            () -> outside.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(5))));
        Room.same(room.committed(topic).getOrDefault(0, 0L), 0L, "committed");
    }

    private static void resetToLatest(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        KafkaConsumer<String, String> consumer = room.consumer("auto.offset.reset=latest");
        consumer.subscribe(List.of(topic));
        Room.joined(consumer);
        Room.same(consumer.position(new TopicPartition(topic, 0)), 10L, "position");
        room.fill(topic, 1, 10, 5);
        Room.same(Room.values(Room.take(consumer, 5)), List.of("10", "11", "12", "13", "14"), "records");
    }

    private static void noReset(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 10);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> nowhere = room.consumer("auto.offset.reset=none");
        nowhere.subscribe(List.of(topic));
        var nothing = Room.refused(NoOffsetForPartitionException.class, () -> Room.take(nowhere, 1));
        Room.same(nothing.partitions(), Set.of(partition), "partitions without an offset");
        KafkaConsumer<String, String> consumer = room.consumer("auto.offset.reset=none");
        consumer.assign(List.of(partition));
        consumer.seek(partition, 100);
        var outside = Room.refused(OffsetOutOfRangeException.class, () -> Room.take(consumer, 1));
        Room.same(outside.offsetOutOfRangePartitions(), Map.of(partition, 100L), "partitions out of range");
        consumer.seek(partition, 8);
        Room.same(Room.values(Room.take(consumer, 2)), List.of("8", "9"), "records");
    }

    private static void resetByDuration(Room room) throws Exception {
        String topic = room.topic(1);
        Instant now = Instant.now();
        KafkaProducer<String, String> producer = room.producer();
        for (int hours = 5; hours > 0; hours--) {
            long time = now.minus(Duration.ofHours(hours)).toEpochMilli();
            producer.send(new ProducerRecord<>(topic, 0, time, null, hours + " hours ago"));
        }
        producer.flush();
        KafkaConsumer<String, String> consumer = room.consumer("auto.offset.reset=by_duration:PT2H30M");
        consumer.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(consumer, 2)), List.of("2 hours ago", "1 hours ago"), "records");
    }

    private static void deletedMeanwhile(Room room) throws Exception {
        String topic = room.topic(1);
        room.fill(topic, 1, 0, 20);
        TopicPartition partition = new TopicPartition(topic, 0);
        KafkaConsumer<String, String> first = room.consumer("max.poll.records=5");
        first.subscribe(List.of(topic));
        Room.take(first, 5);
        first.commitSync();
        first.close();
        Room.get(room.admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(15))).all());
        KafkaConsumer<String, String> next = room.consumer();
        next.subscribe(List.of(topic));
        Room.same(Room.values(Room.take(next, 5)), List.of("15", "16", "17", "18", "19"), "records");
    }

    private static void goesOn(Room room) throws Exception {
        String topic = room.topic(3);
        room.fill(topic, 3, 0, 30);
        Room.get(room.admin.alterConsumerGroupOffsets(room.group, Collections.unmodifiableMap(Map.of(
            new TopicPartition(topic, 0), new OffsetAndMetadata(10),
            new TopicPartition(topic, 1), new OffsetAndMetadata(9),
            new TopicPartition(topic, 2), new OffsetAndMetadata(8)))).all());
        KafkaConsumer<String, String> consumer = room.consumer("auto.offset.reset=none");
        consumer.subscribe(List.of(topic));
        Room.same(Set.copyOf(Room.values(Room.take(consumer, 3))), Set.of("28", "26", "29"), "records");
    }
}
