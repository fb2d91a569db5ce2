"""`kafkapy fault-proxy`, as a process, before a broker that runs."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kafka
import trustme

import kafkapy
from kafkapy.testing.remote import Remote

COMMAND = [sys.executable, "-m", "kafkapy"]
TIMEOUT = 20.0


@contextmanager
def standing(before: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A proxy that has said that it is ready, and what it said."""
    command = [*COMMAND, "fault-proxy", before, *options, "--control", "0", "--json-ready"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def test_a_kafka_with_tls_is_met_with_it_by_whom_one_trusts(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, trusted = authority.issue_cert("127.0.0.1"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    settings = {
        "listeners": "SSL://127.0.0.1:0",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": certificate.private_key_pem.bytes().decode(),
        "ssl.keystore.certificate.chain": certificate.cert_chain_pems[0].bytes().decode(),
    }
    with kafkapy.Broker(settings) as broker:
        address = f"127.0.0.1:{broker.bound_port}"
        with standing(address, "--tls", str(trusted)) as (_, ready):
            said(ready["control"], "fault", "add", "Produce", "error=NOT_LEADER_OR_FOLLOWER")
            with kafka.KafkaProducer(bootstrap_servers=ready["bootstrap_servers"], retry_backoff_ms=10) as producer:
                assert producer.send("t", b"v").get(TIMEOUT).offset == 0
        for options, complaint in ((["--tls"], "verify failed"), (["--tls", str(tmp_path / "none")], "No such file")):
            command = [*COMMAND, "fault-proxy", address, *options]
            refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert refused.returncode == 1 and complaint in refused.stderr, refused.stderr


def said(control: str, *arguments: str, code: int = 0) -> str:
    name, *rest = arguments
    command = [*COMMAND, name, "--control", control, *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_faults_before_a_kafka_in_words() -> None:
    with kafkapy.Broker() as broker, standing(broker.bootstrap_servers) as (process, ready):
        broker.create_topic("t")
        control = ready["control"]
        host, _, port = control.rpartition(":")
        assert Remote(host, int(port)).ask("GET", "/") == {
            "bootstrap_servers": ready["bootstrap_servers"],
            "before": broker.bootstrap_servers,
        }
        said(control, "fault", "add", "Produce", "topic=t", "error=NOT_LEADER_OR_FOLLOWER", "times=2", "must")
        with kafka.KafkaProducer(
            bootstrap_servers=ready["bootstrap_servers"], client_id="shop", retry_backoff_ms=10
        ) as producer:
            assert producer.send("t", b"v").get(TIMEOUT).offset == 0
        assert said(control, "fault", "wait", "1", "--hits", "2").startswith("1: Produce topic=t: NOT_LEADER")
        assert "shop Produce" in said(control, "activity")
        assert "no clock that could be moved" in said(control, "clock", "freeze", code=1)
        assert "its own" in said(control, "fault", "add", "DiskWrite", "error=EIO", code=2)
        assert [json.loads(line)["topic"] for line in said(control, "snapshot").splitlines()] == ["t", "t"]
        said(control, "reset")
        assert said(control, "fault") == ""
        assert broker.topics() == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def test_a_proxy_before_nothing_says_so() -> None:
    with kafkapy.Broker() as broker:
        pass
    for where, why in ((broker.bootstrap_servers, "is no Kafka without TLS"), ("kafka:port", "HOST:PORT")):
        done = subprocess.run([*COMMAND, "fault-proxy", where], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert why in done.stderr
        assert "Traceback" not in done.stderr
