"""The text itself: sizes, names, room cards, swallowed errors, banned imports, foreign words.

Each check is a function from files (path -> text) to complaints, registered with samples. It runs
on the project, where it must find nothing, and on each bad sample, where it must find something: a
check that cannot fail is no check. What ruff, mypy and import-linter see is theirs; here is what
they cannot see, and what must hold even where they are not run.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
CARD_LINES_MAX = 20
CARD = ["Purpose:", "Comes in:", "Goes out:", "May import:", "Must never:", "Start reading:"]

SRC = "src/everwrite/"
CORE = SRC + "core/"

Files = Mapping[str, str]
Complaints = Iterator[str]


class Check(NamedTuple):
    find: Callable[[Files], Complaints]
    bad: Sequence[Files]
    good: Sequence[Files]


CHECKS: list[Check] = []


def check(*, bad: Sequence[Files], good: Sequence[Files] = ()) -> Callable[..., None]:
    """Register a check with samples that it must find fault with, and others that it must pass."""
    return lambda find: CHECKS.append(Check(find, bad, good))


def src(text: str, name: str = "sample.py") -> Files:
    return {SRC + name: text}


def core(text: str) -> Files:
    return {CORE + "sample.py": text}


# -- reading files ---------------------------------------------------------------------------------


@cache
def project() -> Files:
    """Return each text file of the project: what git tracks or would add; else all there is."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else _walk()
    files = {}
    for name in sorted(filter(None, names)):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in data:
            files[name] = data.decode()
    return files


def _walk() -> Iterator[str]:
    for path in ROOT.rglob("*"):
        name = path.relative_to(ROOT)
        if not any(part[0] == "." or part == "__pycache__" for part in name.parts):
            yield name.as_posix()


@cache
def tree(text: str) -> ast.Module:
    return ast.parse(text)


