"""Where which partitions' state can be asked for: the endpoints that members have told of (KIP-535, KIP-1071). Pure.

Called by `groups/streams/protocol.py`.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kafkapy.groups.streams.commands import EndpointPartitions
from kafkapy.groups.streams.facts import StreamsCurrent, StreamsSubscription
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.tasks import Tasks, pairs_of, tasks_of
from kafkapy.groups.streams.topologies import ConfiguredTopology

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage


def endpoint_partitions(
    group: StreamsGroup,
    member_id: str,
    subscription: StreamsSubscription,
    current: StreamsCurrent,
    former_id: str,
    configured: ConfiguredTopology,
    image: "ClusterImage",
) -> list[EndpointPartitions]:
    """One for each member that has an endpoint, this one, as given, last."""
    members = [
        (known, group.current(each))
        for each, known in group.subscriptions.items()
        if each not in (member_id, former_id)
    ]
    found = []
    for known, has in (*members, (subscription, current)):
        if known.endpoint is not None:
            assigned = has.assigned.without_epochs
            kept = tasks_of({*pairs_of(assigned.standby), *pairs_of(assigned.warmup)})
            active = _partitions(assigned.active, configured, image)
            found.append(EndpointPartitions(known.endpoint, active, _partitions(kept, configured, image)))
    return found


def _partitions(
    tasks: Tasks, configured: ConfiguredTopology, image: "ClusterImage"
) -> Sequence[tuple[str, Sequence[int]]]:
    """The partitions of the topics that the tasks read; a narrow topic has none for some of them."""
    found: list[tuple[str, Sequence[int]]] = []
    subtopologies = configured.subtopologies or {}
    for name, numbers in tasks.items():
        inputs: Iterable[str] = subtopologies[name].spec.inputs if name in subtopologies else ()
        for topic_name in dict.fromkeys(inputs):
            topic = image.topic(topic_name)
            count = 0 if topic is None else len(topic.partitions)
            if partitions := sorted(number for number in numbers if number < count):
                found.append((topic_name, partitions))
    return found
