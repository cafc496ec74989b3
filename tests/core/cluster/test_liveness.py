"""Who seems up: by frames, broken connections and silence, each peer by its own measure."""

from __future__ import annotations

from everwrite.core.cluster.liveness import Liveness

A, B = b"a" * 8, b"b" * 8
DOWN_MS = 1500


def heard_each(ms: int, times: int, *, answers_ms: int = 0) -> tuple[Liveness, int]:
    """Return a table in which A was heard so often, and when it was heard last."""
    table, now = Liveness(DOWN_MS), 0
    for _ in range(times):
        now += ms
        table.heard(A, now)
        table.learn(table.peers[A], answers_ms)
    return table, now


def test_a_peer_is_up_from_its_first_frame_on() -> None:
    table = Liveness(DOWN_MS)

    assert table.state(A) == "down"
    assert table.silent_ms(A, 5) == -1
    assert table.heard(A, 10)
    assert not table.heard(A, 20)

    assert table.up == {A}
    assert table.state(A) == "up"
    assert table.silent_ms(A, 50) == 30


def test_a_peer_whose_connection_broke_is_down_until_its_next_frame() -> None:
    table = Liveness(DOWN_MS)
    table.heard(A, 10)

    assert table.lost(A)
    assert not table.lost(A)
    assert table.state(A) == "down"
    assert table.heard(A, 20)


def test_a_slow_peer_is_not_up_however_often_it_is_heard() -> None:
    table = Liveness(DOWN_MS)
    table.heard(A, 10)

    assert table.leave_out(A)
    assert not table.heard(A, 20)
    assert table.state(A) == "slow"
    assert table.up == set()

    table.lost(A)
    assert table.state(A) == "down"
    assert not table.heard(A, 30)
    assert table.state(A) == "slow"

    table.take_in(A)
    assert table.heard(A, 40)


def test_the_patience_with_a_peer_that_is_heard_often_is_down_after_ms() -> None:
    table, _ = heard_each(1000, 50)

    assert table.patience(table.peers[A]) == DOWN_MS


def test_the_patience_with_a_peer_that_is_often_silent_for_long_grows_up_to_a_bound() -> None:
    often, _ = heard_each(1400, 5)
    longer, _ = heard_each(2900, 5)
    far, _ = heard_each(10, 5, answers_ms=2000)

    assert often.patience(often.peers[A]) == 1750
    assert longer.patience(longer.peers[A]) == 2 * DOWN_MS
    assert far.patience(far.peers[A]) == 2000


def test_a_long_silence_is_not_remembered_for_ever() -> None:
    table, now = heard_each(2000, 2)
    for _ in range(120):
        now += 500
        table.heard(A, now)
        table.learn(table.peers[A], 0)

    assert table.patience(table.peers[A]) == DOWN_MS


def test_an_outage_teaches_nothing_of_usual_silences() -> None:
    table, now = heard_each(500, 5)
    table.lost(A)
    table.heard(A, now + 2500)
    table.learn(table.peers[A], 0)

    assert table.patience(table.peers[A]) == DOWN_MS


def test_time_in_which_this_node_stood_is_nobody_elses_silence() -> None:
    table = Liveness(DOWN_MS)
    table.heard(A, 100)
    known = table.peers[A]

    table.stood(10_000, 9_000)
    assert known.since() == 10_000, "a fresh patience"
    table.stood(20_000, 9_000)
    assert known.since() == 19_000, "then only what it stood is left out"

    table.heard(A, 20_100)
    assert known.since() == 20_100


def test_a_peer_that_falls_silent_three_times_in_a_row_flaps() -> None:
    table, now = heard_each(500, 5)
    for falls in range(1, 4):
        now += 4000
        assert table.fall(A, now)
        assert table.flaps(A) == (falls == 3)
        table.heard(A, now + 100)

    table.fall(A, now + 100 * DOWN_MS)
    assert not table.flaps(A), "the others were long ago"


def test_nothing_is_left_of_a_peer_that_was_forgotten() -> None:
    table = Liveness(DOWN_MS)
    table.heard(A, 1)
    table.heard(B, 1)
    table.leave_out(B)

    assert table.forget(A)
    assert not table.forget(B)
    assert not table.forget(b"c" * 8)

    assert (table.up, table.slow, table.peers) == (set(), set(), {})
