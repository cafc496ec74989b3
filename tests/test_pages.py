"""What a page tells a reader to paste into a shell can be pasted; the README's first steps work."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import find_base_port
from everwrite.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")}
    | set((ROOT / "examples").glob("*.md"))
)
FIRST = {"everwrite", "make", "python", "curl", "export", "kill", "rm", "until"}
"""Words with which a command on these pages begins; other indented blocks are pictures."""


def shell_blocks(page: Path) -> Iterator[str]:
    """Yield the blocks of a page that are for a shell, without the margin."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^(?: {4,}).*\n)+", text, re.MULTILINE):
        lines = block.splitlines()
        if lines[0].split()[0] in FIRST:
            yield "\n".join(line.strip() for line in lines)


def console_lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page that stand behind a prompt."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^\$ (.*)$", block, re.MULTILINE)


def complaint(line: str) -> str:
    """Return why the command line would refuse this; empty: it would not."""
    words = shlex.split(line, comments=True)
    if not words or words[0] != "everwrite":
        return ""
    if "&" in words:
        words = words[: words.index("&")]
    words = [word for word in words[1:] if not word.startswith("2>")]
    words = words[: words.index("|")] if "|" in words else words
    command: click.Command = cli
    context = click.Context(cli, info_name="everwrite")
    try:
        while isinstance(command, click.Group):
            name, found, words = command.resolve_command(context, words)
            assert found is not None
            command, context = found, click.Context(found, context, info_name=name)
        command.parse_args(context, words)
    except click.UsageError as error:
        return error.format_message()
    return ""


def misplaced_target(line: str) -> str:
    """Return what a line says behind `make` that is no target and no variable; empty: nothing."""
    words = shlex.split(line, comments=True)
    if not words or words[0] != "make":
        return ""
    words = words[1 : words.index("&&")] if "&&" in words else words[1:]
    makefile = (ROOT / "Makefile").read_text()
    return ", ".join(
        word
        for word in words
        if "=" not in word and not re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_can_be_pasted(page: Path) -> None:
    lines = [line for block in shell_blocks(page) for line in block.splitlines()]
    lines += console_lines(page)

    for line in lines:
        assert not (found := complaint(line) or misplaced_target(line)), f"{line}\n{found}"
    for block in shell_blocks(page):
        for line in block.splitlines():
            first = line.split()[0]
            assert first in FIRST or line.startswith("$"), f"no command: {line}"
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_words_behind_a_command_are_found() -> None:
    assert complaint("everwrite plan commit           from now on")
    assert complaint("everwrite cluster start --dir /tmp/shop --nodes 3      nodes on 7401")
    assert complaint("everwrite get carts alice --wrong 1")
    assert misplaced_target("make demo      five nodes and a crowd")
    assert not misplaced_target('make test ARGS="tests/core -x"  # some of them')
    assert not complaint("everwrite plan commit           # from now on")


PATHS = {
    **{name: text for name, text in os.environ.items() if not name.startswith("EVERWRITE_")},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def paste(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run lines as a person's shell would: `kill %1` needs -m."""
    return subprocess.run(
        ["bash", "-m", "-e", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        cwd=place,
        env=PATHS,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def on_port(base: int, kind: str, number: str) -> str:
    """Return where a page's 740N or 760N is."""
    return f"127.0.0.1:{base + int(number) + (200 if kind == '6' else 0)}"


def readme_steps() -> tuple[list[str], str]:
    """Return the README's blocks from the first cluster to its end, and its program."""
    text = (ROOT / "README.md").read_text()
    part = text.partition("## Ten lines of Python")[2].partition("\n## ")[0]
    program = re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    assert len(program) == 1
    blocks = [
        "\n".join(line.strip() for line in block.splitlines())
        for block in re.findall(
            r"(?:^ {4,}(?:everwrite|make|export|python|curl) .*\n)+", part, re.MULTILINE
        )
    ]
    assert "cluster start" in blocks[0] and "cluster stop" in blocks[-1]
    return blocks, program[0]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_blocks_of_the_readme_work_when_they_are_pasted_in_order(tmp_path: Path) -> None:
    """On other ports, and with what `make setup` has made already."""
    blocks, program = readme_steps()
    port, place = find_base_port(3), str(tmp_path / "shop")

    def here(text: str) -> str:
        text = re.sub(r"127\.0\.0\.1:7(4|6)0(\d)", lambda at: on_port(port, at[1], at[2]), text)
        text = text.replace("make setup && . .venv/bin/activate", "true")
        text = text.replace("cluster start", f"cluster start --base-port {port}")
        return text.replace("/tmp/shop", place)

    (tmp_path / "shop.py").write_text(here(program))
    try:
        ended = paste(here("\n".join(blocks)), tmp_path)
        running = paste(f"everwrite cluster status --dir {place}", tmp_path)
    finally:
        paste(f"everwrite cluster stop --dir {place}", tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "['jam', 'tea']\n" in ended.stdout  # the program
    assert '["jam","tea"]' in ended.stdout  # get
    assert "kind json" in ended.stderr
    assert ended.stdout.rstrip().endswith('["tea"]')  # curl
    assert "0 of 3 nodes up" in running.stdout


@pytest.mark.process
@pytest.mark.slow
def test_a_cart_of_the_command_line_is_one_for_the_readmes_program(tmp_path: Path) -> None:
    _, program = readme_steps()
    with DevCluster.create(tmp_path / "dev", nodes=1, fsync=False) as cluster:
        asyncio.run(cluster.start())
        url = cluster.addresses[0]
        put = ["put", "carts", "alice", '["milk"]', "--kind", "json", "--url", url]
        subprocess.run([sys.executable, "-m", "everwrite", *put], check=True, capture_output=True)
        script = tmp_path / "shop.py"
        script.write_text(re.sub(r"^NODES = .*$", f"NODES = {url!r}", program, flags=re.MULTILINE))

        ended = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
        )

    assert ended.stdout == "['jam', 'milk', 'tea']\n"


@pytest.mark.process
@pytest.mark.slow
def test_the_blocks_about_growing_work_when_they_are_pasted_in_order(tmp_path: Path) -> None:
    """On other ports: three nodes take in a fourth, and let one go."""
    page = ROOT / "docs/growing.md"
    tries = [block for block in shell_blocks(page) if "/tmp/grow" in block]
    assert len(tries) == 2
    port = find_base_port(4)
    script = "\n".join(tries).replace("/tmp/grow", str(tmp_path / "grow"))
    for number in (0, 1, 4):
        script = script.replace(f"840{number}", str(port + number))

    try:
        ended = paste(script, tmp_path)
    finally:
        paste(f"everwrite cluster stop --dir {tmp_path / 'grow'}", tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    ring = ended.stdout[ended.stdout.rindex("NODE") :]
    assert re.search(r"^n4 +up +in ", ring, re.MULTILINE)
    assert not re.search(r"^n2 .* in ", ring, re.MULTILINE)
    assert not (tmp_path / "grow").exists()
