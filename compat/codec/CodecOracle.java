import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.Readable;

/**
 * Reads lines of "Message version hex" and answers each with a line: "ok hex json", the message decoded and encoded again
 * by Apache Kafka's own classes, or "error reason".
 */
public class CodecOracle {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.common.metadata.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.coordinator.share.generated.",
    };

    private record Codec(Constructor<?> decode, Method toJson) {}

    private static final Map<String, Codec> CODECS = new HashMap<>();

    private static Codec codec(String name) throws ReflectiveOperationException {
        Codec known = CODECS.get(name);
        if (known != null) {
            return known;
        }
        boolean isApi = name.endsWith("Request") || name.endsWith("Response");
        for (String prefix : PACKAGES) {
            try {
                Class<?> found = Class.forName(prefix + name + (isApi ? "Data" : ""));
                Class<?> json = Class.forName(found.getName() + "JsonConverter");
                Codec codec = new Codec(
                    found.getConstructor(Readable.class, short.class), json.getMethod("write", found, short.class));
                CODECS.put(name, codec);
                return codec;
            } catch (ClassNotFoundException absent) {
                continue;
            }
        }
        throw new ClassNotFoundException(name);
    }

    private static byte[] encode(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        byte[] encoded = new byte[message.size(cache, version)];
        message.write(new ByteBufferAccessor(ByteBuffer.wrap(encoded)), cache, version);
        return encoded;
    }

    private static String answer(String line) throws ReflectiveOperationException {
        String[] words = line.split(" ", 3);
        Codec codec = codec(words[0]);
        short version = Short.parseShort(words[1]);
        ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(words[2]));
        try {
            Message message = (Message) codec.decode().newInstance(new ByteBufferAccessor(bytes), version);
            if (bytes.hasRemaining()) {
                return "error " + bytes.remaining() + " bytes left";
            }
            byte[] encoded = encode(message, version);
            JsonNode json = (JsonNode) codec.toJson().invoke(null, message, version);
            return "ok " + HexFormat.of().formatHex(encoded) + " " + json;
        } catch (InvocationTargetException failure) {
            return "error " + String.valueOf(failure.getCause()).replace('\n', ' ');
        } catch (RuntimeException failure) {
            return "error " + failure.toString().replace('\n', ' ');
        }
    }

    public static void main(String[] arguments) throws IOException, ReflectiveOperationException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(answer(line));
        }
        out.flush();
    }
}
