"""Settings as one listener has them: its own by the prefix `listener.name.<listener>.`, else the broker's.

A mechanism's name after the prefix, in lower case, says it of that mechanism alone. Called where listeners are made.
"""

from typing import Any

from kafkapy.config.layers import BrokerConfig, definition


class ListenerConfig:
    """`config[name]` is the parsed value that holds for the listener."""

    def __init__(self, config: BrokerConfig, listener: str) -> None:
        self.listener = listener
        self._config = config
        self._prefix = f"listener.name.{listener.lower()}."

    def __getitem__(self, name: str) -> Any:
        own = self.own(name)
        return self._config[name] if own is None else own

    def own(self, name: str) -> Any:
        """The value that the listener has of its own; None when it has none. Raises ConfigError."""
        return self._given(self._prefix + name, name)

    def of_mechanism(self, mechanism: str, name: str) -> Any:
        """What the listener has of its own for one SASL mechanism; None when it has nothing. Raises ConfigError."""
        return self._given(f"{self._prefix}{mechanism.lower()}.{name}", name)

    def _given(self, key: str, name: str) -> Any:
        text = self._config.static.get(key)
        return None if text is None else definition(name)._replace(name=key).parse(text)
