"""The command as a whole: help without imports, errors as exit codes, no secret in argv."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import everwrite

from everwrite.cli.exits import Exit, exit_for
from everwrite.cli.main import COMMANDS, cli
from everwrite.core import errors
from everwrite.core.errors import EverwriteError


def test_help_names_every_command_and_imports_none() -> None:
    script = (
        "import sys; from everwrite.cli.main import run; run(['--help']); print(list(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    page, _, modules = done.stdout.rstrip().rpartition("\n")
    assert all(f"\n  {name} " in page for name in COMMANDS)
    assert "Exit codes: 0 ok, 1 error, 2 usage, 3 degraded, 4 unreachable, 5 timed out" in page
    assert "130 interrupted" in page
    for heavy in ("asyncio", "rich", "uvloop", "everwrite.client", "everwrite.cli.demo"):
        assert f"'{heavy}" not in modules


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_agrees_with_the_overview(name: str) -> None:
    ended = everwrite(name, "--help")

    assert ended.code == Exit.OK
    assert ended.out.startswith(f"Usage: everwrite {name}")


def test_the_help_of_status_explains_its_second_table() -> None:
    page = everwrite("status", "--help").out

    for column in ("MAY DO", "DOES", "P99 OF REQUESTS", "alone", "WHY"):
        assert column in page


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "everwrite", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout == everwrite("--version").out
    assert done.stdout.startswith("everwrite ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EverwriteError, Exit.ERROR),
        (errors.RequestError, Exit.USAGE),
        (errors.BadContext, Exit.USAGE),
        (errors.TooLarge, Exit.USAGE),
        (errors.DeniedError, Exit.ERROR),
        (errors.StorageError, Exit.ERROR),
        (errors.DirectoryInUse, Exit.ERROR),
        (errors.Overloaded, Exit.ERROR),
        (errors.ConfigError, Exit.USAGE),
        (errors.QuorumNotMet, Exit.DEGRADED),
        (errors.UnavailableError, Exit.DEGRADED),
        (errors.Unreachable, Exit.UNREACHABLE),
        (errors.DeadlineExceeded, Exit.TIMED_OUT),
    ],
)
def test_an_error_has_the_exit_code_that_says_what_to_do(
    error: type[EverwriteError], code: Exit
) -> None:
    assert exit_for(error("It did not work.")) is code


@pytest.mark.parametrize(
    "arguments",
    [
        ["stauts"],
        ["get", "bucket"],
        ["get", "bucket", "key", "--r", "many"],
        ["get", "bucket", "key", "--url", "host:port"],
        ["get", "bucket", "key", "--timeout", "0"],
        ["put", "bucket", "key", "value", "--context", "no base64!"],
        ["status", "-o", "yaml"],
        ["status", "--watch", "-o", "json"],
        ["transfers", "--watch", "-o", "json"],
        ["plan", "join"],
        ["plan", "replace", "n1"],
        ["plan", "weight", "n1", "heavy"],
        ["cluster", "start"],
        ["cluster", "start", "--dir", "d", "--nodes", "0"],
        ["serve", "--partitions", "100"],
        ["serve", "--join", "host:99999"],
        ["demo", "--nodes", "2"],
        ["bench", "--kill", "4", "1", "--nodes", "3"],
        ["bench", "--processes", "65"],
        ["bench", "--output", "/nonexist/x.json"],
        ["bench", "--ttl", "30"],
        ["bench", "--ttl", "1s"],
        ["get", "bucket", "key", "--secret-file", "/nowhere/at/all"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_says_why(arguments: list[str]) -> None:
    ended = everwrite(*arguments)

    assert ended.code == Exit.USAGE
    assert ended.out == ""
    assert "rror: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["cluster", "strat", "--dir", "d"], "Did you mean 'start'?"),
        (["plan", "jion", "n4"], "Did you mean 'join'?"),
        (["siblings", "carts", "alice"], "get shows siblings"),
        (["get", "carts/alice"], "Write it as two words: everwrite get carts alice\n"),
        (["get", "my carts/al*"], "Write it as two words: everwrite get 'my carts' 'al*'\n"),
        (["get", "a/b", "--url", "h:1"], "as two words: everwrite get a b --url h:1\n"),
        (["touch", "carts/alice", "30m"], "from now on: everwrite touch carts alice 30m\n"),
        (["touch", "carts", "alice"], "from now on: everwrite touch carts alice 30m\n"),
        (["expire", "carts", "alice", "30m"], "touch lets a value live longer"),
        (["put", "carts", "neg", "-5"], "stands after --: everwrite put BUCKET KEY -- VALUE"),
    ],
)
def test_a_mistake_that_is_easy_to_make_is_met_with_a_hint(arguments: list[str], hint: str) -> None:
    ended = everwrite(*arguments)

    assert ended.code == Exit.USAGE
    assert hint in ended.err.partition(" hint: ")[2]


@pytest.mark.parametrize("arguments", [["qwertz"], ["get", "carts"], ["get", "a", "b", "--no"]])
def test_no_hint_is_made_up(arguments: list[str]) -> None:
    assert "hint:" not in everwrite(*arguments).err


def test_no_option_takes_a_secret_itself() -> None:
    for name in COMMANDS:
        command = cli.get_command(
            cli.make_context("everwrite", [name, "--help"], resilient_parsing=True), name
        )
        assert command is not None
        assert "--secret" not in {opt for parameter in command.params for opt in parameter.opts}


def test_a_directory_that_cannot_be_used_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ended = everwrite(
        "cluster", "start", "--dir", str(tmp_path / "file" / "dev"), "--base-port", "0"
    )

    assert ended.code == Exit.ERROR
    assert f"error: {tmp_path / 'file' / 'dev'} cannot be used: not a directory." in ended.err
    assert "hint: Use a directory in which you may write." in ended.err


@pytest.mark.parametrize("arguments", [["cluster", "start", "--dir"], ["demo", "--data"]])
def test_a_place_where_nobody_may_write_is_said_in_words(arguments: list[str]) -> None:
    ended = everwrite(*arguments, "/proc/everwrite")

    assert ended.code == Exit.ERROR
    assert "error: /proc/everwrite cannot be used: " in ended.err
    assert "Errno" not in ended.err


def test_output_that_nobody_reads_to_its_end_is_no_traceback() -> None:
    script = "import sys; from everwrite.cli.main import main; main(['demo', '--help'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()

    _, err = process.communicate(timeout=20)

    assert err == b""


@pytest.mark.parametrize(
    "module",
    [
        "bars",
        "copyable",
        "output",
        "plan",
        "reports",
        "splits",
        "transfers",
        "demo.carts",
        "demo.screen",
    ],
)
def test_the_examples_in_the_text_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"everwrite.cli.{module}"))

    assert found.attempted
    assert not found.failed
