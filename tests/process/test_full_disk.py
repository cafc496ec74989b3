"""Full disks of real nodes: writes are refused clearly, reads go on, and no restart is needed."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.process.clusters import (
    all_hints_home,
    all_owners_agree,
    cluster,
    connect,
    eventually,
    in_loop,
)
from tests.process.load import BUCKET, Load

from everwrite import AsyncBucket, QuorumNotMet, UnavailableError
from everwrite.cli.devcluster import DevCluster

pytestmark = pytest.mark.process

LARGE = b"v" * 100_000
DISK_MIB = 32


def limit_files(made: DevCluster, size: int) -> None:
    """Let the files of all nodes grow to this size and no further, as on a full disk."""
    for node in made.running():
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A disk of some megabytes; skips the test where it cannot be made."""
    where.mkdir()
    size = f"size={DISK_MIB}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a small tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left; return the file to remove."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for step in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * step)
            except OSError:
                continue
    return ballast


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit, which is Linux's")
@in_loop
async def test_writes_are_refused_while_all_disks_are_full_and_reads_and_then_writes_go_on(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made, await connect(made) as db:
        bucket = db.bucket(BUCKET)
        await bucket.put("before", "v", w=3)
        pids = [node.pid for node in made.running()]
        limit_files(made, 1 << 20)

        acked, failed = await write_until_refused(bucket)

        assert failed.outcome in {"partial", "unknown"}
        assert "refused it" in failed.message
        assert "is a disk full?" in failed.hint
        assert (await bucket.get("before", r=3)).value == "v"
        for key in acked:
            assert (await bucket.get(key, r=3)).values == [LARGE]

        limit_files(made, resource.RLIM_INFINITY)

        async def taken() -> bool:
            try:
                return (await bucket.put("after", "v", w=3)).owners == 3
            except UnavailableError:
                return False

        await eventually(taken, "writes are taken again")
        assert [node.pid for node in made.running()] == pids, "nobody had to restart"
        for key in ["before", "after", *acked]:
            assert await bucket.get(key, r=3)
        await all_hints_home(made)
        await all_owners_agree(made, BUCKET, ["before", "after", *acked])


@pytest.mark.scenario(7)
@in_loop
async def test_one_full_disk_of_three_fails_no_request_and_gets_its_copies_later(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        async with cluster(tmp_path, started=False) as made:
            (made.directory / "node2").symlink_to(disk)
            await made.start()
            async with await connect(made, retries=2) as db:
                async with Load(db) as load:
                    await load.more(500)
                    ballast = fill(disk)
                    await load.more(2000)
                    status = await made.status(2)
                    assert status is not None
                    assert status.counters["writes_failed"] > 0
                    ballast.unlink()
                    await load.more(500)

                assert load.errors == []
                await all_hints_home(made)
                await all_owners_agree(made, BUCKET, load.acked)
                await load.check(db)


async def write_until_refused(bucket: AsyncBucket) -> tuple[list[str], QuorumNotMet]:
    """Write large values until one is refused; return the keys that were taken, and the refusal."""
    acked = []
    for number in range(200):
        try:
            await bucket.put(f"large{number}", LARGE, w=3)
        except QuorumNotMet as error:
            return acked, error
        acked.append(f"large{number}")
    raise AssertionError("no disk was full")
