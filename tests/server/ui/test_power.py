"""Orders of the playground: only where they were allowed, with the token, and of known words."""

from __future__ import annotations

import sys
from typing import Any

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import one, problem
from tests.server.ui.events import first, listening

from everwrite.core.errors import ConfigError, RequestError
from everwrite.server.settings import ServeOptions
from everwrite.server.ui.power import words_of

PATH = "/v1/playground"
ECHO = (sys.executable, "-c", "import sys; print(' '.join(sys.argv[1:]))")
FAIL = (sys.executable, "-c", "import sys; sys.exit('error: n9 is not there')")


async def give(client: httpx.AsyncClient, order: dict[str, Any], **headers: str) -> httpx.Response:
    token = (await client.get(PATH)).json()["token"]
    return await client.post(PATH, json=order, headers={"Playground-Token": token, **headers})


@in_loop
async def test_a_plain_node_takes_no_orders() -> None:
    async with one(development=False) as (_, client):
        assert (await client.get(PATH)).json() == {"enabled": False, "token": ""}

        problem(await give(client, {"order": "kill", "node": "n1"}), 403, "denied")


@in_loop
async def test_a_page_learns_whether_there_is_a_playground() -> None:
    for options in ({"development": False}, {"playground": ECHO}):
        async with one(**options) as (_, client), listening(client) as events:
            said = await first(events, "cluster")

            assert said["playground"] is ("playground" in options)


@in_loop
async def test_an_order_is_passed_on_as_words() -> None:
    async with one(playground=ECHO) as (_, client):
        cut = {"order": "cut", "sides": [["n1", "n2"], ["n3"]]}

        assert (await give(client, {"order": "kill", "node": "n2"})).json() == {"said": "kill n2"}
        assert (await give(client, cut)).json() == {"said": "cut n1,n2|n3"}
        assert (await give(client, {"order": "heal"})).json() == {"said": "heal"}


@in_loop
async def test_what_goes_wrong_is_told() -> None:
    async with one(playground=FAIL) as (_, client):
        found = problem(await give(client, {"order": "back", "node": "n9"}), 503, "unavailable")

        assert found["detail"] == "error: n9 is not there"


@pytest.mark.parametrize(
    "headers",
    [
        {"Playground-Token": ""},
        {"Playground-Token": "guessed"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@in_loop
async def test_other_pages_give_no_orders(headers: dict[str, str]) -> None:
    async with one(playground=ECHO) as (_, client):
        problem(await give(client, {"order": "heal"}, **headers), 403, "denied")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"order": "format"}',
        b'{"order": "kill"}',
        b'{"order": "heal", "node": "n1"}',
        b'{"order": "kill", "node": "--dir"}',
        b'{"order": "kill", "node": "n1; true"}',
        b'{"order": "kill", "node": "n1", "more": 1}',
        b'{"order": "kill", "node": "n1", "sides": [["n1"], ["n2"]]}',
        b'{"order": "cut", "sides": [["n1"]]}',
        b'{"order": "cut", "sides": [["n1"], []]}',
        b'{"order": "cut", "sides": [["n1"], ["n2|n3"]]}',
        b"\xff",
    ],
)
def test_what_is_no_order_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        words_of(body)


@pytest.mark.parametrize("options", [{"development": False}, {"host": "10.0.0.1", "secret": b"s"}])
def test_a_playground_is_on_one_machine(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServeOptions(**{"playground": ECHO, "development": True, **options})
