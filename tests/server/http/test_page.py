"""Pages with commands: each does what the page says, from top to bottom, on three real nodes,
whatever the README and the pages before have left there.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import everwrite
from everwrite.cli.devcluster import DevCluster

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {"http.md": 15, "metrics.md": 0, "explain.md": 2}
"""Each with the number of commands that it surely has more of."""
MARK = "-- end of a command --"


class Command(NamedTuple):
    """One command of the page, and what it says that this prints; "..." is anything."""

    line: str
    says: str


def commands(page: str) -> list[Command]:
    """Return the commands of a page."""
    found: list[Command] = []
    blocks = re.findall(
        r"^```console\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
    )
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, says = part.partition("\n")
            found.append(Command(line, says))
    return found


def as_said(says: str, printed: str) -> bool:
    """Say whether what was printed is what the page says."""
    pattern = ".*?".join(map(re.escape, says.strip().split("...")))
    return re.fullmatch(pattern, printed.replace("\r", "").strip(), re.DOTALL) is not None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """The cluster of the README, with the carts that its examples have put."""
    directory = tmp_path_factory.mktemp("dev")
    with DevCluster.create(directory, nodes=3, engine="sqlite", fsync=True) as cluster:
        asyncio.run(cluster.start())
        with everwrite.connect_sync(cluster.addresses[0]) as db:
            for name in ("alice", "bob", "carol"):
                db.bucket("carts").put(name, ["tea"])
        yield cluster


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_a_page_print_what_it_says(
    page: str, cluster: DevCluster, tmp_path: Path
) -> None:
    chosen = commands(page)
    assert len(chosen) > PAGES[page]
    script = f"\necho '{MARK}'\n".join(command.line for command in chosen)
    script = script.replace("/tmp/batch", str(tmp_path / "batch"))
    for number in range(1, 4):
        script = script.replace(f"http://127.0.0.1:760{number}", cluster.node(number).http)
        script = script.replace(f"127.0.0.1:740{number}", cluster.addresses[number - 1])
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )

    assert ended.returncode == 0, ended.stderr
    printed = ended.stdout.split(MARK)
    for command, output in zip(chosen, printed, strict=True):
        assert as_said(command.says, output), f"{command.line}\n\n{command.says}\n\n{output}"


def test_no_page_uses_the_keys_of_another() -> None:
    """Else what it prints would depend on which one was read before."""
    used = {
        page: {
            key
            for command in commands(page)
            for key in re.findall(
                r"(?:/v1/(?:kv|explain)/|explain |get |put )(\w+)[/ ]\w+", command.line
            )
        }
        for page in PAGES
    }
    used["README.md"] = {"carts"}

    assert used["http.md"] and used["explain.md"]
    for one, other in itertools.combinations(used, 2):
        assert not used[one] & used[other], f"{one} and {other}"


def test_a_page_that_says_something_else_is_found() -> None:
    assert as_said("a...c\n", "abbc\n")
    assert not as_said("a...c", "abbd")
    assert not as_said("a", "ab")
