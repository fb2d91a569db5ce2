"""Regular expressions of clients, in RE2's syntax as in Kafka: matching takes linear time, whatever they say."""

from collections.abc import Callable
from typing import Final

from kafkapy.errors import Error, KafkaError

_MAX_BYTES: Final = 256 * 1024
"""So large may a compiled pattern be: some hundred topics' names. Time to compile grows with the square of repetitions,
and RE2's own limit of 8 MiB lets a few hundred characters stop the whole broker for minutes.
"""

_IN_KAFKAS_WORDS: Final = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "unexpected )": "regexp/syntax: internal error",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}
"""What RE2 finds wrong with a pattern, as its Java sibling says it."""


def full_match(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches as a whole.

    Raises INVALID_REGULAR_EXPRESSION for a pattern that is none, or a huge one; the message says what is wrong with it.
    """
    import re2  # some milliseconds, which few brokers need

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_BYTES
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as problem:
        what = problem.args[0].decode(errors="replace").partition(": ")[0]
        raise KafkaError(Error.INVALID_REGULAR_EXPRESSION, _IN_KAFKAS_WORDS.get(what, what)) from problem
    # Of bytes re2 tells where they match; of text it also counts the characters up to there, which takes longer.
    return lambda text: compiled.fullmatch(text.encode()) is not None
