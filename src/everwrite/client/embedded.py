"""A database inside this process: one node, no ports, the same API.

    with everwrite.open("./data") as db:
        db.bucket("carts").put("alice", ["book"])

The node runs in the client's thread. Client and node talk as they would over a socket, handshake
and frames included, but the wire is two queues: what one end writes the other reads in the next
turn of the loop.

The only file of the client that knows the server; imported when a database is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from everwrite.client.arguments import a, checked_timeout
from everwrite.client.client import AsyncClient
from everwrite.client.cluster import Cluster
from everwrite.client.limits import IN_FLIGHT_MAX, Timing
from everwrite.client.pool import Connect
from everwrite.client.sync import Client, LoopThread
from everwrite.core.errors import ConfigError, EverwriteError
from everwrite.server.runtime import Runtime, start
from everwrite.server.settings import ServeOptions
from everwrite.server.transport import Connection as NodeEnd

NAME = "embedded"


def open(
    path: str | PathLike[str] | None,
    *,
    engine: str = "rocksdb",
    fsync: bool = True,
    timeout: float = 5.0,
) -> Client:
    """Open (or make) the database in a directory, and return a blocking client of it.

    ``engine`` is "rocksdb", "sqlite" or "memory" (which keeps nothing; path None). With ``fsync``
    a write is on the disk before its put returns. Raises DirectoryInUse if another process has the
    directory open, another StorageError if it can't be read, ConfigError if it is a cluster's.
    """
    timeout_s = checked_timeout(timeout)
    if path is not None and not isinstance(path, str | PathLike):
        raise ConfigError(
            f"{a(type(path).__name__)} is no path of a data directory.",
            hint="Give text or a Path; None with engine='memory'.",
        )
    if path is None and engine != "memory":
        raise ConfigError(
            f"A database of the engine {engine!r} needs a directory.",
            hint="Give open() a path, or engine='memory', which keeps nothing.",
        )
    if type(fsync) is not bool:
        raise ConfigError(f"fsync={fsync!r} is not possible.", hint="Use True or False.")
    options = ServeOptions(
        data=None if path is None else Path(path), default_name=NAME, engine=engine, fsync=fsync
    )
    thread = LoopThread("everwrite-embedded")
    try:
        client = thread.run(_open(options, timeout_s))
    except BaseException:
        thread.stop()
        raise
    return Client(client, thread)


async def _open(options: ServeOptions, timeout_s: float) -> AsyncClient:
    runtime = await start(options, listen=False)
    try:
        cluster = Cluster(
            [(NAME, 0)],
            options.secret,
            retries=0,
            in_flight_max=IN_FLIGHT_MAX,
            timing=Timing(),
            connect=_connect_to(runtime),
        )
        await cluster.open(timeout_s)
    except BaseException:
        await runtime.stop()
        raise

    def fail(failed: asyncio.Future[EverwriteError]) -> None:
        if not failed.cancelled():
            cluster.give_up(failed.result())

    runtime.failed.add_done_callback(fail)
    return AsyncClient(cluster, timeout_s, runtime.stop)


def _connect_to(runtime: Runtime) -> Connect:
    """Return what takes the place of ``loop.create_connection``: it knows one node only."""

    async def connect(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        ours, theirs = factory(), NodeEnd(runtime.peers, dialled=False)
        mine, other = End(ours), End(theirs)
        mine.other, other.other = other, mine
        theirs.connection_made(other)
        ours.connection_made(mine)

    return connect


class End(asyncio.Transport):
    """One end of a wire inside this process. It never holds a writer back: whatever is written in
    one turn of the loop is read in the next.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.other: End
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._waiting: list[bytes] = []
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or self.other._closed:
            return
        if not self.other._waiting:
            self._loop.call_soon(self.other._deliver)
        self.other._waiting.append(bytes(data))

    def close(self) -> None:
        """Deliver what was written, then tell both ends."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)
            self._loop.call_soon(self.other.close)

    def abort(self) -> None:
        self.other._waiting.clear()
        self.close()

    def is_closing(self) -> bool:
        return self._closed

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.other._waiting))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is nothing to limit."""

    def pause_reading(self) -> None:
        """Never needed: the other end is never held back."""

    def resume_reading(self) -> None:
        """Never needed."""

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._closed:
            self._protocol.data_received(b"".join(waiting))
