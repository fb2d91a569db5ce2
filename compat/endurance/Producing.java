import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.ApplicationRecoverableException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringSerializer;

/** The twin of producing.py with Apache Kafka's own producer, with transactions or without: same words, same journal. */
public class Producing {
    static final int PARTITION_COUNT = 6;
    static final long ROUND_MS = 60;
    static final int MOST_WAITING = 3000;
    static volatile boolean ending = false;

    final FileOutputStream journal;
    final String topic;
    final KafkaProducer<String, String> producer;
    int sent = 0;
    volatile int answered = 0;

    Producing(boolean inTransactions, String bootstrap, String topic, String path) throws Exception {
        this.journal = new FileOutputStream(path, true);
        this.topic = topic;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        if (inTransactions) {
            settings.put("transactional.id", topic);
        }
        producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    synchronized void note(String words) {
        try {
            journal.write(String.format("%.6f %s%n", System.nanoTime() / 1e9, words).getBytes(StandardCharsets.UTF_8));
        } catch (java.io.IOException failure) {
            throw new java.io.UncheckedIOException(failure);
        }
    }

    synchronized void told(int number, long offset, Exception failure) {
        answered++;
        note(failure == null ? "acked " + number + " " + offset : "failed " + number + " " + failure);
    }

    ProducerRecord<String, String> record(int number) {
        return new ProducerRecord<>(topic, number % PARTITION_COUNT, null, String.valueOf(number));
    }

    void run() throws InterruptedException {
        while (!ending) {
            long begun = System.nanoTime();
            for (int index = 0; index < PARTITION_COUNT && sent - answered < MOST_WAITING; index++) {
                int number = sent++;
                producer.send(record(number), (made, failure) -> told(number, made == null ? -1 : made.offset(), failure));
            }
            pause(begun);
        }
        producer.close();
        note("sent " + sent);
    }

    void runInTransactions() throws InterruptedException {
        insist(producer::initTransactions);
        while (!ending) {
            long begun = System.nanoTime();
            while (!written()) {
                // once more
            }
            for (int index = 0; index < PARTITION_COUNT; index++) {
                told(sent++, -1, null);
            }
            pause(begun);
        }
        producer.close();
        note("sent " + sent);
    }

    boolean written() {
        producer.beginTransaction();
        try {
            for (int index = 0; index < PARTITION_COUNT; index++) {
                producer.send(record(sent + index));
            }
            insist(producer::commitTransaction);
            return true;
        } catch (ApplicationRecoverableException fatal) {
            throw fatal;
        } catch (KafkaException failure) {
            insist(producer::abortTransaction);
            return false;
        }
    }

    static void insist(Runnable act) {
        while (true) {
            try {
                act.run();
                return;
            } catch (RetriableException failure) {
                // once more
            }
        }
    }

    static void pause(long begun) throws InterruptedException {
        Thread.sleep(Math.max(0, ROUND_MS - (System.nanoTime() - begun) / 1_000_000));
    }

    public static void main(String[] arguments) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ending = true;
            try {
                main.join(120_000);
            } catch (InterruptedException interrupted) {
                // the process ends all the same
            }
        }));
        boolean inTransactions = arguments[0].equals("transactions");
        Producing writer = new Producing(inTransactions, arguments[1], arguments[2], arguments[3]);
        if (inTransactions) {
            writer.runInTransactions();
        } else {
            writer.run();
        }
    }
}
