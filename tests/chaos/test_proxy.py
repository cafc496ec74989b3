"""Each fault of the proxy really happens, to the pair that it was meant for and to no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.chaos.proxy import CLIENT, HOST, KEPT_BYTES_MAX, Proxy
from tests.process.clusters import in_loop

from everwrite.core.messages.greeting import Hello
from everwrite.core.messages.members import Ping
from everwrite.core.wire import encode_frame

PATIENCE_S = 10.0
LOOK_EVERY_S = 0.005
HERE = ("n1", "n2")
BACK = ("n2", "n1")


class Line:
    """One end of a connection: what it got, frame by frame, and how it ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.got: list[bytes] = []
        self.over = ""
        self.rest = b""
        self._task = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head = await reader.readexactly(4)
                self.got.append(head + await reader.readexactly(int.from_bytes(head, "big")))
        except asyncio.IncompleteReadError as error:
            self.over, self.rest = "closed", error.partial
        except ConnectionError:
            self.over = "reset"

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def has(self, *frames: bytes) -> None:
        """Return once exactly these frames came."""
        await until(lambda: len(self.got) >= len(frames), f"{len(frames)} frames, not {self.got}")
        assert self.got == list(frames)

    async def ended(self) -> None:
        await until(lambda: bool(self.over), "the connection is over")

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self._task, return_exceptions=True)


