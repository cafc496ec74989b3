"""`everwrite serve`: one node, or one per core (workers.py).

Flags win over the environment, that over a TOML file.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from everwrite.cli.connection import DEFAULT_PORT, read_secret, takes_a_secret
from everwrite.cli.output import report_error
from everwrite.cli.supervisor import FOR_GOOD
from everwrite.core.errors import ConfigError, Fenced
from everwrite.core.wrong_port import HTTP_ABOVE, REDIS_ABOVE

if TYPE_CHECKING:
    from everwrite.server.settings import ServeOptions

_ENGINES = ["rocksdb", "sqlite", "memory"]
_NAME_LENGTH_MAX = 64
PORT_MAX = 65535 - HTTP_ABOVE
"""Two more ports belong to each base port: 100 and 200 above it."""
WORKERS_MAX = 64
"""Below 100, so that the ports of one protocol never meet those of another; more cores are rare."""


class FileSettings(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, omit_defaults=True):
    """What a --config file may hold: the long options. None: not set here."""

    data: str | None = None
    name: str | None = None
    base_port: int | None = None
    host: str | None = None
    http_port: int | str | None = None
    redis_port: int | str | None = None
    advertise: str | None = None
    join: list[str] | None = None
    stage: bool | None = None
    rejoin_as_new: bool | None = None
    zone: str | None = None
    weight: float | None = None
    engine: str | None = None
    fsync: bool | None = None
    log_format: Literal["text", "json"] | None = None
    otel: bool | None = None
    no_pace: bool | None = None
    partitions: int | None = None
    replicas: int | None = None
    cluster_name: str | None = None
    secret_file: str | None = None
    development: bool | None = None
    workers: int | None = None


def read_settings(path: Path) -> dict[str, Any]:
    """Return a TOML file's settings by parameter; ConfigError says which key is wrong and why."""
    known = ", ".join(FileSettings.__struct_encode_fields__)
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=FileSettings)
    except OSError as error:
        raise ConfigError(
            f"The config file {path} can't be read: {error.strerror}.",
            hint="The node was not started.",
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The config file {path} is wrong: {_in_words(str(error))}.",
            hint=f"It may set: {known}. The node was not started.",
        ) from error
    found = {
        name: value
        for name in settings.__struct_fields__
        if (value := getattr(settings, name)) is not None
    }
    if "fsync" in found:
        found["fsync"] = "on" if found["fsync"] else "off"
    return found


def _in_words(error: str) -> str:
    """Return what is wrong with a setting, as a person would say it."""
    wrong = re.fullmatch(r"Expected `(.+)`, got `(.+)` - at `\$\.([\w-]+)(\[.*\])?`", error)
    if wrong is not None:
        due, got, key, part = wrong.groups()
        where = f"each part of {key}" if part else key
        return f"{where} must be {_kind(due.removesuffix(' | null'))}, not {_kind(got)}"
    choice = re.fullmatch(r"Invalid enum value '(.+)' - at `\$\.([\w-]+)`", error)
    if choice is not None:
        return f"{choice[2]} cannot be {choice[1]!r}"
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", error)
    return f"there is no setting {unknown[1]}" if unknown is not None else error


def _kind(name: str) -> str:
    return _KINDS.get(name, name)


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a table",
}


def _load_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read_settings(path)}


def _check_join(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    from everwrite.server.settings import split_address

    addresses = [address for value in values for address in value.split(",")]
    for address in addresses:
        split_address(address)
    return tuple(addresses)


def _check_advertise(_: click.Context, __: click.Parameter, value: str) -> str:
    from everwrite.server.settings import split_address

    if value:
        split_address(value)
    return value


def _check_port(_: click.Context, __: click.Parameter, value: str | int | None) -> str | None:
    if value is None or value == "off":
        return value
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
        raise click.BadParameter(f"{text!r} is no port, nor off")
    return text


def _check_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not value.isprintable() or not 0 < len(value) <= _NAME_LENGTH_MAX):
        raise click.BadParameter(f"use 1 to {_NAME_LENGTH_MAX} printable characters")
    return value


