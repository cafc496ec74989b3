"""The failure detector: how soon it sees what is so, and that it does not see what is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.gossip.crowd import Crowd

from everwrite.core.messages.members import Ping, Pong, Probe, Probed

DOWN_MS, EVERY_MS = 1500, 500
GRAY_MS = 5000
MINUTE = 60_000
few = settings(max_examples=15, deadline=None)


def settled(nodes: int = 5, more_ms: int = 0, **options: object) -> Crowd:
    crowd = Crowd(nodes, **options)  # type: ignore[arg-type]
    crowd.advance(10_000 + more_ms)
    return crowd


def noticed(crowd: Crowd, of: int, state: str, most_ms: int = 20_000) -> int:
    """Return after how long all others take a node for this; -1 if they do not."""
    return crowd.until(lambda: crowd.states(of) == {state}, most_ms)


def flips(crowd: Crowd, of: int, who: int = 0) -> int:
    """Return how often a node came into ``up`` or left it, in the eyes of another."""
    seen = [state == "up" for _, a, b, state in crowd.flips if (a, b) == (who, of)]
    return sum(now != before for before, now in zip([True, *seen], seen, strict=False))


def drop(crowd: Crowd, one: int, other: int) -> None:
    """Have a line lose all that it carries, one way."""
    crowd.lines[one, other] = lambda now: None


# -- the dead --------------------------------------------------------------------------------------


def test_a_process_that_ended_is_down_at_once_and_up_at_its_next_frame() -> None:
    crowd = settled()
    crowd.kill(1)
    assert crowd.states(1) == {"down"}

    crowd.revive(1)
    assert 0 <= noticed(crowd, 1, "up") <= 20


@pytest.mark.slow
@few
@given(st.integers(0, 1500), st.integers(2, 9))
def test_a_machine_that_vanishes_is_down_within_down_after_ms(moment: int, nodes: int) -> None:
    crowd = settled(nodes, moment)
    crowd.vanish(1)

    assert 0 <= noticed(crowd, 1, "down") <= DOWN_MS + 10


@pytest.mark.slow
@few
@given(st.integers(0, 1500), st.floats(0, 500), st.integers(0, 2**32), st.sampled_from([0.0, 0.3]))
def test_a_dead_peer_is_down_within_twice_down_after_ms_whatever_the_lines(
    moment: int, way_ms: float, seed: int, loss: float
) -> None:
    chance = random.Random(seed)
    crowd = Crowd(4, way_ms=way_ms)
    for a in range(4):
        for b in range(4):
            crowd.lines[a, b] = lambda now: (
                None if chance.random() < loss else way_ms * chance.random()
            )
    crowd.advance(10_000 + moment)
    crowd.vanish(1)
    crowd.advance(int(way_ms) + 1)  # what was on its way is a sign of life yet

    assert 0 <= noticed(crowd, 1, "down") <= 2 * DOWN_MS + 10


@pytest.mark.slow
def test_the_dead_are_found_while_others_talk_all_the_time() -> None:
    crowd = settled()
    crowd.vanish(1)
    for _ in range(160):
        for who in (0, 2, 3, 4):
            for other in (0, 2, 3, 4):
                if other != who:
                    crowd.say(who, other)
        crowd.advance(10)

    assert crowd.states(1) == {"down"}


# -- no false alarms -------------------------------------------------------------------------------


@pytest.mark.slow
@few
@given(st.integers(2, 7), st.floats(0, 400), st.integers(0, 2**32))
def test_nobody_is_called_down_while_all_answer_in_time(
    nodes: int, way_ms: float, seed: int
) -> None:
    """Lines of up to 0.4 s each way, and delays that vary by up to 30 ms."""
    chance = random.Random(seed)
    ways = {(a, b): way_ms * chance.random() for a in range(nodes) for b in range(nodes) if a != b}
    crowd = Crowd(nodes)
    for line, way in ways.items():
        crowd.lines[line] = lambda now, way=way: way + 30 * chance.random()
    crowd.advance(MINUTE)

    assert [flip for flip in crowd.flips if flip[3] == "down"] == []


def test_nodes_of_two_places_far_apart_are_up_in_each_others_eyes() -> None:
    crowd = Crowd(5, meet=False)
    for near in (0, 1, 2):
        for far in (3, 4):
            crowd.lines[near, far] = crowd.lines[far, near] = lambda now: 80
    crowd.meet()
    crowd.advance(1000)
    crowd.flips.clear()
    crowd.advance(MINUTE)

    assert crowd.flips == []
    assert crowd.places[0].detector.rtt_ms(crowd.id(3)) == 160


@pytest.mark.slow
@few
@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 3000)), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_node_that_did_not_run_calls_nobody_down(
    pauses: list[tuple[int, int]], wakes_first: bool
) -> None:
    crowd = settled()
    crowd.wakes_first = wakes_first
    for stands, runs in pauses:
        crowd.pause(0)
        crowd.advance(stands)
        crowd.resume(0)
        crowd.advance(runs)
    crowd.advance(5000)

    assert [flip for flip in crowd.flips if flip[1] == 0] == []


def test_a_node_that_stands_again_and_again_finds_the_dead_all_the_same() -> None:
    crowd = settled()
    crowd.vanish(1)
    ran = 0
    while crowd.state(0, 1) == "up":
        crowd.pause(0)
        crowd.advance(700)
        crowd.resume(0)
        crowd.advance(300)
        ran += 300
        assert ran <= 3 * DOWN_MS

    assert crowd.state(0, 1) == "down"


@pytest.mark.parametrize("pause_ms", [200, 400])
def test_a_short_pause_is_seen_by_nobody(pause_ms: int) -> None:
    crowd = settled()
    for _ in range(50):
        crowd.pause(1)
        crowd.advance(pause_ms)
        crowd.resume(1)
        crowd.advance(2000)

    assert flips(crowd, 1) == 0


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.scenario(29)
def test_a_peer_that_a_third_hears_gets_more_time_but_only_once() -> None:
    crowd = settled()
    drop(crowd, 1, 0)
    took = crowd.until(lambda: crowd.state(0, 1) == "down", 10_000)

    assert 2 * DOWN_MS - 2 * EVERY_MS <= took <= 2 * DOWN_MS + 10
    assert {crowd.state(who, 1) for who in (2, 3, 4)} == {"up"}
    crowd.advance(MINUTE)
    assert crowd.state(0, 1) == "down"


def test_a_link_that_is_back_before_that_was_never_missed() -> None:
    crowd = settled()
    drop(crowd, 1, 0)
    crowd.advance(2 * DOWN_MS - 2 * EVERY_MS)
    del crowd.lines[1, 0]
    crowd.advance(5000)

    assert [flip for flip in crowd.flips if flip[1] == 0] == []


def test_a_peer_that_is_heard_and_does_not_answer_is_left_out() -> None:
    """A line that carries nothing one way, seen from the side that is not heard."""
    crowd = settled()
    drop(crowd, 0, 1)

    assert 0 <= crowd.until(lambda: crowd.state(0, 1) != "up", 10_000) <= GRAY_MS


def test_three_at_most_are_asked_and_only_those_who_are_up() -> None:
    crowd = settled(8)
    crowd.kill(2)
    crowd.said.clear()
    drop(crowd, 1, 0)
    crowd.advance(10_000)

    assert (crowd.said[Probe], crowd.said[Probed]) == (3, 3)


def test_nobody_is_asked_while_all_is_well() -> None:
    crowd = settled(5)
    crowd.advance(MINUTE)

    assert crowd.said[Probe] == 0


def test_who_hears_nothing_itself_says_since_when_and_that_saves_nobody() -> None:
    crowd = settled(3)
    crowd.places[2].detector.lost(crowd.id(1))
    crowd.vanish(1)
    place = crowd.places[2]
    place.local.now = crowd.now

    place.detector.probe(crowd.id(0), Probe(crowd.id(1)))
    place.detector.probe(crowd.id(0), Probe(b"stranger"))

    first, second = place.local.out.sends[crowd.id(0)]
    assert isinstance(first, Probed) and first.silent_ms > 0
    assert second == Probed(b"stranger", -1)
    assert 0 <= noticed(crowd, 1, "down") <= DOWN_MS + 10


def test_a_sign_of_life_from_before_the_question_saves_nobody() -> None:
    crowd = settled(3)
    crowd.vanish(1)
    place = crowd.places[0]
    while not crowd.said[Probe]:
        crowd.advance(1)
    place.local.now = crowd.now
    silent = place.detector.silent_ms(crowd.id(1))

    place.detector.probed(crowd.id(2), Probed(crowd.id(1), silent))

    assert 0 <= noticed(crowd, 1, "down") <= DOWN_MS + 10


def test_for_so_many_askers_a_peer_is_pinged_and_no_more() -> None:
    crowd = settled(30)
    place = crowd.places[0]
    place.local.now = crowd.now
    for asker in range(2, 30):
        place.detector.probe(crowd.id(asker), Probe(crowd.id(1)))
    (ping,) = place.local.out.sends[crowd.id(1)]
    assert isinstance(ping, Ping)
    place.local.out.sends.clear()

    place.detector.pong(crowd.id(1), Pong(ping.rid))

    assert len(place.local.out.sends) == 16


# -- the gray --------------------------------------------------------------------------------------


@pytest.mark.slow
@few
@given(st.integers(0, 1500), st.integers(3, 9), st.floats(30, 1000))
def test_a_gray_node_is_out_of_the_way_within_five_seconds(
    moment: int, nodes: int, late_ms: float
) -> None:
    crowd = settled(nodes, moment)
    crowd.slow[1] = late_ms  # each way: a hundred times 0.6 ms and more

    assert 0 <= crowd.until(lambda: "up" not in crowd.states(1), 20_000) <= GRAY_MS


@pytest.mark.slow
@few
@given(st.integers(0, 1500), st.integers(3, 9))
def test_a_node_with_a_gray_disk_is_out_of_the_way_within_five_seconds(
    moment: int, nodes: int
) -> None:
    crowd = Crowd(nodes)
    for place in crowd.places:
        place.local.disk_ms = 2
    crowd.advance(10_000 + moment)
    crowd.places[1].local.disk_ms = 200

    assert 0 <= noticed(crowd, 1, "slow") <= GRAY_MS


def test_a_node_whose_requests_take_long_is_out_of_the_way_though_its_pings_do_not() -> None:
    crowd = settled()
    for _ in range(30):
        for other in (1, 2, 3, 4):
            crowd.places[0].detector.took(crowd.id(other), 300 if other == 1 else 3)
        crowd.advance(100)

    assert crowd.state(0, 1) == "slow"
    assert [crowd.state(0, other) for other in (2, 3, 4)] == ["up"] * 3


def test_what_was_asked_before_a_pause_says_nothing_of_who_answered_after_it() -> None:
    crowd = settled()
    crowd.pause(0)
    crowd.advance(3000)
    crowd.resume(0)
    for _ in range(100):
        crowd.places[0].detector.took(crowd.id(1), 3000)
    crowd.advance(3000)

    assert crowd.state(0, 1) == "up"


@pytest.mark.slow
def test_a_gray_node_stays_out_and_comes_back_once_it_is_well() -> None:
    crowd = settled()
    crowd.slow[1] = 50
    crowd.advance(10 * MINUTE)
    assert crowd.states(1) == {"slow"}
    assert flips(crowd, 1) == 1

    del crowd.slow[1]
    assert 5000 <= noticed(crowd, 1, "up") <= 10_000


@pytest.mark.slow
@pytest.mark.parametrize("late_ms", [50, 200, 500, 1500])
@pytest.mark.parametrize("turn_ms", [500, 1000, 3000])
def test_a_node_that_is_gray_by_turns_does_not_flap(late_ms: float, turn_ms: int) -> None:
    crowd = settled()
    for _ in range(5 * MINUTE // turn_ms):
        crowd.slow[1] = late_ms
        crowd.advance(turn_ms)
        del crowd.slow[1]
        crowd.advance(turn_ms)

    assert flips(crowd, 1) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("turn_ms", [900, 1200, 2000, 4000])
def test_a_node_that_stands_by_turns_does_not_flap(turn_ms: int) -> None:
    crowd = settled()
    for _ in range(5 * MINUTE // turn_ms):
        crowd.pause(1)
        crowd.advance(turn_ms)
        crowd.resume(1)
        crowd.advance(turn_ms)

    assert flips(crowd, 1) <= 7


@pytest.mark.slow
def test_a_node_that_relapses_as_soon_as_it_is_back_is_back_ever_more_rarely() -> None:
    """The worst that a node can do: be well for just so long as it has to."""
    crowd = settled()
    for _ in range(10 * MINUTE // 100):
        if crowd.state(0, 1) == "up":
            crowd.slow[1] = 50
        else:
            crowd.slow.pop(1, None)
        crowd.advance(100)

    assert flips(crowd, 1) <= 15


# -- enough must stay ------------------------------------------------------------------------------


@pytest.mark.slow
@few
@given(st.integers(2, 9), st.data())
def test_those_out_for_being_slow_are_never_half_of_the_members(
    nodes: int, data: st.DataObject
) -> None:
    crowd = settled(nodes)
    for node in data.draw(st.sets(st.integers(0, nodes - 1))):
        crowd.slow[node] = data.draw(st.sampled_from([40, 100, 700]))
    for _ in range(40):
        crowd.advance(500)
        for who in range(nodes):
            out = [crowd.state(who, of) for of in range(nodes) if of != who].count("slow")
            assert 2 * out < nodes


def test_the_slowest_are_left_out_first() -> None:
    crowd = settled(9)
    for node, place in enumerate(crowd.places):
        place.local.disk_ms = 100 * node if node in (1, 2, 3) else 1
    crowd.kill(7)
    crowd.kill(8)
    crowd.advance(10_000)

    assert [crowd.state(0, node) for node in range(1, 7)] == ["up", "slow", "slow"] + ["up"] * 3


def test_a_slow_node_is_taken_in_again_when_too_many_are_down() -> None:
    crowd = settled(3)
    crowd.slow[1] = 50
    assert noticed(crowd, 1, "slow") > 0

    crowd.kill(2)

    assert 0 <= crowd.until(lambda: crowd.state(0, 1) == "up", 5000) <= 250
    crowd.advance(MINUTE)
    assert crowd.state(0, 1) == "up"


# -- what it costs and keeps -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way_ms", [0.1, 2.0])
def test_at_rest_a_node_says_one_and_a_half_small_messages_a_second_to_each_peer(
    way_ms: float,
) -> None:
    crowd = settled(20, way_ms=way_ms)
    crowd.said.clear()
    crowd.advance(MINUTE)

    assert set(crowd.said) == {Ping, Pong}
    assert sum(crowd.said.values()) <= 1.5 * 60 * 20 * 19


def test_a_member_that_was_never_heard_is_pinged_in_each_round() -> None:
    crowd = Crowd(2, meet=False)
    assert crowd.state(0, 1) == "down"
    assert crowd.places[0].detector.silent_ms(crowd.id(1)) == -1
    assert crowd.places[0].detector.rtt_ms(crowd.id(1)) == -1
    crowd.advance(EVERY_MS)
    assert crowd.state(0, 1) == "up"


def test_a_stranger_is_kept_only_while_it_is_up() -> None:
    crowd = settled(3)
    place, stranger = crowd.places[0], b"stranger"
    place.local.now = crowd.now
    assert place.detector.heard(stranger)
    assert place.detector.state(stranger) == "up"

    place.detector.lost(stranger)
    place.local.now = crowd.now + EVERY_MS
    place.detector.wake()

    assert stranger not in place.local.liveness.peers
    assert stranger not in place.detector._slowness.paces


def test_nothing_is_kept_of_a_member_that_was_removed() -> None:
    crowd = settled(3)
    place, removed = crowd.places[0], crowd.id(1)

    place.detector.forget(removed)

    assert removed not in place.local.liveness.up
    assert removed not in place.local.liveness.peers
    assert removed not in place.detector._slowness.paces


def test_the_same_happenings_come_to_the_same() -> None:
    def tell() -> list[tuple[int, int, int, str]]:
        crowd = settled(6)
        crowd.slow[1] = 80
        drop(crowd, 2, 3)
        crowd.vanish(4)
        crowd.advance(MINUTE)
        return crowd.flips

    assert tell() == tell() != []
