"""How commands reach a running cluster: by which node, with which secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from everwrite.core.errors import ConfigError

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

DEFAULT_PORT = 7400
DEFAULT_URL = f"127.0.0.1:{DEFAULT_PORT}"
SECRET_VARIABLE = "EVERWRITE_SECRET"

Command = TypeVar("Command", bound=Callable[..., Any])


def reaches_a_node(command: Command) -> Command:
    """Add --url and --secret-file to a command that talks to a running node."""
    command = click.option(
        "--url",
        envvar="EVERWRITE_URL",
        default=DEFAULT_URL,
        show_default=True,
        metavar="HOST:PORT[,...]",
        callback=_check_url,
        help="Node to talk to; several are tried in turn.  [env: EVERWRITE_URL]",
    )(command)
    return takes_a_secret(command)


def takes_a_secret(command: Command) -> Command:
    """Add --secret-file: a secret in the arguments could be read by every user of the machine."""
    return click.option(
        "--secret-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        envvar="EVERWRITE_SECRET_FILE",
        help="File with the cluster's secret (else EVERWRITE_SECRET, else none).",
    )(command)


def takes_a_format(command: Command) -> Command:
    """Add -o table|json."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Form of the output.",
    )(command)


def read_secret(secret_file: Path | None) -> bytes:
    """Return the secret of the file, or of the environment; empty if there is none."""
    if secret_file is None:
        return os.fsencode(os.environ.get(SECRET_VARIABLE, ""))
    try:
        secret = secret_file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(
            f"The secret file {secret_file} can't be read: {error.strerror}.",
            hint="Nothing was done.",
        ) from error
    if not secret:
        raise ConfigError(
            f"The secret file {secret_file} is empty.", hint="Put the secret on its first line."
        )
    return secret


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of HOST, HOST:PORT or [IPV6]:PORT; ValueError says what is wrong."""
    host, bracket, port = text.rpartition("]:")
    if bracket:
        host = host.removeprefix("[")
    elif text.startswith("[") and text.endswith("]"):
        host, port = text[1:-1], ""
    elif text.count(":") > 1:
        raise ValueError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
    else:
        host, _, port = text.partition(":")
    if (
        not host
        or host != host.strip()
        or any(letter.isspace() or letter in "/?#@" for letter in host)
    ):
        raise ValueError(f"{text!r} is not HOST:PORT, like 127.0.0.1:{DEFAULT_PORT}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return host, int(port or DEFAULT_PORT)


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect(
    url: str, secret_file: Path | None, *, seconds: float = 5.0, retries: int = 2
) -> AsyncClient:
    """Return a client of the cluster that the options name."""
    import everwrite

    return await everwrite.connect(
        url.split(","), secret=read_secret(secret_file), timeout=seconds, retries=retries
    )


def _check_url(_: click.Context, __: click.Parameter, url: str) -> str:
    try:
        return ",".join(format_address(*parse_address(part.strip())) for part in url.split(","))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
