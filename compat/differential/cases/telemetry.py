"""Clients' own metrics (KIP-714), at brokers that nobody listens to: what may be asked and pushed."""

import uuid

from registry import Scene, case

from kafkapy.protocol.messages import request_class

GetTelemetrySubscriptions, PushTelemetry = request_class(71), request_class(72)
ZERO, RESERVED = bytes(16), bytes(15) + b"\x01"


def ask(s: Scene, instance=ZERO, note=True):
    return s.ask(GetTelemetrySubscriptions(client_instance_id=instance), version=0, note=note)


def push(s: Scene, told, metrics=b"", instance=None, **fields):
    instance = instance or uuid.UUID(str(told["client_instance_id"])).bytes
    fields = {"subscription_id": told["subscription_id"], "compression_type": 0, **fields}
    return s.ask(PushTelemetry(client_instance_id=instance, metrics=metrics, **fields), version=0)


@case("GetTelemetrySubscriptions", "without an id, again, by another connection")
def _(s):
    told = ask(s)
    instance = uuid.UUID(str(told["client_instance_id"])).bytes
    ask(s, instance)
    ask(s.another(), instance)
    ask(s, uuid.uuid4().bytes)
    ask(s, RESERVED)


@case("PushTelemetry", "once, too soon, last, after the last")
def _(s):
    told = ask(s)
    push(s, told)
    push(s, told)
    push(s, told, terminating=True)
    push(s, told)
    push(s, told, terminating=True)


@case("PushTelemetry", "of nobody, under another subscription, in no compression, too large")
def _(s):
    for instance in (ZERO, RESERVED):
        push(s, {"subscription_id": 0, "client_instance_id": uuid.uuid4()}, instance=instance)
    told = ask(s)
    push(s, told, subscription_id=told["subscription_id"] ^ 1)
    ask(s, uuid.UUID(str(told["client_instance_id"])).bytes)
    push(s, ask(s), compression_type=9)
    push(s, ask(s), metrics=bytes(1_048_577))
    push(s, ask(s), metrics=b"no OTLP", compression_type=1)
    push(s, {"subscription_id": 7, "client_instance_id": uuid.uuid4()})
