"""ConsumerGroupHeartbeat (key 68), versions 0 to 1.

The consumer protocol (KIP-848) is not here yet, and this is what an Apache Kafka says where it is switched off
(`group.coordinator.rebalance.protocols=classic`): UNSUPPORTED_VERSION, upon which consumers stop at once and say why.
Without an answer of this API librdkafka asks for the coordinator over and over, in silence.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)


async def handle(request: ConsumerGroupHeartbeatRequest, ctx: Context) -> ConsumerGroupHeartbeatResponse:
    raise KafkaError(
        Error.UNSUPPORTED_VERSION, "the consumer group protocol is not served here yet; set group.protocol=classic"
    )
