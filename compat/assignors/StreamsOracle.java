import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.*;
import org.apache.kafka.coordinator.group.api.streams.assignor.*;
import org.apache.kafka.coordinator.group.streams.assignor.*;

/**
 * Has Apache Kafka's own assignor of streams groups assign: a group a line block in, what each member gets out.
 *
 * <pre>
 * group STANDBYS
 * subtopology ID TASKS true|false                 (whether it is stateful)
 * member ID PROCESS ACTIVE STANDBY OFFSETS        (tasks: id:0,1;id:2; offsets: id:0=17,1=4; "-" is nothing)
 * end
 * </pre>
 */
public class StreamsOracle {
    record Topology(TreeMap<String, Integer> counts, Set<String> stateful) implements TopologyDescriber {
        public List<String> subtopologies() { return List.copyOf(counts.keySet()); }
        public int maxNumInputPartitions(String id) { return counts.get(id); }
        public boolean isStateful(String id) { return stateful.contains(id); }
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        Map<String, MemberMetadataAndStateImpl> members = new HashMap<>();
        Topology topology = new Topology(new TreeMap<>(), new HashSet<>());
        int standbys = 0;
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "group" -> {
                    standbys = Integer.parseInt(words[1]);
                    members = new HashMap<>();
                    topology = new Topology(new TreeMap<>(), new HashSet<>());
                }
                case "subtopology" -> {
                    topology.counts().put(words[1], Integer.parseInt(words[2]));
                    if (Boolean.parseBoolean(words[3])) topology.stateful().add(words[1]);
                }
                case "member" -> members.put(words[1], new MemberMetadataAndStateImpl(Optional.empty(), Optional.empty(),
                    words[2], Map.of(), tasks(words[3]), tasks(words[4]), Map.of(), offsets(words[5]), Map.of()));
                case "end" -> {
                    Map<String, String> configs = Map.of("num.standby.replicas", Integer.toString(standbys));
                    GroupSpec spec = new GroupSpecImpl(members, AssignmentConfigsImpl.fromMap(configs));
                    Map<String, MemberAssignment> found = new StickyTaskAssignor().assign(spec, topology).members();
                    for (String id : members.keySet())
                        System.out.println(id + " " + text(found.get(id).activeTasks()) + " " + text(found.get(id).standbyTasks()));
                    System.out.println("end");
                }
                default -> throw new IllegalArgumentException(line);
            }
        }
    }

    static Map<String, Set<Integer>> tasks(String text) {
        Map<String, Set<Integer>> found = new HashMap<>();
        if (!text.equals("-")) for (String each : text.split(";")) {
            Set<Integer> numbers = new HashSet<>();
            for (String number : each.substring(each.indexOf(":") + 1).split(",")) numbers.add(Integer.parseInt(number));
            found.put(each.split(":")[0], numbers);
        }
        return found;
    }

    static Map<String, Map<Integer, Long>> offsets(String text) {
        Map<String, Map<Integer, Long>> found = new HashMap<>();
        if (!text.equals("-")) for (String each : text.split(";")) {
            Map<Integer, Long> offsets = new HashMap<>();
            for (String pair : each.substring(each.indexOf(":") + 1).split(","))
                offsets.put(Integer.parseInt(pair.split("=")[0]), Long.parseLong(pair.split("=")[1]));
            found.put(each.split(":")[0], offsets);
        }
        return found;
    }

    static String text(Map<String, Set<Integer>> tasks) {
        List<String> found = new ArrayList<>();
        for (Map.Entry<String, Set<Integer>> each : new TreeMap<>(tasks).entrySet()) {
            List<String> numbers = new ArrayList<>();
            for (int number : new TreeSet<>(each.getValue())) numbers.add(Integer.toString(number));
            found.add(each.getKey() + ":" + String.join(",", numbers));
        }
        return found.isEmpty() ? "-" : String.join(";", found);
    }
}
