import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.metrics.KafkaMetric;
import org.apache.kafka.common.metrics.MetricsReporter;
import org.apache.kafka.server.telemetry.ClientTelemetryExporter;
import org.apache.kafka.server.telemetry.ClientTelemetryExporterProvider;

/** In Apache Kafka: writes what clients push into the file that the property `pushed` names, a line of hex each. */
public class Listening implements MetricsReporter, ClientTelemetryExporterProvider {
    public void configure(Map<String, ?> settings) {}

    public void init(List<KafkaMetric> metrics) {}

    public void metricChange(KafkaMetric metric) {}

    public void metricRemoval(KafkaMetric metric) {}

    public void close() {}

    public ClientTelemetryExporter clientTelemetryExporter() {
        return (context, payload) -> {
            ByteBuffer data = payload.data().duplicate();
            byte[] bytes = new byte[data.remaining()];
            data.get(bytes);
            String line = context.authorizableRequestContext().clientId() + " " + HexFormat.of().formatHex(bytes) + "\n";
            try {
                Path file = Path.of(System.getProperty("pushed"));
                Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (java.io.IOException failure) {
                throw new java.io.UncheckedIOException(failure);
            }
        };
    }
}
