"""Starting a node: what is refused with a clear error, and leaves everything as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import (
    Nodes,
    contents,
    still_serves,
)

from everwrite.core.errors import (
    ConfigError,
    DirectoryInUse,
    StorageError,
    WrongFormat,
)
from everwrite.server.main import greet
from everwrite.storage.store import open_store


def files(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, but for the lock's note of who held it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@in_loop
async def test_a_port_in_use_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (first,) = await nodes.grow("n1")
        port = first.node.local.members.me.port

        with pytest.raises(ConfigError, match=f"Cannot listen on 127.0.0.1:{port}") as caught:
            await nodes.start("n2", port=port)

        assert "Choose another port with --base-port" in caught.value.hint
        assert await still_serves(first)
        second = await nodes.start("n2")
        assert second.node.local.members.me.incarnation == 1, "nothing was started before"


@pytest.mark.parametrize("fronts", [{}, {"http_port": 0}, {"redis_port": 0}])
@in_loop
async def test_an_address_of_another_machine_is_refused_as_that(
    fronts: dict[str, int], tmp_path: Path
) -> None:
    async with Nodes(tmp_path, secret=b"open sesame") as nodes:
        with pytest.raises(ConfigError, match=r"Cannot listen .*on 192\.0\.2\.1") as caught:
            await nodes.start("n1", host="192.0.2.1", **fronts)

        assert "is no address of this machine" in caught.value.hint


@in_loop
async def test_a_node_says_where_its_dashboard_is_and_what_to_try(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Nodes() as nodes:
        node = await nodes.start("n1", http_port=0)
        assert node.http is not None

        greet(node)

        said = capsys.readouterr().err
        assert f"  ui       {node.http.url}/ui/ (dashboard)\n" in said
        tried = said.partition("  try      everwrite ")[2].split()
        assert tried == ["put", "fruit", "best", "apple", "--url", node.address]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replicas": 5}, "replicas = 3"),
        ({"partitions": 64}, "partitions = 16"),
        ({"cluster_name": "shop"}, "cluster_name = 'everwrite'"),
    ],
)
@in_loop
async def test_what_is_fixed_for_a_cluster_is_refused_if_it_is_given_otherwise(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    async with Nodes(tmp_path) as nodes:
        (first,) = await nodes.grow("n1")
        for label, join in (("n2", (first.address,)), ("n1", ())):
            if label == "n1":
                await nodes.stop("n1")
            with pytest.raises(ConfigError, match=says) as caught:
                await nodes.start(label, join=join, **options)
            assert "Leave out --" in caught.value.hint

        again = await nodes.start("n1", replicas=3, cluster_name="everwrite")

        assert again.node.local.members.me.incarnation == 2, "the refused start was none"


@in_loop
async def test_a_data_directory_in_use_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (first,) = await nodes.grow("n1")
        before = contents(first)

        with pytest.raises(DirectoryInUse, match="is in use by process") as caught:
            await nodes.start("twin", data=tmp_path / "n1")

        assert caught.value.hint
        assert contents(first) == before
        assert await still_serves(first)


@in_loop
async def test_a_directory_of_another_engine_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        before = files(tmp_path)

        with pytest.raises(WrongFormat, match="'sqlite', not 'rocksdb'") as caught:
            await nodes.start("n1", engine="rocksdb")

        assert "--engine sqlite" in caught.value.hint
        assert files(tmp_path) == before


@in_loop
async def test_a_directory_of_a_newer_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        manifest = tmp_path / "n1" / "everwrite.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
        before = files(tmp_path)

        with pytest.raises(WrongFormat, match="has format 99, of a newer version") as caught:
            await nodes.start("n1")

        assert caught.value.hint == "Install a newer Everwrite."
        assert files(tmp_path) == before


@in_loop
async def test_somebodys_documents_are_never_taken_for_a_data_directory(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "thesis.txt").write_text("years of work")
    async with Nodes(tmp_path) as nodes:
        with pytest.raises(WrongFormat, match=r"thesis\.txt"):
            await nodes.start("n1")

    assert [path.name for path in (tmp_path / "n1").iterdir()] == ["thesis.txt"]


@pytest.mark.scenario(11)
@in_loop
async def test_a_node_whose_own_state_is_damaged_does_not_start_as_a_new_one(
    tmp_path: Path,
) -> None:
    """It would found another cluster over its data."""
    async with Nodes(tmp_path) as nodes:
        (node,) = await nodes.grow("n1")
        node.driver.disk.store.engine.write([(b"mnode", b"rotten bytes")])
        await nodes.stop("n1")

        with pytest.raises(StorageError, match="own state 'node' cannot be read") as caught:
            await nodes.start("n1")

        assert caught.value.hint.startswith("Nothing was changed. Restore this directory, or")


def lose_the_database(directory: Path) -> None:
    for path in directory.glob("everwrite.sqlite*"):
        path.unlink()


def lose_every_row(directory: Path) -> None:
    lose_the_database(directory)
    with TemporaryDirectory() as other, open_store(Path(other) / "new", "sqlite"):
        shutil.copy(Path(other) / "new" / "everwrite.sqlite", directory)


def lose_rocksdbs_current(directory: Path) -> None:
    (directory / "rocksdb" / "CURRENT").unlink()


@pytest.mark.scenario(70)
@pytest.mark.parametrize(
    ("engine", "lose"),
    [
        ("sqlite", lose_the_database),
        ("sqlite", lose_every_row),
        ("rocksdb", lose_rocksdbs_current),
    ],
    ids=["no database", "an empty database", "no CURRENT"],
)
@in_loop
async def test_a_node_that_lost_its_data_does_not_found_a_new_cluster(
    engine: str, lose: Callable[[Path], None], tmp_path: Path
) -> None:
    async with Nodes(tmp_path, engine=engine) as nodes:
        await nodes.grow("n1")
        await nodes.stop("n1")
        lose(tmp_path / "n1")
        before = (tmp_path / "n1" / "everwrite.json").read_bytes()

        with pytest.raises(StorageError, match="has lost its data") as caught:
            await nodes.start("n1")

        assert "Nothing was changed" in caught.value.message
        assert "everwrite plan replace" in caught.value.hint
        assert (tmp_path / "n1" / "everwrite.json").read_bytes() == before


@in_loop
async def test_a_directory_of_a_version_that_named_no_node_still_opens(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        (before,) = await nodes.grow("n1")
        me = before.node.local.me
        await nodes.stop("n1")
        manifest = tmp_path / "n1" / "everwrite.json"
        manifest.write_text('{"format":2,"engine":"sqlite"}')

        after = await nodes.start("n1")

        assert after.node.local.me == me
        assert json.loads(manifest.read_text())["node_id"] == me.hex()
