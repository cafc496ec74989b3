"""Everwrite: a leaderless, replicated key-value store that takes writes
as long as W nodes can be reached.

Purpose:       The public names and the version, nothing else.                 (Dynamo, SOSP 2007)
Comes in:      Nothing.
Goes out:      What applications import from ``everwrite``.
May import:    client, core.errors; each only when one of its names is asked for
Must never:    run anything on import.
Start reading: core/__init__.py, client/__init__.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everwrite.client.bucket import AsyncBucket
    from everwrite.client.changes import Changes
    from everwrite.client.client import AsyncClient, connect
    from everwrite.client.embedded import open as open
    from everwrite.client.limits import Timing
    from everwrite.client.resolvers import (
        largest,
        newest,
        union_of_items,
        union_of_maps,
    )
    from everwrite.client.results import Found, Replica, Stored
    from everwrite.client.session import Session
    from everwrite.client.sync import Bucket, Client, connect_sync
    from everwrite.core.errors import (
        BadContext,
        ClientClosed,
        ConfigError,
        Conflict,
        DeadlineExceeded,
        DeniedError,
        DirectoryInUse,
        EverwriteError,
        Overloaded,
        ProtocolError,
        QuorumNotMet,
        RequestError,
        StaleSession,
        StorageError,
        StorageFull,
        StorageStalled,
        SyncFailed,
        TooLarge,
        UnavailableError,
        Unreachable,
        WrongFormat,
        WrongType,
    )
    from everwrite.core.messages.requests import Quality

__version__ = "0.1.0"

_ROOMS = {
    "client.bucket": ("AsyncBucket",),
    "client.changes": ("Changes",),
    "client.client": ("AsyncClient", "connect"),
    "client.embedded": ("open",),
    "client.limits": ("Timing",),
    "client.resolvers": ("largest", "newest", "union_of_items", "union_of_maps"),
    "client.results": ("Found", "Replica", "Stored"),
    "client.session": ("Session",),
    "client.sync": ("Bucket", "Client", "connect_sync"),
    "core.messages.requests": ("Quality",),
    "core.errors": (
        "BadContext",
        "ClientClosed",
        "ConfigError",
        "Conflict",
        "DeadlineExceeded",
        "DeniedError",
        "DirectoryInUse",
        "EverwriteError",
        "Overloaded",
        "ProtocolError",
        "QuorumNotMet",
        "RequestError",
        "StaleSession",
        "StorageError",
        "StorageFull",
        "StorageStalled",
        "SyncFailed",
        "TooLarge",
        "UnavailableError",
        "Unreachable",
        "WrongFormat",
        "WrongType",
    ),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

# Not ``open``: `from everwrite import *` must not hide the built-in.
__all__ = [
    "AsyncBucket",
    "AsyncClient",
    "BadContext",
    "Bucket",
    "Changes",
    "Client",
    "ClientClosed",
    "ConfigError",
    "Conflict",
    "DeadlineExceeded",
    "DeniedError",
    "DirectoryInUse",
    "EverwriteError",
    "Found",
    "Overloaded",
    "ProtocolError",
    "Quality",
    "QuorumNotMet",
    "Replica",
    "RequestError",
    "Session",
    "StaleSession",
    "StorageError",
    "StorageFull",
    "StorageStalled",
    "Stored",
    "SyncFailed",
    "Timing",
    "TooLarge",
    "UnavailableError",
    "Unreachable",
    "WrongFormat",
    "WrongType",
    "__version__",
    "connect",
    "connect_sync",
    "largest",
    "newest",
    "union_of_items",
    "union_of_maps",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for: `import everwrite` itself stays cheap."""
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module 'everwrite' has no attribute {name!r}")
    found: object = getattr(import_module(f"everwrite.{room}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
