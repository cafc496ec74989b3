"""Each example, and the Python on the pages for users, does what it says."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from everwrite.cli.devcluster import DevCluster

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / f"docs/{name}.md" for name in ("python", "expiry", "deletes")]


def run(script: Path, place: Path, *arguments: str) -> str:
    """Return what a script prints in an empty directory, where every warning is an error."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def promised(script: Path) -> str:
    """Return what the first lines of an example say that it prints."""
    text = script.read_text()
    lines = text.partition("\nprints")[2].partition('\n"""')[0].partition("\n\n")[2]
    return re.sub(r"^    ", "", lines, flags=re.MULTILINE) + "\n"


def blocks(page: Path) -> list[str]:
    """Return the Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_prints_what_its_first_lines_say(script: Path, tmp_path: Path) -> None:
    assert len(promised(script)) > 1
    assert run(script, tmp_path) == promised(script)


@pytest.mark.process
def test_the_examples_do_the_same_on_a_cluster(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "dev", nodes=3, fsync=False) as cluster:
        asyncio.run(cluster.start())
        for script in EXAMPLES:
            assert run(script, tmp_path, cluster.addresses[0]) == promised(script)


def test_each_example_is_short_and_listed() -> None:
    listed = (ROOT / "examples/README.md").read_text()

    assert EXAMPLES
    for script in EXAMPLES:
        assert f"[{script.name}]({script.name})" in listed
        assert script.read_text().count("\n") < 60


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    assert blocks(page)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)))

    run(script, tmp_path)
