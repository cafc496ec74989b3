"""What `everwrite serve --workers` starts, and what it refuses before it starts anything."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.cli.commands import everwrite
from tests.cli.test_serve import options

from everwrite.cli.devplan import find_base_port
from everwrite.cli.exits import Exit
from everwrite.cli.serve import serve
from everwrite.cli.workers import Workers, read_state
from everwrite.core.errors import ConfigError
from everwrite.server.settings import ServeOptions
from everwrite.storage.lock import DirectoryLock
from everwrite.storage.manifest import prepare_directory, record_node, write_manifest


def workers(count: int, *arguments: str) -> Workers:
    with serve.make_context("serve", list(arguments)) as context:
        return Workers(count, {k: v for k, v in context.params.items() if k != "workers"})


def started(lot: Workers, number: int) -> ServeOptions:
    """Return what a worker understands of the command that starts it."""
    hear, wake = os.pipe()
    try:
        command = lot.command_line(number, hear)
        return options(*command[command.index("serve") + 1 :])
    finally:
        os.close(hear)
        os.close(wake)


def make_node(directory: Path) -> None:
    """Make a directory look as a node leaves it."""
    prepare_directory(directory)
    write_manifest(directory, "rocksdb")
    record_node(directory, b"8 bytes.", b"16 bytes, or so.")


# -- what each of them is --------------------------------------------------------------------------


def test_workers_share_all_but_name_port_directory_and_whom_they_join(tmp_path: Path) -> None:
    given = ["--data", str(tmp_path), "--name", "-a b", "--base-port", "7500", "--zone", "rack 2"]
    given += ["--weight", "2.5", "--engine", "sqlite", "--fsync", "off", "--development"]
    given += ["--join", "one:7400,two:7400", "--advertise", "[::1]:9000", "--cluster-name", "shop"]
    lot = workers(2, *given)

    first, second = started(lot, 1), started(lot, 2)

    for each in (first, second):
        assert (each.zone, each.weight, each.engine) == ("rack 2", 2.5, "sqlite")
        assert (each.fsync, each.development, each.cluster_name) == (False, True, "shop")
    assert (first.name, first.port, first.advertise) == ("-a b-1", 7500, "[::1]:9000")
    assert (second.name, second.port, second.advertise) == ("-a b-2", 7501, "[::1]:9001")
    assert (first.data, second.data) == (tmp_path / "worker-1", tmp_path / "worker-2")
    assert first.join == ("one:7400", "two:7400")
    assert second.join == ("one:7400", "two:7400", "127.0.0.1:7500")


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], [7601, 7602, 7603]),
        (["--http-port", "8080"], [8080, 8081, 8082]),
        (["--http-port", "off"], [None, None, None]),
    ],
)
def test_each_worker_answers_http_on_a_port_of_its_own(
    arguments: list[str], ports: list[int | None], tmp_path: Path
) -> None:
    lot = workers(3, "--data", str(tmp_path), "--base-port", "7401", *arguments)

    assert [started(lot, number).http_port for number in (1, 2, 3)] == ports


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], [7501, 7502, 7503]),
        (["--redis-port", "6379"], [6379, 6380, 6381]),
        (["--redis-port", "off"], [None, None, None]),
    ],
)
def test_each_worker_answers_redis_clients_on_a_port_of_its_own(
    arguments: list[str], ports: list[int | None], tmp_path: Path
) -> None:
    lot = workers(3, "--data", str(tmp_path), "--base-port", "7401", *arguments)

    assert [started(lot, number).redis_port for number in (1, 2, 3)] == ports


def test_without_more_words_the_first_founds_in_the_zone_of_this_machine(tmp_path: Path) -> None:
    lot = workers(64, "--data", str(tmp_path))

    assert started(lot, 1).join == ()
    assert started(lot, 1).name == ""
    assert {started(lot, number).zone for number in (1, 64)} == {socket.gethostname()}
    assert started(lot, 64).join == ("127.0.0.1:7400",)
    assert started(lot, 64).port == 7463


ADVERTISED = ["--advertise", "n1.example:7400"]


@pytest.mark.parametrize(
    ("host", "joins"),
    [("0.0.0.0", "127.0.0.1:7400"), ("::", "[::1]:7400"), ("10.0.0.1", "10.0.0.1:7400")],
)
def test_workers_find_the_first_where_it_listens(
    host: str, joins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWRITE_SECRET", "hush")
    lot = workers(2, "--data", str(tmp_path), "--host", host, *ADVERTISED)

    assert started(lot, 2).join == (joins,)
    assert not [word for word in lot.command_line(2, 0) if "hush" in word]


def test_a_first_worker_that_lost_its_directory_founds_no_second_cluster(tmp_path: Path) -> None:
    lot = workers(3, "--data", str(tmp_path))
    make_node(tmp_path / "worker-3")

    assert started(lot, 1).join == ("127.0.0.1:7402",)
    make_node(tmp_path / "worker-1")
    assert started(lot, 1).join == ()


def test_new_workers_get_the_zone_of_the_first_start_whatever_the_machine_is_called_now(
    tmp_path: Path,
) -> None:
    workers(2, "--data", str(tmp_path), "--zone", "old name").remember()
    make_node(tmp_path / "worker-1")

    lot = workers(2, "--data", str(tmp_path))

    assert started(lot, 2).zone == "old name"
    assert started(lot, 1).zone == "", "it knows its own"
    assert started(workers(2, "--data", str(tmp_path), "--zone", "new"), 2).zone == "new"


# -- what is refused -------------------------------------------------------------------------------


def refused(directory: Path, *more: str) -> str:
    """Return the words of a start that is refused as a wrong usage, and leaves all as it was."""
    before = sorted(directory.rglob("*"))

    ended = everwrite("serve", "--data", str(directory), *more)

    assert ended.code == Exit.USAGE, ended.err
    assert sorted(directory.rglob("*")) == before
    return ended.err


@pytest.mark.parametrize("count", ["0", "-1", "65", "many", "1.5"])
def test_a_number_of_workers_that_cannot_be_is_refused(count: str, tmp_path: Path) -> None:
    assert "'--workers'" in refused(tmp_path / "data", "--workers", count)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--engine", "memory"], "can't keep their data in memory"),
        (["--base-port", "65335"], "leaves no room for 2 workers"),
        (["--advertise", "example.org:65535"], "leaves no room for so many workers"),
        (["--advertise", "0.0.0.0:7400"], "nobody can connect to that"),
        (["--name", "x" * 64], "is not possible"),
        (["--host", "0.0.0.0"], "Without a secret"),
        (["--lifeline", "9999"], "no pipe that this process has inherited"),
        (["--secret-file", "/dev/null"], "is no regular file"),
    ],
)
def test_what_workers_cannot_be_is_refused(
    more: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERWRITE_SECRET", raising=False)

    assert says in refused(tmp_path / "data", "--workers", "2", *more)


def test_a_port_in_use_is_refused_whichever_workers_it_is(tmp_path: Path) -> None:
    base = find_base_port(2) + 1
    with socket.create_server(("127.0.0.1", base + 1)):
        said = refused(tmp_path / "data", "--workers", "2", "--base-port", str(base))

    assert f"Cannot listen on 127.0.0.1:{base + 1}" in said


def test_the_directory_of_a_single_node_is_refused(tmp_path: Path) -> None:
    make_node(tmp_path)

    assert "holds a single node, and no workers" in refused(tmp_path, "--workers", "2")


def test_the_directory_of_workers_is_refused_to_a_single_node(tmp_path: Path) -> None:
    make_node(tmp_path / "worker-1")
    make_node(tmp_path / "worker-3")

    said = refused(tmp_path, "--workers", "1")

    assert "holds 3 workers, and no single node" in said
    assert "--workers 3" in said


def test_fewer_workers_than_before_are_refused(tmp_path: Path) -> None:
    """Those left out would be members that are down for ever, with copies that nobody has."""
    make_node(tmp_path / "worker-3")

    assert "holds 3 workers; with 2 the others" in refused(tmp_path, "--workers", "2")


def test_a_directory_whose_zone_is_garbled_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workers.json").write_text('{"zone": 7}')

    assert "can't be understood" in refused(tmp_path, "--workers", "2")
    with pytest.raises(ConfigError):
        read_state(tmp_path)


def test_two_commands_never_run_the_same_workers(tmp_path: Path) -> None:
    prepare_directory(tmp_path)
    lock = DirectoryLock(tmp_path)
    port = str(find_base_port(2) + 1)

    ended = everwrite("serve", "--data", str(tmp_path), "--workers", "2", "--base-port", port)
    lock.release()

    assert ended.code == Exit.ERROR
    assert f"in use by process {os.getpid()}" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
