"""SaslAuthenticate (key 36), versions 0 to 2.

ILLEGAL_SASL_STATE, as Kafka answers where nothing is left to authenticate; the connection stays open. What comes during
authentication goes to the gate.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse


async def handle(request: SaslAuthenticateRequest, ctx: Context) -> SaslAuthenticateResponse:
    raise KafkaError(Error.ILLEGAL_SASL_STATE, "SaslAuthenticate request received after successful authentication")
