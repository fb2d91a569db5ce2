"""`kafkapy`: the command line. Parses, and hands over to the module of the command, which is imported only then."""

import argparse
import sys
from collections.abc import Sequence

import kafkapy

_LEVELS = ("debug", "info", "warning", "error")
_SHELLS = ("bash", "zsh", "tcsh")
_CONTROLS = ("fault", "clock", "reset", "snapshot", "restore", "activity")


_VERSION = f"kafkapy {kafkapy.__version__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the process's exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "start")
    options = _parser().parse_args(given)
    if options.command == "check":
        from kafkapy.cli import check

        if options.database is not None:
            return check.run_database(options.database)
        return check.run(options.directory)
    if options.command == "dump":
        from kafkapy.cli import dump

        return dump.run(options.files, as_json=options.json)
    if options.command == "doctor":
        from kafkapy.cli import doctor

        return doctor.run(options.address)
    if options.command == "version":
        print(_VERSION)
        return 0
    if options.command == "completion":
        import shtab

        print(shtab.complete(_parser(), shell=options.shell))
        return 0
    if options.command == "fault-proxy":
        from kafkapy.cli import fault_proxy

        return fault_proxy.run(options)
    if options.command == "cluster":
        from kafkapy.cli.cluster import cluster

        return cluster(options)
    if options.command in _CONTROLS:
        from kafkapy.cli import control

        return control.run(options)
    from kafkapy.cli.start import start

    return start(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kafkapy", description="A Kafka broker in Python.")
    parser.add_argument("--version", action="version", version=_VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    start = commands.add_parser("start", help="run a broker (what kafkapy does when no command is named)")
    start.add_argument("properties", nargs="?", metavar="server.properties", help="a file of Kafka settings")
    start.add_argument(
        "-c", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="set one setting; may be repeated"
    )
    start.add_argument("--port", type=int, help="listen on this port of 127.0.0.1; 0 takes a free one")
    where = start.add_mutually_exclusive_group()
    where.add_argument("--data-dir", metavar="DIR", help="keep the data here")
    where.add_argument("--memory", action="store_true", help="keep the data in memory, and lose it at the end")
    where.add_argument(
        "--database", metavar="URL", help="keep the data in this PostgreSQL: postgresql://user@host/name"
    )
    start.add_argument("--advertise", metavar="HOST", help="tell clients to connect to this host")
    start.add_argument(
        "--brokers", type=int, default=1, metavar="N", help="run so many brokers, a cluster, over one store (1)"
    )
    start.add_argument("--racks", default="", metavar="A,B,…", help="the racks in which they stand, in turn")
    start.add_argument("--metrics-port", type=int, help="tell metrics over HTTP at this port of 127.0.0.1")
    start.add_argument("--as-version", metavar="VERSION", help="tell clients of no more than that Kafka does: 3.9")
    start.add_argument("--seed", metavar="FILE", help="write the topics and records of a file of JSON lines first")
    start.add_argument(
        "--control", metavar="[HOST:]PORT", help="let tests set faults, move time and empty the broker over HTTP here"
    )
    start.add_argument("--end-with-stdin", action="store_true", help="stop, as at SIGTERM, once standard input ends")
    _add_output(start)

    _add_cluster(commands)

    check = commands.add_parser("check", help="read all data and name every broken invariant")
    checked = check.add_mutually_exclusive_group(required=True)
    checked.add_argument("directory", nargs="?", metavar="DIR", help="a data directory that no broker uses")
    checked.add_argument("--database", metavar="URL", help="a PostgreSQL, which brokers may use meanwhile")

    dump = commands.add_parser("dump", help="say what is in files of a data directory: batches, records, indexes, …")
    dump.add_argument("files", nargs="+", metavar="FILE", help="a segment, an index, a snapshot, a checkpoint")
    dump.add_argument("--json", action="store_true", help="print a JSON object a line")

    doctor = commands.add_parser("doctor", help="connect to a broker as a client does, and say what is wrong")
    doctor.add_argument("address", metavar="HOST:PORT", nargs="?", default="127.0.0.1:9092", help="where clients begin")

    proxy = commands.add_parser("fault-proxy", help="stand before a Kafka, and have requests to it go wrong")
    proxy.add_argument("kafka", metavar="HOST:PORT", help="where its clients would begin")
    proxy.add_argument("--port", type=int, default=0, help="listen on this port of 127.0.0.1; 0 takes a free one (0)")
    proxy.add_argument("--control", metavar="[HOST:]PORT", help="let tests set faults over HTTP here")
    proxy.add_argument(
        "--tls",
        nargs="?",
        const="",
        metavar="CA_FILE",
        help="the Kafka has TLS; its certificates are of whom the system trusts, or of those in this PEM file",
    )
    _add_output(proxy)

    _add_controls(commands)

    commands.add_parser("version", help="print the version")

    completion = commands.add_parser("completion", help="print the completion of these commands for a shell")
    completion.add_argument("shell", choices=_SHELLS, help="the shell that evaluates what is printed")
    return parser


def _add_output(command: argparse.ArgumentParser) -> None:
    """How what serves speaks of itself."""
    command.add_argument("--json-ready", action="store_true", help="print one line of JSON on stdout when ready")
    command.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="how the log on stderr is written (text)"
    )
    command.add_argument("--log-level", choices=_LEVELS, default="info", help="the least that is logged (info)")


def _add_cluster(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    cluster = commands.add_parser("cluster", help="run so many brokers, each a process, over one PostgreSQL")
    cluster.add_argument("brokers", type=int, metavar="N", help="how many")
    cluster.add_argument("properties", nargs="?", metavar="server.properties", help="a file of Kafka settings")
    cluster.add_argument(
        "-c", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="set one setting of all of them"
    )
    cluster.add_argument("--port", type=int, help="the first one's port of 127.0.0.1, the others follow; 0: free ones")
    where = cluster.add_mutually_exclusive_group()
    where.add_argument("--database", metavar="URL", help="keep the data in this PostgreSQL")
    where.add_argument(
        "--data-dir", metavar="DIR", help="keep the data of an embedded PostgreSQL here, and not for now"
    )
    cluster.add_argument("--racks", default="", metavar="A,B,…", help="the racks in which they stand, in turn")
    cluster.add_argument("--restart", action="store_true", help="start a broker that has ended anew")
    _add_output(cluster)
    cluster.set_defaults(log_level="warning", memory=False, control=None, advertise=None, metrics_port=None)


def _add_controls(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What is asked of a broker that was started with --control."""

    def add(name: str, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what)
        command.add_argument(
            "--control", metavar="[HOST:]PORT", help="as the broker was started with (or KAFKAPY_CONTROL says)"
        )
        return command

    fault = add("fault", "have requests of a controlled broker go wrong")
    fault.add_argument(
        "what", choices=("list", "add", "script", "wait", "remove", "clear", "check"), nargs="?", default="list"
    )
    fault.add_argument("of", nargs="*", metavar="API word=value… | FILE | NUMBER", help="Produce delay=0.5 times=all")
    fault.add_argument("--hits", type=int, default=1, metavar="N", help="wait: until so many requests have met it (1)")
    fault.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="wait: not longer than that (10)")
    clock = add("clock", "show, stop and move the time of a controlled broker")
    clock.add_argument("what", choices=("show", "freeze", "thaw", "advance", "set"), nargs="?", default="show")
    clock.add_argument("to", nargs="?", metavar="SECONDS | MOMENT", help="3600, or 2030-01-01T00:00:00+00:00")
    add("reset", "empty a controlled broker, forget its faults, have its clock go on")
    snapshot = add("snapshot", "write what is in a controlled broker as JSON lines")
    snapshot.add_argument("file", nargs="?", default="-", metavar="FILE", help="where to (stdout)")
    restore = add("restore", "have a controlled broker hold what a snapshot says, and nothing else")
    restore.add_argument("file", nargs="?", default="-", metavar="FILE", help="what was written (stdin)")
    activity = add("activity", "who asked a controlled broker what")
    activity.add_argument("-f", "--follow", action="store_true", help="tell each request when it is answered")
    activity.add_argument("--json", action="store_true", help="with -f: print a JSON object a line")
