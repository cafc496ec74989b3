"""The register of deliberate bugs: what is wrong, which rule should say so, and the patch.

A bug is a function that returns what to put where; ``planted`` puts it there for the time of a run
and takes it away again. Some bugs show only under certain faults or knobs: they name them
(``needs``), and are looked for only among the seeds that have those switched on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol

from everwrite.core.errors import ConfigError
from everwrite.sim.options import Options, draw

Patch = tuple[Any, str, Any]
"""(owner, name, what stands there while the bug is planted)."""


class Bug(NamedTuple):
    """A mistake in one sentence, and the patch that makes it."""

    area: str
    sentence: str
    rules: tuple[str, ...]
    """Rules that say so when they are broken; a finding by any other rule does not count."""
    needs: tuple[str, ...]
    """Faults, knobs or yes-or-no options that a seed must have for the bug to show."""
    without: tuple[str, ...]
    """Those that it must not have: a rule that they suspend is the only one to show it."""
    plant: Callable[[], AbstractContextManager[None]]


class Register(Protocol):
    """Registers a bug of one area."""

    def __call__(
        self,
        name: str,
        sentence: str,
        *,
        rules: tuple[str, ...],
        needs: tuple[str, ...] = (),
        without: tuple[str, ...] = (),
    ) -> Callable[[Callable[[], list[Patch]]], None]:
        """Return what takes the function that makes the patches."""


BUGS: dict[str, Bug] = {}


def area(title: str) -> Register:
    """Return what registers the bugs of one area."""

    def bug(
        name: str,
        sentence: str,
        *,
        rules: tuple[str, ...],
        needs: tuple[str, ...] = (),
        without: tuple[str, ...] = (),
    ) -> Callable[[Callable[[], list[Patch]]], None]:
        def register(patches: Callable[[], list[Patch]]) -> None:
            plant = partial(_plant, patches)
            BUGS[name] = Bug(title, sentence, rules, needs, without, plant)

        return register

    return bug


def _plant(patches: Callable[[], list[Patch]]) -> AbstractContextManager[None]:
    return _planted(patches())


@contextmanager
def _planted(patches: list[Patch]) -> Iterator[None]:
    old = [(owner, name, vars(owner)[name]) for owner, name, _ in patches]
    for owner, name, new in patches:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)


def find(name: str) -> Bug:
    """Return the bug of this name; ConfigError if there is none such."""
    if name not in BUGS:
        raise ConfigError(
            f"There is no deliberate bug {name!r}.", hint=f"Use one of: {', '.join(BUGS)}."
        )
    return BUGS[name]


def planted(name: str) -> AbstractContextManager[None]:
    """Return a context in which the core has this bug; ConfigError if there is none such."""
    return find(name).plant()


def seeds_for(bug: Bug) -> Iterator[int]:
    """Yield the seeds that have switched on what this bug needs to show."""
    return (seed for seed in count() if _suits(draw(seed), bug))


def _suits(options: Options, bug: Bug) -> bool:
    def has(what: str) -> bool:
        return what in options.faults or what in options.knobs or getattr(options, what, 0) is True

    return all(map(has, bug.needs)) and not any(map(has, bug.without))
