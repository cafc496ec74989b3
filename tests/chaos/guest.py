"""A sixth node that comes and goes while all else goes on: it joins, it leaves with all that it has
handed over, and its directory comes back as a new node.

Each ``step`` is one change, made through whichever node takes the order; a step that cannot be made
now (the last one is under way, nobody answers) is left out. Of the others' faults none strikes the
guest; but it is killed and started again in place of a step now and then, as data moves to it.

Costs: one more process.
"""

from __future__ import annotations

from typing import Literal

from tests.chaos.proxy import HOST, Proxy

from everwrite import EverwriteError
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import Node
from everwrite.cli.endings import NodeFailed
from everwrite.cli.reports import Peer

KILLED_BELOW = 0.3
"""Of the steps of a guest that is there, so many are a kill."""


class Guest:
    """See the module."""

    def __init__(self, made: DevCluster, proxy: Proxy) -> None:
        self._made = made
        self._proxy = proxy
        self._node: Node | None = None
        self._options: tuple[str, ...] = ()
        self.state: Literal["away", "in", "leaving"] = "away"
        self.joined = self.left = self.kills = 0
        """Joined: times that it came to serve something."""
        self._counted = False
        self.said = ""
        """Why an order was not taken."""

    async def step(self, amount: float) -> None:
        """Make the next change, if it can be made now."""
        if self._node is None:
            self._node = self._made.add()
            door = await self._proxy.open(self._node.name, self._node.port)
            self._node.advertise = f"{HOST}:{door}"
        if self.state == "leaving":
            await self.push()
        elif self.state == "away":
            self._made.spawn(self._node.number, *self._options)
            self.state, self._counted = "in", False
        elif await self.serves():
            if amount < KILLED_BELOW:
                self._made.kill(self._node.number)
                self._made.spawn(self._node.number, *self._options)
                self.kills += 1
            else:
                await self._order(self._node)

    def look(self) -> bool:
        """Take note if it has left; return whether it is not on its way out (any more)."""
        if self.state != "leaving":
            return True
        assert self._node is not None
        if self._node.state() != "gone":
            return False
        code = self._made.ended(self._node.number)
        if code:
            raise NodeFailed(
                f"Node {self._node.name} was to leave, and ended with {code}.",
                hint=f"Its log: {self._made.log(self._node.number)}",
            )
        self.state, self._options = "away", ("--rejoin-as-new",)
        self.left += 1
        return True

    async def push(self) -> None:
        """If it is to leave, and has not heard of that, say it again: the order may be lost."""
        if self.look() or self._node is None:
            return
        status = await self._made.status(self._node.number)
        me = [] if status is None else [peer for peer in status.nodes if peer.state == "self"]
        if me and me[0].standing == "in":
            await self._order(self._node)

    def is_out(self, node: Node) -> bool:
        """Say whether this is the guest, and it is gone by its own wish, or about to go."""
        return node is self._node and self.state != "in"

    async def serves(self) -> bool:
        """Say whether it is in and has taken in something, as far as it says so."""
        if self._node is None or self.state != "in":
            return False
        status = await self._made.status(self._node.number)
        me: list[Peer] = [] if status is None else [p for p in status.nodes if p.state == "self"]
        serves = bool(me) and me[0].standing == "in" and me[0].serves > 0
        if serves and not self._counted:
            self._counted = True
            self.joined += 1
        return serves

    async def _order(self, node: Node) -> None:
        """Tell the others to let it go. An order without an answer may have been taken."""
        changes = {"changes": [{"verb": "leave", "node": node.name}]}
        for other in self._made.running():
            if other is node:
                continue
            try:
                planned = await self._made.ask(other.number, "plan_show", {})
                if not planned["staged"]:  # else the last order was cut short after that
                    planned = await self._made.ask(other.number, "plan_stage", changes)
                self.state = "leaving"
                await self._made.ask(other.number, "plan_commit", {"plan": planned["plan"]})
            except (EverwriteError, TimeoutError) as error:
                self.said = f"{other.name} would not let it go: {error}"
                continue
            return
