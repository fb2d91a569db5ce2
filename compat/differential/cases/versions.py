"""ApiVersions, and requests at versions that are not served."""

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
    served = {entry["api_key"]: entry for entry in answer["api_keys"]}
    s.probe.trace.append({"error": answer["error_code"], "layout": answer.get("layout"), "fields": sorted(answer)})
    for key in (
        0,
        1,
        2,
        3,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        16,
        18,
        19,
        20,
        21,
        22,
        23,
        29,
        30,
        31,
        32,
        35,
        37,
        42,
        47,
        60,
        75,
    ):
        s.probe.trace.append(served.get(key))


@case("ApiVersions", "invalid client software", first=3)
def _(s):
    Request = request_class(18)
    for name, version in (("", "1.0"), ("a b", "1"), ("-a", "1"), ("a", ""), ("a", "1_0")):
        s.ask(Request(client_software_name=name, client_software_version=version))


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
