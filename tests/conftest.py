"""Three workers (``make test``), each with one kind of tests, so that no two of a kind meet.

Those with real processes mostly wait, and more of them at a time would take from each other what
they wait for. So do those with real sockets. The others need one core for as long.
"""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# How long an example may take is no matter of what is right, on a machine with other work.
hypothesis.settings.register_profile("everwrite", deadline=None)
hypothesis.settings.load_profile("everwrite")

PROCESSES = frozenset({"browser", "chaos", "cli", "clients", "process"})
SOCKETS = frozenset({"client", "server", "storage", "test_examples.py", "test_pages.py"})


class ByKind(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker one kind of tests."""

    def _split_scope(self, nodeid: str) -> str:
        room = nodeid.removeprefix("tests/").split("::")[0].split("/")[0]
        if room in PROCESSES:
            return "processes"
        return "sockets" if room in SOCKETS else "pure"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByKind:
    return ByKind(config, log)
