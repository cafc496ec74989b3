"""The options of a node: flags over environment over file, and no door left open."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from tests.cli.commands import everwrite

from everwrite.cli.exits import Exit
from everwrite.cli.serve import FileSettings, read_settings, serve, serve_options
from everwrite.core.errors import ConfigError
from everwrite.server.settings import ServeOptions


def options(*arguments: str) -> ServeOptions:
    """Return what `everwrite serve` would start a node with."""
    with serve.make_context("serve", list(arguments)) as context:
        return serve_options(**{k: v for k, v in context.params.items() if k != "workers"})


def config(directory: Path, text: str) -> str:
    path = directory / "node.toml"
    path.write_text(text)
    return str(path)


def test_without_options_a_node_listens_on_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EVERWRITE_SECRET", raising=False)
    found = options()

    assert found.host == "127.0.0.1"
    assert found.port == 7400
    assert found.default_name.endswith("-7400")
    assert (found.name, found.zone, found.weight) == ("", "", None), "kept from the first start"
    assert found.fsync
    assert not found.development
    assert found.secret == b""


def test_flags_win_over_environment_and_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, 'name = "file"\nzone = "file"\nweight = 3.0\nfsync = false')
    monkeypatch.setenv("EVERWRITE_NAME", "environment")
    monkeypatch.setenv("EVERWRITE_ZONE", "environment")

    found = options("--config", path, "--name", "flag")

    assert (found.name, found.zone, found.weight, found.fsync) == (
        "flag",
        "environment",
        3.0,
        False,
    )


def test_a_file_can_set_every_option(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    path = config(
        tmp_path,
        f"""
        data = "{tmp_path}/data"
        name = "n1"
        base-port = 7411
        host = "0.0.0.0"
        http-port = 8080
        redis-port = 8079
        advertise = "example.org:7500"
        join = ["one:7400", "[::1]:7402"]
        stage = true
        rejoin-as-new = true
        zone = "rack 2"
        weight = 2
        engine = "sqlite"
        fsync = true
        log-format = "json"
        otel = true
        no-pace = true
        partitions = 64
        replicas = 5
        cluster-name = "shop"
        secret-file = "{secret}"
        development = true
        """,
    )

    assert options("--config", path) == ServeOptions(
        data=tmp_path / "data",
        name="n1",
        default_name=options("--base-port", "7411").default_name,
        port=7411,
        host="0.0.0.0",
        http_port=8080,
        redis_port=8079,
        advertise="example.org:7500",
        join=("one:7400", "[::1]:7402"),
        stage=True,
        rejoin_as_new=True,
        zone="rack 2",
        weight=2.0,
        engine="sqlite",
        fsync=True,
        log_format="json",
        otel=True,
        pace=False,
        partitions=64,
        replicas=5,
        cluster_name="shop",
        secret=b"hush",
        development=True,
    )


def test_a_file_has_a_key_for_each_option_that_is_shown() -> None:
    shown = {
        each.opts[0].removeprefix("--")
        for each in serve.params
        if isinstance(each, click.Option) and not each.hidden
    }

    assert shown - {"config"} == set(FileSettings.__struct_encode_fields__)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base-prot = 1", "base-prot"),
        ("log-format = 'xml'", "log-format cannot be 'xml'"),
        ('base-port = "7400"', "base-port must be a whole number, not text in quotes"),
        ("weight = 'much'", "weight must be a number, not text in quotes"),
        ("join = 'one:7400'", r"join must be a list in \[ \], not text in quotes"),
        ("join = [7400]", "each part of join must be text in quotes, not a whole number"),
        ("stage = 1", "stage must be true or false, not a whole number"),
        ("color = 'red'", "there is no setting color"),
        ("secret = 'hush'", "secret"),
        ("name = ", "Invalid value"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_its_key(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_settings(Path(config(tmp_path, text)))

    assert "base-port" in caught.value.hint


@pytest.mark.parametrize("option", ["--stage", "--rejoin-as-new"])
def test_who_waits_or_rejoins_must_say_where(option: str, tmp_path: Path) -> None:
    ended = everwrite("serve", option, "--data", str(tmp_path / "data"))

    assert ended.code == Exit.USAGE
    assert "--join HOST:PORT" in ended.err
    assert not (tmp_path / "data").exists()


def test_a_wrong_file_is_a_usage_error(tmp_path: Path) -> None:
    ended = everwrite("serve", "--config", config(tmp_path, "color = 'red'"))

    assert ended.code == Exit.USAGE
    assert "color" in ended.err
    assert "not started" in ended.err


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "::1:2", "192.0.2.1", "127.example.org", "localhost.example.org", ""]
)
def test_a_door_to_other_machines_needs_a_secret(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERWRITE_SECRET", raising=False)

    ended = everwrite("serve", "--host", host, "--data", str(tmp_path / "data"))

    assert ended.code == Exit.USAGE
    assert "secret" in ended.err
    assert not (tmp_path / "data").exists()


def test_the_secret_comes_from_a_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"from the file\r\n")
    monkeypatch.setenv("EVERWRITE_SECRET", "from the environment")

    assert options().secret == b"from the environment"
    assert options("--secret-file", str(file)).secret == b"from the file"


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\n")

    with pytest.raises(ConfigError, match="is empty"):
        options("--secret-file", str(file))


def test_joins_may_be_given_one_by_one_or_in_a_list() -> None:
    assert options("--join", "a:1", "--join", "b:2,c:3").join == ("a:1", "b:2", "c:3")


def test_a_node_in_memory_has_no_directory() -> None:
    assert options("--engine", "memory", "--data", "somewhere").data is None


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        ([], 7600),
        (["--base-port", "7411"], 7611),
        (["--http-port", "8080"], 8080),
        (["--http-port", "off"], None),
    ],
)
def test_http_is_answered_200_above_the_base_port_or_where_it_is_told(
    arguments: list[str], port: int | None
) -> None:
    assert options(*arguments).http_port == port


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        ([], 7500),
        (["--base-port", "7411"], 7511),
        (["--redis-port", "6379"], 6379),
        (["--redis-port", "off"], None),
    ],
)
def test_redis_clients_are_answered_100_above_the_base_port_or_where_it_is_told(
    arguments: list[str], port: int | None
) -> None:
    assert options(*arguments).redis_port == port


@pytest.mark.parametrize("port", ["0", "65536", "on", "-1", "8o80", ""])
def test_what_is_no_port_is_refused(port: str) -> None:
    code, _, said = everwrite("serve", f"--http-port={port}")

    assert code == Exit.USAGE
    assert "is no port, nor off" in said


def test_a_file_can_turn_http_off(tmp_path: Path) -> None:
    assert options("--config", config(tmp_path, 'http-port = "off"')).http_port is None
