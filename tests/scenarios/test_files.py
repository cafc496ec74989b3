"""A, on real files: torn logs, renames that a crash cuts short, and blocks that are not what they
should be. tests/storage has damage of every kind, full disks and failed system calls.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.world import KEY, World
from tests.scenarios.stage import scenario
from tests.storage.stores import ON_DISK, store_in

from everwrite.core.records import OWN
from everwrite.storage import manifest

BATCHES = 3


@scenario(3)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ON_DISK)
def test_a_log_torn_at_any_byte_opens_to_its_longest_whole_part_and_goes_on(
    engine: str, tmp_path: Path
) -> None:
    ends = _image(tmp_path, engine)
    seen = set()

    for length in _offsets(engine, ends):
        place = tmp_path / "torn"
        shutil.copytree(tmp_path / "image", place)
        log = _log(place)
        os.truncate(log, length)
        whole = sum(end <= length for end in ends[1:])
        with store_in(place, engine) as store:
            found = [store.get(b"%d" % number) for number in range(1, BATCHES + 1)]
            assert found == [b"v" if number <= whole else None for number in range(1, BATCHES + 1)]
            store.write([(b"next", b"v")])
            store.sync()
            assert store.get(b"next") == b"v"
        seen.add(whole)
        shutil.rmtree(place)

    assert seen == set(range(BATCHES)), "each batch was cut off at some byte"


def _image(directory: Path, engine: str) -> list[int]:
    """Make a copy, as a power cut would leave it, of a store after a synced batch and some that
    were not; return the size of its log after each.
    """
    live = directory / "live"
    with store_in(live, engine) as store:
        store.write([(b"0", b"v")])
        store.sync()
        ends = [_log(live).stat().st_size]
        for number in range(1, BATCHES + 1):
            store.write([(b"%d" % number, b"v")])
            ends.append(_log(live).stat().st_size)
        shutil.copytree(live, directory / "image")
    return ends


def _log(directory: Path) -> Path:
    logs = [*directory.rglob("*.log"), *directory.rglob("*-wal")]
    return max(logs, key=lambda path: path.stat().st_size)


def _offsets(engine: str, ends: list[int]) -> list[int]:
    """Return every byte of the log after its first batch; of SQLite's pages, which are whole or
    not, every 199th byte and all around their ends.
    """
    if engine == "rocksdb":
        return list(range(ends[0], ends[-1]))
    near = {end + step for end in ends for step in range(-12, 25)}
    return sorted(at for at in near | set(range(0, ends[-1], 199)) if ends[0] <= at < ends[-1])


@scenario(6)
def test_a_crash_between_any_two_steps_of_a_rename_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step that makes something durable is watched as it happens; what a power cut leaves
    after each of them is what the directory then holds for good.
    """
    manifest.write_manifest(tmp_path, "sqlite")
    old = (tmp_path / manifest.MANIFEST_NAME).read_bytes()
    steps: list[tuple[str, bytes | None]] = []

    def watch(step: str, real: Callable[..., object]) -> Callable[..., object]:
        def watched(target: object, *rest: object) -> object:
            if isinstance(target, int):
                name = Path(os.readlink(f"/proc/self/fd/{target}"))
            else:
                name = Path(os.fspath(target))  # type: ignore[call-overload]
            result = real(target, *rest)
            kind = "directory" if name == tmp_path else name.suffix or name.name
            steps.append((f"{step} {kind}", (tmp_path / manifest.MANIFEST_NAME).read_bytes()))
            return result

        return watched

    monkeypatch.setattr(os, "fsync", watch("fsync", os.fsync))
    monkeypatch.setattr(os, "rename", watch("rename", os.rename))
    manifest.record_node(tmp_path, b"n" * 8, b"c" * 16)

    new = (tmp_path / manifest.MANIFEST_NAME).read_bytes()
    assert [what.split()[0] for what, _ in steps] == ["fsync", "rename", "fsync"]
    assert steps[2][0] == "fsync directory", "the new name is durable before anybody is told"
    assert [held for _, held in steps] == [old, new, new]
    assert old != new


@scenario(12)
@pytest.mark.xfail(
    strict=True,
    reason="checksums bind a value to its key, not to its age: a node that runs reads a block of "
    "some time ago as if it were the latest, and counts on from it",
)
def test_an_old_block_under_a_running_node_repeats_no_dot() -> None:
    world = World(3)
    a, b, _ = world.order()
    world.put(a, b"one")
    old = world.disk[a][OWN + KEY]
    world.put(a, b"two")
    assert world.disk[a][OWN + KEY] != old
    world.disk[a][OWN + KEY] = old  # the disk gives back what stood there before
    world.nodes[a].local.records.forget([OWN + KEY])

    world.put(a, b"three")

    assert [value for _, value in world.get(b, r=3).values] == [b"one", b"three", b"two"]
