import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;
import org.apache.kafka.coordinator.group.modern.*;

/**
 * Has Apache Kafka's own assignors assign: a group a line block on standard input, what each member gets on standard output.
 *
 * <pre>
 * group NAME HOMOGENEOUS|HETEROGENEOUS
 * topic ID PARTITIONS
 * assignable ID PARTITIONS               (only of share groups: those that are initialised, with commas)
 * member ID INSTANCE TOPICS ASSIGNED     (TOPICS: ids with commas; ASSIGNED: id:0,1;id:2; "-" is nothing)
 * end
 * </pre>
 */
public class AssignorOracle {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        Map<Uuid, Integer> counts = new HashMap<>();
        Map<String, MemberSubscriptionAndAssignmentImpl> members = new HashMap<>();
        Map<Uuid, Map<Integer, String>> owners = new HashMap<>();
        Map<Uuid, Set<Integer>> assignable = new HashMap<>();
        String name = "";
        SubscriptionType type = SubscriptionType.HOMOGENEOUS;
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "group" -> {
                    name = words[1];
                    type = SubscriptionType.valueOf(words[2]);
                    counts = new HashMap<>();
                    members = new HashMap<>();
                    owners = new HashMap<>();
                    assignable = new HashMap<>();
                }
                case "assignable" -> {
                    Set<Integer> partitions = new HashSet<>();
                    for (String number : words[2].split(",")) partitions.add(Integer.parseInt(number));
                    assignable.put(uuid(words[1]), partitions);
                }
                case "topic" -> counts.put(uuid(words[1]), Integer.parseInt(words[2]));
                case "member" -> {
                    Set<Uuid> topics = new LinkedHashSet<>();
                    if (!words[3].equals("-")) for (String id : words[3].split(",")) topics.add(uuid(id));
                    Map<Uuid, Set<Integer>> assigned = new HashMap<>();
                    if (!words[4].equals("-")) {
                        for (String topic : words[4].split(";")) {
                            Uuid id = uuid(topic.split(":")[0]);
                            List<Integer> partitions = new ArrayList<>();
                            for (String number : topic.substring(topic.indexOf(":") + 1).split(",")) if (!number.isEmpty()) partitions.add(Integer.parseInt(number));
                            assigned.put(id, Collections.unmodifiableSet(new HashSet<>(partitions)));
                            for (int partition : partitions) {
                                owners.computeIfAbsent(id, __ -> new HashMap<>()).put(partition, words[1]);
                            }
                        }
                    }
                    Optional<String> instance = words[2].equals("-") ? Optional.empty() : Optional.of(words[2]);
                    members.put(words[1], new MemberSubscriptionAndAssignmentImpl(
                        Optional.empty(), instance, topics, new Assignment(Collections.unmodifiableMap(assigned))));
                }
                case "end" -> {
                    PartitionAssignor assignor = switch (name) {
                        case "range" -> new RangeAssignor();
                        case "simple" -> new SimpleAssignor();
                        default -> new UniformAssignor();
                    };
                    Map<String, MemberAssignment> found = assignor.assign(
                        new GroupSpecImpl(Collections.unmodifiableMap(members), type, owners,
                            name.equals("simple") ? Optional.of(assignable) : Optional.empty()),
                        new Topics(counts)).members();
                    for (String id : new TreeSet<>(members.keySet())) {
                        MemberAssignment assignment = found.get(id);
                        System.out.println(id + " " + (assignment == null ? "-" : text(assignment.partitions())));
                    }
                    System.out.println("end");
                }
                default -> throw new IllegalArgumentException(line);
            }
        }
    }

    private static Uuid uuid(String hex) {
        ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
        return new Uuid(bytes.getLong(), bytes.getLong());
    }

    private static String text(Map<Uuid, Set<Integer>> partitions) {
        List<String> topics = new ArrayList<>();
        partitions.forEach((id, numbers) -> {
            StringJoiner joined = new StringJoiner(",");
            new TreeSet<>(numbers).forEach(number -> joined.add(number.toString()));
            String hex = HexFormat.of().toHexDigits(id.getMostSignificantBits()) + HexFormat.of().toHexDigits(id.getLeastSignificantBits());
            topics.add(hex + ":" + joined);
        });
        Collections.sort(topics);
        return topics.isEmpty() ? "-" : String.join(";", topics);
    }

    private record Topics(Map<Uuid, Integer> counts) implements SubscribedTopicDescriber {
        @Override
        public int numPartitions(Uuid topicId) {
            return counts.getOrDefault(topicId, -1);
        }

        @Override
        public Set<String> racksForPartition(Uuid topicId, int partition) {
            return Set.of();
        }
    }
}
