"""A node that is asked for more than it can do: over sockets, in this loop."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.scenarios.stage import scenario
from tests.server.nodes import KEY, PATIENCE_S, Nodes, Raw, a_put, eventually, still_serves

from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Failure, Fetch, FetchReply, Get, GetReply
from everwrite.core.pace.door import RETRY_AFTER_MS, Door
from everwrite.server.runtime import Runtime

LOTS = 12_000


def get(rid: int, timeout_ms: int = 60_000) -> Get:
    return Get(rid, KEY, timeout_ms)


async def answers(raw: Raw, count: int) -> list[AnyMessage]:
    found = []
    for _ in range(count):
        message = await raw.next()
        assert message is not None, "the node closed the connection"
        found.append(message)
    return found


async def waits(node: Runtime) -> None:
    """Return once somebody waits at the door of a node."""
    loop = asyncio.get_running_loop()
    turn, door = loop.create_future(), node.node.clients.door

    def look() -> None:
        if door:
            turn.set_result(None)
        else:
            loop.call_soon(look)

    look()
    async with asyncio.timeout(PATIENCE_S):
        await turn


async def done(node: Runtime) -> bool:
    return not node.node.clients.door and not node.peers._clients


def test_each_of_many_requests_is_answered_once_and_in_order() -> None:
    async def story() -> None:
        async with Nodes(engine="memory", replicas=1) as nodes:
            node = await nodes.start("n1")
            async with await Raw.enter(node) as raw:
                raw.send(*(Fetch(rid, KEY, 60_000) for rid in range(1, 2_001)))

                found = await answers(raw, 2_000)

            assert [message.rid for message in found] == list(range(1, 2_001))  # type: ignore[union-attr]
            assert {type(message) for message in found} == {FetchReply}
            assert not node.node.clients.door

    asyncio.run(story())


@scenario(74)
def test_who_waits_too_long_is_refused_and_told_when_to_come_again() -> None:
    async def story() -> None:
        async with Nodes(engine="memory", replicas=1) as nodes:
            node = await nodes.start("n1")
            door = node.node.clients.door = Door(
                1_000, 1 << 20
            )  # what is over the cap waited too long
            async with await Raw.enter(node) as raw:
                raw.send(*(get(rid) for rid in range(1, LOTS + 1)))

                found = await answers(raw, LOTS)

            kinds = Counter(type(message) for message in found)
            assert kinds[Failure] + kinds[GetReply] == LOTS
            assert kinds[Failure] == door.refused > 0
            assert len({message.rid for message in found}) == LOTS  # type: ignore[union-attr]
            for message in found:
                if isinstance(message, Failure):
                    assert (message.code, message.outcome) == ("overloaded", "none")
                    assert message.retry_after_ms == RETRY_AFTER_MS
            assert await still_serves(node)

    asyncio.run(story())


def test_a_question_to_the_node_does_not_wait_behind_requests() -> None:
    async def story() -> None:
        async with Nodes(engine="memory", replicas=1) as nodes:
            node = await nodes.start("n1")
            async with await Raw.enter(node) as busy, await Raw.enter(node) as other:
                busy.send(*(get(rid) for rid in range(1, LOTS)))
                await waits(node)

                said = await other.ask("status")

                assert said["requests"]["waiting"] > 0
                assert said["pace"]["on"] is True
                await answers(busy, LOTS - 1)

    asyncio.run(story())


@scenario(74)
def test_peers_are_heard_while_clients_ask_for_too_much() -> None:
    async def story() -> None:
        async with Nodes(engine="memory", replicas=3) as nodes:
            first = await nodes.start("n1")
            for name in ("n2", "n3"):
                await nodes.start(name, join=(first.address,))
            await nodes.settled()
            async with await Raw.enter(first) as raw:
                raw.send(*(get(rid, 200) for rid in range(1, 3 * LOTS)))
                worst = 0
                for _ in range(100):
                    await asyncio.sleep(0.01)
                    silent = [
                        first.node.detector.silent_ms(other.node.local.me)
                        for other in (nodes.running["n2"], nodes.running["n3"])
                    ]
                    worst = max(worst, *silent)
                assert len(first.node.local.liveness.up) == 2
                assert worst < first.node.local.config.down_after_ms
                await answers(raw, 3 * LOTS - 1)

    asyncio.run(story())


def test_who_is_gone_is_not_served() -> None:
    async def story() -> None:
        async with Nodes(engine="memory", replicas=1) as nodes:
            node = await nodes.start("n1")
            async with await Raw.enter(node) as raw:
                puts = [a_put(rid=rid, op=b"%d" % rid) for rid in range(1, LOTS)]
                raw.send(*puts)
                await waits(node)
            await eventually(lambda: done(node), "nobody waits, nobody is connected")

            assert node.node.local.counters.puts < LOTS - 1

    asyncio.run(story())
