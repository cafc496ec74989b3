"""How long a value is to live, and when it ends, as people write and read it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import click

from everwrite.cli.output import duration
from everwrite.client.limits import TTL_MAX_S, TTL_MIN_S

if TYPE_CHECKING:
    from everwrite.client import Found, Stored

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def read_lifetime(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Return a time to live in seconds, as the callback of an option or argument.

    A number without a unit is refused, since nobody knows what was meant.
    """
    if text is None:
        return None
    plain = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", plain):
        raise click.BadParameter(
            f"{text!r} has no unit. Write {plain}s, {plain}m, {plain}h or {plain}d."
        )
    if not _WHOLE.fullmatch(plain):
        raise click.BadParameter(
            f"{text!r} is no time to live. Write it like 45s, 30m, 12h, 7d or 1h30m."
        )
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))
    if not TTL_MIN_S <= seconds <= TTL_MAX_S:
        raise click.BadParameter(f"{text!r} is not possible: from 1s to 3650d.")
    return seconds


def end_sentence(answer: Found | Stored) -> str:
    """Return when a value ends, by the cluster's clock."""
    said = f"ends at {answer.expires:%Y-%m-%d %H:%M:%S} UTC"
    left = answer.expires_in
    return said if left is None else f"{said}, in {duration(left.total_seconds() * 1000)}"


def end_for_json(expires: datetime | None) -> str | None:
    """Return an end as RFC 3339 says it."""
    if expires is None:
        return None
    return expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
