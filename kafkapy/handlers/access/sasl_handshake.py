"""SaslHandshake (key 17), versions 0 to 1.

ILLEGAL_SASL_STATE, as Kafka answers on a listener without SASL, and where there is nothing to authenticate again; the
connection stays open. Others are answered by the gate. Tools that guess a broker's release by what it serves find this
API.
"""

from kafkapy.errors import Error
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse


async def handle(request: SaslHandshakeRequest, ctx: Context) -> SaslHandshakeResponse:
    return SaslHandshakeResponse(error_code=Error.ILLEGAL_SASL_STATE)
