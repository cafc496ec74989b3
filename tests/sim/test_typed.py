"""The judges of data types by hand-made histories; the planted bugs (``test_bugs.py``) show the
others of them on whole runs.
"""

from __future__ import annotations

from typing import Any

import pytest

from everwrite.core.data import context, versions
from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.messages.requests import PutReply
from everwrite.core.types.composing import compose
from everwrite.sim.history import Operation, Outcome
from everwrite.sim.ledger import Ledger
from everwrite.sim.options import draw
from everwrite.sim.run import run_seed
from everwrite.sim.truth import Source, Violation
from everwrite.sim.typed.answers import Shown, counted
from everwrite.sim.typed.judge import judge_typed
from everwrite.sim.typed.pieces import Asked, Standing, read
from everwrite.sim.typed.rules import COUNTER, ELEMENT, REGISTER, ids_of, judge_mint, new_pieces
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


def machines_that_know(key: TypedKey, *masks: int) -> None:
    """Let each machine have these pieces on its disk for good."""
    ledger = key.ledger
    ledger._visible[key.data_key] = list(masks)
    ledger._safe[key.data_key] = list(masks)


def answered(key: TypedKey, put: Asked, token: bytes = b"", *, acks: int = 2) -> str:
    """Return the rule that an answer to a put breaks which says that so many have it for good."""
    ledger = key.ledger
    ledger.tried_typed(1, 7, key, put)
    try:
        ledger.answering(1, PutReply(7, token, acks, 0, acks, 0, acks, retried=True, results=[0]))
    except Violation as violation:
        return violation.rule
    return ""


OLD, TOMBSTONE, NEW = (1 << place for place in range(3))


def removed_twice() -> tuple[TypedKey, Asked]:
    """Return a key of three machines, and a remove that one of them has carried out; another, which
    had not heard of that, found nothing to take away, and sent others the newer record that it had.
    """
    key = Ledger(3).open_typed_key(b"p" * 8 + b"bag", "bag0")
    put = asked(key, ("exclude", (), ["x"]), outcome="pending")
    for name in ("old/0", "t.0/0", "new/0"):
        key.causality.add(name, 0, delete=False)
    key.chains[NODE] = [0, 1, 2]
    put.firsts, put.sent = [1], [OLD | NEW]
    return key, put


@pytest.mark.parametrize(("second", "rule"), [(OLD | NEW, ""), (OLD, "quorum")])
def test_a_remove_that_finds_nothing_is_acknowledged_by_who_knows_what_its_coordinator_did(
    second: int, rule: str
) -> None:
    key, put = removed_twice()
    machines_that_know(key, OLD | TOMBSTONE, OLD | NEW, second)

    assert answered(key, put) == rule
    assert answered(key, put, acks=0) == ""  # there is no such key


def test_a_remove_that_found_nothing_is_not_held_to_what_an_earlier_try_took_elsewhere() -> None:
    key, put = removed_twice()
    put.places, put.operation.outcome = list(put.firsts), "ok"
    with pytest.raises(Violation, match="in the end not known"):
        judge_typed(key, end())

    put.elsewhere = not key.claims_pieces(put, PutReply(1, b"", 2, 0, 0, 0))
    judge_typed(key, end())


def test_a_remove_whose_context_names_it_is_acknowledged_by_who_has_it() -> None:
    key, put = removed_twice()
    machines_that_know(key, OLD | TOMBSTONE, OLD | NEW, OLD | NEW)
    token = context.sign(b"k" * 32, key.data_key, Seen({}, [(NODE, 2)]))

    assert answered(key, put, token) == "quorum"
    machines_that_know(key, OLD | TOMBSTONE, OLD | TOMBSTONE, OLD | NEW)
    assert answered(key, put, token) == ""


@pytest.mark.parametrize("changes", [("add", (), 1), ("include", (), ["x"])])
def test_what_adds_something_is_acknowledged_by_who_has_that(changes: Any) -> None:
    key, put = removed_twice()
    put.changes = [changes]
    machines_that_know(key, OLD | TOMBSTONE, OLD | NEW, OLD | NEW)

    assert answered(key, put) == "quorum"


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [(b"24", b"text", ""), (b"text", b"24", "exact"), (b"1", b"24", "exact")],
)
def test_an_increment_takes_registers_away_whose_last_one_is_a_text(
    first: bytes, second: bytes, rule: str
) -> None:
    key = key_of("wild")
    put = asked(key, ("add", (), 5), outcome="pending")
    for name in ("a/0", "b/0", "c/0", "t.0/0"):
        key.causality.add(name, 0, delete=False)
    base = [
        piece(0, REGISTER, [0, first], 3),
        piece(1, REGISTER, [0, second], 4),
        piece(2, COUNTER, 1, 5),
    ]
    version = Version(NODE, 4, b"", 6, b"t.0")

    broken = ""
    try:
        new = [Standing(3, version, COUNTER, (), 5)]
        judge_mint(key, Source(0, b"", b""), put, base, {0, 1}, base[2:], new)
    except Violation as violation:
        broken = violation.rule
    assert broken == rule


def test_a_session_knows_what_its_context_stands_for_and_not_what_a_retry_was_told() -> None:
    key = key_of("tally")
    key.ledger.node_ids = [NODE[:8]]
    siblings: list[Version] = []
    for counter, amount in enumerate((5, 2), 1):
        put = asked(key, ("add", (), amount), outcome="pending")
        op = put.operation.id.encode()
        siblings.append(Version(NODE, counter, b"\x93\x01\x90%c" % amount, counter, op, KIND_PIECE))
        record = versions.encode(Record({NODE: counter}, list(siblings)))
        key.judge(Source(0, b"d" + key.data_key, b""), record)
    first, second = (
        context.sign(b"k" * 32, key.data_key, Seen({}, [(NODE, counter)])) for counter in (1, 2)
    )

    assert counted(key, key.known_by(first)) == 5
    assert counted(key, key.known_by(second)) == 7
    assert counted(key, 0) == 0


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
