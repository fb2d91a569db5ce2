"""What is in a broker, in words: for the report of a test that failed."""

from kafkapy.testing.asserting import told
from kafkapy.testing.embedded import Broker
from kafkapy.testing.fault_proxy import FaultProxy
from kafkapy.testing.handle import BrokerHandle

_REQUESTS = 20


def told_broker(broker: BrokerHandle, most: int) -> str:
    """Its topics, each with its last records, at most so many; its groups, with what they have yet to read."""
    lines = [f"at {broker.bootstrap_servers}"]
    ends: dict[tuple[str, int], int] = {}
    for topic in broker.topics():
        records = broker.records(topic.name)
        ends.update(((topic.name, partition), end) for partition, end in broker.end_offsets(topic.name).items())
        lines.append(f"topic {topic.name}: {topic.partitions} partitions, {len(records)} records")
        if len(records) > most:
            lines.append("  …")
        lines += [f"  {told(record)}" for record in records[-most:]]
    for group in broker.groups():
        lines.append(f"group {group.group_id}: {group.group_type}, {group.state}, {group.members} members")
        for at, offset in sorted(group.committed.items()):
            lag = ends.get(at, offset) - offset
            lines.append(f"  {at}: committed {offset}, {lag} behind the end")
    if isinstance(broker, Broker | FaultProxy):
        lines += ["last requests:", *(f"  {one}" for one in broker.activity.last(_REQUESTS))]
        lines += [f"a fault that never fired: {rule}" for rule in broker.faults if not (rule.hits or rule.only_counts)]
    return "\n".join(lines)
