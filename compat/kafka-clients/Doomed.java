import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group in a process of its own, so that it can be killed hard. */
final class Doomed implements AutoCloseable {
    private final Process process;

    /** Returns once it has this many partitions. */
    Doomed(Room room, String topic, int partitions, String... settings) throws Exception {
        String java = System.getProperty("java.home") + File.separator + "bin" + File.separator + "java";
        String classes = System.getProperty("java.class.path");
        process = new ProcessBuilder(java, "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", classes,
            "Doomed", topic, "" + partitions)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
        Properties given = new Properties();
        given.putAll(room.consumerSettings(room.protocol, settings));
        given.store(process.getOutputStream(), null);
        process.getOutputStream().close();
        String said = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
        Room.same(said, "joined", "what the member's process says");
    }

    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    @Override
    public void close() throws InterruptedException {
        kill();
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.load(System.in);
        var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(arguments[0]));
        boolean told = false;
        while (true) {
            consumer.poll(Duration.ofMillis(50));
            if (!told && consumer.assignment().size() == Integer.parseInt(arguments[1])) {
                System.out.println("joined");
                told = true;
            }
        }
    }
}
