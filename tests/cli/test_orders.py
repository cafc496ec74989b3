"""Orders of a dashboard: to a cluster in the background, and to one that a demo has locked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.cli.commands import everwrite
from tests.process.clusters import in_loop, seen_down

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.orders import FILE, Door, Errand, Order, carry_out, give, take_orders
from everwrite.core.errors import ConfigError, DeniedError, DirectoryInUse, RequestError

pytestmark = [pytest.mark.process, pytest.mark.slow]


def new_cluster(tmp_path: Path) -> DevCluster:
    return DevCluster.create(
        tmp_path / "dev", nodes=3, engine="sqlite", fsync=False, playground=True
    )


@in_loop
async def test_each_order_is_done_and_undone(tmp_path: Path) -> None:
    with new_cluster(tmp_path) as cluster:
        await cluster.start()

        assert "n2 is killed" in await carry_out(cluster, Order("kill", "n2"))
        assert cluster.node(2).state() == "gone"
        assert "started again" in await carry_out(cluster, Order("back", "n2"))
        assert "is frozen" in await carry_out(cluster, Order("pause", "n3"))
        assert cluster.node(3).state() == "stopped"
        assert "goes on" in await carry_out(cluster, Order("back", "n3"))
        assert "n1 | n2,n3" in await carry_out(cluster, Order("cut", "n1|n2,n3"))
        await seen_down(cluster, 1, "n2")
        assert "whole again" in await carry_out(cluster, Order("heal"))

        with pytest.raises(RequestError, match="runs already"):
            await carry_out(cluster, Order("back", "n1"))
        with pytest.raises(ConfigError, match="no node"):
            await carry_out(cluster, Order("kill", "n9"))


@in_loop
async def test_a_demo_takes_orders_for_its_locked_cluster(tmp_path: Path) -> None:
    heard: list[str] = []
    with new_cluster(tmp_path) as cluster:
        await cluster.start()
        async with take_orders(cluster, lambda _, said: heard.append(said)):
            place = str(cluster.directory)
            ended = await asyncio.to_thread(
                everwrite, "cluster", "order", "kill", "n3", "--dir", place
            )

            assert ended.code == 0, ended.err
            assert "n3 is killed" in ended.out
            assert cluster.node(3).state() == "gone"
            with pytest.raises(DeniedError, match="no node"):
                await give(cluster.directory, Order("kill", "n7"))
        assert [said[:12] for said in heard] == ["n3 is killed"]
        with pytest.raises(DirectoryInUse):
            await give(cluster.directory, Order("heal"))


@in_loop
async def test_a_demo_obeys_only_who_can_read_its_directory(tmp_path: Path) -> None:
    with new_cluster(tmp_path) as cluster:
        async with take_orders(cluster, lambda *_: None):
            file = cluster.directory / FILE
            assert file.stat().st_mode & 0o077 == 0
            door = msgspec.json.decode(file.read_bytes(), type=Door)
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(msgspec.json.encode(Errand("guessed", Order("heal"))) + b"\n")

            answer = await reader.readline()

            assert b"token is wrong" in answer
            writer.close()


def test_a_cluster_in_the_background_takes_orders_from_the_command_line(tmp_path: Path) -> None:
    place = ["--dir", str(tmp_path / "dev")]
    try:
        started = everwrite("cluster", "start", "--nodes", "3", "--base-port", "0", *place)
        assert started.code == 0, started.err
        assert "/ui/" in started.err
        ended = everwrite("cluster", "order", "cut", "n1|n2,n3", *place)
        assert ended.code == 0, ended.err
        assert "cut: n1 | n2,n3" in ended.out
    finally:
        everwrite("cluster", "stop", *place)
