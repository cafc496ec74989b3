"""Plans: what they rule, what they refuse, what they say that they move, and how they cross."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from everwrite.core.cluster.forecast import Forecast, forecast
from everwrite.core.cluster.holdings import all_bits, packed
from everwrite.core.cluster.members import MemberTable, founding
from everwrite.core.cluster.placement import Placement, place
from everwrite.core.cluster.plans import (
    CHANGES_MAX,
    Change,
    cancel,
    commit,
    stage,
    stands,
)
from everwrite.core.config import ClusterConfig
from everwrite.core.errors import RequestError
from everwrite.core.messages.members import IN, LEAVING, REMOVED, Draft, Member, News, Ruling

CLUSTER = ClusterConfig(cluster_id=b"c" * 8, partitions=64, replicas=3)


def node_id(name: str) -> bytes:
    return random.Random(name).randbytes(8)


def member(name: str, zone: str = "", weight: float = 1.0, serves: bytes = b"") -> Member:
    return Member(
        node_id(name), name, "127.0.0.1", 1, zone or name, weight, 1, 1, b"", serves, serves
    )


def cluster_of(*names: str, waiting: Iterable[str] = (), zones: Sequence[str] = ()) -> MemberTable:
    """Return the table of a settled cluster: all serve what they own; ``waiting`` did not join."""
    inside = [
        member(name, zones[at % len(zones)] if zones else "") for at, name in enumerate(names)
    ]
    table = MemberTable(inside[0], [*inside[1:], *map(member, waiting)], founding(inside))
    return settled(table)


def settled(table: MemberTable) -> MemberTable:
    """Return the table with bitmaps as they are when nothing is on its way."""
    owned = owners_of(table).owned()
    entries = []
    for entry in table:
        held = packed(all_bits(owned.get(entry.node_id, ())))
        entries.append(replace(entry, serves=held, keeps=held))
    me = next(entry for entry in entries if entry.node_id == table.me.node_id)
    return MemberTable(me, entries, table.rulings.values(), table.draft)


def owners_of(table: MemberTable, cluster: ClusterConfig = CLUSTER) -> Placement:
    return place(table.candidates(), cluster.partitions, cluster.replicas)


def change(text: str) -> Change:
    """Return the change that a line such as "replace n1 n4" asks for."""
    verb, node, *more = text.split()
    match verb:
        case "replace":
            return Change(verb, node, by=more[0], dead="dead" in more)
        case "weight":
            return Change(verb, node, weight=float(more[0]))
        case "zone":
            return Change(verb, node, zone=more[0])
    return Change(verb, node)  # type: ignore[arg-type]


def staged(table: MemberTable, *texts: str, force: bool = False, up: str = "") -> Draft:
    """Stage the changes, as a node would: its table has the draft then."""
    seem_up = frozenset(map(node_id, up.split()))
    draft = stage(table, CLUSTER, list(map(change, texts)), up=seem_up, force=force)
    table.merge(News([], [], draft))
    return draft


def committed(table: MemberTable) -> None:
    table.merge(commit(table))


def ruled(table: MemberTable, name: str) -> tuple[int, str, float]:
    ruling = table.rulings[node_id(name)]
    return ruling.standing, ruling.zone, ruling.weight


def described(table: MemberTable, draft: Draft, each: float = 0, up: str = "") -> Forecast:
    return forecast(
        table,
        CLUSTER,
        draft.rulings,
        up=set(map(node_id, up.split())),
        bytes_per_partition=each,
        move_bytes_per_s=1000,
    )


# -- from a change to a ruling ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "ruling"),
    [
        ("join n5", "n5", (IN, "n5", 1.0)),
        ("leave n4", "n4", (LEAVING, "n4", 1.0)),
        ("remove n4", "n4", (REMOVED, "n4", 1.0)),
        ("remove n5", "n5", (REMOVED, "n5", 1.0)),
        ("weight n2 2.5", "n2", (IN, "n2", 2.5)),
        ("zone n2 attic", "n2", (IN, "attic", 1.0)),
    ],
)
def test_a_committed_change_becomes_a_ruling(
    text: str, name: str, ruling: tuple[int, str, float]
) -> None:
    table = cluster_of("n1", "n2", "n3", "n4", waiting=["n5"])

    staged(table, text)
    assert table.standing(node_id("n5")) is None
    committed(table)

    assert ruled(table, name) == ruling
    assert table.draft.rulings == []


def test_nobody_goes_by_a_plan_before_it_is_committed() -> None:
    table = cluster_of("n1", "n2", "n3", waiting=["n4"])
    before = owners_of(table)

    staged(table, "join n4")

    assert owners_of(table) == before


def test_nodes_can_be_named_by_their_hex_id() -> None:
    table = cluster_of("n1", "n2", "n3", waiting=["n4"])

    staged(table, f"join {node_id('n4').hex()}")

    assert [ruling.name for ruling in table.draft.rulings] == ["n4"]


def test_several_changes_make_one_plan_and_the_last_on_a_node_wins() -> None:
    table = cluster_of("n1", "n2", "n3", "n4", waiting=["n5"])

    staged(table, "join n5", "weight n1 2")
    staged(table, "weight n1 3", "leave n4")
    committed(table)

    assert ruled(table, "n1") == (IN, "n1", 3.0)
    assert ruled(table, "n4")[0] == LEAVING
    assert ruled(table, "n5")[0] == IN
    assert len({(ruling.stamp, ruling.plan) for ruling in table.rulings.values()}) == 2


def test_a_change_that_is_taken_back_leaves_the_plan() -> None:
    table = cluster_of("n1", "n2", "n3", "n4", waiting=["n5"])

    staged(table, "leave n4", "join n5")
    assert staged(table, "join n4", "leave n5").rulings == []


def test_a_leaving_node_can_be_kept_after_all() -> None:
    table = cluster_of("n1", "n2", "n3", "n4")
    staged(table, "weight n4 2", "leave n4")
    committed(table)

    staged(table, "join n4")
    committed(table)

    assert ruled(table, "n4") == (IN, "n4", 2.0)


# -- replacing -------------------------------------------------------------------------------------


def test_a_node_that_is_up_hands_over_to_its_replacement() -> None:
    table = cluster_of("n1", "n2", "n3", waiting=["n4"])
    staged(table, "weight n3 2")
    committed(table)

    staged(table, "replace n3 n4", up="n2 n3 n4")
    committed(table)

    assert ruled(table, "n3") == (LEAVING, "n3", 2.0)
    assert ruled(table, "n4") == (IN, "n4", 2.0)


def test_a_node_that_is_silent_is_not_removed_for_its_replacement_without_a_word() -> None:
    table = cluster_of("n1", "n2", "n3", waiting=["n4"])

    with pytest.raises(RequestError, match="n3 does not answer now") as refused:
        staged(table, "replace n3 n4", up="n2 n4")

    assert "--dead" in refused.value.hint


def test_a_node_that_is_said_to_be_dead_is_removed_for_its_replacement() -> None:
    table = cluster_of("n1", "n2", "n3", waiting=["n4"])

    staged(table, "replace n3 n4 dead", up="n2 n4")
    committed(table)

    assert table.removed(node_id("n3"))
    assert owners_of(table).replicas == 3


@pytest.mark.parametrize(("own", "zone"), [("", "attic"), ("cellar", "cellar")])
def test_a_replacement_takes_the_zone_of_the_old_node_unless_it_has_its_own(
    own: str, zone: str
) -> None:
    table = cluster_of("n1", "n2", "n3", "n4")
    table.merge(News([member("n5", own)], []))
    staged(table, "zone n4 attic")
    committed(table)

    staged(table, "replace n4 n5", up="n4")
    committed(table)

    assert ruled(table, "n5") == (IN, zone, 1.0)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("join n9", "There is no node 'n9'. Nothing was changed. Known: n1, n2, n3, n4, n5."),
        ("join n1", "n1 is in the cluster already"),
        ("join gone", "gone was removed, and that is for ever"),
        ("leave gone", "--rejoin-as-new"),
        ("leave n5", "n5 has not joined"),
        ("leave n5", "everwrite plan remove n5."),
        ("weight n5 2", "everwrite plan join n5"),
        ("zone n5 attic", "n5 has not joined"),
        ("weight n1 0", "A weight of 0 is not possible"),
        ("weight n1 -1", "A weight of -1 is not possible"),
        ("weight n1 1001", "up to 1000"),
        ("weight n1 nan", "A weight of nan is not possible"),
        ("weight n1 1", "n1 has a weight of 1 already"),
        (f"zone n1 {'z' * 65}", "A zone cannot be named"),
        ("zone n1 a\x07b", "printable text"),
        ("zone n1 n1", "n1 is in zone n1 already"),
        ("replace n1 n1", "n1 cannot take its own place"),
        ("replace n1 n2", "n2 has its own place in the cluster"),
        ("replace n5 n6", "There is no node 'n6'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason_and_changes_nothing(
    text: str, says: str
) -> None:
    table = cluster_of("n1", "n2", "n3", "n4", "gone", waiting=["n5"])
    staged(table, "remove gone")
    committed(table)
    before = table.everything()

    with pytest.raises(RequestError) as refused:
        staged(table, "weight n2 3", text)

    assert says in str(refused.value)
    assert "Nothing was changed." in refused.value.hint
    assert table.everything() == before


def test_two_nodes_of_one_name_must_be_told_apart_by_their_ids() -> None:
    table = cluster_of("n1", "n2", "n3", "n4")
    table.merge(News([replace(member("twin"), name="n4")], []))

    with pytest.raises(RequestError, match="2 nodes are named n4"):
        staged(table, "leave n4")

    staged(table, f"leave {node_id('n4').hex()}")


def test_a_change_without_its_node_is_refused() -> None:
    table = cluster_of("n1", "n2", "n3", "n4")

    with pytest.raises(RequestError, match="A node is missing"):
        stage(table, CLUSTER, [Change("replace", "n1")])


@pytest.mark.parametrize("number", [0, CHANGES_MAX + 1])
def test_a_plan_of_no_changes_or_too_many_is_refused(number: int) -> None:
    with pytest.raises(RequestError, match=f"not {number}"):
        stage(cluster_of("n1"), CLUSTER, [Change("join", "n1")] * number)


def test_the_last_node_stays_even_if_it_is_forced() -> None:
    for text in ("leave n1", "remove n1"):
        with pytest.raises(RequestError, match="No node would be left"):
            staged(cluster_of("n1"), text, force=True)


@pytest.mark.parametrize("text", ["leave n3", "remove n3"])
def test_fewer_nodes_than_replicas_must_be_forced(text: str) -> None:
    table = cluster_of("n1", "n2", "n3")

    with pytest.raises(RequestError, match="2 nodes would be left for 3 replicas") as refused:
        staged(table, text)

    assert "--force" in refused.value.hint
    staged(table, text, force=True)
    committed(table)
    assert owners_of(table).replicas == 2


def test_a_cluster_that_never_had_enough_nodes_may_shrink() -> None:
    table = cluster_of("n1", "n2")

    staged(table, "leave n2")
    committed(table)

    assert owners_of(table).replicas == 1


@pytest.mark.parametrize("text", ["leave n3", "zone n3 a"])
def test_two_copies_in_one_zone_must_be_forced(text: str) -> None:
    table = cluster_of("n1", "n2", "n3", "n4", zones=["a", "b", "c", "a"])

    with pytest.raises(RequestError, match="2 zones would be left for 3 replicas"):
        staged(table, text)

    staged(table, text, force=True)


def test_zones_that_were_never_enough_are_not_asked_for() -> None:
    table = cluster_of("n1", "n2", "n3", "n4", zones=["a", "b"])

    staged(table, "leave n4")


def test_removing_all_holders_of_a_partition_must_be_forced_and_names_it() -> None:
    table = cluster_of("n1", "n2", "n3", "n4", "n5", "n6", "n7")
    placement = owners_of(table)
    partition = 17
    names = [f"n{i}" for i in range(1, 8) if node_id(f"n{i}") in placement.owners(partition)]
    removals = [f"remove {name}" for name in names]

    staged(table, *removals[:2])  # one holder is left: the others can copy from it
    with pytest.raises(RequestError) as refused:
        staged(table, removals[2])

    assert " and ".join(names) in str(refused.value)
    assert "may hold the last copies of partition" in str(refused.value)
    assert "17" in str(refused.value)
    assert "--force" in refused.value.hint
    draft = staged(table, removals[2], force=True)
    assert any("may lose their last copies" in note for note in described(table, draft).notes)


# -- commit and cancel -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "since",
    [
        Ruling(node_id("n5"), "n5", IN, "n5", 1.0, 2, b"p"),
        Ruling(node_id("n2"), "n2", IN, "n2", 7.0, 2, b"p"),
        Ruling(node_id("n2"), "n2", IN, "attic", 1.0, 2, b"p"),
        Ruling(node_id("n2"), "n2", IN, "n2", 1.0, 2, b"p"),
    ],
    ids=["another node", "its weight", "its zone", "the same again"],
)
def test_a_cluster_that_changed_since_must_be_planned_again(since: Ruling) -> None:
    table = cluster_of("n1", "n2", "n3", "n4", waiting=["n5"])
    staged(table, "leave n4")
    table.merge(News([], [since]))

    with pytest.raises(RequestError, match="has changed since"):
        commit(table)

    assert not stands(table)
    draft = staged(table, "weight n1 2")  # begins anew
    assert [ruling.name for ruling in draft.rulings] == ["n1"]
    committed(table)


def test_a_plan_can_be_committed_twice_and_on_two_nodes() -> None:
    one, other = (cluster_of("n1", "n2", "n3", "n4") for _ in range(2))
    other.merge(News([], [], staged(one, "leave n4")))

    first, second = commit(one), commit(other)
    for table in (one, other):
        table.merge(first)
        table.merge(second)

    assert one.digest() == other.digest()
    with pytest.raises(RequestError, match="There is no plan to commit"):
        commit(one)


def test_a_cancelled_plan_is_forgotten_everywhere() -> None:
    one, other = (cluster_of("n1", "n2", "n3", "n4") for _ in range(2))
    draft = staged(one, "leave n4")
    other.merge(News([], [], draft))

    one.merge(cancel(one))
    other.merge(one.everything())
    one.merge(News([], [], draft))  # an old frame

    assert one.draft.rulings == other.draft.rulings == []
    with pytest.raises(RequestError, match="There is no plan to cancel"):
        cancel(other)


def test_a_draft_that_was_tampered_with_does_not_stand() -> None:
    table = cluster_of("n1", "n2", "n3", "n4")
    draft = staged(table, "leave n4")

    table.draft = replace(draft, rulings=[replace(draft.rulings[0], standing=REMOVED)])

    assert not stands(table)


# -- laws ------------------------------------------------------------------------------------------

NAMES = [f"n{i}" for i in range(1, 9)]
names = st.sampled_from(NAMES)
changes = st.one_of(
    st.tuples(st.sampled_from(["join", "leave", "remove"]), names).map(" ".join),
    st.tuples(st.just("replace"), names, names, st.just("dead")).map(" ".join),
    st.tuples(st.just("weight"), names, st.sampled_from(["0.5", "1", "2", "7"])).map(" ".join),
    st.tuples(st.just("zone"), names, st.sampled_from(["a", "b", "c"])).map(" ".join),
)
plans = st.tuples(st.lists(changes, min_size=1, max_size=3), st.booleans(), st.booleans())
"""(changes, which of two nodes makes the plan, whether it is forced)."""


def tried(table: MemberTable, texts: Sequence[str], force: bool) -> list[News]:
    """Plan and commit; return what is told to others, nothing if it was refused."""
    before = table.everything()
    try:
        draft = News([], [], stage(table, CLUSTER, list(map(change, texts)), force=force))
    except RequestError:
        assert table.everything() == before
        return []
    table.merge(draft)
    if not table.draft.rulings:
        return [draft]
    told = commit(table)
    table.merge(told)
    return [draft, told]


@given(st.lists(plans, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_crossing_histories_come_to_the_same_in_any_order(
    history: list[tuple[list[str], bool, bool]], chance: random.Random
) -> None:
    tables = [cluster_of("n1", "n2", "n3", "n4", "n5", waiting=NAMES[5:]) for _ in range(3)]
    said: list[News] = []
    for texts, first, force in history:
        said += tried(tables[first], texts, force)

    for table in tables:
        frames = [*said, *chance.sample(said, len(said) // 2)]
        chance.shuffle(frames)
        for news in frames:
            table.merge(news)

    assert len({table.digest() for table in tables}) == 1
    assert len({owners_of(table).digest for table in tables}) == 1
    assert len({str(owners_of(table).preference) for table in tables}) == 1
