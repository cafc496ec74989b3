"""Who hears what is published, against a plain model: one connection's subscriptions are a set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S
from tests.server.redis.redis_api import client_of, one

from everwrite.core.channels import CHANNEL_BYTES_MAX
from everwrite.server.redis import subscriptions as rooms
from everwrite.server.redis.replies import Problem
from everwrite.server.redis.subscriptions import CHANNEL, KINDS, PATTERN, SHARD, Subscriptions

NAMES = ["a", "ab", "b"]
PATTERNS = ["a*", "?", "*", "[ab]b"]
FITS = {
    "a*": {"a", "ab"},
    "?": {"a", "b"},
    "*": {"a", "ab", "b"},
    "[ab]b": {"ab"},
}
WHO = 3

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.integers(0, WHO - 1))
        .flatmap(
            lambda step: st.tuples(
                st.just(step[0]), st.just(step[1]), st.lists(st.sampled_from(NAMES), max_size=3)
            )
        )
        .filter(lambda step: step[0] != "subscribe" or step[2]),
        st.tuples(st.sampled_from(["psubscribe", "punsubscribe"]), st.integers(0, WHO - 1))
        .flatmap(
            lambda step: st.tuples(
                st.just(step[0]), st.just(step[1]), st.lists(st.sampled_from(PATTERNS), max_size=3)
            )
        )
        .filter(lambda step: step[0] != "psubscribe" or step[2]),
        st.tuples(st.just("publish"), st.just(0), st.sampled_from(NAMES).map(lambda n: [n])),
    ),
    max_size=25,
)
"""What is asked, by which client, of which names."""


class Model:
    """What Redis says that each client hears."""

    def __init__(self) -> None:
        self.channels: list[dict[str, None]] = [{} for _ in range(WHO)]
        self.patterns: list[dict[str, None]] = [{} for _ in range(WHO)]
        self.hears: list[list[Any]] = [[] for _ in range(WHO)]

    def step(self, what: str, who: int, names: list[str], payload: str) -> int:
        if what == "publish":
            return self._publish(names[0], payload)
        mine = (self.patterns if what[0] == "p" else self.channels)[who]
        adds = what.endswith("psubscribe") or what == "subscribe"
        for name in names or list(mine) or [None]:  # type: ignore[list-item]
            if adds:
                mine[name] = None
            else:
                mine.pop(name, None)
            count = len(self.channels[who]) + len(self.patterns[who])
            self.hears[who].append([what, name, count])
        return 0

    def _publish(self, channel: str, payload: str) -> int:
        count = 0
        for who in range(WHO):
            if channel in self.channels[who]:
                self.hears[who].append(["message", channel, payload])
                count += 1
            fitting = [pattern for pattern in self.patterns[who] if channel in FITS[pattern]]
            count += len(fitting)
            self.hears[who] += [["pmessage", pattern, channel, payload] for pattern in fitting]
        return count


def plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    return answer.decode() if isinstance(answer, bytes) else answer


def sorted_runs(heard: list[Any]) -> list[Any]:
    """Return what one client heard; of one publication the patterns come in no order of his own."""
    found: list[Any] = []
    for each in heard:
        before = found[-1] if found else None
        if each[0] != "pmessage":
            found.append(each)
        elif before and before[:2] == ["pmessages", each[3]]:
            before[2] = sorted([*before[2], each[1:]])
        else:
            found.append(["pmessages", each[3], [each[1:]]])
    return found


@pytest.mark.parametrize("protocol", [2, 3])
@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_each_subscriber_hears_exactly_what_the_model_says(
    protocol: int, steps: list[tuple[str, int, list[str]]]
) -> None:
    @in_loop
    async def run() -> None:
        async with one() as (runtime, client):
            model, lines = Model(), []
            for _ in range(WHO):
                pool = client_of(runtime, protocol=protocol).connection_pool
                line = pool.make_connection()
                await line.connect()
                lines.append(line)
            found: list[list[Any]] = [[] for _ in range(WHO)]

            async def hear_all() -> None:
                for who, line in enumerate(lines):
                    while len(found[who]) < len(model.hears[who]):
                        answer = await line.read_response(
                            timeout=PATIENCE_S, disconnect_on_error=False, push_request=True
                        )
                        found[who].append(plain(answer))

            for at, (what, who, names) in enumerate(steps):
                count = model.step(what, who, names, f"{at}")
                if what == "publish":
                    assert await client.publish(names[0], f"{at}") == count
                else:
                    await lines[who].send_command(what.upper(), *names)
                    await hear_all()  # else two clients would be at once, and no order be right
            for line in lines:
                await line.send_command("PUNSUBSCRIBE", "last")
            for who in range(WHO):
                model.step("punsubscribe", who, ["last"], "")
            await hear_all()
            for line in lines:
                await line.disconnect()
            for who in range(WHO):
                assert sorted_runs(found[who]) == sorted_runs(model.hears[who])

    run()


# -- the tables ------------------------------------------------------------------------------------


def filled(names: list[bytes], kind: int = CHANNEL, who: str = "me") -> Subscriptions[str]:
    made: Subscriptions[str] = Subscriptions()
    for name in names:
        made.add(who, kind, name)
    return made


def test_whoever_goes_leaves_nothing_behind() -> None:
    made = filled([b"a", b"b"])
    for kind in KINDS:
        made.add("you", kind, b"a")
        made.add("you", kind, b"c")
    made.add("you", CHANNEL, b"a")  # again

    assert made.counts == [4, 2, 2]
    made.drop("you")
    assert made.counts == [2, 0, 0]
    made.drop("me")
    made.drop("nobody")

    assert not made
    assert vars(made) == vars(Subscriptions())


def test_kinds_know_nothing_of_each_other() -> None:
    made = filled([b"a"], SHARD)
    made.remove("me", CHANNEL, b"a")

    assert made.subscribers(SHARD, b"a") == ["me"]
    assert made.subscribers(CHANNEL, b"a") == []
    assert (made.told("me", SHARD), made.told("me", CHANNEL), made.own("me")) == (1, 0, 1)


def test_caps_are_told_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for cap in ("OWN_MAX", "ALL_MAX"):
        with monkeypatch.context() as patched:
            patched.setattr(rooms, cap, 3)
            made = filled([b"a", b"b"])
            made.check("me", CHANNEL, [b"a", b"b", b"c", b"c"])
            with pytest.raises(Problem, match=r"at most 3 channels|as many subscriptions"):
                made.check("me", CHANNEL, [b"c", b"d"])
    monkeypatch.setattr(rooms, "ALL_BYTES_MAX", 100)
    made = filled([b"a" * 50])
    made.check("you", CHANNEL, [b"b" * 50])
    with pytest.raises(Problem, match="as many subscriptions"):
        made.check("you", CHANNEL, [b"b" * 51])


def test_patterns_have_caps_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "PATTERNS_MAX", 3)
    made = filled([b"a*", b"b*", b"c*"], PATTERN)
    made.check("you", PATTERN, [b"a*", b"c*"])  # they are there already
    with pytest.raises(Problem, match="as many patterns"):
        made.check("you", PATTERN, [b"d*"])
    monkeypatch.setattr(rooms, "OWN_PATTERNS_MAX", 3)
    with pytest.raises(Problem, match="at most 3 patterns"):
        made.check("me", PATTERN, [b"d*"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_too_long_is_refused(kind: int) -> None:
    made = filled([])
    made.check("me", kind, [b"x" * CHANNEL_BYTES_MAX])
    with pytest.raises(Problem, match="at most 1024 bytes"):
        made.check("me", kind, [b"a", b"x" * (CHANNEL_BYTES_MAX + 1)])
