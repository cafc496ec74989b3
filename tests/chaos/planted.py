"""Faults that no cluster survives, planted on purpose: a run that passes with one proves nothing.

WithBug         nodes with a deliberate bug of the simulator's register (``sim/bugs``)
Forgetful       keeps a copy of the data directories from before the first write, so that all
                nodes but one can be put back to it at once, behind the cluster's back
WriteBehind     a client that acknowledges before the answer, and loses some of what it owes
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.clients import Client
from tests.chaos.run import Chaos

from everwrite import AsyncBucket
from everwrite.cli.devcluster import START_SECONDS, DevCluster
from everwrite.cli.devplan import Node
from everwrite.sim.history import Operation

LOSES_EVERY = 20


class WithBug(DevCluster):
    """Nodes whose core has a bug."""

    bug = ""

    @classmethod
    def named(cls, bug: str) -> Callable[..., DevCluster]:
        """Return what creates a cluster with this bug."""

        def create(*arguments: Any, **named: Any) -> DevCluster:
            made = cls.create(*arguments, **named)
            made.bug = bug
            return made

        return create

    def _command(self, node: Node) -> list[str]:
        python, plain, *serve = super()._command(node)
        entry = Path(__file__).with_name("planted_node.py")
        return [python, plain, str(entry), self.bug, *serve[serve.index("serve") :]]


class Forgetful(DevCluster):
    """Nodes that have a backup of their youth."""

    async def start(self, seconds: float = START_SECONDS) -> None:
        await super().start(seconds)
        self.stop()
        for node in self.nodes:
            shutil.copytree(self._data(node), self._backup(node))
        await super().start(seconds)

    def put_back(self) -> None:
        """Kill all, and give them the disk of before. All: one that was left out would know that
        the others started once more since, and stop them.
        """
        for node in self.running():
            self.kill(node.number)
        for node in self.nodes:
            shutil.rmtree(self._data(node))
            self._backup(node).rename(self._data(node))

    def _data(self, node: Node) -> Path:
        return self.directory / f"node{node.number}"

    def _backup(self, node: Node) -> Path:
        return self.directory / f"backup{node.number}"


def put_disks_back(chaos: Chaos) -> None:
    """What to do before the heal of a Forgetful cluster."""
    assert isinstance(chaos.made, Forgetful)
    chaos.made.put_back()


class WriteBehind(Client):
    """A client that takes its writes for acknowledged, and dies with some before it sends them."""

    _puts = 0

    async def put(
        self, bucket: AsyncBucket, key: str, value: dict[str, Any] | None, **named: Any
    ) -> Operation:
        self._puts += 1
        if self._puts % LOSES_EVERY or value is None:
            return await super().put(bucket, key, value, **named)
        name = f"{bucket.name}/{key}"
        operation = self.log.open(self.name, "put", name, named["seen"])
        self.log.succeeded(operation, named["verb"], 1)
        return operation
