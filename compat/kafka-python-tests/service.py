"""The one module of the tests that their distribution leaves out: what they need of it beside a running broker."""


class ExternalService:
    """A server that somebody else starts and stops."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def open(self) -> None:
        pass

    def stop(self) -> None:
        pass


class SpawnedService:
    """A server that the tests would start: not here."""

    def __init__(self, *_: object) -> None:
        raise NotImplementedError("these tests are given a broker")
