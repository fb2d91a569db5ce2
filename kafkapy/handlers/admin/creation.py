"""What the log says of topics that clients bring into being, be it on purpose or in passing."""

import logging

from kafkapy.cluster.service import TopicResult
from kafkapy.errors import KafkaError
from kafkapy.handlers.context import Context

_log = logging.getLogger(__name__)


def tell_creation(name: str, result: TopicResult, ctx: Context) -> None:
    """Say who has created the topic, or why it could not be."""
    if isinstance(result, KafkaError):
        _log.warning("could not create topic %s for client %s: %s", name, ctx.client_id, result)
    else:
        _log.info("created topic %s for client %s at %s", name, ctx.client_id, ctx.session.peer_host)
