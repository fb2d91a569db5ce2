"""kafkapy: a Kafka broker in Python that stock Kafka clients cannot tell from Apache Kafka.

`Broker`, `BrokerProcess` and `open_broker` are the broker in a test: in a thread, in a process, in the caller's trio;
`FaultProxy` stands before a Kafka of somebody else's. They are imported when first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kafkapy.testing.embedded import Broker
    from kafkapy.testing.fault_proxy import FaultProxy
    from kafkapy.testing.in_trio import open_broker
    from kafkapy.testing.process import BrokerProcess

__all__ = ["Broker", "BrokerProcess", "FaultProxy", "__version__", "open_broker"]
__version__ = "0.1.0"

_PLACES = {
    "Broker": "kafkapy.testing.embedded",
    "BrokerProcess": "kafkapy.testing.process",
    "FaultProxy": "kafkapy.testing.fault_proxy",
    "open_broker": "kafkapy.testing.in_trio",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'kafkapy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(place), name)
