import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The twin of churning.py with Apache Kafka's own consumer, of either protocol: same words, same journal. */
public class Churning implements ConsumerRebalanceListener {
    final FileOutputStream journal;
    final TreeSet<Integer> owned = new TreeSet<>();
    final Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
    final KafkaConsumer<byte[], byte[]> consumer;
    static volatile boolean ending = false;

    Churning(String protocol, String bootstrap, String group, String path) throws Exception {
        journal = new FileOutputStream(path, true);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("group.id", group);
        settings.put("group.protocol", protocol);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("max.poll.records", "200");
        if (protocol.equals("classic")) {
            settings.put("session.timeout.ms", "6000");
            settings.put("heartbeat.interval.ms", "1000");
        }
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    void note(String words) {
        try {
            journal.write(String.format("%.6f %s%n", System.nanoTime() / 1e9, words).getBytes(StandardCharsets.UTF_8));
        } catch (java.io.IOException failure) {
            throw new java.io.UncheckedIOException(failure);
        }
    }

    void noteOwned() {
        String all = owned.stream().map(String::valueOf).collect(Collectors.joining(","));
        note("owns " + (all.isEmpty() ? "-" : all));
    }

    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(one -> owned.add(one.partition()));
        noteOwned();
    }

    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit();
        onPartitionsLost(partitions);
    }

    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        partitions.forEach(one -> owned.remove(one.partition()));
        ends.keySet().removeAll(partitions);
        noteOwned();
    }

    void commit() {
        if (ends.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(ends);
            ends.forEach((one, end) -> note("committed " + one.partition() + " " + end.offset()));
            ends.clear();
        } catch (KafkaException failure) {
            // another generation
        }
    }

    void run(String topic) {
        consumer.subscribe(List.of(topic), this);
        while (!ending) {
            var found = consumer.poll(Duration.ofMillis(200));
            for (TopicPartition one : found.partitions()) {
                List<ConsumerRecord<byte[], byte[]>> records = found.records(one);
                long last = records.get(records.size() - 1).offset();
                note("read " + one.partition() + " " + records.get(0).offset() + " " + last);
                ends.put(one, new OffsetAndMetadata(last + 1));
            }
            commit();
        }
        consumer.close();
    }

    public static void main(String[] arguments) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ending = true;
            try {
                main.join(20000);
            } catch (InterruptedException interrupted) {
                // the process ends all the same
            }
        }));
        new Churning(arguments[0], arguments[1], arguments[2], arguments[4]).run(arguments[3]);
    }
}
