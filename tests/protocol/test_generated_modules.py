import subprocess
import sys
from pathlib import Path

import pytest

from kafkapy.handlers import ALL
from kafkapy.protocol.messages import APIS, request_class, response_class

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_generated_modules_are_what_the_specs_say() -> None:
    script = ROOT / "scripts" / "generate_protocol.py"
    check = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


def advertised_by_kafka() -> dict[int, tuple[str, int, int]]:
    """What a fresh node's ApiVersions said: name, first and last version by key. Read by `scripts/kafka_facts`."""
    lines = (Path(__file__).parent / "data" / "api_versions.tsv").read_text().splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return {int(key): (name, int(first), int(last)) for key, name, first, last in rows}


ONLY_WITH_A_TELEMETRY_RECEIVER = {71, 72}
ONLY_BETWEEN_BROKERS = {58, 67}


def test_the_table_names_every_api_that_kafka_advertises_with_its_range() -> None:
    table = {
        api.key: (api.name, api.advertised_from, api.stable_version)
        for api in APIS.values()
        if api.key not in ONLY_WITH_A_TELEMETRY_RECEIVER | ONLY_BETWEEN_BROKERS
    }
    assert table == advertised_by_kafka()


def test_what_is_served_is_served_in_all_of_kafkas_versions() -> None:
    kafka = advertised_by_kafka()
    for route in ALL:
        if route.key in ONLY_WITH_A_TELEMETRY_RECEIVER:
            assert (route.min_version, route.max_version) == (0, APIS[route.key].max_version)
            continue
        _, first, last = kafka[route.key]
        assert (route.min_version, route.max_version) == (max(first, APIS[route.key].min_version), last), route


def test_advertised_ranges_differ_from_the_valid_ones_only_where_kafka_has_a_reason() -> None:
    different = {
        api.name: (api.advertised_from, api.stable_version)
        for api in APIS.values()
        if (api.advertised_from, api.stable_version) != (api.min_version, api.max_version)
    }
    assert different == {"Produce": (0, 13), "InitProducerId": (0, 5)}


def test_classes_are_found_by_key() -> None:
    for key, api in APIS.items():
        for cls, kind in ((request_class(key), "Request"), (response_class(key), "Response")):
            assert cls.__name__ == api.name + kind
            assert (key, api.min_version, api.max_version) == (cls.API_KEY, cls.MIN_VERSION, cls.MAX_VERSION)
    with pytest.raises(KeyError):
        request_class(7)


def test_a_module_is_imported_only_when_it_is_needed() -> None:
    program = """
import sys
import kafkapy.protocol.messages as messages
def loaded():
    return sorted(name[26:] for name in sys.modules if name.startswith("kafkapy.protocol.messages."))
assert loaded() == [], loaded()
fetch = messages.response_class(1)
assert loaded() == ["fetch"], loaded()
fetch().encode(12, bytearray())
assert loaded() == ["broker", "broker.fetch", "fetch"], loaded()
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
