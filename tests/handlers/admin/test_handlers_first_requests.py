"""What a client says first on a connection: whom it means to reach, and SASL where there is none."""

from typing import Any

import pytest

from kafkapy.errors import Error
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest


def hello(cluster_id: str | None, node_id: int, name: str = "some-client") -> ApiVersionsRequest:
    return ApiVersionsRequest(
        client_software_name=name, client_software_version="1.0", cluster_id=cluster_id, node_id=node_id
    )


async def test_whoever_is_meant_answers(broker: Any) -> None:
    for cluster_id, node_id in ((None, -1), ("the-cluster", 1)):
        answer = await broker.ask(hello(cluster_id, node_id), 5)
        assert answer.error_code == Error.NONE
        assert {18, 60} < {api.api_key for api in answer.api_keys}


@pytest.mark.parametrize(("cluster_id", "node_id"), [("another", 1), ("the-cluster", 2), ("another", 2), ("", 1)])
async def test_who_means_another_broker_is_told_to_look_for_it_anew(broker: Any, cluster_id: str, node_id: int) -> None:
    answer = await broker.ask(hello(cluster_id, node_id), 5)
    assert (answer.error_code, answer.api_keys) == (Error.REBOOTSTRAP_REQUIRED, [])
    assert broker.session.software_name == "some-client"


@pytest.mark.parametrize(("cluster_id", "node_id"), [("the-cluster", -1), (None, 1), ("another", -1), (None, 2)])
async def test_cluster_and_node_are_named_together_or_not_at_all(
    broker: Any, cluster_id: str | None, node_id: int
) -> None:
    answer = await broker.ask(hello(cluster_id, node_id), 5)
    assert (answer.error_code, answer.api_keys) == (Error.INVALID_REQUEST, [])


async def test_a_client_without_a_decent_name_is_refused_before_it_is_asked_whom_it_means(broker: Any) -> None:
    assert (await broker.ask(hello("another", 1, name=""), 5)).error_code == Error.INVALID_REQUEST


@pytest.mark.parametrize("version", range(2))
async def test_there_is_no_sasl_handshake_on_a_listener_without_sasl(broker: Any, version: int) -> None:
    answer = await broker.ask(SaslHandshakeRequest(mechanism="PLAIN"), version)
    assert (answer.error_code, answer.mechanisms) == (Error.ILLEGAL_SASL_STATE, [])


@pytest.mark.parametrize("version", range(3))
async def test_nothing_is_left_to_authenticate_on_a_listener_without_sasl(broker: Any, version: int) -> None:
    answer = await broker.ask(SaslAuthenticateRequest(auth_bytes=b"\0me\0secret"), version)
    assert answer.error_code == Error.ILLEGAL_SASL_STATE
    assert answer.error_message == "SaslAuthenticate request received after successful authentication"
    assert (bytes(answer.auth_bytes), answer.session_lifetime_ms) == (b"", 0)
