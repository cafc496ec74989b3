"""redis-py's publish and subscribe, from one node to another, and a result that is told with it."""

from __future__ import annotations

import checks
import redis
import redis.asyncio

# Channels are the same in all databases, and somebody else runs this script beside us.
NEWS, DONE, TEA = (f"{word}{checks.DATABASE}" for word in ("news", "done", "tea"))
PATTERN = f"new?{checks.DATABASE}"


def client(node: int, protocol: int = 2) -> redis.Redis:
    return redis.Redis.from_url(checks.url(node), protocol=protocol)


def next_message(listener: redis.client.PubSub) -> dict[str, object]:
    """Return what comes next, within the patience of a check."""
    message = listener.get_message(ignore_subscribe_messages=True, timeout=checks.PATIENCE_S)
    # What confirms a subscription is read as well, and told as nothing.
    while message is None:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=checks.PATIENCE_S)
    return message


def confirmed(listener: redis.client.PubSub, kind: str) -> None:
    message = listener.get_message(timeout=checks.PATIENCE_S)
    assert message is not None and message["type"] == kind


def check_a_channel_and_a_pattern() -> None:
    for protocol in (2, 3):
        with client(1, protocol) as r, client(2, protocol) as other, other.pubsub() as listener:
            listener.subscribe(NEWS)
            confirmed(listener, "subscribe")
            listener.psubscribe(PATTERN)
            confirmed(listener, "psubscribe")
            for number in range(20):
                r.publish(NEWS, number)  # a node that answers late is not counted
            found = [next_message(listener) for _ in range(40)]
            for kind in ("message", "pmessage"):
                data = [each["data"] for each in found if each["type"] == kind]
                assert data == [b"%d" % number for number in range(20)]
            listener.unsubscribe(NEWS)
            confirmed(listener, "unsubscribe")
            r.publish(NEWS, "pattern only")
            assert next_message(listener)["pattern"] == PATTERN.encode()


def check_a_result_that_is_told_is_there() -> None:
    """As Celery's backend stores one: MULTI, SETEX, PUBLISH, EXEC."""
    with client(1) as r, client(3) as other, other.pubsub() as listener:
        listener.subscribe(DONE)
        confirmed(listener, "subscribe")
        for number in range(20):
            key = f"task:{number}"
            with r.pipeline() as batch:
                batch.setex(key, 100, "result").publish(DONE, key)
                assert batch.execute()[0] is True
            told = next_message(listener)["data"]
            assert told == key.encode()
            checks.seen(lambda told=told: other.get(told), b"result")


async def check_asyncio() -> None:
    async with (
        redis.asyncio.Redis.from_url(checks.url(1)) as r,
        redis.asyncio.Redis.from_url(checks.url(2)) as other,
        other.pubsub() as listener,
    ):
        await listener.subscribe(TEA)
        said = await listener.get_message(timeout=checks.PATIENCE_S)
        assert said is not None and said["type"] == "subscribe"
        await r.publish(TEA, "is ready")
        said = await listener.get_message(timeout=checks.PATIENCE_S)
        assert said is not None and said["data"] == b"is ready"


checks.run(globals())
