"""The errors of the protocol, by their codes."""

from kafkapy.errors import Error


def test_a_code_that_nobody_knows_here_is_an_unknown_error() -> None:
    """A newer broker of the cluster may have said it."""
    assert Error.of(9999) is Error.UNKNOWN_SERVER_ERROR
    assert all(Error.of(int(error)) is error for error in Error)
