"""`everwrite serve --workers K`: K nodes of one zone on this machine, one for each core.

A node is one process with one event loop, so it uses one core. This command is no node: it starts
K of them as its children (supervisor.py), all with the options that it was given, but for these:

    worker i     keeps its data in DIR/worker-i          listens on the base port + i - 1
                 is called NAME-i, if there is a NAME    advertises its port + i - 1
    zone         one for all, so that no two of them hold copies of a key while there are other
                 zones: --zone, or else this machine's name as it was at the first start
    joins        worker 1 founds the cluster, or joins as told; the others join worker 1 too

What decides after a restart is on the disk: who a worker is stands in its own directory, and which
zone new workers belong to in DIR/workers.json, for a machine may be renamed. Worker 1 founds only
where no worker has been a node before: one that lost its directory comes to the others instead.

Everything is checked before the first process starts; DIR/lock keeps a second command out.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from everwrite.cli.connection import SECRET_VARIABLE
from everwrite.cli.output import say
from everwrite.cli.serve import PORT_MAX, WORKERS_MAX, serve, serve_options
from everwrite.cli.supervisor import Child, Supervisor
from everwrite.core.errors import ConfigError
from everwrite.server.logs import begin_logging, log_of
from everwrite.server.settings import NAME_BYTES_MAX, LogFormat, cannot_listen, split_address
from everwrite.storage.lock import DirectoryLock
from everwrite.storage.manifest import (
    MANIFEST_NAME,
    node_of,
    prepare_directory,
    sync_directory,
    sync_file,
)

_STATE_FILE = "workers.json"
_LOCALHOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a node that listens everywhere is reached from its own machine."""


class WorkersState(msgspec.Struct):
    """What workers.json holds."""

    zone: str
    format: int = 1


class Workers:
    """The nodes of one machine, by number from 1; ``given`` are the options of `serve`."""

    def __init__(self, count: int, given: Mapping[str, Any]) -> None:
        self.count = count
        self.given = given
        self.directory: Path = given["data"]
        self._state = read_state(self.directory)
        self.zone: str = given["zone"] or (
            self._state.zone if self._state else socket.gethostname()[:NAME_BYTES_MAX]
        )

    # -- what each of them is ----------------------------------------------------------------------

    def name(self, number: int) -> str:
        """Return what its lines begin with: the node's name, if it was given one."""
        name = self.given["name"]
        return f"{name}-{number}" if name else f"worker-{number}"

    def directory_of(self, number: int) -> Path:
        """Return a worker's data directory."""
        return self.directory / f"worker-{number}"

    def port(self, number: int) -> int:
        """Return a worker's base port."""
        base: int = self.given["base_port"]
        return base + number - 1

    def front_port(self, option: str, number: int) -> str | None:
        """Return where a worker answers HTTP, or Redis clients; None: at its place above its base
        port.
        """
        given: str | None = self.given[option]
        return given if given in (None, "off") else str(int(given) + number - 1)

    def options(self, number: int) -> dict[str, Any]:
        """Return what one worker is started with, as options of `serve`."""
        given = self.given
        return {
            **given,
            "data": self.directory_of(number),
            "name": self.name(number) if given["name"] else None,
            "base_port": self.port(number),
            "http_port": self.front_port("http_port", number),
            "redis_port": self.front_port("redis_port", number),
            "advertise": _ports_on(given["advertise"], number - 1) if given["advertise"] else "",
            "zone": given["zone"] or ("" if self._is_node(number) else self.zone),
            "join": self._joins(number),
        }

    def command_line(self, number: int, lifeline: int) -> list[str]:
        """Return the command that starts a worker: each option stands in it, whether it came from
        the arguments, the environment or a file.
        """
        options = {**self.options(number), "lifeline": lifeline}
        return [sys.executable, "-P", "-m", "everwrite", "serve", *_flags(options)]

    def _joins(self, number: int) -> tuple[str, ...]:
        given: tuple[str, ...] = self.given["join"]
        if number > 1:
            return (*given, self._address(1))
        founded = [n for n in range(2, self.count + 1) if self._is_node(n)]
        if self._is_node(1) or not founded:
            return given
        return (*given, *(self._address(other) for other in founded))

    def _is_node(self, number: int) -> bool:
        return bool(node_of(self.directory_of(number)))

    def _address(self, number: int) -> str:
        host = self.given["host"]
        return _address(_LOCALHOST.get(host, host), self.port(number))

    # -- before the first start --------------------------------------------------------------------

    def check(self) -> None:
        """Raise a ConfigError or StorageError for what cannot be; nothing was changed then."""
        if self.given["engine"] == "memory":
            raise ConfigError(
                "Workers can't keep their data in memory: one that died would come back as a "
                "stranger with its own name.",
                hint="Use another --engine, or one worker. Nothing was started.",
            )
        secret = self.given["secret_file"]
        if secret is not None and not secret.is_file():
            raise ConfigError(
                f"The secret file {secret} is no regular file, so only one worker could read it.",
                hint="Use a regular file, or EVERWRITE_SECRET. Nothing was started.",
            )
        self._check_directory()
        if self.port(self.count) > PORT_MAX:
            raise ConfigError(
                f"The base port {self.port(1)} leaves no room for {self.count} workers.",
                hint=f"Use one of up to {PORT_MAX - self.count + 1}. Nothing was started.",
            )
        for number in range(1, self.count + 1):
            found = serve_options(**self.options(number))
            for port in (found.port, found.http_port, found.redis_port):
                if port is not None:
                    _check_listen(found.host, port)

    def _check_directory(self) -> None:
        here = self.directory
        if (here / MANIFEST_NAME).exists():
            raise ConfigError(
                f"The data directory {here} holds a single node, and no workers.",
                hint="Start it without --workers, or give the workers a --data of their own. "
                "Nothing was changed.",
            )
        most = most_worker(here)
        if most > self.count:
            raise ConfigError(
                f"The data directory {here} holds {most} workers; with {self.count} the others "
                "would be missing from their cluster.",
                hint=f"Use --workers {most}. Workers that left the cluster for good may be "
                "started no more once their directories are moved away. Nothing was changed.",
            )

    def remember(self) -> None:
        """Keep the zone for workers that are added later."""
        state = WorkersState(self.zone)
        if state == self._state:
            return
        fresh = self.directory / f"{_STATE_FILE}.new"
        fresh.write_bytes(msgspec.json.encode(state) + b"\n")
        sync_file(fresh)
        fresh.replace(self.directory / _STATE_FILE)
        sync_directory(self.directory)


