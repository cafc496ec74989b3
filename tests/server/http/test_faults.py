"""Bugs of ours that a request meets: it is told, no other is lost, and invariants end the node."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, problem
from tests.server.nodes import PATIENCE_S, end

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.core.failures import failure_of
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Ask, Told
from everwrite.core.outbox import Place
from everwrite.server.http import operations


@in_loop
async def test_an_error_in_one_request_of_a_turn_loses_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with one() as (runtime, _):
        assert runtime.http is not None
        http, arrived = runtime.http.place, runtime.driver.arrived
        first, second = Ask(http.next_rid(), "ring", b""), Ask(http.next_rid(), "ring", b"")

        def broken(source: Place, messages: list[AnyMessage]) -> None:
            if first in messages:
                raise ZeroDivisionError("a bug in a request")
            arrived(source, messages)

        runtime.driver.arrived = broken  # type: ignore[method-assign]
        async with asyncio.timeout(PATIENCE_S):
            failed, told = await asyncio.gather(
                http.ask(first), http.ask(second), return_exceptions=True
            )

        assert isinstance(failed, EverwriteError)
        assert (failed.code, failed.outcome) == ("internal", "unknown")
        assert isinstance(told, Told)
        (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
        assert "a bug in a request" in record.getMessage()


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
@in_loop
async def test_a_broken_invariant_ends_the_node(
    batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise InvariantError("a bug in a read")

    monkeypatch.setattr(operations.Operations, "read", broken)
    async with one() as (runtime, client):
        if batched:
            line = b'{"op":"get","bucket":"carts","key":"alice"}'
            kind = {"content-type": "application/x-ndjson"}
            with contextlib.suppress(httpx.RemoteProtocolError):  # it is cut off
                await client.post("/v1/batch", content=line, headers=kind)
        else:
            assert (await client.get(KEY)).status_code == 500

        error = await end(runtime)
        assert isinstance(error, InvariantError)
        assert "a bug in a read" in error.message


@in_loop
async def test_a_broken_invariant_that_another_node_reports_ends_this_one_not() -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        http = runtime.http.place

        def reported() -> None:
            (rid,) = http._waiting
            http.send([failure_of(rid, InvariantError("a bug of another node"))])

        http._hand_in = reported  # type: ignore[method-assign]

        problem(await client.get(KEY), 500, "internal")
        assert not runtime.failed.done()


@in_loop
async def test_an_error_before_a_request_is_looked_at_is_told() -> None:
    async with one() as (runtime, client):
        assert runtime.http is not None
        front = runtime.http.front
        front.spans = object()  # type: ignore[assignment]  # it can begin none

        problem(await client.get(KEY), 500, "internal")
        front.spans = None