class Wire:
    """A proxy, the node n2 behind its door, and whoever dials it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.port = 0
        self.accepted: list[Line] = []
        self.dialled: list[Line] = []

    async def dial(self, name: str = "n1", *, greet: bool = True) -> tuple[Line, Line]:
        """Open a connection through the door and shake hands; return both its ends."""
        before = len(self.accepted)
        line = Line(*await asyncio.open_connection(HOST, self.port))
        self.dialled.append(line)
        line.send(hello(name))
        if greet:
            await until(lambda: len(self.accepted) > before, "the node has the connection")
            node = self.accepted[-1]
            node.send(hello("n2"))
            line.send(frame(0))
            await node.has(hello(name), frame(0))
            await line.has(hello("n2"))
            node.got.clear()
            line.got.clear()
            return line, node
        return line, line

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(Line(reader, writer))


@asynccontextmanager
async def wire(seed: int = 0) -> AsyncIterator[Wire]:
    async with Proxy(seed) as proxy:
        made = Wire(proxy)
        server = await asyncio.start_server(made.accept, HOST, 0)
        made.port = await proxy.open("n2", server.sockets[0].getsockname()[1])
        try:
            yield made
        finally:
            for line in made.accepted + made.dialled:
                await line.close()
            server.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(LOOK_EVERY_S)


def hello(name: str) -> bytes:
    node_id = b"" if name == CLIENT else name.encode().ljust(8)
    return encode_frame([Hello(1, 1, b"", node_id, name, b"n" * 16)])


def frame(number: int) -> bytes:
    return encode_frame([Ping(number)])


def frames(count: int) -> list[bytes]:
    return [frame(number) for number in range(count)]


@in_loop
async def test_without_faults_all_passes_in_order_however_it_is_cut() -> None:
    async with wire() as made:
        line, node = await made.dial()
        for byte in b"".join(frames(3)):
            line.send(bytes([byte]))
            await line.writer.drain()
        line.send(*frames(200))
        node.send(*frames(100))

        await node.has(*frames(3), *frames(200))
        await line.has(*frames(100))
        assert not made.proxy.struck


@in_loop
async def test_what_is_sent_before_the_node_is_reached_arrives_without_more() -> None:
    async with wire() as made:
        await made.dial(greet=False)
        await until(lambda: bool(made.accepted), "the node has the connection")

        await made.accepted[0].has(hello("n1"))


@in_loop
async def test_a_delay_holds_up_one_direction_and_keeps_the_order() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], delay_s=0.2, jitter_s=0.2)
        began = time.monotonic()
        line.send(*frames(20))
        node.send(frame(7))

        await line.has(frame(7))
        assert node.got == []
        await node.has(*frames(20))
        assert time.monotonic() - began >= 0.2
        assert made.proxy.struck["delay"] == 20


@in_loop
async def test_loss_takes_frames_and_leaves_the_others_and_the_connection() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], loss=0.5)
        line.send(*frames(200))
        node.send(*frames(200))
        await line.has(*frames(200))
        made.proxy.heal()
        line.send(frame(999))

        await until(lambda: frame(999) in node.got, "the last one")
        lost = made.proxy.struck["loss"]
        assert 50 < lost < 150
        assert len(node.got) == 201 - lost
        assert node.got == [each for each in [*frames(200), frame(999)] if each in node.got]


@in_loop
async def test_the_same_seed_loses_the_same_frames_and_another_one_others() -> None:
    first = await survivors(1)

    assert await survivors(1) == first
    assert await survivors(2) != first


async def survivors(seed: int) -> list[bytes]:
    async with wire(seed) as made:
        line, node = await made.dial()
        made.proxy.set([HERE], loss=0.3, duplicate=0.3)
        line.send(*frames(100))
        await until(lambda: made.proxy.frames >= 103, "all frames are seen")
        made.proxy.heal()
        line.send(frame(999))
        await until(lambda: frame(999) in node.got, "the last one")
        return node.got


@in_loop
async def test_duplicates_come_right_behind_the_first() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], duplicate=1.0)
        line.send(*frames(3))

        await node.has(frame(0), frame(0), frame(1), frame(1), frame(2), frame(2))
        assert made.proxy.struck["duplicate"] == 3


@in_loop
async def test_a_clients_frames_are_neither_lost_nor_doubled() -> None:
    async with wire() as made:
        line, node = await made.dial(CLIENT)
        made.proxy.set([(CLIENT, "n2"), ("n2", CLIENT)], loss=1.0, duplicate=1.0)
        line.send(*frames(5))

        await node.has(*frames(5))


@in_loop
async def test_a_slow_line_takes_its_time() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], bytes_per_s=len(frame(1)) * 50)
        began = time.monotonic()
        line.send(*frames(20))

        await node.has(*frames(20))
        assert time.monotonic() - began >= 0.35
        assert made.proxy.struck["throttle"] == 20


@in_loop
async def test_what_is_held_arrives_after_and_the_other_way_is_open() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], held=True)
        line.send(*frames(5))
        node.send(frame(7))
        await line.has(frame(7))
        await until(lambda: made.proxy.struck["held"] > 0, "something is held")
        assert node.got == []

        made.proxy.heal()

        await node.has(*frames(5))


@in_loop
async def test_what_is_blocked_never_arrives_and_the_connection_stays() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], blocked=True)
        line.send(*frames(5))
        await until(lambda: made.proxy.struck["blocked"] == 5, "all are blocked")
        made.proxy.heal()
        line.send(frame(7))

        await node.has(frame(7))
        assert line.over == ""


@in_loop
async def test_no_handshake_comes_through_a_way_that_is_blocked() -> None:
    async with wire() as made:
        made.proxy.set([HERE], blocked=True)
        line, _ = await made.dial(greet=False)
        await until(lambda: made.proxy.struck["blocked"] > 0, "the Hello is blocked")

        assert line.got == []
        assert line.over == ""


@in_loop
async def test_over_a_way_that_is_closed_not_even_the_end_is_heard_before_the_heal() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([BACK], held=True)
        node.send(frame(1))
        await until(lambda: made.proxy.struck["held"] > 0, "something is held")
        node.writer.close()
        await until(lambda: made.proxy.struck["half-open"] > 0, "one end is gone")
        line.send(frame(2))
        assert line.over == ""

        made.proxy.heal()

        await line.ended()
        assert line.got == [frame(1)]


@in_loop
async def test_a_cut_resets_what_was_dialled_that_way_and_refuses_more_until_the_heal() -> None:
    async with wire() as made:
        line, _ = await made.dial()
        other, other_node = await made.dial("n3")
        client, client_node = await made.dial(CLIENT)

        made.proxy.set([HERE], cut=True)

        await line.ended()
        again, _ = await made.dial(greet=False)
        await again.ended()
        other.send(frame(1))
        client.send(frame(2))
        await other_node.has(frame(1))
        await client_node.has(frame(2))
        assert made.proxy.struck["cut"] >= 2
        made.proxy.heal()
        line, node = await made.dial()
        line.send(frame(3))
        await node.has(frame(3))


@in_loop
async def test_a_torn_connection_ends_in_the_middle_of_a_frame() -> None:
    async with wire() as made:
        line, node = await made.dial(CLIENT)
        assert made.proxy.tear(CLIENT, "n2") == 1
        line.send(*frames(3))

        await node.ended()
        await line.ended()
        assert node.got == []
        assert node.rest in frame(0)[4:]
        assert made.proxy.struck["tear"] == 1


@in_loop
async def test_a_reset_breaks_the_connections_of_one_pair() -> None:
    async with wire() as made:
        line, node = await made.dial(CLIENT)
        other, other_node = await made.dial("n1")

        assert made.proxy.reset(CLIENT, "n2") == 1

        await line.ended()
        await node.ended()
        other.send(frame(1))
        await other_node.has(frame(1))


@in_loop
async def test_a_door_to_a_dead_node_ends_the_connection() -> None:
    async with Proxy() as proxy:
        server = await asyncio.start_server(lambda *_: None, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        door = await proxy.open("n2", port)
        line = Line(*await asyncio.open_connection(HOST, door))

        await line.ended()
        await line.close()


@in_loop
async def test_a_way_that_is_held_fills_up_and_then_the_sender_is_not_read() -> None:
    async with wire() as made:
        line, node = await made.dial()
        made.proxy.set([HERE], held=True)
        body = b"x" * (1 << 20)
        large = (len(body)).to_bytes(4, "big") + body
        sent = 4 * KEPT_BYTES_MAX // len(large)
        sending = asyncio.create_task(flood(line, large, sent))
        await until(lambda: made.proxy.frames >= KEPT_BYTES_MAX // len(large), "the way is full")
        assert made.proxy.frames < sent
        assert not sending.done()

        made.proxy.heal()

        await sending
        await node.has(*[large] * sent)


async def flood(line: Line, data: bytes, times: int) -> None:
    line.writer.transport.set_write_buffer_limits(high=1)
    for _ in range(times):
        line.send(data)
        await line.writer.drain()
