"""Makers for the storage tests: engines and stores by name, and keys in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from everwrite.storage.engine import Engine
from everwrite.storage.memory import MemoryEngine
from everwrite.storage.rocksdb import RocksEngine
from everwrite.storage.sqlite import SqliteEngine
from everwrite.storage.store import Store, open_store

ON_DISK = ("rocksdb", "sqlite")
ALL = ("memory", *ON_DISK)

ROOT = Path(__file__).resolve().parents[2]
CHILD = (sys.executable, "-m", "tests.storage.child")


def engine_in(directory: Path, name: str) -> Engine:
    """An open engine in a directory that exists."""
    if name == "memory":
        return MemoryEngine()
    return RocksEngine(directory) if name == "rocksdb" else SqliteEngine(directory)


def store_in(directory: Path, name: str) -> Store:
    """An open store."""
    return open_store(None if name == "memory" else directory, name)


def key(number: int) -> bytes:
    return b"k%08d" % number


def batch(start: int, count: int, value: bytes = b"v") -> list[tuple[bytes, bytes | None]]:
    return [(key(start + offset), value) for offset in range(count)]


def run_child(*arguments: object, before: tuple[str, ...] = ()) -> str:
    """What ``child.py`` says in a process of its own; fails with what it complained of."""
    done = subprocess.run(
        [*before, *CHILD, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_child(*arguments: object) -> subprocess.Popen[bytes]:
    """A running ``child.py``; the caller ends it."""
    return subprocess.Popen(
        [*CHILD, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
