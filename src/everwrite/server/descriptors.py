"""File descriptors: how many connections a node may hold beside the files of its store.

A store that cannot open its next file takes no more writes, and nobody should be able to bring that
about by opening connections. So connections get what the system's limit leaves over: most of it for
clients, a part for strangers who have not said yet who they are (the other nodes come in by that
door too), and the rest for links between nodes.
"""

from __future__ import annotations

import resource

WANTED = 8192
"""Room for all the connections that a node takes (transport.py), with as much to spare."""

KEPT = 768
"""Never for connections: what RocksDB keeps open (storage/rocksdb.py: 512), what the process has
itself, and those that are accepted only to be told that there is no room. Under a limit of less
than twice as many (``raise_limit`` could not raise it) half of the limit is kept, which is enough
as long as the store is small."""

UNLIMITED = 1 << 20


def raise_limit() -> None:
    """Raise this process's own limit as far as it is useful and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def room_for_connections() -> tuple[int, int]:
    """Return how many clients and how many strangers this process's limit leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return shares(soft if soft != resource.RLIM_INFINITY else UNLIMITED)


def shares(limit: int) -> tuple[int, int]:
    """Return how many clients and how many strangers may come if there are so many descriptors."""
    room = limit - min(KEPT, limit // 2)
    return max(1, room * 3 // 4), max(1, room // 8)
