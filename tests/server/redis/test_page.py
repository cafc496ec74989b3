"""docs/redis.md says what there is: each command, why it is refused if it is, code that runs."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.client.fake_node import in_loop
from tests.server.redis.redis_api import one, port_of

from everwrite.server.redis.known import IN_TEXT, KNOWN
from everwrite.server.redis.table import TABLE

PAGE = (Path(__file__).resolve().parents[3] / "docs/redis.md").read_text()


def test_the_page_lists_all_commands_and_no_others() -> None:
    rows = dict(
        re.findall(r"^\| `([A-Z.]+)` \| (.+) \|$", PAGE.partition("## What is ref")[0], re.M)
    )

    assert rows == {
        each.name.upper(): each.summary + " *Looks first.*" * each.advisory
        for each in TABLE.values()
        if not each.refused
    }


def test_the_page_says_why_each_refused_command_is() -> None:
    rows = re.findall(r"^\| (`.+`) \| (.+) \|$", PAGE.partition("## What is ref")[2], re.M)

    assert {name: why for names, why in rows for name in re.findall(r"`([\w.-]+)`", names)} == {
        each.name.upper(): each.refused for each in TABLE.values() if each.refused
    }


def test_the_page_lists_all_known_scripts_and_no_others() -> None:
    section = PAGE.partition("## Scripts")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.M)[1:]

    assert set(rows) == {
        (each.name, each.whose, each.what + " *Looks first.*" * each.advisory)
        for each in (*KNOWN, IN_TEXT)
    }
    assert len(rows) == len(set(rows))


@in_loop
async def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert "port=7501" in example
    async with one() as (runtime, _):
        here = example.replace("7501", str(port_of(runtime)))
        program = await asyncio.create_subprocess_exec(sys.executable, "-c", here)

        assert await program.wait() == 0
