import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.kafka.common.TopicPartition;

/** Which member of a check has which partition, by what their rebalance listeners were told. */
final class Ownership {
    final Map<TopicPartition, Member> owners = new ConcurrentHashMap<>();
    /** Partitions that were given to one member before the other had them revoked. */
    final List<TopicPartition> overlaps = new CopyOnWriteArrayList<>();

    void assigned(TopicPartition partition, Member member) {
        Member former = owners.put(partition, member);
        if (former != null && former != member) {
            overlaps.add(partition);
        }
    }

    void gone(TopicPartition partition, Member member) {
        owners.remove(partition, member);
    }
}
