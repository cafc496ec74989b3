"""A development cluster of real processes: what is started is known, and is ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.request import urlopen

import pytest
from tests.cli.commands import everwrite as command

import everwrite
from everwrite.cli import processes
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import find_base_port, port_is_free
from everwrite.cli.endings import NodeFailed
from everwrite.cli.exits import Exit
from everwrite.core.errors import ConfigError, DirectoryInUse

pytestmark = pytest.mark.process


@contextlib.contextmanager
def started(directory: Path, nodes: int = 3) -> Iterator[DevCluster]:
    """Start a cluster that ends with the block."""
    with DevCluster.create(directory, nodes=nodes, fsync=False) as cluster:
        asyncio.run(cluster.start())
        yield cluster


def seen_by(cluster: DevCluster, number: int) -> set[str]:
    """Return the peers that a node calls up."""
    status = asyncio.run(cluster.status(number))
    assert status is not None
    return {peer.name for peer in status.nodes if peer.state == "up"}


async def until_seen(cluster: DevCluster, number: int, names: set[str]) -> None:
    """Wait until a node calls exactly these peers up."""
    async with asyncio.timeout(15):
        while True:
            status = await cluster.status(number)
            if status is not None and names == {
                peer.name for peer in status.nodes if peer.state == "up"
            }:
                return


def test_a_started_cluster_is_whole_and_its_state_file_says_where_it_is(tmp_path: Path) -> None:
    with started(tmp_path / "dev") as cluster:
        again = DevCluster.open(tmp_path / "dev")

        assert [node.state() for node in again.nodes] == ["running"] * 3
        assert [node.pid for node in again.nodes] == [node.pid for node in cluster.nodes]
        assert [node.port for node in again.nodes] == [again.plan.base_port + i for i in (1, 2, 3)]
        assert seen_by(cluster, 1) == {"n2", "n3"}
        assert "listens on" in cluster.log(2).read_text()

    assert [node.state() for node in DevCluster.open(tmp_path / "dev").nodes] == ["gone"] * 3


def test_nodes_take_the_form_of_their_log_from_the_environment_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWRITE_LOG_FORMAT", "json")
    monkeypatch.setenv("EVERWRITE_NAME", "somebody")
    with started(tmp_path / "dev", nodes=2) as cluster:
        for node in cluster.nodes:
            lines = [json.loads(line) for line in cluster.log(node.number).read_text().splitlines()]

            assert lines
            assert {line["node"] for line in lines} == {node.name}


def test_nodes_send_spans_where_the_environment_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if b"n1" in self.rfile.read(int(self.headers["content-length"])):
                came.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("EVERWRITE_OTEL", "1")
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with started(tmp_path / "dev", nodes=1) as cluster:
            with urlopen(f"{cluster.node(1).http}/v1/status") as answer:
                assert answer.status == 200
            assert came.wait(20), "a span of n1"
        collector.shutdown()


def test_a_killed_node_comes_back_and_a_frozen_one_goes_on(tmp_path: Path) -> None:
    with started(tmp_path / "dev") as cluster:
        cluster.kill(2)
        cluster.pause(3)
        assert cluster.node(2).state() == "gone"
        with pytest.raises(NodeFailed, match="n2 does not run"):
            cluster.pause(2)

        asyncio.run(cluster.resume(3))
        asyncio.run(cluster.restart(2))

        assert cluster.node(3).state() == "running"
        assert seen_by(cluster, 2) == {"n1", "n3"}


def test_a_partition_holds_on_both_ends_also_for_a_node_that_restarts(tmp_path: Path) -> None:
    async def story(cluster: DevCluster) -> None:
        assert await cluster.partition("1|2,3") == []
        await until_seen(cluster, 1, set())
        await until_seen(cluster, 2, {"n3"})
        await cluster.restart(1)
        await until_seen(cluster, 1, set())
        assert await cluster.heal() == []
        await until_seen(cluster, 1, {"n2", "n3"})

    with started(tmp_path / "dev") as cluster:
        asyncio.run(story(cluster))

        assert DevCluster.open(tmp_path / "dev").plan.split == ""


def test_nothing_outlives_a_process_that_is_killed_while_it_holds_a_cluster(tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    script = (
        "import asyncio, sys, pathlib\n"
        "from everwrite.cli.devcluster import DevCluster\n"
        "with DevCluster.create(pathlib.Path(sys.argv[1]), nodes=2, fsync=False) as cluster:\n"
        "    cluster.temporary = True\n"
        "    asyncio.run(cluster.start())\n"
        "    print('started', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"started\n"
        nodes = DevCluster.open(directory).nodes

        holder.send_signal(signal.SIGKILL)

        assert all(processes.wait_gone(node.pid, node.born, 10, None) for node in nodes)


def test_a_state_file_with_the_pid_of_a_stranger_harms_nobody(tmp_path: Path) -> None:
    cluster = DevCluster.create(tmp_path / "dev", nodes=2)
    file = tmp_path / "dev" / "cluster.json"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        plan = json.loads(file.read_text())
        plan["nodes"][0].update(pid=stranger.pid, born="an earlier boot:1234")
        file.write_text(json.dumps(plan))

        found = DevCluster.open(tmp_path / "dev")
        found.stop(seconds=0)
        with pytest.raises(NodeFailed):
            found.kill(1)

        assert stranger.poll() is None
        stranger.kill()
    assert cluster.nodes[0].pid == 0


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    cluster = DevCluster.create(tmp_path / "dev", nodes=2)
    taken = cluster.node(2).port
    with socket.create_server(("127.0.0.1", taken)):
        with cluster, pytest.raises(ConfigError, match=f"Port {taken} of node n2 is in use"):
            asyncio.run(cluster.start())
        with pytest.raises(ConfigError, match=f"Port {taken}"):
            DevCluster.create(tmp_path / "new", nodes=2, base_port=taken - 2)

    assert not cluster.log(1).exists()
    assert not (tmp_path / "new").exists()


def test_a_node_that_ends_while_starting_is_quoted_and_the_others_are_stopped(
    tmp_path: Path,
) -> None:
    cluster = DevCluster.create(tmp_path / "dev", nodes=2)
    (tmp_path / "dev" / "node2").write_text("no directory")

    with cluster, pytest.raises(NodeFailed, match="Node n2 ended by itself") as caught:
        asyncio.run(cluster.start())

    assert "node2" in str(caught.value)
    assert [node.state() for node in cluster.nodes] == ["gone", "gone"]


def test_an_earlier_run_is_not_quoted_and_the_others_are_named(tmp_path: Path) -> None:
    cluster = DevCluster.create(tmp_path / "dev", nodes=2)
    (tmp_path / "dev" / "node2").write_text("no directory")
    cluster.log(2).write_text("words of an earlier run\n")

    with cluster, pytest.raises(NodeFailed) as caught:
        asyncio.run(cluster.start())

    assert "words of an earlier run" not in str(caught.value)
    assert "Those that were started with it were stopped: n1." in str(caught.value)
    assert cluster.node(2).pid == 0


def test_a_node_that_has_left_is_told_apart_and_the_rest_starts_again(tmp_path: Path) -> None:
    place = ["--dir", str(tmp_path / "dev")]
    with started(tmp_path / "dev", nodes=4) as cluster:
        there = ["--url", cluster.addresses[0]]
        with everwrite.connect_sync(cluster.addresses[0]) as db:
            db.bucket("carts").put("alice", ["tea"])
        assert command("plan", "leave", "n2", "--commit", *there).code == Exit.OK
        assert cluster.ended(2) == 0

        seen = command("cluster", "status", *place)
        assert seen.code == Exit.OK, seen.out
        assert seen.out.startswith("HEALTHY: 3 of 3 nodes up\n")
        row = next(line for line in seen.out.splitlines() if line.startswith("n2 "))
        assert row.split() == ["n2", "left", cluster.node(2).address, *"-----"]

        cluster.stop()
        asyncio.run(cluster.start())

        assert [node.name for node in cluster.running()] == ["n1", "n3", "n4"]
        assert [node.name for node in cluster.members] == ["n1", "n3", "n4"]
        with everwrite.connect_sync(cluster.addresses[0]) as db:
            assert db.bucket("carts").get("alice").value == ["tea"]
        with pytest.raises(NodeFailed, match="n2 has left its cluster"):
            asyncio.run(cluster.restart(2))
        log = cluster.log(2).read_text()
        assert log.count("has left its cluster") == 1, "it was not started again"

        shutil.rmtree(cluster.data(2))
        asyncio.run(cluster.start())
        assert len(cluster.running()) == 4


def test_a_node_that_lost_its_directory_keeps_no_other_from_running_and_can_be_replaced(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "dev", nodes=4) as cluster:
        cluster.stop()
        shutil.rmtree(cluster.data(2))

        with pytest.raises(NodeFailed, match="Node n2 ended by itself") as caught:
            asyncio.run(cluster.start())

        assert "There is a node named 'n2' already" in caught.value.message
        assert "The others run: n1, n3, n4." in caught.value.message
        assert "everwrite plan remove n2 --force --commit" in caught.value.hint
        assert [node.name for node in cluster.running()] == ["n1", "n3", "n4"]

        there = ["--url", cluster.addresses[0]]
        assert command("plan", "remove", "n2", "--force", "--commit", *there).code == Exit.OK
        asyncio.run(cluster.start())
        assert len(cluster.running()) == 4


def test_a_cluster_that_is_held_is_refused_to_others(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "dev", nodes=1):
        other = DevCluster.open(tmp_path / "dev")

        with pytest.raises(DirectoryInUse, match="Another command"), other.locked():
            pytest.fail("two commands hold one cluster")


def test_a_directory_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")

    with pytest.raises(ConfigError, match="not empty"):
        DevCluster.create(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize("text", ["", "{}", '{"base_port": "x"}', "[1]"])
def test_a_garbled_state_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)

    with pytest.raises(ConfigError, match="can't be understood"):
        DevCluster.open(tmp_path)


def test_found_ports_are_free() -> None:
    base = find_base_port(3)

    assert all(port_is_free(base + number) for number in (1, 2, 3))
