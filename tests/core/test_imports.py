"""The core is sans-IO: it imports nothing by which it could wait, draw, look or speak."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import everwrite.core

ROOT = Path(everwrite.core.__path__[0])
FILES = sorted(ROOT.rglob("*.py"))

ALLOWED = frozenset(
    {
        "__future__",
        "array",
        "base64",
        "bisect",
        "collections",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "itertools",
        "math",
        "msgspec",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "xxhash",
    }
)
BANNED_CALLS = frozenset({"open", "print", "input", "eval", "exec", "hash", "__import__"})


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "." * node.level


def outside(source: str) -> list[str]:
    """Return the modules that a core file may not import."""
    return [
        name
        for name in imports(ast.parse(source))
        if name.split(".")[0] not in ALLOWED and not name.startswith("everwrite.core")
    ]


def banned_calls(source: str) -> list[str]:
    return [
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in BANNED_CALLS
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_core_imports_only_what_is_pure(path: Path) -> None:
    assert outside(path.read_text()) == []
    assert banned_calls(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import os.path",
        "from time import monotonic",
        "def f():\n    import random",
        "from everwrite.storage import store",
        "from . import errors",
        "import everwrite.server.main",
    ],
)
def test_a_file_that_breaks_the_rule_is_found(source: str) -> None:
    assert outside(source)


def test_values_know_no_messages() -> None:
    for path in (ROOT / "data").glob("*.py"):
        for name in imports(ast.parse(path.read_text())):
            assert not name.startswith("everwrite.") or name.startswith(
                ("everwrite.core.data", "everwrite.core.errors", "everwrite.core.probes")
            )


def test_what_is_allowed_is_what_is_installed() -> None:
    assert ALLOWED - {"msgspec", "xxhash"} <= sys.stdlib_module_names
