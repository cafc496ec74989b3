"""All commands, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everwrite.server.redis import (
    batches,
    connecting,
    expiry,
    hashes,
    keys,
    refused,
    sets,
    strings,
    telling,
)
from everwrite.server.redis.command import Command

ROOMS = (connecting, strings, expiry, keys, hashes, sets, batches, telling, refused)

TABLE: Mapping[bytes, Command] = MappingProxyType(
    {each.name.encode(): each for room in ROOMS for each in room.COMMANDS}
)