def python(files: Files, *under: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield path and syntax tree of the Python files below these folders."""
    for path, text in files.items():
        if path.startswith(under) and path.endswith(".py"):
            yield path, tree(text)


def imported(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of all that is imported anywhere in a module."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def called(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each call of a plain name."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def is_one_of(name: str, banned: Sequence[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in banned)


# -- sizes and names -------------------------------------------------------------------------------


@check(bad=[src("x = 1\n" * (FILE_LINES_MAX + 1))], good=[src("x = 1\n" * FILE_LINES_MAX)])
def files_are_short(files: Files) -> Complaints:
    for path, text in files.items():
        lines = text.count("\n")
        if path.startswith(SRC) and path.endswith(".py") and lines > FILE_LINES_MAX:
            yield f"{path}: {lines} lines; at {FILE_LINES_MAX} it has become two rooms"


@check(
    bad=[
        src("def f():\n" + "    x = 1\n" * 60),
        src("class C:\n  async def f():\n" + "    x = 1\n" * 60),
    ],
    good=[src('def f():\n    """Long.\n' + "\n" * 60 + '    """\n' + "    x = 1\n" * 59)],
)
def functions_fit_a_screen(files: Files) -> Complaints:
    for path, module in python(files, SRC):
        for node in ast.walk(module):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = _height(node) - (_height(node.body[0]) if ast.get_docstring(node) else 0)
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines without its docstring"


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@check(
    bad=[
        src("", "server/utils.py"),
        src("", "helpers/__init__.py"),
        {"tests/common.py": ""},
        src("", "core/ring_manager.py"),
        src("class RingManager: ..."),
    ],
    good=[src("", "core/commonality.py")],
)
def names_say_what_is_inside(files: Files) -> Complaints:
    vague = re.compile(r"(utils?|helpers?|common|misc)|.*_manager")
    for path, module in python(files, SRC, "tests/", "bench/"):
        for part in PurePosixPath(path).with_suffix("").parts:
            if vague.fullmatch(part):
                yield f"{path}: the name {part!r} says nothing"
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Manager"):
                yield f"{path}:{node.lineno}: the name {node.name!r} says nothing"


# -- what each file tells its reader ---------------------------------------------------------------

_GOOD_CARD = '"""A room.\n\n' + "\n".join(f"{heading} that." for heading in CARD) + '\n"""\n'


@check(
    bad=[
        src("", "room/__init__.py"),
        src(_GOOD_CARD.replace("Must never: that.", ""), "room/__init__.py"),
        src(_GOOD_CARD.replace("Must never: that.", "Must never:"), "room/__init__.py"),
        src(_GOOD_CARD.replace("A room.", "A room.\n" * CARD_LINES_MAX), "room/__init__.py"),
        src("", "room/machine.py"),
    ],
    good=[
        {
            **src(_GOOD_CARD, "__init__.py"),
            **src(_GOOD_CARD, "room/__init__.py"),
            **src("", "room/machine.py"),
        }
    ],
)
def every_package_has_a_room_card(files: Files) -> Complaints:
    for folder in sorted({str(PurePosixPath(path).parent) for path, _ in python(files, SRC)}):
        path = f"{folder}/__init__.py"
        card = ast.get_docstring(tree(files[path])) if path in files else None
        if card is None:
            yield f"{path}: no room card"
            continue
        headings = [
            heading for heading in CARD if re.search(rf"^{heading} +\S", card, re.MULTILINE)
        ]
        if headings != CARD:
            yield f"{path}: the room card lacks {sorted(set(CARD) - set(headings))}"
        if card.count("\n") >= CARD_LINES_MAX:
            yield f"{path}: the room card is longer than {CARD_LINES_MAX} lines"


@check(bad=[src("x = 1\n")], good=[src('"""What for."""\n')])
def every_module_says_what_it_is_for(files: Files) -> Complaints:
    for path, module in python(files, SRC):
        if not ast.get_docstring(module):
            yield f"{path}: no docstring"


@check(
    bad=[{"docs/a.md": "See [there](b.md)."}, {"README.md": "See [there](docs/design/)."}],
    good=[
        {
            "docs/a.md": "[a](b.md#part), [b](../docs/), [c](https://example.org), [d](#d)",
            "docs/b.md": "",
        }
    ],
)
def links_lead_somewhere(files: Files) -> Complaints:
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    for path, text in files.items():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if path.endswith(".md") else ():
            parts: list[str] = []
            for part in (*PurePosixPath(path).parent.parts, *PurePosixPath(target).parts):
                parts = parts[:-1] if part == ".." else [*parts, part]
            if (
                "://" not in target
                and "/".join(parts) not in files
                and "/".join(parts) not in folders
            ):
                yield f"{path}: the link to {target} leads nowhere"


# -- errors ----------------------------------------------------------------------------------------


@check(
    bad=[
        src("try:\n    f()\nexcept OSError:\n    pass"),
        src("try:\n    f()\nexcept OSError:\n    ..."),
    ],
    good=[src("try:\n    f()\nexcept FileNotFoundError:\n    found = False")],
)
def no_error_is_swallowed(files: Files) -> Complaints:
    for path, module in python(files, SRC):
        for node in ast.walk(module):
            if isinstance(node, ast.ExceptHandler) and all(map(_says_nothing, node.body)):
                yield f"{path}:{node.lineno}: the error is swallowed"


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


@check(
    bad=[
        src("try:\n    f()\nexcept:\n    x = 1"),
        src("try:\n    f()\nexcept Exception:\n    x = 1"),
        src("try:\n    f()\nexcept (OSError, builtins.BaseException) as error:\n    x = error"),
        src("with contextlib.suppress(Exception):\n    f()"),
    ],
    good=[
        src("try:\n    f()\nexcept Exception as error:\n    raise StorageError('no') from error"),
        src("try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        src("try:\n    f()\nexcept OSError:\n    x = 1"),
    ],
)
def no_except_is_blanket(files: Files) -> Complaints:
    """A handler for everything must end in a raise: after tidying up, or with a better error."""
    for path, module in python(files, SRC):
        for node in ast.walk(module):
            match node:
                case ast.ExceptHandler():
                    caught = [node.type] if node.type else []
                    wide = not caught or _catches_all(caught)
                    blanket = wide and not isinstance(node.body[-1], ast.Raise)
                case ast.Call():
                    blanket = _name(node.func) == "suppress" and _catches_all(node.args)
                case _:
                    continue
            if blanket:
                yield f"{path}:{node.lineno}: catches everything"


def _catches_all(caught: Sequence[ast.expr]) -> bool:
    kinds: list[ast.expr] = []
    for kind in caught:
        kinds += kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(_name(kind) in ("Exception", "BaseException") for kind in kinds)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


# -- what nobody may use ---------------------------------------------------------------------------

DANGEROUS_MODULES = ["cloudpickle", "dill", "marshal", "pickle", "shelve", "yaml"]
DANGEROUS_CALLS = ["eval", "exec", "__import__"]


@check(
    bad=[
        src("import pickle"),
        src("from yaml import load"),
        src("def f():\n    import marshal"),
        src("eval('1')"),
    ],
    good=[src("from everwrite.core import wire\nmodel.eval()")],
)
def bytes_never_become_code(files: Files) -> Complaints:
    for path, module in python(files, SRC, "tests/", "bench/"):
        for line, name in imported(module):
            if is_one_of(name, DANGEROUS_MODULES):
                yield f"{path}:{line}: imports {name}"
        for line, name in called(module):
            if name in DANGEROUS_CALLS:
                yield f"{path}:{line}: calls {name}"


@check(
    bad=[
        {"tests/test_a.py": "from unittest import mock"},
        {"tests/test_a.py": "import unittest.mock"},
    ]
)
def tests_use_the_real_thing(files: Files) -> Complaints:
    for path, module in python(files, "tests/"):
        for line, name in imported(module):
            if is_one_of(name, ["mock", "unittest.mock"]):
                yield f"{path}:{line}: imports {name}; use the real thing"


@cache
def banned_in_core() -> list[str]:
    """Return what the sans-IO contract of import-linter forbids: one list, in one place."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return next(
        each["forbidden_modules"] for each in config["contracts"] if each["id"] == "sans-io"
    )


