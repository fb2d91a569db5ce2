"""ApiVersions, SASL where there is none, and requests at versions that are not served."""

import struct

from registry import Scene, case

from kafkapy.protocol.messages import request_class


@case("ApiVersions", "error and layout")
def _(s):
    Request = request_class(18)
    request = (
        Request(client_software_name="differential", client_software_version="1.0") if s.version >= 3 else Request()
    )
    answer = s.ask(request, note=False)
    s.probe.trace.append({"error": answer["error_code"], "layout": answer.get("layout"), "fields": sorted(answer)})


@case("ApiVersions", "invalid client software", first=3)
def _(s):
    Request = request_class(18)
    for name, version in (("", "1.0"), ("a b", "1"), ("-a", "1"), ("a", ""), ("a", "1_0")):
        s.ask(Request(client_software_name=name, client_software_version=version))


@case("ApiVersions", "whom the client means to reach", first=5)
def _(s):
    cluster_id = s.ask(request_class(60)(), version=2)["cluster_id"]
    for named, node_id in (
        (None, -1),
        (cluster_id, 1),
        (cluster_id, 2),
        (cluster_id, -1),
        (cluster_id, -2),
        (None, 1),
        (None, 0),
        ("another", 1),
        ("another", -1),
        ("", 1),
        ("", -1),
    ):
        for name in ("differential", ""):
            request = request_class(18)(
                client_software_name=name, client_software_version="1", cluster_id=named, node_id=node_id
            )
            answer = s.ask(request, note=False)
            s.probe.trace.append({"error": answer["error_code"], "fields": sorted(answer)})


@case("SaslHandshake", "where there is no SASL; the connection stays open")
def _(s):
    for mechanism in ("PLAIN", "GSSAPI", ""):
        s.ask(s.make("SaslHandshake", mechanism=mechanism))
    s.ask(request_class(60)(), version=0)


@case("SaslAuthenticate", "where there is no SASL; the connection stays open")
def _(s):
    for said in (b"", b"\0user\0secret"):
        s.ask(s.make("SaslAuthenticate", auth_bytes=said))
    s.ask(request_class(60)(), version=0)


@case("ApiVersions", "a version beyond all", first=0, last=0)
def _(s):
    body = struct.pack(">hhi", 18, 99, 7) + struct.pack(">h", 1) + b"x" + b"\x00"
    s.probe.call_raw(18, 99, body)
    s.ask(request_class(18)(), note=False)


def raw(s: Scene, key, version, rest=b""):
    s.probe.trace.append({"asked": (key, version)})
    body = struct.pack(">hhi", key, version, 7) + struct.pack(">h", 1) + b"x" + rest
    s.probe.call_raw(key if key in (0, 3) else 18, version if key in (0, 3) else 0, body)


@case("ApiVersions", "other APIs at versions that are not served close the connection", first=0, last=0)
def _(s):
    raw(s, 3, 99)
    raw(s, 1, 3)
    raw(s, 999, 0)
    raw(s, -1, 0)
    raw(s, 19, 1)


@case("ApiVersions", "a body that ends too early closes the connection", first=0, last=0)
def _(s):
    raw(s, 3, 1, b"\x00\x00")
    raw(s, 3, 1, b"\x7f\xff\xff\xff")
    raw(s, 3, 1, b"\x00\x00\x00\x01\xff\xfe")
