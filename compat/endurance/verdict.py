"""What the checkers here share: waiting for something, a promise that was broken, a broker that has to end well."""

import json
import time
from collections.abc import Callable

from brokers import Broker, Kafkapy


class Failed(Exception):
    """A promise was broken; the text says which."""


def until(condition: Callable[[], bool], what: str, patience_s: float, pause_s: float = 0.1) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {patience_s:g} s for {what}")
        time.sleep(pause_s)


def no_complaints(broker: Broker) -> None:
    """The broker's log shows no error; of Apache Kafka's nothing is asked."""
    if isinstance(broker, Kafkapy) and (complaints := broker.complaints()):
        raise Failed(f"the broker's log: {json.dumps(complaints[:5])}")


def finish(broker: Broker) -> None:
    """Stop it: cleanly, and with nothing for `kafkapy check` to find."""
    code = broker.stop()
    if isinstance(broker, Kafkapy):
        no_complaints(broker)
        if code != 0:
            raise Failed(f"exit code {code} at the end")
        if wrong := broker.check():
            raise Failed(f"kafkapy check: {wrong}")
        print("clean stop; kafkapy check finds nothing", flush=True)
