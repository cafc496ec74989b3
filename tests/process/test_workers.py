"""`everwrite serve --workers K`: several real nodes, started, kept up and stopped as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.cli.watched import Watched, until, watched

from everwrite.cli import processes
from everwrite.cli.devplan import find_base_port

pytestmark = pytest.mark.process

EVERWRITE = [sys.executable, "-m", "everwrite"]


class Worker(NamedTuple):
    """A node, as `everwrite status` has it."""

    id: str
    name: str
    zone: str
    pid: int
    data: str


@pytest.fixture
def base() -> int:
    return find_base_port(3) + 1


@contextmanager
def lot(directory: Path, base: int, *more: str, count: int = 2) -> Iterator[Watched]:
    """Run workers whose log is a file beside their directory."""
    options = ["--data", str(directory), "--base-port", str(base), "--replicas", "2", *more]
    command = [*EVERWRITE, "serve", "--workers", str(count), *options]
    with watched(command, directory.with_name(f"log{base}")) as parent:
        yield parent


def whole(parent: Watched, port: int, count: int = 2) -> list[Worker]:
    """Return all nodes by name, once the one on this port finds all of them healthy."""
    found: list[Worker] = []

    def healthy() -> bool:
        assert parent.process.poll() is None, parent.said()
        command = [*EVERWRITE, "status", "--url", f"127.0.0.1:{port}", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return False
        found[:] = [worker(each["status"]["node"]) for each in json.loads(done.stdout)["nodes"]]
        return len(found) == count

    until(healthy, lambda: f"{count} nodes are healthy: {found}\n{parent.said()}")
    return sorted(found, key=lambda worker: worker.name)


def worker(node: dict[str, Any]) -> Worker:
    return Worker(*(node[field] for field in Worker._fields))


def is_gone(pid: int) -> bool:
    return not processes.birth(pid)


def test_workers_are_nodes_of_one_zone_and_stop_together(tmp_path: Path, base: int) -> None:
    with lot(tmp_path / "data", base, "--name", "host", "--zone", "rack 2") as parent:
        workers = whole(parent, base)

        assert [(each.name, each.zone, each.data) for each in workers] == [
            ("host-1", "rack 2", str(tmp_path / "data" / "worker-1")),
            ("host-2", "rack 2", str(tmp_path / "data" / "worker-2")),
        ]
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
        assert all(is_gone(each.pid) for each in workers)
        for name in ("host-1", "host-2"):
            parent.until_said(rf"^{name} \| .*stopped node={name}$")


def test_a_worker_that_was_killed_comes_back_as_who_it_was(tmp_path: Path, base: int) -> None:
    with lot(tmp_path / "data", base, "--name", "host") as parent:
        before = whole(parent, base)
        for place, victim in enumerate(before):
            os.kill(victim.pid, signal.SIGKILL)
            parent.until_said(f"child={victim.name} pid={victim.pid} was killed by SIGKILL")
            parent.until_said(rf"^{victim.name} \| everwrite: node {victim.name} of", times=2)

            after = whole(parent, base + place)

            assert after[place].pid != victim.pid
            assert [each.id for each in after] == [each.id for each in before]
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0


def test_a_killed_command_takes_its_workers_along(tmp_path: Path, base: int) -> None:
    with lot(tmp_path / "data", base) as parent:
        workers = whole(parent, base)
        parent.send(signal.SIGKILL)

        until(lambda: all(is_gone(each.pid) for each in workers), lambda: f"{workers} are gone")

    with lot(tmp_path / "data", base) as parent:
        assert [each.id for each in whole(parent, base)] == [each.id for each in workers]


def test_workers_that_wait_for_a_cluster_are_stopped_too(tmp_path: Path, base: int) -> None:
    with lot(tmp_path / "data", base, "--join", f"127.0.0.1:{base + 2}") as parent:
        parent.until_said(r"^worker-[12] \| .*no answer yet node=", times=2)
        pids = [int(pid) for pid in parent.until_said(r"started child=.* pid=(\d+)", times=2)]
        parent.send(signal.SIGINT)

        assert parent.wait() == 0
        assert all(map(is_gone, pids))


def test_workers_keep_who_they_are_at_other_ports_and_new_ones_get_their_zone(
    tmp_path: Path,
) -> None:
    first = find_base_port(5) + 1
    then = first + 2
    with lot(tmp_path / "data", first, "--zone", "attic") as parent:
        before = whole(parent, first)
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0

    with lot(tmp_path / "data", then, count=3) as parent:
        after = whole(parent, then + 2, count=3)

        assert {each.id for each in before} < {each.id for each in after}
        assert {each.zone for each in after} == {"attic"}


def test_workers_join_the_cluster_of_another_machine(tmp_path: Path, base: int) -> None:
    founder = [*EVERWRITE, "serve", "--data", str(tmp_path / "one"), "--base-port", str(base)]
    with (
        watched([*founder, "--name", "one", "--replicas", "2"], tmp_path / "log"),
        lot(tmp_path / "data", base + 1, "--join", f"127.0.0.1:{base}", "--name", "two") as parent,
    ):
        assert [each.name for each in whole(parent, base, count=3)] == ["one", "two-1", "two-2"]


def test_workers_take_their_options_from_file_environment_and_secret(
    tmp_path: Path, base: int
) -> None:
    secret, config = tmp_path / "secret", tmp_path / "config"
    secret.write_text("hush\n")
    config.write_text(f'workers = 2\nengine = "sqlite"\nsecret-file = "{secret}"\nname = "host"')
    environment = {
        "EVERWRITE_CONFIG": str(config),
        "EVERWRITE_BASE_PORT": str(base),
        "EVERWRITE_DATA": str(tmp_path / "data"),
        "EVERWRITE_ZONE": "cellar",
    }
    with watched([*EVERWRITE, "serve"], tmp_path / "log", environment) as parent:
        greeting = r"^host-\d \| .* \(sqlite, fsync before each ack\)$"
        parent.until_said(greeting, times=2)
        parent.until_said("peer connected", times=2)
        parent.send(signal.SIGTERM)

        assert parent.wait() == 0
        assert "hush" not in parent.said()


def test_all_that_workers_say_to_programs_is_json(tmp_path: Path, base: int) -> None:
    with lot(tmp_path / "data", base, "--name", "host", "--log-format", "json") as parent:
        whole(parent, base)
        parent.send(signal.SIGTERM)

        assert parent.wait() == 0
        events = [json.loads(line) for line in parent.said().splitlines()]
        assert events[0]["event"] == "workers"
        assert {each["node"] for each in events if each["event"] == "serving"} == {
            "host-1",
            "host-2",
        }
