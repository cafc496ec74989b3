"""The judges of data types by hand-made histories; the planted bugs (``test_bugs.py``) show the
others of them on whole runs.
"""

from __future__ import annotations

from typing import Any

import pytest

from everwrite.core.data.versions import Version
from everwrite.core.types.composing import compose
from everwrite.sim.history import Operation, Outcome
from everwrite.sim.ledger import Ledger
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed
from everwrite.sim.truth import Violation
from everwrite.sim.typed.answers import Shown
from everwrite.sim.typed.judge import judge_typed
from everwrite.sim.typed.pieces import Asked, Standing, read
from everwrite.sim.typed.rules import COUNTER, ELEMENT, ids_of, new_pieces
from everwrite.sim.typed.shown import plain, shown
from everwrite.sim.typed.truth import TypedKey
from everwrite.sim.world import World

NODE = b"n" * 8 + b"e" * 8
TYPED = next(seed for seed in range(1000) if draw(seed).typed and draw(seed).nodes < 6)
PLAIN = next(seed for seed in range(1000) if not draw(seed).typed)


def key_of(kind: str) -> TypedKey:
    return Ledger(1).open_typed_key(b"p" * 8 + kind.encode(), f"{kind}0")


def asked(
    key: TypedKey,
    *changes: Any,
    at: int = 0,
    outcome: Outcome = "ok",
    used: int = 0,
) -> Asked:
    """Return a put that began then, and ended one later."""
    name = f"t.{len(key.asked)}"
    operation = Operation(name, "t", "change", key.name, at, [], at + 1, outcome)
    put = Asked(operation, list(changes), used=used)
    key.invoked(put)
    return put


def piece(place: int, kind: int, payload: Any, time_ms: int = 1, path: Any = ()) -> Standing:
    return Standing(place, Version(NODE, place + 1, b"", time_ms, b""), kind, path, payload)


def end(*pieces: Standing) -> Shown:
    return Shown(0, list(pieces), shown(pieces))


def rule_of(key: TypedKey, *pieces: Standing) -> str:
    """Return the rule that the end of a key breaks; empty if none."""
    try:
        judge_typed(key, end(*pieces))
    except Violation as violation:
        return violation.rule
    return ""


@pytest.mark.parametrize(("value", "rule"), [(4, "sum"), (5, ""), (7, ""), (8, "sum")])
def test_a_counter_is_what_was_acknowledged_and_some_of_what_is_not_known(
    value: int, rule: str
) -> None:
    key = key_of("tally")
    asked(key, ("add", (), 5))
    asked(key, ("add", (), 2), outcome="unknown")
    asked(key, ("add", (), 9), outcome="fail")

    assert rule_of(key, piece(0, COUNTER, value)) == rule


def test_a_counter_that_nobody_finds_is_lost() -> None:
    key = key_of("tally")
    asked(key, ("add", (), 5))

    assert rule_of(key) == "sum"


def test_an_element_stands_unless_somebody_may_have_taken_it() -> None:
    key = key_of("bag")
    asked(key, ("exclude", (), ["x"]), at=0)
    asked(key, ("include", (), ["x"]), at=10)
    assert rule_of(key, piece(0, ELEMENT, "x")) == ""
    assert rule_of(key) == "lost"

    asked(key, ("exclude", (), ["x"]), at=5, outcome="unknown")  # it may be carried out yet
    assert rule_of(key) == ""


def test_what_nobody_has_added_is_made_up() -> None:
    key = key_of("bag")
    asked(key, ("include", (), ["x"]))

    assert rule_of(key, piece(0, ELEMENT, "x"), piece(1, ELEMENT, "y")) == "made up"


def test_what_its_remover_had_seen_does_not_return() -> None:
    key = key_of("bag")
    asked(key, ("include", (), ["x"]))
    remove = asked(key, ("exclude", (), ["x"]), at=5, used=0b1)
    key.causality.add("t.0/0", 0, delete=False)
    remove.firsts = [1]
    there = piece(0, ELEMENT, "x")

    assert rule_of(key, there) == "returned"
    remove.used = 0
    assert rule_of(key, there) == ""


def test_a_put_comes_to_the_pieces_that_its_operations_leave() -> None:
    changes = [
        ("add", (), 2),
        ("include", ("s",), ["x", "y"]),
        ("exclude", ("s",), ["x"]),
        ("add", (), 3),
        ("assign", ("m", "r"), [0, b"1"]),
        ("remove", ("m",), None),
    ]

    assert new_pieces(changes) == [(ELEMENT, ("s",), "y"), (COUNTER, (), 5)]
    assert ids_of(b"op", 2)[0] == b"op" != ids_of(b"op", 2)[1]


@pytest.mark.parametrize(
    "values",
    [
        [b"\x93\x01\x90\x05", b"\x93\x01\x90\xff"],
        [b"\x93\x00\x90\x92\x00\xc4\x017", b"\x93\x01\x90\x05"],
        [b"\x93\x00\x90\x92\x00\xc4\x01x", b"\x93\x01\x90\x05"],
        [b"\x93\x02\x91\xa1s\xa1a", b"\x93\x03\x91\xa1f\xc0", b"\x93\x01\x92\xa1m\xa1n\x05"],
        [b"\x93\x02\x90\xa1a", b"\x93\x03\x91\xa1f\xc0"],
    ],
)
def test_what_is_shown_is_said_twice_in_other_words(values: list[bytes]) -> None:
    marks = [(NODE, number, number) for number in range(1, len(values) + 1)]
    pieces = [
        read(number, Version(NODE, number, value, number, b"", 3))
        for number, value in enumerate(values, 1)
    ]

    assert shown(pieces) == plain(compose([(3, value) for value in values], marks)) is not None


def test_a_seed_without_data_types_knows_nothing_of_them() -> None:
    world = World(draw(PLAIN))

    assert not world.typed_keys and len(world.clients) == world.options.clients
    assert all(machine.batch is dict for machine in world.machines)


def test_a_seed_with_data_types_does_no_more_than_others_and_the_same_each_time() -> None:
    first = run_seed(TYPED)

    assert first.findings == []
    assert first.operations["change"]["ok"] and first.operations["compose"]["ok"]
    assert run_seed(TYPED).trace == first.trace
