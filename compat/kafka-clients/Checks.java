import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.IntStream;

/**
 * Every check by its name: "java Checks" prints the names, "java Checks BOOTSTRAP NAME…" runs them, several at a time, and
 * prints a line when one is over: its name, how many seconds it took, and why it failed or nothing, separated by tabs.
 */
final class Checks {
    static final String CLASSIC = "classic";
    static final String CONSUMER = "consumer";
    /** They mostly wait: for a session to end, for metadata to be old. */
    private static final int AT_A_TIME = 8;
    private static final long LIMIT_MS = 300_000;

    /** It passes by returning. */
    interface Check {
        void run(Room room) throws Exception;
    }

    private record Entry(String protocol, Check check) { }

    private final Map<String, Entry> entries = new LinkedHashMap<>();

    private Checks() {
        Subscriptions.add(this);
        Positions.add(this);
        Members.add(this);
        Assignors.add(this);
        Transactions.add(this);
        Groups.add(this);
        Records.add(this);
        Topics.add(this);
    }

    /** About groups: a check for each protocol. */
    void both(String name, Check check) {
        classic(name, check);
        consumer(name, check);
    }

    void classic(String name, Check check) {
        entries.put(CLASSIC + ": " + name, new Entry(CLASSIC, check));
    }

    void consumer(String name, Check check) {
        entries.put(CONSUMER + ": " + name, new Entry(CONSUMER, check));
    }

    /** In which no group has a part, or which says itself of what protocol its members are. */
    void once(String name, Check check) {
        entries.put(name, new Entry(CONSUMER, check));
    }

    public static void main(String[] arguments) throws InterruptedException {
        Checks checks = new Checks();
        if (arguments.length == 0) {
            checks.entries.keySet().forEach(System.out::println);
            return;
        }
        Queue<String> names = new ConcurrentLinkedQueue<>(Arrays.asList(arguments).subList(1, arguments.length));
        Thread[] workers = IntStream.range(0, AT_A_TIME).mapToObj(number -> new Thread(() -> {
            for (String name = names.poll(); name != null; name = names.poll()) {
                long begin = System.nanoTime();
                Throwable failure = checks.run(name, arguments[0]);
                double seconds = (System.nanoTime() - begin) / 1e9;
                String reason = failure == null ? "" : failure.toString().replaceAll("\\s+", " ");
                System.out.printf("%s\t%.2f\t%s%n", name, seconds, reason);
            }
        })).toArray(Thread[]::new);
        for (Thread worker : workers) {
            worker.start();
        }
        for (Thread worker : workers) {
            worker.join();
        }
        System.exit(0); // whatever threads a failed check left
    }

    /** Why it failed, or null. On a thread of its own, so that one that hangs costs itself alone. */
    private Throwable run(String name, String bootstrap) {
        Throwable[] outcome = {null};
        Thread thread = new Thread(() -> {
            Entry entry = entries.get(name);
            try (Room room = new Room(bootstrap, entry.protocol)) {
                entry.check.run(room);
            } catch (Throwable failure) {
                outcome[0] = failure;
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
        try {
            thread.join(LIMIT_MS);
        } catch (InterruptedException interrupted) {
            throw new AssertionError(interrupted);
        }
        if (thread.isAlive()) {
            outcome[0] = new AssertionError("not done within " + LIMIT_MS / 1000 + " s");
            outcome[0].setStackTrace(thread.getStackTrace());
        }
        if (outcome[0] != null) {
            System.err.println("== " + name);
            outcome[0].printStackTrace();
        }
        return outcome[0];
    }
}
