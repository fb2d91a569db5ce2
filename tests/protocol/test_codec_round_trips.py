"""Every message, in every version, comes back from its bytes as it went in."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_values import all_messages, project, tree

MESSAGES = all_messages()


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_message_survives_encoding_and_decoding_in_every_version(name: str, data: st.DataObject) -> None:
    spec, cls = MESSAGES[name]
    values = data.draw(tree(spec.root))
    for version in spec.all_versions():
        message = project(spec, cls, values, version)
        encoded = b"".join(message.encode(version, bytearray(b"head")))
        decoded, end = cls.decode(version, encoded, 4)
        assert decoded == message, f"version {version}"
        assert end == len(encoded), f"version {version}"
