"""What the scripts beside this file share. Each runs in an environment of its own, so only the
standard library is at hand.

A script is started with the number of its database and the ports of the three nodes. It says what
its users do in functions called ``check_...``, and ends with ``checks.run(globals())``: all of them
run, what failed is printed, and the exit code is 1 if anything did.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

DATABASE = int(sys.argv[1])
PORTS = [int(port) for port in sys.argv[2:]]
PATIENCE_S = 20.0
LOOK_EVERY_S = 0.02
PAGE = Path(__file__).parents[2] / "docs/recipes.md"


def url(node: int) -> str:
    """Return where node 1, 2 or 3 is, with this script's database."""
    return f"redis://127.0.0.1:{PORTS[node - 1]}/{DATABASE}"


def seen(look: Callable[[], object], wanted: object) -> None:
    """Wait until a look shows what is wanted.

    For what another connection wrote, by another node: it is seen at once while all owners take
    part, and somewhat later if one of them was slow and a stand-in took the write.
    """
    end = time.monotonic() + PATIENCE_S
    while (found := look()) != wanted:
        assert time.monotonic() < end, f"{found!r} was seen, and never {wanted!r}"
        time.sleep(LOOK_EVERY_S)


async def seen_async(look: Callable[[], Any], wanted: object) -> None:
    """Wait until a look that is awaited shows what is wanted."""
    end = time.monotonic() + PATIENCE_S
    while (found := await look()) != wanted:
        assert time.monotonic() < end, f"{found!r} was seen, and never {wanted!r}"
        await asyncio.sleep(LOOK_EVERY_S)


def failure(kind: type[Exception], call: Callable[..., object], *words: object) -> str:
    """Make a call that must fail with this kind of error; return what the error says."""
    try:
        returned = call(*words)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}, but {returned!r}")


def at_once(call: Callable[[Any], object], *words: object) -> None:
    """Make a call with each of these words at once; what one of them raises is raised here."""
    with ThreadPoolExecutor(len(words)) as pool:
        for _ in pool.map(call, words):
            pass


def in_django(names: dict[str, Any], **other: Any) -> tuple[Any, Any]:
    """Set Django up as a recipe says; return its cache, and one by node 2, which has more options.

    That one is called "other". Only one environment has Django: so it is imported here.
    """
    import django
    from django.conf import settings

    again = {**names["CACHES"]["default"], "LOCATION": url(2), **other}
    settings.configure(
        CACHES={**names["CACHES"], "other": again},
        SESSION_ENGINE=names["SESSION_ENGINE"],
        SECRET_KEY="x" * 50,
    )
    django.setup()
    from django.core.cache import caches

    return caches["default"], caches["other"]


def two_count_in_django() -> None:
    """Count by both caches of Django at once: nothing gets lost."""
    from django.core.cache import caches

    def count(name: str) -> None:
        mine = caches.create_connection(name)
        for _ in range(50):
            mine.incr("visits", 2)
            mine.decr("visits")

    caches["default"].set("visits", 0, 100)
    at_once(count, "default", "other")
    seen(lambda: caches["default"].get("visits"), 100)


def recipe(heading: str) -> dict[str, Any]:
    """Run a recipe of docs/recipes.md as it stands there, and return the names that it makes.

    Only the port and the database are ours, and not the page's.
    """
    part = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{len(blocks)} blocks under {heading!r}"
    ours = rf"\g<1>{PORTS[0]}\g<2>{DATABASE}"
    program, places = re.subn(r"(:|port=)750[01](/|, db=)\d+", ours, blocks[0])
    assert places, f"no place of a node under {heading!r}"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "recipe.py")
        file.write_text(program)
        spec = importlib.util.spec_from_file_location("recipe", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return vars(module)


def run(names: dict[str, Any]) -> None:
    """Run the checks among these names in their order, and end the script."""
    suite = unittest.TestSuite()
    for name, check in names.items():
        if name.startswith("check_"):
            suite.addTest(unittest.FunctionTestCase(_plain(check), description=name))
    assert suite.countTestCases(), "no checks"
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    sys.exit(not result.wasSuccessful())


def _plain(check: Callable[[], Any]) -> Callable[[], None]:
    if not iscoroutinefunction(check):
        return check

    def in_loop() -> None:
        asyncio.run(check())

    return in_loop
