"""ACLs that act: made, listed, deleted, kept over a restart; and what they keep from whom."""

import logging
from typing import Any

import pytest

from kafkapy.errors import Error
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.create_acls import CreateAclsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_acls import DeleteAclsRequest
from kafkapy.protocol.messages.describe_acls import DescribeAclsRequest
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from tests.broker.wire import Wire

GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
ANY, LITERAL, PREFIXED, DENY, ALLOW = 1, 3, 4, 2, 3
TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
ADMIN, GUEST = "127.0.0.1", "127.0.0.2"
"""Everybody is ANONYMOUS; ACLs tell them apart by where they come from."""


def acl(kind: int, name: str, operation: int, host: str = GUEST, *, pattern: int = LITERAL, permission: int = ALLOW):
    return CreateAclsRequest.AclCreation(
        resource_type=kind,
        resource_name=name,
        resource_pattern_type=pattern,
        principal="User:ANONYMOUS",
        host=host,
        operation=operation,
        permission_type=permission,
    )


EVERYTHING = {
    "resource_type_filter": ANY,
    "resource_name_filter": None,
    "pattern_type_filter": ANY,
    "principal_filter": None,
    "host_filter": None,
    "operation": ANY,
    "permission_type": ANY,
}


async def create(wire: Wire, *acls: Any) -> list[tuple[int, str | None]]:
    answer = await wire.ask(CreateAclsRequest(creations=list(acls)), 3)
    return [(result.error_code, result.error_message) for result in answer.results]


async def delete(wire: Wire, **fields: Any) -> list[str]:
    """The names of the resources whose ACLs went."""
    wanted = DeleteAclsRequest.DeleteAclsFilter(**{**EVERYTHING, **fields})
    [result] = (await wire.ask(DeleteAclsRequest(filters=[wanted]), 3)).filter_results
    assert result.error_code == 0
    return [acl.resource_name for acl in result.matching_acls]


async def listed(wire: Wire, **fields: Any) -> list[tuple[str, str, int]]:
    answer = await wire.ask(DescribeAclsRequest(**{**EVERYTHING, **fields}), 3)
    assert answer.error_code == 0
    return [(r.resource_name, acl.host, acl.operation) for r in answer.resources for acl in r.acls]


async def admit_admin(wire: Wire) -> None:
    """From now on the others may do what an ACL of their own says, and nothing else."""
    names = {TOPIC: "*", GROUP: "*", CLUSTER: "kafka-cluster"}
    created = await create(wire, *(acl(kind, name, Operation.ALL, ADMIN) for kind, name in names.items()))
    assert created == [(0, "")] * 3


async def test_acls_are_made_listed_and_deleted_and_outlive_the_broker(start_broker: Any) -> None:
    async with start_broker(settings=GUARDED) as broker, await Wire.connect(broker.port) as admin:
        await admit_admin(admin)
        wrong = [acl(CLUSTER, "other", Operation.ALL), acl(TOPIC, "", Operation.READ)]
        assert await create(admin, acl(TOPIC, "t", Operation.READ), *wrong, acl(TOPIC, "t", Operation.READ)) == [
            (0, ""),
            (Error.INVALID_REQUEST, "The only valid name for the CLUSTER resource is kafka-cluster"),
            (Error.INVALID_REQUEST, "Invalid empty resource name"),
            (0, ""),
        ]
        assert await listed(admin, host_filter=GUEST) == [("t", GUEST, Operation.READ)]
        await create(admin, acl(TOPIC, "u", Operation.READ, pattern=PREFIXED))
        assert await delete(admin, resource_name_filter="t") == ["t"]
    async with start_broker(settings=GUARDED) as broker, await Wire.connect(broker.port) as admin:
        assert await listed(admin, host_filter=GUEST) == [("u", GUEST, Operation.READ)]
        assert sorted(await delete(admin)) == ["*", "*", "kafka-cluster", "u"]
        assert await listed(admin) == []


