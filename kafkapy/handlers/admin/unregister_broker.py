"""UnregisterBroker (key 64), version 0.

Forgets a broker that will not come back. There is nothing to forget: brokers are known for as long as they are there,
and one that is there stays (Kafka would have it go on as a stranger to its own cluster).
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse


async def handle(request: UnregisterBrokerRequest, ctx: Context) -> UnregisterBrokerResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    broker_id = request.broker_id
    if ctx.rooms.cluster.leadership.broker(broker_id) is None:
        raise KafkaError(Error.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered")
    raise KafkaError(Error.INVALID_REQUEST, f"Broker ID {broker_id} is there: stop it first")
