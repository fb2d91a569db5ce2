"""Stock clients at every listener by every mechanism: as in compat/security, against a broker in this process."""

import sys
from pathlib import Path
from typing import Any

import pytest
import trio

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "compat"), str(ROOT / "compat" / "security")]

from clients import DONE, WAYS, Visit, aio, confluent, kafka_python
from users import LISTENERS, PASSWORD, USER, guarded_settings, write_certificates

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
MODULES = ("scram-sha-256", "scram-sha-512")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("certificates")
    write_certificates(work)
    return work


@pytest.mark.parametrize("client", [confluent, kafka_python, aio], ids=["confluent-kafka", "kafka-python", "aiokafka"])
@pytest.mark.parametrize(("listener", "mechanism"), WAYS)
async def test_a_client_gets_in_and_does_what_clients_do(
    start_broker: Any, certificates: Path, client: Any, listener: str, mechanism: str | None
) -> None:
    async with start_broker(memory=True, settings=settings_of(listener, certificates)) as broker:
        visit = Visit(listener, mechanism, address=f"127.0.0.1:{broker.port}", work=certificates)
        assert await trio.to_thread.run_sync(client, visit) == DONE


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_client_is_told_that_its_password_is_wrong(
    start_broker: Any, certificates: Path, mechanism: str
) -> None:
    async with start_broker(memory=True, settings=settings_of("SASL_PLAINTEXT", certificates)) as broker:
        address = f"127.0.0.1:{broker.port}"
        visit = Visit("SASL_PLAINTEXT", mechanism, password="wrong", address=address, work=certificates)
        assert await trio.to_thread.run_sync(aio, visit) == "refused: KafkaConnectionError"
        assert "uthentication failed" in await trio.to_thread.run_sync(confluent, visit)


def settings_of(listener: str, certificates: Path) -> dict[str, str]:
    """One listener alone; its SCRAM users stand in the settings."""
    settings = guarded_settings(dict.fromkeys(LISTENERS, 1), certificates, None)
    for name in MODULES:
        settings[f"listener.name.{listener.lower()}.{name}.sasl.jaas.config"] = (
            f'{SCRAM} required user_{USER}="{PASSWORD}";'
        )
    del settings["advertised.listeners"], settings["inter.broker.listener.name"]
    return {**settings, "listeners": f"{listener}://127.0.0.1:0"}
