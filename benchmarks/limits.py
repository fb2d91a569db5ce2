#!/usr/bin/env python3
"""What the machine and the runtime allow: the same bytes without a broker around them, measured in the same run.

Each limit is what a path of the broker cannot pass, done as barely as it can be: a file to a socket (Fetch), a socket
to a file (Produce), a frame in and a frame out under trio (any small request), the checksum over the bytes.
The servers run in processes of their own, as brokers do: `limits.py NAME`, which prints its port.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import load
from measure import Costing

BLOCK = 1 << 20
FILE_BYTES = 256 << 20
ANSWER_BYTES = 69  # what answers a Produce of one record

Figures = dict[str, float]


@dataclass(frozen=True)
class Limit:
    name: str
    title: str
    units: dict[str, str]
    run: Callable[[float], Figures]


@contextlib.contextmanager
def _server(name: str) -> Iterator[tuple[int, int]]:
    """The server's port and process id."""
    process = subprocess.Popen([sys.executable, __file__, name], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def sendfile(seconds: float) -> Figures:
    """A file in the page cache to a socket on loopback, by sendfile."""
    with _server("serve_file") as (port, pid), socket.create_connection(("127.0.0.1", port)) as connection:
        buffer = bytearray(BLOCK)
        connection.recv_into(buffer)
        costing, count = Costing(pid), 0
        while costing.so_far().seconds < seconds:
            count += connection.recv_into(buffer)
        return _bytes(costing, count)


def receive(seconds: float) -> Figures:
    """Bytes from a socket on loopback into a file in the page cache."""
    with _server("store") as (port, pid), socket.create_connection(("127.0.0.1", port)) as connection:
        block = bytes(BLOCK)
        costing, count = Costing(pid), 0
        while costing.so_far().seconds < seconds:
            connection.sendall(block)
            count += BLOCK
        return _bytes(costing, count)


def echo(seconds: float, *, connections: int) -> Figures:
    """The frames of single requests to a bare trio server, which answers with as many bytes as a broker does."""
    with _server("trio_echo") as (port, pid):
        job = {"job": "echoes", "bootstrap": f"127.0.0.1:{port}", "connections": connections, "seconds": seconds}
        with load.clients([job]) as client:
            costing = Costing(pid)
            client.go()
            (result,) = client.results()
            cost = costing.so_far()
    return {
        "rate": result["requests"] / result["seconds"],
        "server CPU": cost.cpu_s / result["requests"] * 1e6,
    }


def checksum(seconds: float) -> Figures:
    """CRC-32C over blocks of 16 KiB, by the library that the broker uses."""
    from crc32c import crc32c

    block = bytes(range(256)) * 64
    begin, count = time.monotonic(), 0
    while (now := time.monotonic()) - begin < seconds:
        for _ in range(100):
            crc32c(block)
        count += 100 * len(block)
    return {"throughput": count / 1e6 / (now - begin), "CPU": (now - begin) / (count / 1e9)}


def _bytes(costing: Costing, count: int) -> Figures:
    cost = costing.so_far()
    return {"throughput": count / 1e6 / cost.seconds, "server CPU": cost.cpu_s / (count / 1e9)}


_BYTES = {"throughput": "MB/s", "server CPU": "s/GB"}
_REQUESTS = {"rate": "requests/s", "server CPU": "s per million requests"}
LIMITS = {
    limit.name: limit
    for limit in (
        Limit("sendfile", "sendfile over loopback", _BYTES, sendfile),
        Limit("receive", "loopback to page cache", _BYTES, receive),
        *(
            Limit(f"echo-{count}", f"bare trio echo, {count} connections", _REQUESTS, partial(echo, connections=count))
            for count in (1, 10, 50)
        ),
        Limit("crc32c", "CRC-32C", {"throughput": "MB/s", "CPU": "s/GB"}, checksum),
    )
}

PATHS = {
    "produce-1k": "receive",
    "consume-1": "sendfile",
    "requests-1": "echo-1",
    "requests-10": "echo-10",
    "requests-50": "echo-50",
}
"""Which limit each scenario is held against."""


# ----------------------------------------------------------------------------------------------------- the servers


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    return listener


def serve_file() -> None:
    with tempfile.TemporaryFile() as file, _listen() as listener:
        for _ in range(FILE_BYTES // BLOCK):
            file.write(bytes(BLOCK))
        file.flush()
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")  # as kafkapy within a machine
        while True:
            offset = 0
            while offset < FILE_BYTES:
                offset += os.sendfile(connection.fileno(), file.fileno(), offset, BLOCK)


def store() -> None:
    with tempfile.TemporaryFile() as file, _listen() as listener:
        connection, _ = listener.accept()
        buffer = memoryview(bytearray(BLOCK))
        written = 0
        while count := connection.recv_into(buffer):
            written += os.pwrite(file.fileno(), buffer[:count], written % FILE_BYTES)


def trio_echo() -> None:
    import trio

    answer = ANSWER_BYTES.to_bytes(4, "big") + bytes(ANSWER_BYTES)

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        with contextlib.suppress(trio.BrokenResourceError):  # the client ends with requests under way
            while chunk := await stream.receive_some(65536):
                data += chunk
                while len(data) >= 4 and len(data) >= (size := 4 + int.from_bytes(data[:4], "big")):
                    data = data[size:]
                    await stream.send_all(answer)

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        print(listener.socket.getsockname()[1], flush=True)
        await trio.serve_listeners(serve, [listener])

    trio.run(main)


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):
        {"serve_file": serve_file, "store": store, "trio_echo": trio_echo}[sys.argv[1]]()
