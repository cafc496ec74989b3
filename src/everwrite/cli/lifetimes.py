"""How long a value is to live, when it ends, and how long a command may take, as people write and
read it. HTTP takes the same words (server/http/options.py).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import click

from everwrite.cli.output import duration
from everwrite.client.limits import TTL_MAX_S, TTL_MIN_S

if TYPE_CHECKING:
    from everwrite.client import Found, Stored

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
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
    seconds = _seconds(plain)
    if not TTL_MIN_S <= seconds <= TTL_MAX_S:
        raise click.BadParameter(f"{text!r} is not possible: from 1s to 3650d.")
    return seconds


def _seconds(plain: str) -> float:
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))


class Patience:
    """Reads how long a command may take, as the callback of an option: 2s, 250ms, or a number of
    seconds; from ``least_s`` to ``most_s``.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s

    def __call__(self, _: click.Context, __: click.Parameter, text: str) -> float:
        """Return the seconds; BadParameter for what is no time, or out of range."""
        plain = text.strip().lower()
        if re.fullmatch(r"[0-9]*\.?[0-9]+", plain):
            plain = f"0{plain}s"
        if not _WHOLE.fullmatch(plain):
            raise click.BadParameter(
                f"{text!r} is no time. Write it like 2s, 250ms, or 2 for seconds."
            )
        seconds = _seconds(plain)
        if not self._least_s <= seconds <= self._most_s:
            raise click.BadParameter(
                f"{text!r} is not possible: from {self._least_s * 1000:g}ms to {self._most_s:g}s."
            )
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
