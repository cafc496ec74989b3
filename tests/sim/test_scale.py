"""Large clusters in small: the arithmetic of the tables, and what each measure must show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from everwrite.core.cluster.placement import Candidate, Placement, place
from everwrite.core.messages.requests import Fetch, FetchReply
from everwrite.sim.scale.agreement import (
    CHANGES,
    Agreement,
    Disagreement,
    agree,
    bound,
    measure_agreement,
)
from everwrite.sim.scale.command import main
from everwrite.sim.scale.crowd import Crowd
from everwrite.sim.scale.figures import (
    copies_moved,
    imbalance,
    least_moved,
    load_of_shares,
    rank,
    spread,
)
from everwrite.sim.scale.gossip import (
    REST_BOUND,
    Rest,
    Silence,
    at_rest,
    measure_gossip,
)
from everwrite.sim.scale.histories import LOAD_BOUND, MOVED_BOUND, Moved, measure_histories
from everwrite.sim.scale.peers import NodePeer
from everwrite.sim.scale.rings import LAYOUTS, Balance, Duration, measure_placement
from everwrite.sim.scale.tables import Table, read_table, to_csv
from everwrite.sim.scale.tally import Operation, Tally
from everwrite.sim.scale.traffic import Hops, Phase, Size, StandIns, measure_traffic

SMALL = Size(
    nodes=20,
    partitions=64,
    clients=10,
    keys=100,
    hot_keys=2,
    pace_us=20_000,
    phase_us=500_000,
)

PAGE = Path(__file__).parents[2] / "docs" / "scale"
TABLES = [
    Table("gossip_agreement", Agreement._fields, []),
    Table("gossip_agreement_lossy", Agreement._fields, []),
    Table("gossip_rest", Rest._fields, []),
    Table("gossip_silence", Silence._fields, []),
    Table("placement", Balance._fields, []),
    Table("placement_histories", Moved._fields, []),
    Table("placement_time", Duration._fields, []),
    Table("traffic", Phase._fields, []),
    Table("traffic_hops", Hops._fields, []),
    Table("traffic_standins", StandIns._fields, []),
]

A, B, C, D = (Candidate(name * 8, f"zone {name!r}") for name in (b"a", b"b", b"c", b"d"))


def placed(candidates: Sequence[Candidate], owners: Sequence[str]) -> Placement:
    """Return a placement by hand: the owners of each partition, by the letters of their ids."""
    preference = [tuple(letter.encode() * 8 for letter in letters) for letters in owners]
    return Placement(
        partitions=len(owners),
        replicas=len(owners[0]),
        candidates=tuple(candidates),
        preference=preference,
        digest=b"",
        shift=0,
    )


# -- arithmetic ------------------------------------------------------------------------------------


def test_a_rank_is_the_least_value_that_so_many_do_not_exceed() -> None:
    hundred = list(range(1, 101))

    assert [rank(hundred, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert rank([7], 0.5) == rank([7], 0.99) == 7


def test_imbalance_is_one_where_all_have_the_same() -> None:
    assert imbalance([3, 3, 3]) == 1
    assert imbalance([4, 1, 1]) == 2


def test_load_is_counted_in_fair_shares() -> None:
    light = Candidate(b"c" * 8, "zone c", 0.5)
    by_hand = placed([A, B, light], ["a", "a", "a", "b", "c"])

    assert load_of_shares(by_hand) == pytest.approx([3 / 2, 1 / 2, 1 / 1])


def test_only_new_owners_count_as_moved() -> None:
    before = placed([A, B, C], ["ab", "bc", "ca"])
    after = placed([A, B, C, D], ["ba", "bd", "db"])

    assert copies_moved(before, before) == 0
    assert copies_moved(before, after) == 3


def test_who_joins_must_be_given_a_fair_share_and_what_who_left_owned_must_move() -> None:
    three = placed([A, B, C], ["ab", "bc", "ca", "ab"])
    four = placed([A, B, C, D], ["ad", "bc", "cd", "db"])

    assert least_moved(three, four) == pytest.approx(4 * 2 / 4)
    assert least_moved(four, three) == 3
    assert least_moved(three, three) == 0


def test_shares_of_counts_add_up_to_one_in_the_order_of_the_values() -> None:
    assert spread({6: 3, 4: 1}) == [(4, 0.25), (6, 0.75)]


def test_a_table_says_the_units_in_its_header(tmp_path: Path) -> None:
    class Row(NamedTuple):
        node: str
        wait_ms: float

    text = to_csv(Table("waits", Row._fields, [Row("a,b", 1 / 3), Row("c", 2.0)]))
    (tmp_path / "waits.csv").write_text(text)

    assert text == 'node,wait_ms\n"a,b",0.333333\nc,2\n'
    assert read_table(tmp_path, "waits")[0] == {"node": "a,b", "wait_ms": "0.333333"}


def test_a_table_without_rows_has_its_header() -> None:
    assert to_csv(Table("empty", ("node", "wait_ms"), [])) == "node,wait_ms\n"


# -- gossip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_all_nodes_agree_within_the_bound_after_each_change(change: str) -> None:
    rows = measure_agreement([5, 16], lambda _, each: 5 * (each == change))

    assert [row.nodes for row in rows] == [5, 16]
    for row in rows:
        assert (row.change, row.within) == (change, "yes")
        assert 0 <= row.rounds_p50 <= row.rounds_p99 <= row.rounds_max <= bound(row.nodes)


@pytest.mark.slow
def test_sixty_four_nodes_agree_within_the_bound_though_a_tenth_of_all_frames_is_lost() -> None:
    rows = measure_agreement([64], lambda _, change: 3, loss=0.1)

    assert {row.change for row in rows} == set(CHANGES)
    assert all(row.rounds_max <= row.rounds_bound == 21 for row in rows)


def test_crossing_rulings_of_two_halves_leave_a_disagreement_until_the_cut_heals() -> None:
    crowd = Crowd(10, 1, pings=False)
    crowd.run(1000)

    CHANGES["heal"](crowd)  # at its end the cut has just healed, and no line is there again
    apart = {crowd.peer(index).knows() for index in crowd.running()}
    crowd.run(3000)
    together = {crowd.peer(index).knows() for index in crowd.running()}

    assert len(apart) == 2
    assert len(together) == 1
    assert len(crowd.running()) == 8  # both that were removed have ended themselves


def test_a_node_that_starts_is_not_sent_the_rows_of_all_by_each_of_them() -> None:
    outcome = agree(60, 1, "restart")

    everything = 60 * 60 * 40
    assert outcome.busiest_bytes < everything / 3


def test_a_cluster_at_rest_says_less_about_members_than_the_bound_at_any_size() -> None:
    for nodes in (5, 60):
        rest = at_rest(Crowd(nodes, 1), 2)

        assert 0 < rest.membership_bytes_per_node_per_round < REST_BOUND / 20
        assert rest.membership_messages_per_node_per_round == pytest.approx(1, abs=0.1)
        assert rest.ping_messages_per_node_per_round > nodes / 2


def test_a_crowd_at_rest_stays_as_it_is() -> None:
    crowd = Crowd(20, 3)
    before = crowd.peer(0).knows()
    crowd.run(5000)

    for i in range(20):
        assert crowd.peer(i).knows() == before
        for j, member in enumerate(crowd.members):
            assert i == j or crowd.peer(i).sees(member.node_id)


def test_a_machine_that_falls_silent_is_noticed_by_all_within_two_seconds() -> None:
    _, silence = measure_gossip([20], lambda _: 2)

    assert 500 < silence[0].node_p50_ms <= silence[0].all_max_ms <= 2100


def test_gossip_that_passes_nothing_on_is_found_out() -> None:
    class Mute(NodePeer):
        """Tells nobody what it has changed, and asks nobody what is new."""

        def change(self, held: bytes) -> None:
            self.node.local.members.change_me(serves=held, keeps=held)

        def next_wake_ms(self) -> int:
            return 1 << 60

    with pytest.raises(Disagreement, match="the 10 nodes know 2 different things of the entry"):
        agree(10, 1, "entry", make=Mute)


# -- placement -------------------------------------------------------------------------------------


def test_a_placement_is_as_even_as_its_cap_and_moves_about_what_it_must() -> None:
    balance, durations = measure_placement([10], [1024], lambda _: 2)

    assert [row.layout for row in balance] == [layout.name for layout in LAYOUTS]
    for row in balance:
        assert 1 <= row.load_max_over_fair <= row.load_max_over_fair_worst <= 1.061
        assert 0.9 <= row.join_moved_over_least <= 1.3
        assert 1 <= row.leave_moved_over_least <= 1.3
    assert durations[0].place_cpu_s > 0


def test_joins_of_a_history_move_little_and_no_node_ever_owns_more_than_the_bound() -> None:
    rows = measure_histories([6, 12], [256], lambda _: 2)

    assert len(rows) == 2 * len(LAYOUTS)
    for row in rows[:2]:  # equal nodes in zones of their own
        assert row.joins > 3 and row.leaves > 3
        assert (row.join_within, row.load_within) == ("yes", "yes")
        assert 0.9 < row.join_moved_over_least <= MOVED_BOUND
        assert 1 <= row.load_max_over_fair <= row.load_bound == LOAD_BOUND


def test_where_a_node_owns_few_partitions_the_bound_of_load_is_the_next_whole_one() -> None:
    row = measure_histories([60], [64], lambda _: 1, layouts=LAYOUTS[:1])[0]

    assert row.load_bound > LOAD_BOUND
    assert row.load_max_over_fair <= row.load_bound


def test_more_nodes_than_partitions_are_left_out() -> None:
    balance, durations = measure_placement([100], [64], lambda _: 1)

    assert not balance and not durations


def test_copies_that_move_are_those_of_a_real_join() -> None:
    nodes = [Candidate(bytes((i,)) * 8, f"z{i}") for i in range(1, 8)]
    small, large = place(nodes[:-1], 256, 3), place(nodes, 256, 3)

    taken = len(large.owned()[nodes[-1].node_id])

    assert taken <= copies_moved(small, large) <= 1.3 * taken
    assert copies_moved(large, small) >= least_moved(large, small) == taken


# -- traffic ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_operation_fails_though_nodes_are_killed_or_fall_silent() -> None:
    phases, hops, stand_ins = measure_traffic(SMALL, 1)

    rows = {(row.phase, row.via): row for row in phases}
    assert len(rows) == 6
    for row in phases:
        assert row.failed == 0 and row.operations > 50
        assert row.load_max_over_mean < 2
    assert rows["calm", "any"].hints == 0
    assert rows["killed", "any"].hints > 0 and rows["killed", "any"].calm_again_s < 10
    calm = {(row.via, row.kind): row.hops for row in hops if row.phase == "calm"}
    assert calm["owner", "get"] == calm["owner", "put"] == 4
    assert calm["any", "get"] == calm["any", "put"] == 6
    assert all(row.stand_ins > 1 for row in stand_ins if row.hints > 10)


def test_a_hop_is_counted_for_each_message_on_the_longest_way() -> None:
    tally = Tally(3)
    get = Operation("get", b"key", 0)
    tally.begin(get)

    tally.asked(get, 0)
    for to in (1, 2):
        tally.arrived(to, tally.sent(0, to, [Fetch(7, b"key", 100)], 10))
    tally.arrived(0, tally.sent(1, 0, [FetchReply(7, 1, b"")], 10))
    tally.answered(get, 0)

    assert (get.hops, get.messages) == (4, 5)
    assert tally.load == [2, 1, 1]


def test_messages_of_operations_that_share_a_key_belong_to_neither() -> None:
    tally = Tally(2)
    one, other = Operation("get", b"key", 0), Operation("put", b"key", 1)
    tally.begin(one)
    tally.begin(other)

    marks = tally.sent(0, 1, [Fetch(7, b"key", 100)], 10)

    assert not marks
    assert not one.alone and not other.alone


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["agreement", "--nodes", "10", "--seeds", "2"],
        ["gossip", "--nodes", "10", "--seeds", "2"],
        ["histories", "--nodes", "5,10", "--partitions", "64", "--seeds", "1"],
        ["placement", "--nodes", "5,10", "--partitions", "64", "--seeds", "1"],
        ["traffic", "--nodes", "4", "--partitions", "16", "--seeds", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_same_command_writes_the_same_tables(arguments: list[str], tmp_path: Path) -> None:
    found = []
    for run_number in "12":
        out = tmp_path / run_number
        assert main([*arguments, "--out", str(out), "--quiet"]) == 0
        found.append(
            {
                path.name: path.read_text()
                for path in sorted(out.iterdir())
                if path.name != "placement_time.csv"
            }
        )

    assert found[0] == found[1]
    assert found[0]


def test_more_nodes_than_a_cluster_can_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="3 to 1023 nodes"):
        main(["gossip", "--nodes", "2000", "--out", str(tmp_path)])


def test_partitions_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["placement", "--nodes", "10", "--partitions", "100", "--out", str(tmp_path)]

    assert main(arguments) == 2

    assert "100 partitions are not possible" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- the page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_tables_of_the_page_have_the_columns_of_the_command(table: Table) -> None:
    text = (PAGE / f"{table.name}.csv").read_text()

    assert text.splitlines()[0] == ",".join(table.fields)
    assert len(text.splitlines()) > 1


def test_the_page_shows_every_picture_and_each_is_small_and_without_a_date() -> None:
    page = (PAGE / "README.md").read_text()
    pictures = sorted(PAGE.glob("*.svg"))

    assert len(pictures) == 8
    for picture in pictures:
        assert f"]({picture.name})" in page
        text = picture.read_text()
        assert len(text) < 60_000
        assert "<dc:date>" not in text


def test_the_same_tables_give_the_same_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not there: pip install '.[plots]'")
    for table in PAGE.glob("*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())

    assert main(["plot", "--out", str(tmp_path)]) == 0

    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    main(["plot", "--out", str(tmp_path)])
    assert first == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(first) == {path.name for path in PAGE.glob("*.svg")}
