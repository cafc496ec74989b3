"""Arguments of administrative verbs, as their JSON has them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from everwrite.core.errors import RequestError


def bytes_in(arguments: Mapping[str, Any], name: str) -> bytes:
    """Return a bucket or key given as text, or as {"base64": text}."""
    given = arguments.get(name)
    if isinstance(given, str):
        return given.encode()
    if isinstance(given, dict) and isinstance(given.get("base64"), str):
        try:
            return base64.b64decode(given["base64"], validate=True)
        except ValueError as error:
            raise RequestError(f"The {name} is no valid base64.") from error
    raise RequestError(f"A {name} is needed, as text or as {{'base64': ...}}.")


def number_in(arguments: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number; the least if it is not given."""
    given = arguments.get(name, least)
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise RequestError(f'"{name}" is a number from {least} to {most}.')
    return given