def run_workers(count: int, given: Mapping[str, Any]) -> None:
    """Run workers until SIGTERM or SIGINT; raise an EverwriteError if they cannot be kept up."""
    begin_logging(given["log_format"])
    workers = Workers(count, given)
    workers.check()
    prepare_directory(workers.directory)
    lock = DirectoryLock(workers.directory)
    try:
        workers.remember()
        _greet(workers, count, given["log_format"])
        children = [
            Child(workers.name(number), partial(workers.command_line, number))
            for number in range(1, count + 1)
        ]
        Supervisor(children, _environment()).run()
    finally:
        lock.release()


def _greet(workers: Workers, count: int, form: LogFormat) -> None:
    """Say what is going to run, and where."""
    first, last = workers.port(1), workers.port(count)
    if form == "json":
        data = str(workers.directory)
        log_of().info("workers", count=count, zone=workers.zone, ports=[first, last], data=data)
        return
    say(
        f"everwrite: {count} workers of zone {workers.zone} on ports {first} to {last}\n"
        f"  data     {workers.directory_of(1)} and so on"
    )


def refuse_workers(directory: Path) -> None:
    """Raise ConfigError if a single node was told to use the directory of several workers."""
    most = most_worker(directory)
    if most and not (directory / MANIFEST_NAME).exists():
        raise ConfigError(
            f"The data directory {directory} holds {most} workers, and no single node.",
            hint=f"Start them with --workers {most}, or give this node a --data of its own. "
            "Nothing was changed.",
        )


def most_worker(directory: Path) -> int:
    """Return the highest number of a worker whose node's data is in this directory; 0: none."""
    if not directory.is_dir():
        return 0
    numbers = range(WORKERS_MAX, 0, -1)
    return next((each for each in numbers if node_of(directory / f"worker-{each}")), 0)


def read_state(directory: Path) -> WorkersState | None:
    """Return what workers.json says; None if there is none, ConfigError if it is garbled."""
    file = directory / _STATE_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=WorkersState)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{file} can't be understood: {error}.",
            hint='It should say the workers\' zone, as in {"zone":"rack 2"}. Nothing was started.',
        ) from error


def _environment() -> dict[str, str]:
    """Return what workers inherit: all but our own variables, which became their arguments. The
    secret stays: arguments can be read by every user of the machine.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EVERWRITE_") or name == SECRET_VARIABLE
    }


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Return options of `serve` as arguments; those that it gets later are passed on as well."""
    found = []
    for parameter in serve.params:
        value = options.get(parameter.name or "")
        if value is None or not isinstance(parameter, click.Option):
            continue
        flag = parameter.opts[0]
        if parameter.is_flag:
            found += [flag] if value else []
        else:
            found += [f"{flag}={each}" for each in (value if parameter.multiple else [value])]
    return found


def _ports_on(address: str, more: int) -> str:
    host, port = split_address(address)
    if port + more > 65535:
        raise ConfigError(
            f"advertise = {address!r} leaves no room for so many workers: "
            "each takes the next port.",
            hint="Use a lower port. Nothing was started.",
        )
    return _address(host, port + more)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_listen(host: str, port: int) -> None:
    """Raise ConfigError if nobody could listen here now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise cannot_listen(host, port, error) from error
