"""What several transaction handlers do alike."""

from kafkapy.errors import Error
from kafkapy.handlers.context import Context


def known_to(ctx: Context, error: Error, fenced_from_version: int) -> Error:
    """The error as this client knows it: before some version of each request there was no PRODUCER_FENCED."""
    if error is Error.PRODUCER_FENCED and ctx.api_version < fenced_from_version:
        return Error.INVALID_PRODUCER_EPOCH
    return error
