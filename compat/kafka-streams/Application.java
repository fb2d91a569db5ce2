import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TaskMetadata;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * One instance of an application on Kafka Streams: java Application BOOTSTRAP ID TOPOLOGY GUARANTEE PROTOCOL STATE.
 *
 * Reads and writes topics whose names begin with the application's id. Tells on its standard output which tasks it has
 * ("tasks 0_1 0_2"), whenever that changed, what it restored ("restored STORE PARTITION COUNT"), and what it ends of ("failed: …").
 * SIGTERM closes it.
 */
public final class Application {
    static final Duration WINDOW = Duration.ofSeconds(10);

    public static void main(String[] arguments) throws InterruptedException {
        String id = arguments[1];
        KafkaStreams streams = new KafkaStreams(topology(id, arguments[2]).build(), settings(arguments));
        streams.setGlobalStateRestoreListener(new Restored());
        streams.setUncaughtExceptionHandler(failure -> {
            for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
                System.out.println("failed: " + cause);
            }
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
        String told = "";
        while (true) {
            TreeSet<String> tasks = new TreeSet<>();
            streams.metadataForLocalThreads().forEach(thread -> {
                for (TaskMetadata task : thread.activeTasks()) {
                    tasks.add(task.taskId().toString());
                }
            });
            String now = "tasks " + String.join(" ", tasks);
            if (!now.equals(told)) {
                System.out.println(now);
                told = now;
            }
            Thread.sleep(100);
        }
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.putAll(Map.of(
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
            StreamsConfig.APPLICATION_ID_CONFIG, arguments[1],
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[3],
            StreamsConfig.GROUP_PROTOCOL_CONFIG, arguments[4],
            StreamsConfig.STATE_DIR_CONFIG, arguments[5],
            StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
            StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
            StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200));
        settings.putAll(Map.of(
            // every update is written, and not the last one of an interval: what is lost or doubled shows
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0,
            StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 500,
            StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 6000));
        if (arguments[4].equals("classic")) {
            // how long one that was killed is missed; in a streams group that is a setting of the broker
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6000);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1000);
        }
        return settings;
    }

    private static StreamsBuilder topology(String id, String name) {
        StreamsBuilder builder = new StreamsBuilder();
        switch (name) {
            case "counts" -> builder.<String, String>stream(id + ".lines")
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.as("words"))
                .count(Materialized.as("counts"))
                .toStream()
                .mapValues(count -> Long.toString(count))
                .to(id + ".output");
            case "enriched" -> builder.<String, String>stream(id + ".clicks")
                .join(
                    builder.<String, String>table(id + ".users", Materialized.as("users")),
                    (click, user) -> click + " " + user)
                .to(id + ".output");
            case "pairs" -> builder.<String, String>stream(id + ".views")
                .join(
                    builder.<String, String>stream(id + ".clicks"),
                    (view, click) -> view + " " + click,
                    // late ones count too: which pairs there are depends on the records' times alone
                    JoinWindows.ofTimeDifferenceAndGrace(WINDOW, Duration.ofHours(12)),
                    StreamJoined.<String, String, String>as("pairs").withStoreName("pairs"))
                .to(id + ".output");
            default -> throw new IllegalArgumentException(name);
        }
        return builder;
    }

    private static final class Restored implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long start, long end) { }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long last, long count) { }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            System.out.println("restored " + store + " " + partition.partition() + " " + total);
        }
    }
}
