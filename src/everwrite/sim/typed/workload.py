"""The keys of a world that are data types, and the clients that change them.

A seed without them is what it was before there were any: they draw from streams of their own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from everwrite.core.data.keys import data_key
from everwrite.sim.options import stream
from everwrite.sim.typed.clients import KINDS, TypedClient
from everwrite.sim.typed.truth import TypedKey
from everwrite.sim.typed.watched import Watched

if TYPE_CHECKING:
    from everwrite.sim.world import World


def open_keys(world: World, bucket: bytes) -> list[TypedKey]:
    """Open the keys of a world that are data types: the kinds of them one after the other, another
    one first in each seed.
    """
    options, ledger = world.options, world.ledger
    kinds = [KINDS[(options.seed + i) % len(KINDS)] for i in range(options.typed_keys)]
    names = [f"{kind}{i}" for i, kind in enumerate(kinds)]
    if names:
        for machine in world.machines:
            machine.batch = partial(Watched, ledger, machine)
    return [ledger.open_typed_key(data_key(bucket, name.encode()), name) for name in names]


def typed_clients(world: World) -> list[TypedClient]:
    """Return as many clients as there are for plain keys; none without such keys."""
    options, keys = world.options, world.typed_keys
    return [
        TypedClient(world, f"t{i}", stream(options.seed, f"typed {i}"), keys)
        for i in range(options.clients if keys else 0)
    ]


def share_out(world: World, operations: int) -> None:
    """Let the clients have so many operations to do, those of data types their share of them."""
    count = world.options.clients
    typed = int(operations * world.options.typed_share) if world.typed_keys else 0
    for clients, due in (
        (world.clients[:count], operations - typed),
        (world.clients[count:], typed),
    ):
        share, rest = divmod(due, max(len(clients), 1))
        for i, client in enumerate(clients):
            client.left = share + (i < rest)
