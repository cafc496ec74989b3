"""What a Redis client is told where the cluster could not do it: nothing that it cannot follow."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import one, three
from tests.server.redis.test_own import SHORT

from everwrite.core.errors import (
    DeadlineExceeded,
    EverwriteError,
    HintsFull,
    Outcome,
    Overloaded,
    QuorumNotMet,
    StaleSession,
    UnavailableError,
)
from everwrite.core.messages.requests import Put
from everwrite.server.redis.doubts import problem_of
from everwrite.server.redis.place import RedisPlace
from everwrite.server.redis.table import TABLE

HINT = "Repeat it with the same context, or write with a smaller w."
KINDS = [QuorumNotMet, DeadlineExceeded, UnavailableError, Overloaded, HintsFull, StaleSession]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", ["none", "partial", "unknown"])
@pytest.mark.parametrize("name", ["get", "set", "incr"])
@pytest.mark.parametrize("partly", [False, True])
def test_an_error_says_what_is_true_and_what_can_be_done(
    kind: type[EverwriteError], outcome: Outcome, name: str, partly: bool
) -> None:
    said = str(problem_of(kind("No.", hint=HINT, outcome=outcome), name=name, partly=partly))

    assert said.startswith(f"{kind.code.upper()} No. ")
    assert HINT not in said
    done = partly or outcome != "none"
    assert ("Nothing was done." in said) == (not done)
    assert ("The write may have happened." in said) == (outcome == "unknown")
    assert ("on fewer nodes" in said) == (outcome == "partial")
    assert ("A repeat may count twice" in said) == (done and name == "incr")
    assert ("Send it again" in said) == (done and name != "incr")


ONCE = {
    **dict.fromkeys(("publish", "spublish"), "A repeat may be heard twice."),
    "dyn.put": "A repeat may be one sibling more: read the key first.",
}
LOOKING = ("setnx", "hsetnx", "getset", "getdel", "getex", "expire", "persist")


@pytest.mark.parametrize("outcome", ["partial", "unknown"])
@pytest.mark.parametrize("name", [*ONCE, *LOOKING])
def test_of_what_is_not_the_same_twice_no_repeat_is_advised(name: str, outcome: Outcome) -> None:
    looks = TABLE[name.encode()].advisory
    assert looks == (name in LOOKING)

    said = str(problem_of(QuorumNotMet("No.", hint=HINT, outcome=outcome), name=name, looks=looks))

    assert "Send it again" not in said
    assert ONCE.get(name, "A repeat may find what this one did, and be answered by that") in said


@pytest.mark.parametrize(
    ("asked", "finds"),
    [
        (["SET", "nx", "get"], False),
        (["SET", "a", "2", "px", "50000"], False),
        (["SET", "a", "2", "XX"], True),
        (["SET", "a", "2", "px", "50000", "get"], True),
        (["SET", "none", "2", "NX"], True),
        (["SETNX", "none", "2"], True),
        (["HSETNX", "h", "f", "2"], True),
        (["GETSET", "a", "2"], True),
        (["GETDEL", "a"], True),
    ],
)
@in_loop
async def test_whether_a_repeat_is_advised_goes_by_the_command_and_its_options(
    asked: list[str], finds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one() as (_, r):
        await r.set("a", "1")
        ask = RedisPlace.ask

        def failing(place: RedisPlace, message: Any, call: Any, at: int = -1) -> None:
            if type(message) is Put:
                error = QuorumNotMet("No.", hint=HINT, outcome="partial")
                place._loop.call_soon(call.heard, at, error)
            else:
                ask(place, message, call, at)

        monkeypatch.setattr(RedisPlace, "ask", failing)
        with pytest.raises(ResponseError) as found:
            await r.execute_command(*asked)

        assert ("A repeat may find what this one did" in str(found.value)) == finds
        assert ("Send it again" in str(found.value)) != finds


@in_loop
async def test_with_too_few_nodes_commands_that_add_warn_of_a_repeat() -> None:
    async with three() as (nodes, (r, _, _)):
        await r.incr("n")
        await r.set("s", "1")
        await nodes.stop("n2")
        await nodes.stop("n3")
        said = []
        for asked in (["INCR", "n"], ["SET", "s", "2"], ["GET", "s"]):
            with pytest.raises(ResponseError, match=SHORT) as found:
                await r.execute_command(*asked)
            said.append(str(found.value))

        assert not any("context" in each or "smaller" in each for each in said)
        assert "Nothing was done." in said[2]
        assert ("A repeat may count twice" in said[0]) != ("Nothing was done." in said[0])
        assert ("Send it again" in said[1]) != ("Nothing was done." in said[1])
