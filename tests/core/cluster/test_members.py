"""What is known of the members: laws of the merge, what two tables tell each other, who is out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from everwrite.core.cluster import members
from everwrite.core.cluster.members import (
    MEMBERS_MAX,
    MemberTable,
    decode_known,
    encode_known,
    founding,
)
from everwrite.core.errors import ProtocolError
from everwrite.core.messages.members import (
    IN,
    LEAVING,
    NO_DRAFT,
    REMOVED,
    Draft,
    Member,
    News,
    Ruling,
)

ME = b"m" * 8
OTHERS = [bytes((letter,)) * 8 for letter in b"abcd"]


def entry(node: bytes, incarnation: int = 1, version: int = 1, life: bytes = b"") -> Member:
    """Return the one entry that this node wrote under these numbers."""
    return Member(
        node,
        f"node-{node[:1].decode()}",
        f"10.0.{incarnation}.{version}",
        7400,
        "z",
        1.0,
        incarnation,
        version,
        life or node[:4] + incarnation.to_bytes(4, "big"),
    )


def ruling(node: bytes, standing: int = IN, stamp: int = 1, plan: bytes = b"p") -> Ruling:
    return Ruling(node, f"node-{node[:1].decode()}", standing, f"z{stamp}", 1.0, stamp, plan)


def draft(stamp: int, plan: bytes = b"p") -> Draft:
    return Draft(stamp, plan, [ruling(OTHERS[0], stamp=stamp, plan=plan)])


def table(*news: News, me: bytes = ME) -> MemberTable:
    made = MemberTable(entry(me))
    for each in news:
        made.merge(each)
    return made


def known(of: MemberTable) -> tuple[object, ...]:
    """Return all that a table knows, its own entry left out."""
    news = of.everything()
    return ([e for e in news.entries if e.node_id != ME], news.rulings, of.draft)


numbers = st.integers(1, 3)
plans = st.sampled_from([b"p", b"q"])
# One plan rules on a node once: what a ruling says is told by its stamp and plan, but for removals.
rulings = st.builds(
    lambda node, stamp, plan, gone: ruling(
        node, REMOVED if gone else IN if plan == b"p" else LEAVING, stamp, plan
    ),
    st.sampled_from(OTHERS),
    numbers,
    plans,
    st.integers(0, 4).map(lambda chance: chance == 0),
)
some_news = st.builds(
    News,
    st.lists(st.builds(entry, st.sampled_from(OTHERS), numbers, numbers), max_size=5),
    st.lists(rulings, max_size=4),
    st.none() | st.builds(draft, numbers, plans),
)


# -- the merge -------------------------------------------------------------------------------------


@given(some_news, some_news)
def test_news_come_to_the_same_in_any_order(one: News, other: News) -> None:
    assert known(table(one, other)) == known(table(other, one))


@given(some_news, some_news, some_news)
def test_news_come_to_the_same_whoever_heard_what_first(a: News, b: News, c: News) -> None:
    left, right = table(a, b), table(b, c)
    left.merge(c)

    assert known(left) == known(table(a, right.everything()))


@given(st.lists(some_news, max_size=3), some_news)
def test_news_that_are_heard_again_change_nothing(before: list[News], again: News) -> None:
    heard = table(*before, again)
    digest = heard.digest()

    taken = heard.merge(again)

    assert taken == News([], [], None)
    assert heard.digest() == digest


@given(st.lists(some_news, max_size=3), some_news)
def test_what_was_taken_is_all_that_another_needs_to_hear(before: list[News], fresh: News) -> None:
    one, other = table(*before), table(*before)

    other.merge(one.merge(fresh))

    assert known(one) == known(other)


@given(st.lists(some_news, max_size=4), st.sampled_from(OTHERS))
def test_a_removal_is_for_ever(news: list[News], node: bytes) -> None:
    heard = table(News([], [ruling(node, REMOVED)]), *news)
    heard.merge(News([entry(node, 9, 9)], [ruling(node, IN, 99)]))

    assert heard.removed(node)
    assert heard.standing(node) == REMOVED
    assert node not in heard
    assert node not in [candidate.node_id for candidate in heard.candidates()]


def test_the_entry_of_a_node_goes_when_its_removal_is_heard() -> None:
    heard = table(News([entry(OTHERS[0])], [ruling(OTHERS[0])]))
    assert heard.named("node-a") is not None

    heard.merge(News([], [ruling(OTHERS[0], REMOVED, 2)]))

    assert heard.get(OTHERS[0]) is None
    assert heard.named("node-a") is None


def test_a_node_that_hears_of_its_own_removal_still_knows_itself() -> None:
    heard = table(News([], [ruling(ME, IN)]))

    heard.merge(News([], [ruling(ME, REMOVED, 2)]))

    assert heard.removed(ME)
    assert heard.get(ME) == heard.me


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (entry(OTHERS[0], 1, 9), entry(OTHERS[0], 2, 1)),
        (entry(OTHERS[0], 2, 1), entry(OTHERS[0], 2, 2)),
    ],
    ids=["a later start wins", "a later word of one life wins"],
)
def test_the_newer_entry_of_a_node_stays(older: Member, newer: Member) -> None:
    assert table(News([older, newer], [])).get(OTHERS[0]) == newer
    assert table(News([newer, older], [])).get(OTHERS[0]) == newer


def test_the_ruling_with_the_higher_stamp_or_else_the_higher_plan_stays() -> None:
    later = ruling(OTHERS[0], LEAVING, 2, b"a")
    crossing = ruling(OTHERS[0], IN, 2, b"b")

    heard = table(News([], [crossing, ruling(OTHERS[0], IN, 1, b"z"), later]))

    assert heard.rulings[OTHERS[0]] == crossing


def test_a_stamp_is_above_all_that_is_known() -> None:
    assert table().next_stamp() == 1
    assert table(News([], [ruling(OTHERS[0], stamp=7)])).next_stamp() == 8
    assert table(News([], [ruling(OTHERS[0], stamp=7)], draft(9))).next_stamp() == 10


# -- its own entry, and copies of it ---------------------------------------------------------------


def test_only_a_node_itself_writes_its_entry() -> None:
    mine = MemberTable(entry(ME))

    mine.merge(News([entry(ME, 1, 9), entry(ME, 5, 1)], []))

    assert mine.get(ME) == mine.me == entry(ME)


def test_each_change_of_a_nodes_own_entry_is_newer_than_the_one_before() -> None:
    mine = MemberTable(entry(ME))
    heard = table(News([mine.me], []), me=OTHERS[0])
    before = mine.digest()

    changed = mine.change_me(serves=b"\x07")

    assert mine.digest() != before
    assert heard.merge(News([changed], [])).entries == [changed]
    assert mine.get(ME) == changed == replace(entry(ME), version=2, serves=b"\x07")


@pytest.mark.parametrize("incarnation", [1, 2])
def test_another_process_of_ones_own_identity_is_found_out(incarnation: int) -> None:
    mine = MemberTable(entry(ME))

    mine.merge(News([entry(ME, incarnation, life=b"othrlife")], []))

    assert mine.clones == {ME}
    assert mine.me == entry(ME)


def test_an_earlier_life_of_this_node_is_no_copy_of_it() -> None:
    mine = MemberTable(entry(ME, 2))

    mine.merge(News([entry(ME, 1)], []))

    assert not mine.clones


def test_of_two_processes_of_one_identity_the_first_stays_and_both_are_named() -> None:
    heard = table(News([entry(OTHERS[0], 1, 1, b"1st-life")], []))

    heard.merge(News([entry(OTHERS[0], 1, 5, b"2nd-life")], []))

    assert heard.clones == {OTHERS[0]}
    assert heard.get(OTHERS[0]) == entry(OTHERS[0], 1, 1, b"1st-life")


# -- what tables tell each other -------------------------------------------------------------------


def exchange(one: MemberTable, other: MemberTable) -> None:
    """Tell each what it lacks, by the rows that the other has."""
    for_other = one.lacking(other.rows(answer=False))
    for_one = other.lacking(one.rows(answer=False))
    one.merge(for_one)
    other.merge(for_other)


@given(st.lists(some_news, max_size=3), st.lists(some_news, max_size=3))
def test_two_tables_that_told_each_other_what_they_lack_know_the_same(
    ours: list[News], theirs: list[News]
) -> None:
    one, other = table(*ours), table(*theirs, me=b"y" * 8)

    exchange(one, other)

    assert one.everything() == other.everything()
    assert one.digest() == other.digest()
    assert one.lacking(other.rows(answer=False)) == News([], [], None)


@given(st.lists(some_news, max_size=3), st.lists(some_news, max_size=3))
def test_nothing_is_told_that_the_other_has_or_has_newer(
    ours: list[News], theirs: list[News]
) -> None:
    one, other = table(*ours), table(*theirs, me=b"y" * 8)
    removed = {node for node in other.rulings if other.removed(node)}

    told = one.lacking(other.rows(answer=False))
    taken = other.merge(told)

    assert taken.rulings == told.rulings
    assert taken.draft == told.draft
    gone = removed | {node for node in one.rulings if one.removed(node)}
    assert [e for e in told.entries if e.node_id not in gone] == taken.entries


@given(st.lists(some_news, max_size=3), st.lists(some_news, max_size=3))
def test_digests_are_equal_exactly_where_the_rows_are(ours: list[News], theirs: list[News]) -> None:
    one, other = table(*ours), table(*theirs)

    same = one.rows(answer=False) == other.rows(answer=False)

    assert (one.digest() == other.digest()) == same


@given(st.lists(some_news, max_size=5))
def test_what_a_node_keeps_on_its_disk_is_all_that_it_knows(news: list[News]) -> None:
    before = table(*news)

    kept = decode_known(encode_known(before))
    after = MemberTable(entry(ME), kept.entries, kept.rulings, kept.draft)

    assert after.everything() == before.everything()
    assert after.digest() == before.digest()


def test_bytes_that_are_no_list_of_members_are_refused_with_a_reason() -> None:
    for garbage in (b"", b"\xff", b"\x93\x01\x02\x03", encode_known(table())[:-1]):
        with pytest.raises(ProtocolError, match="list of members cannot be read"):
            decode_known(garbage)


# -- who owns partitions ---------------------------------------------------------------------------


def test_whoever_is_ruled_in_may_own_partitions_and_nobody_else() -> None:
    a, b, c, d = OTHERS
    heard = table(
        News(
            [entry(a), entry(b), entry(c), entry(d)],
            [ruling(a), ruling(b, LEAVING), ruling(c, REMOVED)],
        )
    )

    assert [candidate.node_id for candidate in heard.candidates()] == [a]


def test_a_node_may_own_partitions_although_nobody_has_heard_its_entry() -> None:
    heard = table(News([], [ruling(OTHERS[0]), ruling(ME)]))

    assert {candidate.node_id for candidate in heard.candidates()} == {OTHERS[0], ME}


def test_where_all_are_told_to_leave_those_who_were_stay_until_somebody_is_in() -> None:
    a, b, c, d = OTHERS
    heard = table(News([], [ruling(a, LEAVING), ruling(b, LEAVING), ruling(c, REMOVED)]))
    assert [candidate.node_id for candidate in heard.candidates()] == [a, b]

    heard.merge(News([], [ruling(d)]))

    assert [candidate.node_id for candidate in heard.candidates()] == [d]


def test_zone_and_weight_are_the_rulings_whatever_a_node_says_of_itself() -> None:
    said = replace(entry(OTHERS[0]), zone="elsewhere", weight=9.0)

    (candidate,) = table(News([said], [ruling(OTHERS[0], stamp=4)])).candidates()

    assert (candidate.zone, candidate.weight) == ("z4", 1.0)


def test_a_node_that_knows_no_cluster_places_all_on_itself() -> None:
    assert [candidate.node_id for candidate in table().candidates()] == [ME]


def test_a_cluster_is_founded_by_ruling_all_its_nodes_in() -> None:
    heard = table(News([], founding([entry(node) for node in OTHERS])))

    assert [candidate.node_id for candidate in heard.candidates()] == OTHERS
    assert not heard.draft.rulings
    assert heard.draft == NO_DRAFT


# -- caps ------------------------------------------------------------------------------------------


def numbered(count: int) -> Sequence[bytes]:
    return [number.to_bytes(8, "big") for number in range(count)]


def test_a_peer_cannot_make_a_node_keep_more_than_so_many_members() -> None:
    nodes = numbered(MEMBERS_MAX + 10)

    heard = table(News([entry(ME, 1), *map(nameless, nodes)], []))

    assert len(heard) == MEMBERS_MAX
    assert heard.get(ME) == heard.me
    assert heard.merge(News([replace(nameless(nodes[0]), version=2)], [])).entries


def test_a_peer_cannot_make_a_node_keep_more_than_so_many_rulings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(members, "RULINGS_MAX", 5)
    nodes = numbered(9)

    heard = table(News([], [replace(ruling(OTHERS[0]), node_id=node) for node in nodes]))

    assert sorted(heard.rulings) == nodes[:5]
    out = replace(ruling(OTHERS[0], REMOVED, 2), node_id=nodes[0])
    assert heard.merge(News([], [out])).rulings == [out]


def nameless(node: bytes) -> Member:
    return replace(entry(OTHERS[0]), node_id=node)


@given(some_news)
def test_the_entries_come_in_the_order_of_their_ids(news: News) -> None:
    for one, other in itertools.pairwise(table(news)):
        assert one.node_id < other.node_id
