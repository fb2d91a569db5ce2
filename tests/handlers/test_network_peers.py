"""How brokers elsewhere are asked: over real connections, to a broker that does what a test has it do."""

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import open_broker
from kafkapy.clock import Clock, ManualClock, SystemClock
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.network_peers import NetworkPeers, Settings
from kafkapy.handlers.peers import LocalPeers
from kafkapy.model import Endpoint
from kafkapy.network.client import MAX_UNDER_WAY, open_line
from kafkapy.protocol.header import decode_request_header, encode_response_header
from kafkapy.protocol.messages import request_class
from kafkapy.protocol.messages.api_versions import ApiVersionsResponse
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest, MetadataResponse
from kafkapy.storage.base import LiveBroker
from tests.handlers.two_brokers import THEM, US, LiveBrokers

METADATA, API_VERSIONS = 3, 18
TIMEOUT_MS = 30_000


class Far:
    """The other broker. What it is asked, but for ApiVersions, stays in `asked` until it is told to answer."""

    def __init__(self) -> None:
        self.greetings: list[Any] = []
        self.asked: list[tuple[int, int, Callable[[Any], bytes]]] = []  # key, version, how an answer is framed
        self.connections: list[trio.SocketStream] = []
        self.versions = {METADATA: (0, 13), API_VERSIONS: (0, 5)}
        self.greets = True

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections.append(stream)
        received = b""
        try:
            async for chunk in stream:
                received += chunk
                while len(received) >= 4 and len(received) >= 4 + (size := struct.unpack(">i", received[:4])[0]):
                    frame, received = received[4 : 4 + size], received[4 + size :]
                    await self._take(frame, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _take(self, frame: bytes, stream: trio.SocketStream) -> None:
        header = decode_request_header(memoryview(frame))

        def framed(response: Any) -> bytes:
            out = bytearray()
            encode_response_header(header.api_key, header.api_version, header.correlation_id, out)
            body = b"".join(response.encode(header.api_version, out))
            return struct.pack(">i", len(body)) + body

        if header.api_key != API_VERSIONS:
            self.asked.append((header.api_key, header.api_version, framed))
            return
        request, _ = request_class(API_VERSIONS).decode(header.api_version, frame, header.body_offset)
        self.greetings.append(request)
        if self.greets:
            told = [
                ApiVersionsResponse.ApiVersion(api_key=key, min_version=low, max_version=high)
                for key, (low, high) in self.versions.items()
            ]
            await stream.send_all(framed(ApiVersionsResponse(api_keys=told)))

    async def answer(self, number: int, cluster_id: str) -> None:
        """Answer what it was asked as this one, by a Metadata that names this cluster."""
        _, _, framed = self.asked[number]
        await self.connections[-1].send_all(framed(MetadataResponse(cluster_id=cluster_id)))


class Ours:
    """This broker, and who it may ask."""

    def __init__(self, nursery: trio.Nursery, clock: Clock) -> None:
        self.far = Far()
        self.nursery = nursery
        self.clock = clock
        self.tries = 0
        self.brokers = LiveBrokers([])
        self.here = LocalPeers()
        self.peers = NetworkPeers(
            US,
            "cluster",
            self.here,
            self.brokers,
            self._connect,
            Settings("BETWEEN", None, TIMEOUT_MS, 10_000),
            clock,
        )
        self.outcomes: list[str] = []

    async def _connect(self, host: str, port: int, nursery: trio.Nursery) -> Any:
        self.tries += 1
        return await open_line(host, port, tls=None, max_frame_size=1 << 20, nursery=nursery)

    def find(self, port: int) -> None:
        """The other broker is there, at this port."""
        endpoints = (
            Endpoint("CLIENTS", "nowhere.invalid", 1, "PLAINTEXT"),
            Endpoint("BETWEEN", "127.0.0.1", port, "PLAINTEXT"),
        )
        self.brokers.change([LiveBroker(THEM, None, endpoints)])

    def ask(self) -> None:
        """Ask it, in a task; `outcomes` tell what came of it: a cluster id, or an error."""
        self.nursery.start_soon(self._ask)

    async def _ask(self) -> None:
        try:
            answer = await self.peers.ask(THEM, MetadataRequest(topics=[]))
        except KafkaError as refusal:
            self.outcomes.append(refusal.error.name)
        else:
            self.outcomes.append(answer.cluster_id)


@asynccontextmanager
async def two_brokers(clock: Clock | None = None) -> AsyncIterator[Ours]:
    async with trio.open_nursery() as nursery:
        ours = Ours(nursery, clock or SystemClock())
        listeners = await nursery.start(trio.serve_tcp, ours.far.serve, 0)
        ours.find(listeners[0].socket.getsockname()[1])
        await nursery.start(ours.peers.run)
        with trio.fail_after(60):
            yield ours
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let sockets do their work until it is so."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_requests_share_a_connection_and_each_gets_its_own_answer() -> None:
    async with two_brokers() as ours:
        for _ in range(3):
            ours.ask()
        await until(lambda: len(ours.far.asked) == 3)
        for number in (2, 0, 1):
            await ours.far.answer(number, f"answer {number}")
        await until(lambda: len(ours.outcomes) == 3)
        assert sorted(ours.outcomes) == ["answer 0", "answer 1", "answer 2"]
        assert (ours.tries, len(ours.far.greetings)) == (1, 1)
        [greeting] = ours.far.greetings
        assert (greeting.cluster_id, greeting.node_id, greeting.client_software_name) == ("cluster", THEM, "kafkapy")


@pytest.mark.parametrize(("theirs", "asked_in"), [((0, 13), 13), ((2, 9), 9), ((0, 99), 13)])
async def test_the_latest_version_that_both_know_is_used(theirs: tuple[int, int], asked_in: int) -> None:
    async with two_brokers() as ours:
        ours.far.versions[METADATA] = theirs
        ours.ask()
        await until(lambda: len(ours.far.asked) == 1)
        assert ours.far.asked[0][:2] == (METADATA, asked_in)
        await ours.far.answer(0, "it")
        await until(lambda: ours.outcomes == ["it"])


async def test_what_the_other_broker_does_not_serve_is_not_asked() -> None:
    async with two_brokers() as ours:
        with pytest.raises(KafkaError) as refused:
            await ours.peers.ask(THEM, CreateTopicsRequest(topics=[]))
        assert refused.value.error is Error.UNSUPPORTED_VERSION
        assert ours.far.asked == []


async def test_so_many_are_under_way_and_the_next_one_waits() -> None:
    async with two_brokers() as ours:
        for _ in range(MAX_UNDER_WAY + 2):
            ours.ask()
        await until(lambda: len(ours.far.asked) == MAX_UNDER_WAY)
        await wait_all_tasks_blocked(0.01)
        assert len(ours.far.asked) == MAX_UNDER_WAY
        await ours.far.answer(0, "it")
        await until(lambda: len(ours.far.asked) == MAX_UNDER_WAY + 1)


async def test_a_connection_that_ends_is_made_again_and_nothing_is_sent_twice() -> None:
    async with two_brokers() as ours:
        ours.ask()
        ours.ask()
        await until(lambda: len(ours.far.asked) == 2)
        await ours.far.connections[0].aclose()
        await until(lambda: len(ours.outcomes) == 2)
        assert ours.outcomes == ["BROKER_NOT_AVAILABLE"] * 2
        assert len(ours.far.asked) == 2
        ours.ask()
        await until(lambda: len(ours.far.asked) == 3)
        await ours.far.answer(2, "it")
        await until(lambda: len(ours.outcomes) == 3)
        assert (ours.outcomes[-1], ours.tries) == ("it", 2)


async def test_after_a_failure_the_next_try_waits() -> None:
    clock = ManualClock()
    async with two_brokers(clock) as ours:
        unused = trio.socket.socket()
        await unused.bind(("127.0.0.1", 0))
        ours.find(unused.getsockname()[1])  # nobody listens there
        ours.ask()
        await until(lambda: len(ours.outcomes) == 1)
        ours.ask()
        await wait_all_tasks_blocked(0.01)
        assert (ours.tries, ours.outcomes) == (1, ["BROKER_NOT_AVAILABLE"])
        clock.advance_ms(50)
        await until(lambda: len(ours.outcomes) == 2)
        assert (ours.tries, ours.outcomes) == (2, ["BROKER_NOT_AVAILABLE"] * 2)
        unused.close()


async def test_who_does_not_answer_in_time_is_given_up_and_hung_up_on() -> None:
    clock = ManualClock()
    async with two_brokers(clock) as ours:
        ours.ask()
        await until(lambda: len(ours.far.asked) == 1)
        clock.advance_ms(TIMEOUT_MS - 1)
        await wait_all_tasks_blocked(0.01)
        assert ours.outcomes == []
        clock.advance_ms(1)
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])
        ours.ask()
        await until(lambda: len(ours.far.asked) == 2)
        assert ours.tries == 2


