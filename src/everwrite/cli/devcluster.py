"""A cluster of real node processes on this machine, for development, demos, benchmarks and tests.

Everything that is known about it stands in DIR/cluster.json, so that each command of `everwrite
cluster` is a process of its own: ports, options, the present partition, and each node's pid and
birth (see processes.py). Node i is called n<i>, listens on the base port + i, keeps its data in
DIR/node<i> and writes its log to DIR/node<i>.log.

Nodes run in sessions of their own: Ctrl-C in a terminal does not hit them. Used as a context
manager the cluster ends with the block, however that ends: a guard process (guard.py) holds the
other end of a pipe, and kills what is left when this process dies, even by SIGKILL.

The methods that only signal processes are plain; those that talk to nodes are coroutines.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from everwrite.cli import processes
from everwrite.cli.copyable import command
from everwrite.cli.devplan import (
    Node,
    Plan,
    check_ports,
    find_base_port,
    read_plan,
    write_plan,
)
from everwrite.cli.devserve import environment, serve_command
from everwrite.cli.endings import NodeFailed, ended_by_itself, is_no_member, no_start
from everwrite.cli.readiness import filling, unready
from everwrite.cli.reports import Status, ask_status
from everwrite.cli.splits import Split, parse_split
from everwrite.core.errors import (
    ConfigError,
    DeadlineExceeded,
    DirectoryInUse,
    ProtocolError,
    RequestError,
    UnavailableError,
    Unreachable,
)
from everwrite.storage.manifest import gone_of

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

START_SECONDS = 30.0
"""Patience with a start: usually under 3 s for five nodes, but a loaded machine is no error."""

SAFE = b"safe"
"""What the guard is told when there is nothing left for it to do."""

_LOCK = "cluster.lock"
_POLL_SECONDS = 0.03
_ASK_SECONDS = 1.0
_CUT_SECONDS = 10.0
"""Patience with a node that is told of a cut: after a pause it may have much to do first."""
_STOP_SECONDS = 10.0
_KILL_SECONDS = 5.0
_NO_SPLIT = Split(())


class DevCluster:
    """A local cluster; make it with ``create`` or ``open``."""

    def __init__(self, directory: Path, plan: Plan, secret: bytes) -> None:
        self.directory = directory
        self._plan = plan
        self._secret = secret
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._words_from: dict[int, int] = {}
        """Where in its log a node that was started here begins to write."""
        self._guard: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()
        self.turn = asyncio.Lock()
        """Held while a fault is made or mended: a story and a person may want to at once."""
        self.temporary = False
        """Whether the directory goes with the scope (``with cluster:``), unless that fails."""

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        nodes: int = 5,
        base_port: int = 0,
        engine: str = "rocksdb",
        fsync: bool = True,
        replicas: int = 3,
        partitions: int = 256,
        secret: bytes = b"",
        advertise: Mapping[int, str] | None = None,
        playground: bool = False,
    ) -> Self:
        """Prepare a new cluster in an empty or new directory; base port 0 finds free ones.

        ``advertise`` says where something stands between a node and all others, by its number.
        """
        directory = directory.absolute()
        base = base_port or find_base_port(nodes)
        doors = advertise or {}
        members = [
            Node(number, base + number, advertise=doors.get(number, ""))
            for number in range(1, nodes + 1)
        ]
        check_ports(members)
        directory.mkdir(parents=True, exist_ok=True)
        if any(entry.name != _LOCK for entry in directory.iterdir()):
            raise ConfigError(
                f"{directory} is not empty and holds no development cluster.",
                hint="Name a new directory; nothing was changed.",
            )
        plan = Plan(
            base,
            members,
            engine=engine,
            fsync=fsync,
            replicas=replicas,
            partitions=partitions,
            playground=playground,
        )
        cluster = cls(directory, plan, secret)
        cluster._save()
        return cluster

    @classmethod
    def open(cls, directory: Path, *, secret: bytes = b"") -> Self:
        """Return the cluster that was created in this directory."""
        directory = directory.absolute()
        return cls(directory, read_plan(directory), secret)

    # -- a scope -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Hold the cluster's lock, and have its processes ended when this one ends in any way."""
        self._held.enter_context(self.locked())
        command = [sys.executable, "-P", "-m", "everwrite.cli.guard", str(self.directory)]
        self._guard = subprocess.Popen(
            [*command, "--remove"] if self.temporary else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all nodes; without patience if the block was left by an error."""
        safe = b""
        try:
            self.stop(seconds=_STOP_SECONDS if kind is None else 0)
            safe = SAFE
        finally:
            if self._guard is not None:
                self._guard.communicate(safe)
            self._held.close()
        if self.temporary and kind in {None, KeyboardInterrupt}:
            shutil.rmtree(self.directory)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands off this cluster meanwhile; DirectoryInUse if one is at work."""
        with (self.directory / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DirectoryInUse(
                    f"Another command is working on the cluster in {self.directory}.",
                    hint="Wait for it to end, or name another directory. Nothing was changed.",
                ) from error
            yield

    # -- what it is --------------------------------------------------------------------------------

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes, by number from 1."""
        return self._plan.nodes

    @property
    def plan(self) -> Plan:
        """Ports and options."""
        return self._plan

    @property
    def addresses(self) -> list[str]:
        """HOST:PORT of each node."""
        return [node.address for node in self._plan.nodes]

    @property
    def split(self) -> Split:
        """The links that are cut now."""
        text = self._plan.split
        return parse_split(text, len(self._plan.nodes)) if text else _NO_SPLIT

    def node(self, number: int) -> Node:
        """Return the node with this number, counted from 1."""
        if not 1 <= number <= len(self._plan.nodes):
            raise ConfigError(
                f"There is no node {number}.", hint=f"The nodes are 1 to {len(self._plan.nodes)}."
            )
        return self._plan.nodes[number - 1]

    def running(self) -> list[Node]:
        """Return the nodes whose process is there, paused ones included."""
        return [node for node in self._plan.nodes if node.state() != "gone"]

    def data(self, number: int) -> Path:
        """Return a node's data directory."""
        return self.directory / f"node{number}"

    def gone(self, number: int) -> str:
        """Return ``left`` or ``removed`` for a node that is no member any more, and does not run;
        empty for all others.
        """
        return gone_of(self.data(number)) if self.node(number).state() == "gone" else ""

    @property
    def members(self) -> list[Node]:
        """The nodes without those that are no members any more."""
        return [node for node in self._plan.nodes if not self.gone(node.number)]

    def log(self, number: int) -> Path:
        """Return the file with all that a node has written to its standard error."""
        return self.directory / f"node{number}.log"

    # -- processes ---------------------------------------------------------------------------------

    def add(self, advertise: str = "") -> Node:
        """Add a node, which joins the others when it is started."""
        number = len(self._plan.nodes) + 1
        node = Node(number, find_base_port(1) + 1, advertise=advertise)
        self._plan.nodes.append(node)
        self._save()
        return node

    def spawn(self, number: int, *options: str) -> None:
        """Start a node's process and return at once; NodeFailed if it runs already."""
        node = self.node(number)
        if node.state() != "gone":
            raise NodeFailed(f"Node {node.name} runs already (pid {node.pid}).")
        with self.log(number).open("ab") as log:
            self._words_from[number] = log.tell()
            child = subprocess.Popen(
                [*self._command(node), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self._secret),
                start_new_session=True,
            )
        self._children[number] = child
        node.pid, node.born = child.pid, processes.birth(child.pid)
        self._save()

    def kill(self, number: int) -> None:
        """End a node as a crash would, by SIGKILL, and return when it is gone."""
        node = self._alive(number)
        processes.send(node.pid, node.born, signal.SIGKILL)
        if not self._wait_gone(node, _KILL_SECONDS):
            raise NodeFailed(f"Node {node.name} (pid {node.pid}) is still there after SIGKILL.")
        self._forget([node])

    def ended(self, number: int, seconds: float = START_SECONDS) -> int:
        """Return the exit code of a node that was started here and ends by itself, once it has."""
        node, child = self.node(number), self._children.get(number)
        if child is None or child.pid != node.pid:
            raise NodeFailed(f"Node {node.name} was not started by this process.")
        if not self._wait_gone(node, seconds):
            raise NodeFailed(f"Node {node.name} still runs after {seconds:g} s.")
        self._forget([node])
        return child.wait()

    def pause(self, number: int) -> None:
        """Freeze a node by SIGSTOP: it answers nobody, but its connections stay open."""
        node = self._alive(number)
        processes.send(node.pid, node.born, signal.SIGSTOP)
        processes.wait_until(node.pid, node.born, "stopped", _KILL_SECONDS)

    async def resume(self, number: int) -> None:
        """Let a frozen node go on, with the cuts of now."""
        node = self._alive(number)
        processes.send(node.pid, node.born, signal.SIGCONT)
        processes.wait_until(node.pid, node.born, "running", _KILL_SECONDS)
        await self._cut(node, self.split)

    def stop(self, number: int | None = None, *, seconds: float = _STOP_SECONDS) -> list[str]:
        """Stop one node or all: SIGTERM, and SIGKILL after ``seconds``; return whom that took."""
        chosen = self.running() if number is None else [self._alive(number)]
        for node in chosen:
            processes.send(node.pid, node.born, signal.SIGTERM if seconds else signal.SIGKILL)
            processes.send(node.pid, node.born, signal.SIGCONT)
        end = time.monotonic() + seconds
        late = [n for n in chosen if not self._wait_gone(n, max(0.0, end - time.monotonic()))]
        for node in late:
            processes.send(node.pid, node.born, signal.SIGKILL)
            self._wait_gone(node, _KILL_SECONDS)
        ended = chosen if number is not None else self._plan.nodes
        self._forget(ended)  # also those that had ended by themselves
        return [node.name for node in late] if seconds else []

    # -- conversations -----------------------------------------------------------------------------

    async def start(self, seconds: float = START_SECONDS, *options: str) -> None:
        """Start all nodes that do not run, with these options more; return when all are ready and
        know each other. Those that are no members any more are left out.

        If that fails, the nodes that this call started are stopped again. But where the cluster is
        there already, a node that ends by itself is no reason: the others go on, and may be asked.
        """
        idle = [node for node in self.members if node.state() == "gone"]
        check_ports(idle)
        failures: list[NodeFailed] = []
        stopped: list[Node] = []
        ready = False
        try:
            for node in idle:
                self.spawn(node.number, *options)
            while not ready:
                try:
                    await self.wait_ready(seconds)
                    ready = True
                except NodeFailed as error:
                    failures.append(error)
                    if not self._plan.founded:
                        break
            self._plan.founded |= ready
            self._save()
        finally:
            if not ready:
                stopped = [node for node in idle if node.state() != "gone"]
                for node in stopped:
                    self.stop(node.number, seconds=0)
        if failures:
            running = [node.name for node in self.running()]
            raise no_start(failures, running=running, ended=[node.name for node in stopped])

    async def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when all nodes that run are ready and know each other; those cut off answer. The
        nodes of a new cluster have taken in what they own, too.
        """
        end = time.monotonic() + seconds
        apart = self.split.nodes()
        while True:
            self.check_alive(*(node.number for node in self._plan.nodes if self.gone(node.number)))
            nodes = [node for node in self._plan.nodes if node.state() == "running"]
            found = await self.statuses(nodes)
            missing = unready(nodes, found, apart)
            if not missing and not self._plan.founded:
                missing = filling(nodes, found)
            if not missing:
                return
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"The cluster is not ready after {seconds:g} s: {'; '.join(missing)}.",
                    hint=f"The logs are {self.directory}/node*.log.",
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def restart(self, number: int, seconds: float = START_SECONDS) -> None:
        """Stop a node if it runs, start it, and return when it is ready and known to the others."""
        if gone := self.gone(number):
            raise is_no_member(self.node(number).name, gone, self.data(number))
        if self.node(number).state() != "gone":
            self.stop(number)
        self.spawn(number)
        await self.wait_ready(seconds)
        if self._plan.split:
            await self._cut(self.node(number), self.split)

    async def partition(self, text: str) -> list[str]:
        """Cut links as ``text`` says (splits.py), and no others; return who could not be told."""
        split = parse_split(text, len(self._plan.nodes))
        self._plan.split = text
        self._save()
        return await self._cut_all(split)

    async def heal(self) -> list[str]:
        """Restore all links; return the nodes that could not be told."""
        self._plan.split = ""
        self._save()
        return await self._cut_all(_NO_SPLIT)

    async def ask(self, number: int, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Put an administrative question to one node."""
        async with self._client_of(number) as db:
            return dict(await db.ask(verb, dict(arguments), node=self.node(number).name))

    async def status(self, number: int) -> Status | None:
        """Return what a node says about itself; None if it does not answer, or has just left."""
        if self.node(number).state() != "running":
            return None
        try:
            async with self._client_of(number) as db:
                return await ask_status(db, self.node(number).name)
        except (UnavailableError, RequestError, TimeoutError):
            return None

    async def statuses(self, nodes: Sequence[Node]) -> dict[int, Status | None]:
        """Return what these nodes say, asked all at once."""
        answers = await asyncio.gather(*(self.status(node.number) for node in nodes))
        return {node.number: answer for node, answer in zip(nodes, answers, strict=True)}

    # -- parts -------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _client_of(self, number: int) -> AsyncIterator[AsyncClient]:
        """Connect to one node, with little patience for all that is done there."""
        import everwrite

        async with asyncio.timeout(_ASK_SECONDS):
            try:
                db = await everwrite.connect(
                    self.node(number).address, secret=self._secret, timeout=_ASK_SECONDS, retries=0
                )
            except ProtocolError as error:  # another program has the port
                raise Unreachable(error.message, hint=error.hint) from error
            async with db:
                yield db

    def _command(self, node: Node) -> list[str]:
        return serve_command(self._plan, node, self.members, self.data(node.number))

    def _alive(self, number: int) -> Node:
        node = self.node(number)
        if node.state() == "gone":
            raise NodeFailed(
                f"Node {node.name} does not run.",
                hint=f"See: {command('cluster status', dir=self.directory)}",
            )
        return node

    def _wait_gone(self, node: Node, seconds: float) -> bool:
        child = self._children.get(node.number)
        mine = child if child is not None and child.pid == node.pid else None
        return processes.wait_gone(node.pid, node.born, seconds, mine)

    def check_alive(self, *leaving: int) -> None:
        """Raise NodeFailed if a node that this object has started has ended by itself, but for
        those that are to leave.
        """
        for number in self._children:
            node = self.node(number)
            if number in leaving or not node.pid or node.state() != "gone":
                continue
            self._forget([node])
            raise ended_by_itself(
                node.name,
                self.log(number),
                self._words_from[number],
                self.data(number),
                founded=self._plan.founded,
            )

    async def _cut_all(self, split: Split) -> list[str]:
        nodes = self.running()
        told = await asyncio.gather(*(self._cut(node, split) for node in nodes))
        return [node.name for node, heard in zip(nodes, told, strict=True) if not heard]

    async def _cut(self, node: Node, split: Split) -> bool:
        """Tell a node whom to block from now on; False if it is frozen, dead or too busy."""
        end = time.monotonic() + _CUT_SECONDS
        while node.state() == "running" and time.monotonic() < end:
            try:
                await self.ask(node.number, "heal", {})
                for direction, peers in split.blocked(node.number).items():
                    cut = {"from": [self.node(peer).name for peer in peers], "direction": direction}
                    await self.ask(node.number, "partition", cut)
            except (UnavailableError, TimeoutError):
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return True
        return False

    def _forget(self, ended: Sequence[Node]) -> None:
        """Note that these nodes are gone because we wanted it."""
        for node in ended:
            node.pid, node.born = 0, ""
        self._save()

    def _save(self) -> None:
        write_plan(self.directory, self._plan)