def _check_partitions(_: click.Context, __: click.Parameter, value: int | None) -> int | None:
    if value is not None and value & (value - 1):
        raise click.BadParameter(f"{value} is not a power of two, like 64, 256 or 1024")
    return value


def _check_lifeline(_: click.Context, __: click.Parameter, value: int | None) -> int | None:
    if value is not None:
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(value).st_mode)
        except OSError:
            is_pipe = False
        if not is_pipe:
            raise click.BadParameter(f"{value} is no pipe that this process has inherited")
    return value


@click.command(context_settings={"show_default": True})
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_load_config,
    envvar="EVERWRITE_CONFIG",
    help="TOML file with any of these options, as in `base-port = 7400`; flags win.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default="everwrite-data",
    metavar="DIR",
    envvar="EVERWRITE_DATA",
    help="Data directory; made if it is not there.",
)
@click.option(
    "--name",
    callback=_check_name,
    envvar="EVERWRITE_NAME",
    metavar="NAME",
    show_default="HOSTNAME-PORT",
    help="Name of this node, unique in its cluster.",
)
@click.option(
    "--base-port",
    type=click.IntRange(1, PORT_MAX),
    default=DEFAULT_PORT,
    envvar="EVERWRITE_BASE_PORT",
    metavar="P",
    help="Port of the native protocol.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    envvar="EVERWRITE_HOST",
    metavar="HOST",
    help="Address to listen on. One that others can reach needs a secret.",
)
@click.option(
    "--http-port",
    callback=_check_port,
    envvar="EVERWRITE_HTTP_PORT",
    metavar="P|off",
    show_default="the base port + 200",
    help="Port of the HTTP API, on the same address; off: none.",
)
@click.option(
    "--redis-port",
    callback=_check_port,
    envvar="EVERWRITE_REDIS_PORT",
    metavar="P|off",
    show_default="the base port + 100",
    help="Port for Redis clients, on the same address; off: none.",
)
@click.option(
    "--advertise",
    default="",
    callback=_check_advertise,
    envvar="EVERWRITE_ADVERTISE",
    metavar="HOST:PORT",
    show_default="where it listens",
    help="Where other nodes and clients reach this one, if not there: NAT, containers, 0.0.0.0.",
)
@click.option(
    "--join",
    multiple=True,
    callback=_check_join,
    envvar="EVERWRITE_JOIN",
    metavar="HOST:PORT",
    help="A node of the cluster to join; may be repeated. None: this node founds a cluster.",
)
@click.option(
    "--stage",
    is_flag=True,
    envvar="EVERWRITE_STAGE",
    help="With --join: own no data until an operator commits `everwrite plan join`.",
)
@click.option(
    "--rejoin-as-new",
    is_flag=True,
    envvar="EVERWRITE_REJOIN_AS_NEW",
    help="With --join: a new identity for the directory of a node that was removed or refused. Its "
    "copies stay, and are offered to the cluster.",
)
@click.option(
    "--zone",
    default="",
    envvar="EVERWRITE_ZONE",
    metavar="ZONE",
    show_default="the node's name",
    help="Failure domain (host, rack, site): replicas go to distinct zones. Later: `plan zone`.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 1000, min_open=True),
    default=None,
    envvar="EVERWRITE_WEIGHT",
    metavar="W",
    show_default="1",
    help="Share of the data compared to the other nodes. Later: `plan weight`.",
)
@click.option(
    "--engine",
    type=click.Choice(_ENGINES),
    default="rocksdb",
    envvar="EVERWRITE_ENGINE",
    help="Storage engine; memory keeps nothing.",
)
@click.option(
    "--fsync",
    type=click.Choice(["on", "off"]),
    default="on",
    envvar="EVERWRITE_FSYNC",
    help="Whether a write is on the disk before it is acknowledged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="EVERWRITE_LOG_FORMAT",
    help="Lines of the log for people, or JSON for programs.",
)
@click.option(
    "--otel",
    is_flag=True,
    envvar="EVERWRITE_OTEL",
    help="Send a span for each HTTP request, as the OTEL_ variables say: needs the extra [otel].",
)
@click.option(
    "--no-pace",
    is_flag=True,
    envvar="EVERWRITE_NO_PACE",
    help="Let background work take what it wants, whatever requests suffer. To compare only.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 65536),
    callback=_check_partitions,
    show_default="256",
    envvar="EVERWRITE_PARTITIONS",
    metavar="Q",
    help="Slices of the ring; fixed when the cluster is made.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 9),
    show_default="3",
    envvar="EVERWRITE_REPLICAS",
    metavar="N",
    help="Copies of each key; fixed when the cluster is made.",
)
@click.option(
    "--cluster-name",
    callback=_check_name,
    show_default="everwrite",
    envvar="EVERWRITE_CLUSTER_NAME",
    metavar="NAME",
    help="Name of the cluster; nodes of another one are refused.",
)
@click.option(
    "--development",
    is_flag=True,
    envvar="EVERWRITE_DEVELOPMENT",
    help="Accept orders to cut this node's connections, as the demo gives them.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    envvar="EVERWRITE_WORKERS",
    metavar="K",
    help="Run K nodes of one zone, one per core: in DIR/worker-1, ..., on ports P, P+1, ..., "
    "called NAME-1, ...",
)
@click.option("--playground", default="", hidden=True)
@click.option("--lifeline", type=click.IntRange(0), hidden=True, callback=_check_lifeline)
@takes_a_secret
def serve(workers: int, **given: Any) -> None:
    """Run one node until it is told to stop (Ctrl-C or SIGTERM).

    \b
    One node:     everwrite serve --data ./data
    The second:   everwrite serve --data ./data2 --base-port 7401 --join 127.0.0.1:7400
    Four at once: everwrite serve --data ./data --workers 4

    Each option has a variable, such as EVERWRITE_BASE_PORT, and a key in the --config file.
    """
    from everwrite.cli.workers import refuse_workers, run_workers

    if workers > 1:
        run_workers(workers, given)
        return
    from everwrite.server.main import run

    options = serve_options(**given)
    if options.data is not None:
        refuse_workers(options.data)
    try:
        run(options)
    except Fenced as error:
        if options.lifeline is None:
            raise
        report_error(error)
        raise SystemExit(FOR_GOOD) from error  # its supervisor need not try again


def serve_options(
    *,
    data: Path,
    name: str | None,
    base_port: int,
    http_port: str | None,
    redis_port: str | None,
    engine: str,
    fsync: str,
    no_pace: bool,
    secret_file: Path | None,
    cluster_name: str | None,
    playground: str = "",
    **same: Any,
) -> ServeOptions:
    """Return what the command line says as the server wants it; ConfigError if it can't be."""
    from everwrite.server.settings import ServeOptions

    return ServeOptions(
        data=None if engine == "memory" else data,
        name=name or "",
        default_name=f"{socket.gethostname()}-{base_port}"[-_NAME_LENGTH_MAX:],
        port=base_port,
        http_port=port_of(base_port + HTTP_ABOVE, http_port),
        redis_port=port_of(base_port + REDIS_ABOVE, redis_port),
        engine=engine,
        fsync=fsync == "on",
        pace=not no_pace,
        secret=read_secret(secret_file),
        cluster_name=cluster_name or "",
        playground=tuple(shlex.split(playground)),
        **same,
    )


def port_of(usual: int, given: str | None) -> int | None:
    """Return where a protocol is to be answered; None: nowhere."""
    if given == "off":
        return None
    return usual if given is None else int(given)
