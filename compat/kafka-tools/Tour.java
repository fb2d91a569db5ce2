import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import org.apache.kafka.common.utils.internals.Exit;

/**
 * Calls Kafka's command lines one after another in one process: each line of the input is what the tool is to read, its
 * class and its arguments, in base64 and separated by spaces; each line of the output its exit code, and what it printed.
 */
public class Tour {
    private static final class Ended extends Error {
        final int code;

        Ended(int code) {
            super("the tool has ended", null, false, false);
            this.code = code;
        }
    }

    private static int code;

    public static void main(String[] ignored) throws Exception {
        PrintStream answers = System.out;
        // The first code counts: some tools catch whatever is thrown at them, and end once more.
        Exit.Procedure end = (status, message) -> {
            if (code < 0) code = status;
            throw new Ended(status);
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = Arrays.stream(line.split(" ", -1)).map(Tour::plain).toArray(String[]::new);
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream out = new PrintStream(printed, true, StandardCharsets.UTF_8);
            System.setIn(new ByteArrayInputStream(words[0].getBytes(StandardCharsets.UTF_8)));
            System.setOut(out);
            System.setErr(out);
            code = -1;
            Thread tool = new Thread(() -> call(words[1], Arrays.copyOfRange(words, 2, words.length)), "tool");
            tool.start();
            tool.join(60_000);
            if (tool.isAlive()) {
                code = 124;
                tool.interrupt();
            }
            out.flush();
            answers.println(Math.max(code, 0) + " " + Base64.getEncoder().encodeToString(printed.toByteArray()));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void call(String name, String[] arguments) {
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Ended)) {
                if (code < 0) code = 1;
                System.err.println(thrown.getCause());
            }
        } catch (ReflectiveOperationException missing) {
            code = 127;
            System.err.println(missing);
        }
    }

    private static String plain(String word) {
        return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }
}
