"""What connections leave to the store. That a flood finds this limit is in tests/scenarios."""

from __future__ import annotations

import subprocess
import sys

import pytest

from everwrite.server.descriptors import KEPT, WANTED, shares
from everwrite.server.transport import CLIENTS_MAX, HANDSHAKES_MAX
from everwrite.storage.rocksdb import OPEN_FILES_MAX


@pytest.mark.parametrize("limit", [2, 64, 256, 1024, 4096, 8192, 1 << 20])
def test_connections_leave_half_of_a_small_limit_and_all_that_the_store_wants_of_a_large_one(
    limit: int,
) -> None:
    clients, strangers = shares(limit)

    assert clients > 0 and strangers > 0
    left = limit - clients - strangers
    assert left >= min(KEPT, limit // 2) - 2
    assert KEPT > OPEN_FILES_MAX + 100


def test_the_limit_that_a_node_asks_for_has_room_for_all_that_it_takes() -> None:
    clients, strangers = shares(WANTED)

    assert clients >= CLIENTS_MAX and strangers >= HANDSHAKES_MAX


@pytest.mark.process
def test_a_node_raises_its_limit_as_far_as_it_may() -> None:
    look = (
        "import resource; from everwrite.server.descriptors import raise_limit; raise_limit();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    done = subprocess.run(
        [
            "sh",
            "-c",
            'ulimit -S -n 99; ulimit -H -n 777; exec "$@"',
            "sh",
            sys.executable,
            "-c",
            look,
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["777", "777"]
