"""What a Redis client is told where the cluster could not do it: nothing that it cannot follow."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError
from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import three
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
from everwrite.server.redis.doubts import problem_of

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