async def test_who_does_not_even_greet_is_given_up_sooner() -> None:
    clock = ManualClock()
    async with two_brokers(clock) as ours:
        ours.far.greets = False
        ours.ask()
        await until(lambda: len(ours.far.greetings) == 1)
        clock.advance_ms(10_000)
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])
        assert ours.far.asked == []


async def test_who_gives_up_waiting_leaves_the_connection_to_others() -> None:
    async with two_brokers() as ours:
        with trio.CancelScope() as scope:
            ours.nursery.start_soon(ours._ask)

            async def give_up() -> None:
                await until(lambda: len(ours.far.asked) == 2)
                scope.cancel()

            ours.nursery.start_soon(give_up)
            await ours.peers.ask(THEM, MetadataRequest(topics=[]))
        await ours.far.answer(0, "first")
        await ours.far.answer(1, "second")
        await until(lambda: len(ours.outcomes) == 1)
        ours.ask()
        await until(lambda: len(ours.far.asked) == 3)
        await ours.far.answer(2, "third")
        await until(lambda: len(ours.outcomes) == 2)
        assert ours.outcomes[1] == "third"
        assert ours.tries == 1


async def test_who_has_gone_is_not_waited_for() -> None:
    async with two_brokers() as ours:
        ours.ask()
        await until(lambda: len(ours.far.asked) == 1)
        ours.brokers.change([])
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])
        ours.ask()
        await until(lambda: len(ours.outcomes) == 2)
        assert ours.tries == 1


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\2ab", b"\0\0\0\x08\0\0\0\x63abcd", b"\x7f\xff\xff\xff", b"\xff" * 8])
async def test_what_is_no_answer_ends_the_connection(answer: bytes) -> None:
    async with two_brokers() as ours:
        ours.ask()
        await until(lambda: len(ours.far.asked) == 1)
        await ours.far.connections[0].send_all(answer)
        if not answer:
            await ours.far.connections[0].send_eof()
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])


async def test_an_answer_that_does_not_parse_is_none() -> None:
    async with two_brokers() as ours:
        ours.ask()
        await until(lambda: len(ours.far.asked) == 1)
        whole = ours.far.asked[0][2](MetadataResponse(cluster_id="it"))
        body = whole[4:9] + b"\xff" * 20
        await ours.far.connections[0].send_all(struct.pack(">i", len(body)) + body)
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])


async def test_this_broker_asks_itself_without_a_connection() -> None:
    async def answer(request: Any) -> Any:
        return MetadataResponse(cluster_id="here")

    async with two_brokers() as ours:
        ours.here.add(US, answer)
        assert (await ours.peers.ask(US, MetadataRequest())).cluster_id == "here"
        assert ours.tries == 0


async def test_another_broker_at_the_address_of_the_one_that_is_meant_is_not_asked() -> None:
    config = BrokerConfig.load(flags={"listeners": "PLAINTEXT://127.0.0.1:0"})
    async with open_broker(config, data_dir=None) as broker, two_brokers() as ours:
        ours.find(broker.port)  # which is another cluster's
        ours.ask()
        await until(lambda: ours.outcomes == ["BROKER_NOT_AVAILABLE"])
