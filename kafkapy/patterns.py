"""Regular expressions of clients, in RE2's syntax as in Kafka: matching takes linear time, whatever they say."""

from collections.abc import Callable

from kafkapy.errors import Error, KafkaError


def full_match(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches as a whole. Raises INVALID_REGULAR_EXPRESSION for a pattern that is none."""
    import re2  # some milliseconds, which few brokers need

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as problem:
        raise KafkaError(Error.INVALID_REGULAR_EXPRESSION, f"{pattern!r} is no regular expression") from problem
    return lambda text: compiled.fullmatch(text) is not None
