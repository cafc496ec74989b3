"""How commands reach a running cluster: by which node, with which secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from everwrite.core.errors import (
    ConfigError,
    DeadlineExceeded,
    ProtocolError,
    RequestError,
    Unreachable,
)

if TYPE_CHECKING:
    from everwrite.client import AsyncClient

DEFAULT_PORT = 7400
DEFAULT_URL = f"127.0.0.1:{DEFAULT_PORT}"
_NO_URL_HINT = (
    "A development cluster (`everwrite cluster start`) listens from "
    f"{DEFAULT_PORT + 1}: set EVERWRITE_URL or --url."
)
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
        help="A node from which to learn the cluster, native port; several are tried in turn. Keys "
        "are asked of their owners, whichever it is.  [env: EVERWRITE_URL]",
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
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Form of the output.",
    )(command)


def no_json_with_watch(form: str) -> None:
    """Raise UsageError for a live view in a form that scripts read."""
    if form == "json":
        raise click.UsageError("--watch draws for a person; leave out -o json, or --watch.")


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


async def connect(
    url: str, secret_file: Path | None, *, seconds: float = 5.0, retries: int = 2
) -> AsyncClient:
    """Return a client of the cluster that the options name."""
    import everwrite

    secret = read_secret(secret_file)
    try:
        return await everwrite.connect(url, secret=secret, timeout=seconds, retries=retries)
    except Unreachable as error:
        if _nobody_chose("url"):
            error.hint = _NO_URL_HINT
        raise
    except ProtocolError as error:  # another port: to a script no node was reached, either
        raise Unreachable(error.message, hint=error.hint) from error
    except DeadlineExceeded as error:
        error.hint = error.hint.partition("?")[0] + f"? {_patience()}"
        raise


def _patience() -> str:
    """Return how to give a command more time."""
    context = click.get_current_context(silent=True)
    takes = context is not None and "timeout" in context.params
    return "Give it more time with --timeout." if takes else "Try again."


def _nobody_chose(option: str) -> bool:
    """Say whether an option has its default, for neither arguments nor environment set it."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) is ParameterSource.DEFAULT


def _check_url(_: click.Context, __: click.Parameter, url: str) -> str:
    from everwrite.client.client import parse_urls

    try:
        parse_urls(url)
    except RequestError as error:
        raise click.BadParameter(str(error)) from error
    return url
