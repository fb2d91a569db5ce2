import java.io.File;
import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The twin of copying.py with Apache Kafka's own clients, which speak transaction.version 2: same words, same journal. */
public class Copying {
    static final String SOURCE = "source";
    static final List<String> COPIES = List.of("copies-a", "copies-b");

    final String instance;
    final Random random;
    final File path;
    final FileOutputStream journal;
    final KafkaProducer<String, String> producer;
    final KafkaConsumer<String, String> consumer;

    Copying(String bootstrap, String name, String instance, long seed, String path) throws Exception {
        this.instance = instance;
        this.random = new Random(seed);
        this.path = new File(path);
        this.journal = new FileOutputStream(path, true);
        Properties writing = new Properties();
        writing.put("bootstrap.servers", bootstrap);
        writing.put("transactional.id", name);
        writing.put("transaction.timeout.ms", "8000");
        writing.put("delivery.timeout.ms", "7000");
        writing.put("request.timeout.ms", "3000");
        writing.put("max.block.ms", "20000");
        writing.put("linger.ms", "5");
        writing.put("reconnect.backoff.max.ms", "200");
        producer = new KafkaProducer<>(writing, new StringSerializer(), new StringSerializer());
        Properties reading = new Properties();
        reading.put("bootstrap.servers", bootstrap);
        reading.put("group.id", "copiers");
        reading.put("isolation.level", "read_committed");
        reading.put("enable.auto.commit", "false");
        reading.put("auto.offset.reset", "earliest");
        reading.put("session.timeout.ms", "3000");
        reading.put("heartbeat.interval.ms", "500");
        reading.put("max.poll.records", "100");
        reading.put("reconnect.backoff.max.ms", "200");
        reading.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer());
    }

    void note(String word, String transaction) throws Exception {
        journal.write((word + " " + transaction + "\n").getBytes(StandardCharsets.UTF_8));
    }

    void run() throws Exception {
        producer.initTransactions();
        consumer.subscribe(List.of(SOURCE));
        for (int number = 1; ; ) {
            path.setLastModified(System.currentTimeMillis()); // a sign of life
            List<ConsumerRecord<String, String>> batch = new ArrayList<>();
            consumer.poll(Duration.ofMillis(300)).forEach(batch::add);
            if (!batch.isEmpty()) {
                transact(instance + "." + number++, batch);
            }
        }
    }

    void transact(String transaction, List<ConsumerRecord<String, String>> batch) throws Exception {
        note("begin", transaction);
        producer.beginTransaction();
        try {
            Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
            for (ConsumerRecord<String, String> record : batch) {
                String copy = String.format(
                    "%s %d %d %d %s", transaction, batch.size(), record.partition(), record.offset(), record.value());
                for (String topic : COPIES) {
                    producer.send(new ProducerRecord<>(topic, record.partition(), null, copy));
                }
                ends.put(new TopicPartition(SOURCE, record.partition()), new OffsetAndMetadata(record.offset() + 1));
            }
            producer.sendOffsetsToTransaction(ends, consumer.groupMetadata());
            if (random.nextDouble() < 0.05) {
                Thread.sleep(1000 + random.nextInt(5000));
            }
            if (random.nextDouble() < 0.15) {
                abort(transaction, batch);
                return;
            }
            note("committing", transaction);
            commit();
            note("committed", transaction);
        } catch (ProducerFencedException fenced) {
            throw fenced;
        } catch (KafkaException failure) {
            abort(transaction, batch);
        }
    }

    void commit() {
        for (int tried = 1; ; tried++) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException late) {
                if (tried == 5) {
                    System.exit(3);
                }
            }
        }
    }

    void abort(String transaction, List<ConsumerRecord<String, String>> batch) throws Exception {
        note("aborting", transaction);
        producer.abortTransaction();
        note("aborted", transaction);
        Map<TopicPartition, Long> begins = new HashMap<>();
        for (ConsumerRecord<String, String> record : batch) {
            begins.putIfAbsent(new TopicPartition(SOURCE, record.partition()), record.offset());
        }
        begins.forEach(consumer::seek);
    }

    public static void main(String[] arguments) throws Exception {
        try {
            new Copying(arguments[0], arguments[1], arguments[2], Long.parseLong(arguments[3]), arguments[4]).run();
        } catch (KafkaException failure) {
            System.out.println(arguments[2] + ": " + failure);
            Runtime.getRuntime().halt(3);
        }
    }
}
