"""What one node is started with."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from pathlib import Path
from socket import gaierror
from typing import Literal

import msgspec

from everwrite.core.errors import ConfigError
from everwrite.core.wrong_port import HTTP_ABOVE, REDIS_ABOVE

PORT = 7400
NAME_BYTES_MAX = 64


LogFormat = Literal["text", "json"]


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``everwrite serve``, checked; see its ``--help`` for what each means.

    ``name``, ``zone`` and ``weight`` are what the node keeps from its first start on, if they are
    not given (empty, None); a first start takes ``default_name``, the name, and 1.

    ``advertise`` is where others reach the node, if that is not where it listens: behind address
    translation, in a container, or when it listens everywhere.

    ``http_port`` is where it answers HTTP (server/http/), ``redis_port`` where it speaks the Redis
    protocol (server/redis/); None: nowhere.

    ``stage``: the node waits until an operator lets it own data. ``rejoin_as_new``: it gets a new
    identity, since that of its directory was removed or refused.

    ``lifeline`` is a pipe's reading end that came from the process that started the node: when the
    pipe ends, that process is gone, and the node stops.

    ``log_format``: how lines of the log look, for people or for programs.

    ``otel``: HTTP requests become spans of OpenTelemetry.

    ``playground``: the command line, to be followed by an order, of whoever started this node to be
    played with (server/ui/power.py).

    ``pace``: background work gives way to requests; not so only for comparison.

    ``partitions``, ``replicas`` and ``cluster_name`` are for the node that founds a cluster (256, 3
    and "everwrite" without them); if another one is given them, its cluster must be like that.
    """

    data: Path | None = None
    name: str = ""
    default_name: str = ""
    host: str = "127.0.0.1"
    port: int = PORT
    http_port: int | None = None
    redis_port: int | None = None
    advertise: str = ""
    join: tuple[str, ...] = ()
    stage: bool = False
    rejoin_as_new: bool = False
    zone: str = ""
    weight: float | None = None
    engine: str = "rocksdb"
    fsync: bool = True
    pace: bool = True
    secret: bytes = b""
    development: bool = False
    playground: tuple[str, ...] = ()
    lifeline: int | None = None
    log_format: LogFormat = "text"
    otel: bool = False
    partitions: int | None = None
    replicas: int | None = None
    cluster_name: str = ""

    def __post_init__(self) -> None:
        _check_without_port(self.host)
        if not self.secret and not is_loopback(self.host):
            raise ConfigError(
                f"Without a secret a node listens only on this machine, not on {self.host}.",
                hint="Set EVERWRITE_SECRET (or --secret-file) to the same value on all nodes.",
            )
        if self.host and not is_host(self.host):
            raise ConfigError(
                f"host = {self.host!r} is not possible.",
                hint="Use a name or an address of this machine.",
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port = {self.port} is not possible.", hint="Use 1 to 65535.")
        if self.otel and self.http_port is None:
            raise ConfigError(
                "Spans are made of HTTP requests, and this node takes none.",
                hint="Leave out --otel, or --http-port off. Nothing was started.",
            )
        for what, port in (("http_port", self.http_port), ("redis_port", self.redis_port)):
            if port is not None and not 0 <= port <= 65535:
                raise ConfigError(f"{what} = {port} is not possible.", hint="Use 1 to 65535.")
        self._check_ports()
        if not self.advertise and is_everywhere(self.host):
            raise ConfigError(
                f"A node that listens everywhere ({self.host or 'all addresses'}) must say how "
                "others reach it.",
                hint="Give --advertise HOST:PORT, or the address of one interface as --host.",
            )
        if self.advertise and is_everywhere(split_address(self.advertise)[0]):
            raise ConfigError(
                f"advertise = {self.advertise!r} is not possible: nobody can connect to that.",
                hint="Use the HOST:PORT under which the other nodes and the clients reach it.",
            )
        if self.weight is not None and not 0 < self.weight <= 1000:
            raise ConfigError(
                f"weight = {self.weight} is not possible.",
                hint="Use a number over 0; 1 is usual, 2 for a node that takes twice as much.",
            )
        for what in ("name", "default_name", "zone", "cluster_name"):
            text = getattr(self, what)
            if len(text.encode()) > NAME_BYTES_MAX or not text.isprintable():
                raise ConfigError(
                    f"{what} = {text!r} is not possible.",
                    hint=f"Use printable text of at most {NAME_BYTES_MAX} bytes.",
                )
        self._check_join()
        self._check_flags()

    def _check_ports(self) -> None:
        """Raise ConfigError for two fronts on one port: both could be bound, and one would hear
        nothing.
        """
        http = ("HTTP", "--http-port", self.http_port)
        redis = ("Redis", "--redis-port", self.redis_port)
        if self.http_port == self.port + HTTP_ABOVE:  # then the other one was chosen
            http, redis = redis, http
        native = ("the native protocol", "--base-port", self.port)
        for one, other in ((native, redis), (native, http), (redis, http)):
            if other[2] and one[2] == other[2]:  # 0: any port that is free
                raise ConfigError(
                    f"Port {one[2]} cannot be that of {one[0]} ({one[1]}) and that of {other[0]} "
                    f"({other[1]}) too.",
                    hint=f"Choose another one with {other[1]}; without it, it is the base port + "
                    f"{REDIS_ABOVE if other[0] == 'Redis' else HTTP_ABOVE}. Nothing was started.",
                )

    def _check_join(self) -> None:
        known_as = split_address(self.advertise, self.port) if self.advertise else None
        seeds = [split_address(seed) for seed in self.join]
        if seeds and all(
            (host, port) == known_as or (port == self.port and _listens_at(self.host, host))
            for host, port in seeds
        ):
            raise ConfigError(
                f"join = {', '.join(self.join)} names only this node itself.",
                hint="Name another node of the cluster; without --join this node founds one.",
            )

    def _check_flags(self) -> None:
        if self.playground and not (self.development and is_loopback(self.host)):
            raise ConfigError(
                "A playground is for a development cluster on one machine.",
                hint="Use --playground with --development, on a loopback address, or leave it out.",
            )
        if self.rejoin_as_new and not self.join:
            raise ConfigError(
                "A node that rejoins must be told where.",
                hint="Use --join HOST:PORT with --rejoin-as-new.",
            )
        if self.stage and not self.join:
            raise ConfigError(
                "A node that founds a cluster has no operator to wait for.",
                hint="Use --stage with --join HOST:PORT, or leave it out.",
            )


def _check_without_port(host: str) -> None:
    """Raise ConfigError for a host with a port, before anything else is said about it."""
    bare, colon, number = host.rpartition(":")
    if not colon or not number.isdigit() or (":" in bare and not bare.endswith("]")):
        return  # a name, or an address of IPv6
    raise ConfigError(
        f"--host takes no port, as in {host}.",
        hint=f"Give the port by itself: --host {bare.strip('[]')} --base-port {number}.",
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address; any other name may be anybody's."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_everywhere(host: str) -> bool:
    """Say whether who listens there listens on all addresses of the machine."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def _listens_at(host: str, other: str) -> bool:
    """Say whether who listens on ``host`` is also who answers at ``other``, on the same port. The
    addresses of one machine are as many hosts: each may have a node.
    """
    if is_everywhere(host) and is_loopback(other):
        return True
    return bool(_addresses_of(host) & _addresses_of(other))


def _addresses_of(host: str) -> set[str]:
    if host == "localhost" or is_everywhere(host):
        return {"127.0.0.1", "::1"}
    try:
        return {str(ip_address(host))}
    except ValueError:
        return {host}


def cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    """Return why a node cannot listen where it was told to."""
    hint = (
        wrong_place(host, error, "--base-port")
        or "Is another node running there? Choose another port with --base-port."
    )
    why = error.strerror or str(error)
    return ConfigError(
        f"Cannot listen on {host}:{port} ({why}).", hint=f"{hint} Nothing was started."
    )


def wrong_place(host: str, error: OSError, option: str) -> str:
    """Return what to do where not another process is in the way, but the place cannot be; empty if
    it can. ``option`` is that of the port.
    """
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: give one with --host."
    if isinstance(error, gaierror):
        return "No machine of this name is known: give an address of this machine with --host."
    if error.errno == errno.EACCES:
        return f"Ports below 1024 are for the system: choose another one with {option}."
    return ""


def is_host(host: str) -> bool:
    """Say whether a resolver would take this for the name or address of a machine."""
    try:
        host.encode("idna")
    except UnicodeError:  # an empty or overlong label, or letters that no name has
        return False
    return bool(host) and host.isprintable() and not set(host) & {"/", " "}


def split_address(address: str, default_port: int = PORT) -> tuple[str, int]:
    """Return (host, port) of ``HOST``, ``HOST:PORT`` or ``[V6]:PORT``; ConfigError if it is
    none.
    """
    host, colon, port = address.strip().rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not is_host(host) or not 0 < number <= 65535:
        raise ConfigError(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    return host, number
