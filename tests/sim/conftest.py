"""Worlds that the tests of the judges break."""

from __future__ import annotations

import pytest
from tests.sim.judged import CALM

from everwrite.sim.options import draw
from everwrite.sim.world import World


@pytest.fixture
def world() -> World:
    """Return a cluster that has done its work, and is at rest."""
    world = World(draw(CALM))
    world.boot()
    world.chaos()
    world.heal()
    return world


@pytest.fixture
def fresh() -> World:
    """Return a cluster in which nothing has happened yet."""
    return World(draw(CALM))
