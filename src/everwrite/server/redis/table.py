"""All commands, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everwrite.server.redis import (
    batches,
    clustering,
    connecting,
    describing,
    estimates,
    expiry,
    hashes,
    keys,
    own,
    refused,
    scripts,
    sets,
    strings,
    telling,
    watching,
)
from everwrite.server.redis.command import Command

ROOMS = (
    connecting,
    strings,
    expiry,
    keys,
    hashes,
    sets,
    estimates,
    batches,
    scripts,
    telling,
    describing,
    watching,
    clustering,
    own,
    refused,
)

_ALL = {each.name.encode(): each for room in ROOMS for each in room.COMMANDS}

TABLE: Mapping[bytes, Command] = MappingProxyType(_ALL)

NAMES: Mapping[bytes, Command] = MappingProxyType(
    {**_ALL, **{name.upper(): each for name, each in _ALL.items()}}
)
"""The same, in capitals too, as most clients write them."""
