"""docs/design/scenarios.md and the tests agree: each of the 81 is shown, or named as open."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.scenarios.stage import scenario

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design" / "scenarios.md"
SCENARIOS = 81

_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py::\w+)`")
_FIGURES = re.compile(r"(\d+) are shown, (\d+) in part, (\d+) are open")


def test_every_scenario_has_its_line_in_order() -> None:
    assert [number for number, _ in _rows()] == list(range(1, SCENARIOS + 1))


def test_the_page_names_exactly_the_tests_that_bear_the_numbers() -> None:
    named = {(number, test) for number, text in _rows() for test in _TEST.findall(text)}

    marked = _marked()

    assert named - marked == set(), "the page names tests that do not bear this number"
    assert marked - named == set(), "tests bear a number and are not on the page"


def test_every_scenario_is_shown_or_says_what_it_waits_for() -> None:
    for number, text in _rows():
        tests = bool(_TEST.search(text))
        assert tests != ("open: " in text), f"{number} has a test, or is open, and not both"
        assert tests or "open in part" not in text


def test_the_page_counts_right() -> None:
    kinds = Counter(
        "open" if "open: " in text else "part" if "open in part: " in text else "shown"
        for _, text in _rows()
    )

    figures = _FIGURES.search(PAGE.read_text())

    assert figures is not None
    assert tuple(map(int, figures.groups())) == (kinds["shown"], kinds["part"], kinds["open"])


def test_a_number_that_no_scenario_has_would_be_found() -> None:
    mark = scenario(0).mark
    assert mark.name == "scenario" and mark.args == (0,)
    found = _numbers(ast.parse("@scenario(0)\n@pytest.mark.scenario(82)\ndef test_x(): pass"))
    assert found == [(0, "test_x"), (82, "test_x")]


def _rows() -> list[tuple[int, str]]:
    """Return the number of each line of the page, and what shows it."""
    return [(int(row[1]), row[4]) for row in _ROW.finditer(PAGE.read_text())]


def _marked() -> set[tuple[int, str]]:
    """Return the numbers that tests bear, read from their text: nothing is run or imported."""
    return {
        (number, f"{path.relative_to(ROOT / 'tests')}::{name}")
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for number, name in _numbers(ast.parse(path.read_text()))
    }


def _numbers(module: ast.Module) -> list[tuple[int, str]]:
    found = []
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            called = decorator.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "scenario":
                number = ast.literal_eval(decorator.args[0])
                found.append((number, node.name))
    return found
