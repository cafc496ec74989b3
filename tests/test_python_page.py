"""docs/python.md and the package say the same: every public name, every option and its default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import everwrite

PAGE = (Path(__file__).parent.parent / "docs/python.md").read_text()
HEADS = dict(
    re.findall(r"^(?:await |db\.|bucket\.)?(\w+)(\(.*\))(?: -> \w+)?$", PAGE, re.MULTILINE)
)
"""What the page says of the parameters of each function."""

TYPES = ("counter", "set", "map", "register", "flag")

FUNCTIONS: dict[str, list[Callable[..., Any]]] = {
    "connect": [everwrite.connect],
    "connect_sync": [everwrite.connect_sync],
    "open": [everwrite.open],
    "bucket": [everwrite.AsyncClient.bucket, everwrite.Client.bucket],
} | {
    name: [getattr(everwrite.AsyncBucket, name), getattr(everwrite.Bucket, name)]
    for name in ("get", "put", "update", "touch", "delete", *TYPES)
}


def words() -> set[str]:
    """Return the names that the page has in backticks or in its programs."""
    code = re.findall(r"`([^`\n]+)`", PAGE) + re.findall(r"everwrite\.(\w+)", PAGE)
    return {word for part in code for word in re.findall(r"\w+", part)}


def test_every_public_name_is_on_the_page() -> None:
    assert not {*everwrite.__all__, "open"} - words()


def test_every_name_that_looks_public_is_one() -> None:
    """Classes, and what stands behind `everwrite.`."""
    classes = {word for word in words() if re.fullmatch(r"(?:[A-Z][a-z]+)+", word)}
    builtins = {"None", "Content", "Type"}
    named = (classes - builtins) | set(re.findall(r"\beverwrite\.(\w+)", PAGE)) - {"md"}

    assert not {name for name in named if not hasattr(everwrite, name)}
    assert not named - {*everwrite.__all__, "open"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_options_of_a_function_are_those_on_the_page(name: str) -> None:
    for function in FUNCTIONS[name]:
        signature = inspect.signature(function)
        parameters = [
            each.replace(annotation=inspect.Parameter.empty)
            for each in signature.parameters.values()
            if each.name != "self"
        ]
        shown = str(
            signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        )
        assert HEADS[name] == shown.replace("'", '"')


def test_every_public_method_of_clients_buckets_and_sessions_is_on_the_page() -> None:
    kinds = (everwrite.AsyncClient, everwrite.Client, everwrite.AsyncBucket, everwrite.Bucket)
    public = {name for kind in kinds for name in vars(kind) if not name.startswith("_")}

    assert not public - words()


@pytest.mark.parametrize("kind", [everwrite.Found, everwrite.Stored, everwrite.Quality])
def test_every_field_of_an_answer_that_is_named_exists(kind: type) -> None:
    part = PAGE[PAGE.index("## What comes back") : PAGE.index("## Merges")]
    fields = set(re.findall(r"`\.(\w+)`", part))

    answers = (everwrite.Found, everwrite.Stored, everwrite.Quality)
    assert not {field for field in fields if not any(hasattr(each, field) for each in answers)}
    mine = {name for name in dir(kind) if not name.startswith("_")}
    # .expires, .expires_in, .type and .values say it
    inner = {"expires_ms", "time_ms", "merge", "composed", "clash", "place"}
    assert not mine - inner - fields


def test_each_error_stands_with_its_family() -> None:
    """In a row of the table, all are of the kind that begins it."""
    part = PAGE[PAGE.index("## Errors") :]
    rows = [re.findall(r"`([A-Z]\w+)`", row) for row in part.splitlines() if row.startswith("| `")]
    assert len(rows) == 9
    for base, *others in rows:
        for other in others:
            assert issubclass(getattr(everwrite, other), getattr(everwrite, base)), other