IMPURE_CALLS = ["breakpoint", "hash", "id", "input", "open", "print"]
"""``hash`` and ``id`` differ between processes: equal events would no longer give equal effects."""


@check(
    bad=[
        core("import asyncio"),
        core("from time import monotonic"),
        core("def f():\n    import os.path"),
        core("print(1)"),
        core("hash('a')"),
        core("def f():\n    global x\n    x = 1"),
    ],
    good=[
        core("import hashlib, msgspec\nself.open()"),
        src("import asyncio\nprint(1)", "server/sample.py"),
    ],
)
def the_core_is_pure(files: Files) -> Complaints:
    for path, module in python(files, CORE):
        for line, name in imported(module):
            if is_one_of(name, banned_in_core()):
                yield f"{path}:{line}: imports {name}"
        for line, name in called(module):
            if name in IMPURE_CALLS:
                yield f"{path}:{line}: calls {name}"
        for node in ast.walk(module):
            if isinstance(node, ast.Global):
                yield f"{path}:{node.lineno}: has global variables"


# -- words -----------------------------------------------------------------------------------------
# The patterns are written so that they do not find themselves.

UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")


@check(
    bad=[{"Makefile": "# TO" + "DO later"}, src("x = 1  # FIX" + "ME")],
    good=[{"docs/a.md": "what to do"}],
)
def nothing_is_left_for_later(files: Files) -> Complaints:
    yield from _found(files, UNFINISHED, "is a note for later; open an issue, or do it")


FOREIGN = re.compile(
    r"[s]ession that wrote|[d]eveloper session|[c]losing note"  # how the text came to be
    r"|(?<![\w.$}])/(?:[w]ork|[r]oot|[h]ome|[U]sers|[f]arm)/|/tmp/[c]ontract|\.\./[s]hared\b|\.[l]ibrary/"
    r"|[p]ypi\.org|[p]ythonhosted|[n]pmjs\.|[c]rates\.io|[p]roxy\.golang|[m]aven\.org|[d]eb\.debian",
    re.IGNORECASE,
)


@check(
    bad=[
        {"docs/a.md": "The session " + "that wrote this"},
        {"docs/a.md": "see /" + "work/main"},
        src("PATH = '/" + "home/ann/data'"),
        {"setup.cfg": "index = https://py" + "pi.org/simple"},
        {"README.md": "see .." + "/shared/DESIGN.md"},
    ],
    good=[{"docs/a.md": "A session reads what it wrote; see docs/work/a.md and ./home/."}],
)
def a_text_stands_by_itself(files: Files) -> Complaints:
    """No word about where or on what occasion it was written, no registry's address."""
    yield from _found(files, FOREIGN, "does not belong in the project")


def _found(files: Files, pattern: re.Pattern[str], why: str) -> Complaints:
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                yield f"{path}:{number}: {match[0]!r} {why}"


# -- the two ways in which each check runs ---------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.find.__name__)
def test_the_project_is_tidy(check: Check) -> None:
    complaints = list(check.find(project()))

    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("check", "sample"),
    [
        pytest.param(check, bad, id=f"{check.find.__name__}-{i}")
        for check in CHECKS
        for i, bad in enumerate(check.bad)
    ],
)
def test_each_check_finds_its_bad_samples(check: Check, sample: Files) -> None:
    assert list(check.find(sample))


@pytest.mark.parametrize(
    ("check", "sample"),
    [
        pytest.param(check, good, id=f"{check.find.__name__}-{i}")
        for check in CHECKS
        for i, good in enumerate(check.good)
    ],
)
def test_each_check_lets_its_good_samples_pass(check: Check, sample: Files) -> None:
    assert not list(check.find(sample))
