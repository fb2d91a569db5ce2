"""ACLs on a broker without an authorizer."""

from registry import case

from kafkapy.protocol.messages import request_class

DescribeAcls, CreateAcls, DeleteAcls = request_class(29), request_class(30), request_class(31)
ANY, LITERAL, TOPIC, CLUSTER, READ, ALLOW = 1, 3, 2, 4, 3, 3


@case("DescribeAcls", "everything, one topic's, with wildcards")
def _(s):
    nothing = {"resource_name_filter": None, "principal_filter": None, "host_filter": None}
    anything = {"resource_type_filter": ANY, "pattern_type_filter": ANY, "operation": ANY, "permission_type": ANY}
    s.ask(DescribeAcls(**nothing, **anything))
    topic = {"resource_type_filter": TOPIC, "resource_name_filter": s.topic(), "principal_filter": "User:x"}
    s.ask(DescribeAcls(**topic, host_filter="*", pattern_type_filter=LITERAL, operation=READ, permission_type=ALLOW))


@case("DescribeAcls", "types that do not exist")
def _(s):
    for field in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type"):
        known = {"resource_type_filter": ANY, "pattern_type_filter": ANY, "operation": ANY, "permission_type": ANY}
        s.ask(DescribeAcls(**{**known, field: 99}))
        s.ask(DescribeAcls(**{**known, field: 0}))


def creation(name, **fields):
    usual = {"resource_type": TOPIC, "resource_pattern_type": LITERAL, "operation": READ, "permission_type": ALLOW}
    return CreateAcls.AclCreation(resource_name=name, principal="User:x", host="*", **{**usual, **fields})


@case("CreateAcls", "none, one, several, of an empty name")
def _(s):
    s.ask(CreateAcls(creations=[]))
    s.ask(CreateAcls(creations=[creation("t")]))
    s.ask(CreateAcls(creations=[creation("t"), creation(""), creation("u", resource_type=CLUSTER)]))


@case("CreateAcls", "types that do not exist")
def _(s):
    for field in ("resource_type", "resource_pattern_type", "operation", "permission_type"):
        s.ask(CreateAcls(creations=[creation("t", **{field: 99})]))
        s.ask(CreateAcls(creations=[creation("t", **{field: 0})]))
        s.ask(CreateAcls(creations=[creation("t", **{field: ANY})]))


def matching(name, **fields):
    usual = {"resource_type_filter": TOPIC, "pattern_type_filter": LITERAL, "operation": READ, "permission_type": ALLOW}
    return DeleteAcls.DeleteAclsFilter(
        resource_name_filter=name, principal_filter=None, host_filter=None, **{**usual, **fields}
    )


@case("DeleteAcls", "none, one, several")
def _(s):
    s.ask(DeleteAcls(filters=[]))
    s.ask(DeleteAcls(filters=[matching(None)]))
    s.ask(DeleteAcls(filters=[matching("t"), matching("", resource_type_filter=ANY)]))


@case("DeleteAcls", "types that do not exist")
def _(s):
    for field in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type"):
        s.ask(DeleteAcls(filters=[matching("t", **{field: 99})]))
        s.ask(DeleteAcls(filters=[matching("t", **{field: 0})]))
