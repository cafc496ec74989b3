"""What a node can be started with: what cannot be is refused, and says what can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    Nodes,
)

from everwrite.core.errors import (
    ConfigError,
)
from everwrite.server.settings import ServeOptions


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.1.7",
        "example.com",
        "",
        "127.evil.example",
        "localhost.evil.example",
        "::10",
        "::1:2",
    ],
)
def test_an_address_that_others_can_reach_needs_a_secret(host: str) -> None:
    with pytest.raises(ConfigError, match="EVERWRITE_SECRET"):
        ServeOptions(host=host)

    assert ServeOptions(host=host, secret=b"open sesame", advertise="n1.example:7400")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0::0", ""])
def test_who_listens_everywhere_must_say_how_others_reach_it(host: str) -> None:
    with pytest.raises(ConfigError, match="must say how others reach it") as caught:
        ServeOptions(host=host, secret=b"open sesame")

    assert "--advertise HOST:PORT" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "join"),
    [
        ({}, ("127.0.0.1:7400",)),
        ({}, ("localhost:7400", "0.0.0.0:7400")),
        ({"host": "::1"}, ("localhost:7400", "[0::1]:7400")),
        ({"host": "localhost"}, ("127.0.0.1:7400", "[::1]:7400")),
        (
            {"host": "0.0.0.0", "secret": b"s", "advertise": "n1.example:7400"},
            ("127.0.0.1:7400", "127.0.0.9:7400", "n1.example:7400"),
        ),
        ({"port": 7401, "advertise": "n1.example:7500"}, ("n1.example:7500", "127.0.0.1:7401")),
    ],
)
def test_a_node_cannot_join_only_itself(options: dict[str, Any], join: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="names only this node itself") as caught:
        ServeOptions(**options, join=join)

    assert "without --join this node founds one" in caught.value.hint
    assert ServeOptions(**options, join=(*join, "n2.example:7400")), "one list for all nodes"


@pytest.mark.parametrize(
    ("host", "seed"),
    [
        ("127.0.0.3", "127.0.0.2:7400"),
        ("127.0.0.1", "[::1]:7400"),
        ("127.0.0.2", "localhost:7400"),
        ("127.0.0.1", "127.0.0.1:7401"),
    ],
)
def test_another_address_of_this_machine_is_another_node(host: str, seed: str) -> None:
    assert ServeOptions(host=host, join=(seed,))


@pytest.mark.parametrize(
    ("http", "redis", "both", "instead"),
    [
        (24100, 24100, ("Redis", "HTTP"), "--http-port"),
        (24200, 24200, ("HTTP", "Redis"), "--redis-port"),
        (24000, 24100, ("the native protocol", "HTTP"), "--http-port"),
        (24200, 24000, ("the native protocol", "Redis"), "--redis-port"),
        (None, 24000, ("the native protocol", "Redis"), "--redis-port"),
    ],
)
def test_two_fronts_on_one_port_are_refused_and_it_is_said_which_to_move(
    http: int | None, redis: int, both: tuple[str, str], instead: str
) -> None:
    """Both could be bound, and one of them would never hear anything."""
    with pytest.raises(ConfigError, match=r"Port 24\d00 cannot be") as caught:
        ServeOptions(port=24000, http_port=http, redis_port=redis)

    assert all(f"that of {each} (--" in caught.value.message for each in both)
    assert f"Choose another one with {instead};" in caught.value.hint


def test_ports_that_are_to_be_found_are_not_the_same() -> None:
    assert ServeOptions(port=0, http_port=0, redis_port=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_an_address_of_this_machine_alone_needs_none(host: str) -> None:
    assert ServeOptions(host=host)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"port": -1}, "port = -1 is not possible"),
        ({"port": 65536}, "port = 65536 is not possible"),
        ({"advertise": "0.0.0.0:7400"}, "nobody can connect to that"),
        ({"advertise": "[::]:7400"}, "nobody can connect to that"),
        ({"advertise": "no address"}, "is not an address"),
        ({"weight": 0}, "weight = 0 is not possible"),
        ({"weight": -1.0}, "weight = -1.0 is not possible"),
        ({"weight": float("nan")}, "weight = nan is not possible"),
        ({"weight": float("inf")}, "weight = inf is not possible"),
        ({"name": "x" * 65}, "is not possible"),
        ({"name": "new\nline"}, "is not possible"),
        ({"zone": "esc\x1b[2J"}, "is not possible"),
        ({"cluster_name": "nul\0"}, "is not possible"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_can(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        ServeOptions(**options)

    assert caught.value.hint.startswith("Use ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"partitions": 0}, "partitions = 0 is not possible"),
        ({"partitions": 100}, "partitions = 100 is not possible"),
        ({"partitions": 1 << 17}, "partitions = 131072 is not possible"),
        ({"replicas": 0}, "replicas = 0 is not possible"),
        ({"replicas": 10}, "replicas = 10 is not possible"),
        ({"engine": "magic"}, "There is no storage engine 'magic'"),
        ({"engine": "rocksdb", "data": None}, "needs a data directory"),
        ({"join": ("no address",)}, "'no address' is not an address"),
        ({"join": ("http://127.0.0.1:7400",)}, "'http://127.0.0.1:7400' is not an address"),
        ({"join": ("a..b:7400",)}, r"'a\.\.b:7400' is not an address"),
        ({"join": (".example:7400",)}, r"'\.example:7400' is not an address"),
        ({"join": ("x" * 64 + ".example:7400",)}, "is not an address"),
        ({"join": ("x\u2028y:7400",)}, "is not an address"),
        ({"join": ("nul\0:7400",)}, "is not an address"),
        ({"host": "a..b", "secret": b"s"}, r"host = 'a\.\.b' is not possible"),
        ({"join": ("127.0.0.1:seven",)}, "'127.0.0.1:seven' is not an address"),
        ({"join": ("127.0.0.1:70000",)}, "'127.0.0.1:70000' is not an address"),
        ({"join": ("127.0.0.1:" + "7" * 5000,)}, "is not an address"),
        ({"host": "host.invalid", "secret": b"s"}, "Cannot listen on host.invalid"),
    ],
)
@in_loop
async def test_a_node_with_impossible_settings_does_not_start(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    async with Nodes(tmp_path) as nodes:
        with pytest.raises(ConfigError, match=says) as caught:
            await nodes.start("n1", **options)

        assert caught.value.hint
        assert await nodes.start("n1"), "and the directory is as good as before"


@pytest.mark.parametrize(
    ("host", "instead"),
    [
        ("127.0.0.1:7400", "--host 127.0.0.1 --base-port 7400"),
        ("10.0.0.1:7401", "--host 10.0.0.1 --base-port 7401"),
        ("n1.example:80", "--host n1.example --base-port 80"),
        ("[::1]:7400", "--host ::1 --base-port 7400"),
    ],
)
def test_a_port_behind_the_host_is_what_is_wrong_with_it(host: str, instead: str) -> None:
    """And not the secret that an address with a port would need."""
    with pytest.raises(ConfigError, match="--host takes no port") as caught:
        ServeOptions(host=host)

    assert instead in caught.value.hint
