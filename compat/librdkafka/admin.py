"""What the tests call as `kafka-topics.sh` and `kafka-acls.sh`: the same few options, without a JVM.

admin.py kafka-topics.sh --bootstrap-server HOST:PORT --create --topic NAME --partitions 2 --config name=value …
admin.py kafka-acls.sh --bootstrap-server HOST:PORT --add --deny-principal 'User:*' --operation Read … --topic NAME
"""

import argparse
import sys
from concurrent.futures import Future

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

TIMEOUT_S = 30


def topics(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="kafka-topics.sh")
    action = parser.add_mutually_exclusive_group(required=True)
    for name in ("--create", "--alter", "--delete"):
        action.add_argument(name, action="store_true")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, default=-1)
    parser.add_argument("--replication-factor", type=int, default=-1)
    parser.add_argument("--config", action="append", default=[])
    options = parser.parse_args(arguments)
    admin = AdminClient({"bootstrap.servers": options.bootstrap_server})
    if options.create:
        config = dict(entry.split("=", 1) for entry in options.config)
        topic = NewTopic(options.topic, options.partitions, options.replication_factor, config=config)
        wait(admin.create_topics([topic]))
    elif options.alter:
        wait(admin.create_partitions([NewPartitions(options.topic, options.partitions)]))
    else:
        wait(admin.delete_topics([options.topic]))


def acls(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="kafka-acls.sh")
    action = parser.add_mutually_exclusive_group(required=True)
    for name in ("--add", "--remove"):
        action.add_argument(name, action="store_true")
    for permission in ("allow", "deny"):
        parser.add_argument(f"--{permission}-principal")
        parser.add_argument(f"--{permission}-host", default="*")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--operation", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(arguments)
    admin = AdminClient({"bootstrap.servers": options.bootstrap_server})
    denied = options.deny_principal is not None
    what = (
        *(ResourceType.TOPIC, options.topic, ResourcePatternType.LITERAL),
        *((options.deny_principal, options.deny_host) if denied else (options.allow_principal, options.allow_host)),
        AclOperation[options.operation.upper()],
        AclPermissionType.DENY if denied else AclPermissionType.ALLOW,
    )
    if options.add:
        wait(admin.create_acls([AclBinding(*what)]))
    else:
        wait(admin.delete_acls([AclBindingFilter(*what)]))


def wait(futures: dict[object, Future]) -> None:
    for future in futures.values():
        future.result(TIMEOUT_S)


COMMANDS = {"kafka-topics.sh": topics, "kafka-acls.sh": acls}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](sys.argv[2:])