async def test_who_has_no_acl_is_kept_out_and_told_nothing(start_broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kafka.authorizer.logger")
    async with (
        start_broker(settings=GUARDED) as broker,
        await Wire.connect(broker.port) as admin,
        await Wire.connect(broker.port, host=GUEST) as guest,
    ):
        await admit_admin(admin)
        topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        creation = CreateTopicsRequest(topics=[topic], timeout_ms=10_000)
        [refused] = (await guest.ask(creation, 7)).topics
        assert (refused.error_code, refused.error_message) == (
            Error.TOPIC_AUTHORIZATION_FAILED,
            "Authorization failed.",
        )
        [made] = (await admin.ask(creation, 7)).topics
        assert made.error_code == 0
        everything = await guest.ask(MetadataRequest(topics=None), 12)
        assert everything.topics == []
        names = [MetadataRequest.MetadataRequestTopic(name=name) for name in ("t", "not there")]
        told = await guest.ask(MetadataRequest(topics=names), 12)
        assert {(topic.name, topic.error_code) for topic in told.topics} == {
            ("t", Error.TOPIC_AUTHORIZATION_FAILED),
            ("not there", Error.TOPIC_AUTHORIZATION_FAILED),
        }
        refused = await guest.ask(DescribeAclsRequest(**EVERYTHING), 3)
        assert refused.error_code == Error.CLUSTER_AUTHORIZATION_FAILED
        assert refused.error_message.endswith(" needs DESCRIBE permission.")
        assert (
            "Principal = User:ANONYMOUS is Denied operation = DESCRIBE from host = 127.0.0.2 on resource = "
            "Topic:LITERAL:t for request = Metadata with resourceRefCount = 1 based on rule DefaultDeny"
        ) in caplog.messages
        # Lists leave out silently, and nobody is told of who was let in.
        assert sum("Metadata" in message for message in caplog.messages) == 2
        assert not [message for message in caplog.messages if "Allowed" in message]

        await create(admin, acl(TOPIC, "t", Operation.READ), acl(CLUSTER, "kafka-cluster", Operation.DESCRIBE))
        [seen] = (await guest.ask(MetadataRequest(topics=None, include_topic_authorized_operations=True), 12)).topics
        assert seen.name == "t"
        assert seen.topic_authorized_operations == 1 << Operation.READ | 1 << Operation.DESCRIBE
        cluster = await guest.ask(DescribeClusterRequest(include_cluster_authorized_operations=True), 2)
        assert cluster.cluster_authorized_operations == 1 << Operation.DESCRIBE


async def test_who_asks_writes_no_lines_of_the_audit_log(start_broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kafka.authorizer.logger")
    async with (
        start_broker(settings=GUARDED, memory=True) as broker,
        await Wire.connect(broker.port) as admin,
        await Wire.connect(broker.port, host=GUEST) as guest,
    ):
        await admit_admin(admin)
        forged = MetadataRequest.MetadataRequestTopic(name="t\nPrincipal = User:admin is Allowed")
        await guest.ask(MetadataRequest(topics=[forged]), 12)
    [line] = [message for message in caplog.messages if "Metadata" in message]
    assert "\n" not in line
    assert r"Topic:LITERAL:t\nPrincipal" in line


async def test_who_may_write_to_some_topic_gets_a_producer_id(start_broker: Any) -> None:
    async with (
        start_broker(settings=GUARDED, memory=True) as broker,
        await Wire.connect(broker.port) as admin,
        await Wire.connect(broker.port, host=GUEST) as guest,
    ):
        await admit_admin(admin)
        question = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        answers = [await guest.ask(question, 4)]
        for kind, name, operation in (
            (TOPIC, "t", Operation.READ),
            (TOPIC, "t", Operation.WRITE),
        ):
            await create(admin, acl(kind, name, operation))
            answers.append(await guest.ask(question, 4))
        await delete(admin, host_filter=GUEST)
        answers.append(await guest.ask(question, 4))
        await create(admin, acl(CLUSTER, "kafka-cluster", Operation.IDEMPOTENT_WRITE))
        answers.append(await guest.ask(question, 4))
    denied = Error.CLUSTER_AUTHORIZATION_FAILED
    assert [answer.error_code for answer in answers] == [denied, denied, 0, denied, 0]


async def test_super_users_need_no_acls(start_broker: Any) -> None:
    settings = {**GUARDED, "allow.everyone.if.no.acl.found": "false"}
    async with start_broker(settings=settings, memory=True) as broker, await Wire.connect(broker.port) as nobody:
        answer = await nobody.ask(DescribeAclsRequest(**EVERYTHING), 3)
        assert answer.error_code == Error.CLUSTER_AUTHORIZATION_FAILED
    settings["super.users"] = "User:admin;User:ANONYMOUS"
    async with start_broker(settings=settings, memory=True) as broker, await Wire.connect(broker.port) as somebody:
        assert await create(somebody, acl(TOPIC, "t", Operation.ALL, ADMIN, permission=DENY)) == [(0, "")]
        assert await listed(somebody) == [("t", ADMIN, Operation.ALL)]
