import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.ServerTopicConfigSynonyms;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

/**
 * Prints what only the classes of a release can tell, a line a fact, its fields parted by tabs: every error, the
 * definition of every setting, and what Kafka's parser makes of values. The values come on standard input, as lines of
 * scope, name and text.
 */
public class KafkaFacts {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private static final Map<String, ConfigDef> SCOPES = new LinkedHashMap<>();

    static {
        SCOPES.put("broker", AbstractKafkaConfig.CONFIG_DEF);
        SCOPES.put("topic", LogConfig.configDefCopy());
        SCOPES.put("group", GroupConfig.CONFIG_DEF);
        SCOPES.put("client-metrics", ClientMetricsConfigs.configDef());
    }

    private static void say(Object... fields) {
        String line = "";
        for (Object field : fields) {
            line += (line.isEmpty() ? "" : "\t") + field;
        }
        OUT.println(line.replace('\n', ' '));
    }

    private static void errors() {
        Map<Short, Errors> byCode = new TreeMap<>();
        for (Errors error : Errors.values()) {
            byCode.put(error.code(), error);
        }
        for (Errors error : byCode.values()) {
            boolean retriable = error.exception() instanceof RetriableException;
            say("error", error.code(), error, retriable, error.message());
        }
    }

    private static void definitions() {
        SCOPES.forEach((scope, definition) ->
            new TreeMap<>(definition.configKeys()).forEach((name, key) -> {
                boolean required = key.defaultValue == ConfigDef.NO_DEFAULT_VALUE;
                String given = required ? "(none)" : ConfigDef.convertToString(key.defaultValue, key.type);
                String valid = key.validator == null ? "" : key.validator.toString();
                String internal = key.internalConfig ? "internal" : "";
                say("definition", scope, name, key.type, given, valid, key.importance, internal, synonym(scope, name));
            }));
    }

    /** The broker setting that gives a setting of a topic or a group its default. */
    private static String synonym(String scope, String name) {
        return switch (scope) {
            case "topic" -> ServerTopicConfigSynonyms.TOPIC_CONFIG_SYNONYMS.getOrDefault(name, "");
            case "group" -> GroupConfig.brokerSynonym(name).orElse("");
            default -> "";
        };
    }

    private static void parsed(String scope, String name, String text) {
        ConfigDef.ConfigKey key = SCOPES.get(scope).configKeys().get(name);
        if (key == null) {
            return;
        }
        String result = "ok";
        String said;
        try {
            Object value = ConfigDef.parseType(name, text, key.type);
            if (key.validator != null) {
                key.validator.ensureValid(name, value);
            }
            said = ConfigDef.convertToString(value, key.type);
        } catch (ConfigException refusal) {
            result = "refused";
            said = refusal.getMessage();
        }
        say("parsed", scope, name, text, result, said);
    }

    public static void main(String[] arguments) throws IOException {
        errors();
        definitions();
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            String[] words = line.split("\t", -1);
            parsed(words[0], words[1], words[2]);
        }
        OUT.flush();
    }
}
