"""Connecting, addresses, names, sizes and options: what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.fake_node import (
    STOIC,
    FakeCluster,
    Mood,
    background_cluster,
    in_loop,
    until,
)

import everwrite
from everwrite.client.client import parse_urls
from everwrite.core.data.context import CONTEXT_BYTES_MAX
from everwrite.core.messages.requests import Ask, Failure, Put, Told


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("127.0.0.1:7400", [("127.0.0.1", 7400)]),
        ("db.example", [("db.example", 7400)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        (["a:1", " b "], [("a", 1), ("b", 7400)]),
        ("[::1]:7401", [("::1", 7401)]),
        ("[::1]", [("::1", 7400)]),
    ],
)
def test_addresses_are_host_and_port(url: Any, addresses: list[tuple[str, int]]) -> None:
    assert parse_urls(url) == addresses


@pytest.mark.parametrize(
    "url",
    [
        "",
        ",",
        ":7400",
        "a:",
        "a:x",
        "a:0",
        "a:65536",
        "::1",
        "http://a:1",
        "a:1:2",
        "a:-1",
        "a..b:7400",
        "x" * 64 + ".example:7400",
        "x\u2028y:7400",
        "nul\0:7400",
        [],
        7401,
        None,
        [7401],
        b"a:1",
    ],
)
def test_what_is_no_address_is_a_bad_request(url: Any) -> None:
    with pytest.raises(everwrite.RequestError):
        parse_urls(url)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_bad_request(text: str) -> None:
    try:
        addresses = parse_urls(text)
    except everwrite.RequestError:
        return
    assert all(host and 0 < port < 65536 for host, port in addresses)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": 61},
        {"retries": -1},
        {"in_flight_max": "x"},
        {"in_flight_max": 0},
        {"in_flight_max": True},
        {"timing": 3},
    ],
)
@in_loop
async def test_connect_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(everwrite.RequestError, match=f"{next(iter(options))}=.* is not possible"):
        await everwrite.connect("127.0.0.1:1", **options)


@pytest.mark.parametrize("seconds", [0, -1, "1", None])
def test_a_timing_is_of_seconds(seconds: Any) -> None:
    with pytest.raises(everwrite.ConfigError, match=r"dial_s = .* is not possible"):
        everwrite.Timing(dial_s=seconds)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129, "\ud800", 5, None])
@in_loop
async def test_a_bucket_needs_a_printable_name(name: Any) -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        with pytest.raises(everwrite.RequestError):
            db.bucket(name)


@pytest.mark.parametrize(
    "options",
    [
        {"n": -1},
        {"r": 1000},
        {"w": 1.5},
        {"dw": -2},
        {"r": True},
        {"merge": "no"},
        {"strict": "no"},
        {"strict": 1},
    ],
)
@in_loop
async def test_a_bucket_refuses_options_that_cannot_be(options: dict[str, Any]) -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        with pytest.raises(everwrite.RequestError):
            db.bucket("things", **options)


@pytest.mark.parametrize("key", ["", b"", "x" * 1025, "\ud800", 5, 0, None, ["k"]])
@in_loop
async def test_a_key_that_cannot_be_is_refused_by_every_call(key: Any) -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        for call in (
            things.get(key),
            things.put(key, b"v"),
            things.delete(key),
            things.update(key, str),
            db.replicas("things", key),
        ):
            with pytest.raises(everwrite.RequestError):
                await call

        assert [type(asked) for asked in cluster.nodes[0].asked] == [Ask]


@pytest.mark.parametrize(
    "options",
    [
        {"context": "text"},
        {"context": bytearray(b"x")},
        {"context": bytes(CONTEXT_BYTES_MAX + 1)},
        {"n": "3"},
        {"w": -1},
        {"dw": 1.0},
        {"timeout": 0},
        {"timeout": "5"},
        {"timeout": 100},
        {"timeout": float("nan")},
        {"strict": "no"},
        {"strict": 0},
        {"session": True},
        {"session": b"context"},
    ],
)
@in_loop
async def test_a_put_with_options_that_cannot_be_sends_nothing(options: dict[str, Any]) -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")

        with pytest.raises(everwrite.RequestError):
            await things.put("k", b"v", **options)
        with pytest.raises(everwrite.RequestError):
            await things.delete("k", **options)

        assert not cluster.nodes[0].requests(Put)
        assert db.counters.losses == 0


@in_loop
async def test_what_is_refused_for_its_type_says_what_it_should_be() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        session: Any = True
        key: Any = 5

        with pytest.raises(everwrite.RequestError, match=r"must come from db\.session\(\)"):
            await things.get("k", session=session)
        with pytest.raises(everwrite.RequestError, match="Keys are str or bytes"):
            await things.get(key)


@in_loop
async def test_a_read_and_a_data_type_want_a_plain_yes_or_no() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        no: Any = "no"

        for call in (
            things.get("k", strict=no),
            things.touch("k", 5, strict=no),
            things.counter("k").add(strict=no),
            things.counter("k").value(strict=no),
        ):
            with pytest.raises(everwrite.RequestError, match="strict='no' is not possible"):
                await call


@pytest.mark.parametrize("value", [None, object(), bytes((1 << 20) + 1)])
@in_loop
async def test_a_value_that_cannot_be_sends_nothing(value: Any) -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        with pytest.raises(everwrite.RequestError):
            await db.bucket("things").put("k", value)

        assert not cluster.nodes[0].requests(Put)


@in_loop
async def test_keys_of_text_and_of_bytes_are_the_same_keys() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        things = db.bucket("things")
        await things.put("ä", b"v")

        assert (await things.get("ä".encode())).value == b"v"
        assert not await db.bucket("others").get("ä")


@in_loop
async def test_a_question_to_any_node_goes_to_the_one_that_was_named_in_connect() -> None:
    async with FakeCluster() as cluster:
        for node in cluster.nodes:
            async with await everwrite.connect(f"127.0.0.1:{node.port}") as db:
                assert (await db.ask("status"))["node"]["name"] == node.name


@in_loop
async def test_a_node_can_be_asked_by_name_id_and_address() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        second = cluster.nodes[1]
        for name in (second.name, second.node_id.hex(), f"127.0.0.1:{second.port}"):
            assert (await db.ask("status", node=name))["node"]["name"] == second.name

        with pytest.raises(everwrite.RequestError, match="n1, n2, n3"):
            await db.ask("status", node="n9")


@in_loop
async def test_a_question_to_a_node_that_is_down_fails_at_once() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        await cluster.nodes[2].kill()
        await until(lambda: db.counters.losses >= 1)

        with pytest.raises(everwrite.Unreachable, match="n3"):
            await db.ask("status", node="n3")


@in_loop
async def test_an_order_is_given_once_only() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first = cluster.nodes[0]
        first.mood = Mood.DROPS

        with pytest.raises(everwrite.Unreachable) as failed:
            await db.ask("partition", {"from": ["n2"]})

        assert failed.value.outcome == "unknown"
        orders = [ask for node in cluster.nodes for ask in node.requests(Ask)]
        assert [ask.verb for ask in orders if ask.verb != "view"] == ["partition"]


@in_loop
async def test_a_database_and_a_bucket_show_what_they_are() -> None:
    async with FakeCluster() as cluster:
        async with await everwrite.connect(cluster.url) as db:
            assert "3 of 3 nodes connected" in repr(db)
            assert repr(db.bucket("carts", merge=everwrite.largest, r=2)) == (
                "<everwrite.AsyncBucket 'carts': merge=largest, n=0, r=2, w=0, dw=-1, strict=False>"
            )
        assert repr(db).endswith("closed>")


@in_loop
async def test_a_refused_question_raises_the_nodes_error() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].reply = lambda asked: [
            Failure(asked.rid, "denied", "Development clusters only.", "", "none", 0, 0)
        ]

        with pytest.raises(everwrite.DeniedError, match="Development"):
            await db.ask("heal")


@in_loop
async def test_an_answer_that_is_no_json_object_is_a_protocol_error() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].reply = lambda asked: [Told(asked.rid, b"[1]")]

        with pytest.raises(everwrite.ProtocolError):
            await db.ask("status")


@in_loop
async def test_arguments_that_are_too_large_are_refused() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        with pytest.raises(everwrite.RequestError):
            await db.ask("locate", {"key": "x" * (1 << 20)})


def test_importing_everwrite_imports_nothing_else() -> None:
    code = (
        "import sys, everwrite; "
        "rooms = ('asyncio', 'msgspec', 'uvloop', 'everwrite.client'); "
        "print([room for room in rooms if room in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_client_does_not_import_the_server() -> None:
    code = (
        "import sys, everwrite, everwrite.client; "
        "[getattr(everwrite, name) for name in everwrite.__all__]; "
        "print([m for m in sys.modules if m.startswith(('everwrite.server', 'everwrite.storage'))])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_an_unknown_one_is_an_attribute_error() -> None:
    for name in everwrite.__all__:
        assert getattr(everwrite, name) is not None

    assert callable(everwrite.open)
    assert {*everwrite.__all__, "open"} == {*dir(everwrite)}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = everwrite.nonsense  # type: ignore[attr-defined]


def test_import_star_does_not_hide_the_built_in_open() -> None:
    assert "open" not in everwrite.__all__


@pytest.mark.filterwarnings("error")
@in_loop
async def test_connect_may_be_awaited_entered_or_made_a_task() -> None:
    async with FakeCluster() as cluster:
        async with everwrite.connect(cluster.url) as entered:
            await entered.bucket("things").put("k", b"v")
        async with await asyncio.create_task(everwrite.connect(cluster.url)) as db:
            assert (await db.bucket("things").get("k")).value == b"v"

        assert repr(entered).endswith("closed>")
        with pytest.raises(everwrite.RequestError):
            async with everwrite.connect("nonsense:port"):
                pass
        everwrite.connect(cluster.url).close()


def test_a_client_of_another_event_loop_says_so() -> None:
    with background_cluster(1) as cluster:
        own = asyncio.new_event_loop()
        db = own.run_until_complete(everwrite.connect(cluster.url))
        things = db.bucket("things")

        for call in (
            things.get("k"),
            things.put("k", b"v"),
            things.get("k", r=1),
            things.counter("k").add(),
            db.ask("status"),
            db.close(),
        ):
            with pytest.raises(everwrite.RequestError, match=r"another event loop\. Connect again"):
                asyncio.run(call)

        own.run_until_complete(db.close())
        own.close()
        with pytest.raises(everwrite.RequestError, match="another event loop, which is closed"):
            asyncio.run(things.get("k"))


def test_a_client_is_not_used_by_two_loops_at_once() -> None:
    async def other() -> str:
        """Use the client while its own loop waits."""
        with pytest.raises(everwrite.RequestError) as refused:
            await db.bucket("things").get("k")
        return str(refused.value)

    async def own() -> str:
        nonlocal db
        db = await everwrite.connect(cluster.url)
        async with db:
            return await asyncio.to_thread(asyncio.run, other())

    db: everwrite.AsyncClient
    with background_cluster(1) as cluster:
        assert asyncio.run(own()).startswith("The client belongs to another event loop. ")
