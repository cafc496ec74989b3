"""Two workers (``make test``): one has all tests with real processes, the other one all others.

Tests with real processes mostly wait, and more of them at a time would take from each other what
they wait for. The others need one core for as long.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REAL = frozenset({"chaos", "cli", "client", "process", "server", "storage", "test_examples.py"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room = item.path.relative_to(TESTS).parts[0]
        item.add_marker(pytest.mark.xdist_group("real" if room in REAL else "pure"))
