"""What cluster.json says of a development cluster: its nodes, their ports, and the present cut."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from everwrite.cli import processes
from everwrite.cli.copyable import command
from everwrite.core.errors import ConfigError
from everwrite.core.wrong_port import HTTP_ABOVE, REDIS_ABOVE

HOST = "127.0.0.1"
STATE_FILE = "cluster.json"


class Node(msgspec.Struct):
    """A node's process; ``pid`` 0 means that it was never started or was stopped."""

    number: int
    port: int
    pid: int = 0
    born: str = ""
    advertise: str = ""
    """HOST:PORT where the others and the clients reach it, if that is not where it listens."""

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return f"n{self.number}"

    @property
    def address(self) -> str:
        """HOST:PORT of the native protocol."""
        return f"{HOST}:{self.port}"

    @property
    def http(self) -> str:
        """Where it answers HTTP."""
        return f"http://{HOST}:{self.port + HTTP_ABOVE}"

    @property
    def redis(self) -> str:
        """Where it speaks the Redis protocol."""
        return f"{HOST}:{self.port + REDIS_ABOVE}"

    @property
    def dashboard(self) -> str:
        """Where its dashboard is."""
        return f"{self.http}/ui/"

    def state(self) -> processes.State:
        """Say how its process is now."""
        return processes.state(self.pid, self.born) if self.pid else "gone"


class Plan(msgspec.Struct):
    """What cluster.json holds."""

    base_port: int
    nodes: list[Node]
    engine: str = "rocksdb"
    fsync: bool = True
    replicas: int = 3
    partitions: int = 256
    split: str = ""
    playground: bool = False
    """Whether the nodes' dashboards have buttons that kill, freeze and cut."""
    founded: bool = False
    """Whether the cluster exists: until then node 1 starts without --join, which founds it."""
    format: int = 1


def read_plan(directory: Path) -> Plan:
    """Return what the directory's file says; ConfigError if there is none or it is garbled."""
    file = directory / STATE_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Plan)
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no development cluster in {directory}.",
            hint=f"Make one: {command('cluster start', dir=directory)}",
        ) from error
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{file} can't be understood: {error}.",
            hint="It may be of another version. Stop its nodes by hand, use a new directory.",
        ) from error


def write_plan(directory: Path, plan: Plan) -> None:
    """Replace the directory's file in one step, so that no reader sees half of it."""
    fresh = directory / f"{STATE_FILE}.new"
    fresh.write_text(json.dumps(msgspec.to_builtins(plan), indent=2) + "\n")
    fresh.replace(directory / STATE_FILE)


def find_base_port(nodes: int) -> int:
    """Return a base port whose ports for so many nodes are free now, for all three protocols."""
    for _ in range(100):
        # Below the range from which systems take ports for outgoing connections (from 32768 on).
        base = random.randrange(20_000, 32_000)
        if all(
            port_is_free(base + offset + number)
            for offset in (0, REDIS_ABOVE, HTTP_ABOVE)
            for number in range(1, nodes + 1)
        ):
            return base
    raise ConfigError("No free ports were found.", hint="Give some with --base-port.")


def port_is_free(port: int) -> bool:
    """Say whether a node could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def check_ports(nodes: Sequence[Node]) -> None:
    """Raise ConfigError if another process listens where one of these nodes should."""
    for node in nodes:
        ports = (node.port, node.port + REDIS_ABOVE, node.port + HTTP_ABOVE)
        busy = [port for port in ports if not port_is_free(port)]
        if busy:
            raise ConfigError(
                f"Port {busy[0]} of node {node.name} is in use by another process.",
                hint="Is another cluster running? Choose other ports with --base-port. "
                "Nothing was started.",
            )
