"""B: clocks that lie. Causality goes by dots, time-outs by the monotonic clock of each node, and
nothing at all by the time of day but what people are shown.
"""

from __future__ import annotations

from msgspec.structs import replace
from tests.scenarios.stage import DAY, SECOND, Stage, scenario

from everwrite.core.messages.members import Ping, Pong
from everwrite.core.wire import decode_payload

TEN_YEARS_MS = 3_650 * DAY


@scenario(23)
def test_a_wall_clock_ten_years_off_decides_nothing() -> None:
    stage = Stage(3)
    a, b, c = stage.owners()
    stage.machine(a).wall_jump_ms = TEN_YEARS_MS
    stage.machine(b).wall_jump_ms = -TEN_YEARS_MS

    seen = stage.put("from the future", a, w=3).seen
    seen = stage.put("later, from the past", b, seen=seen, w=3).seen
    beside = stage.put("beside it", c, w=3)

    (late,) = [each for each in stage.record(a).siblings if each.op == b"later, from the past"]
    (plain,) = [each for each in stage.record(a).siblings if each.op == b"beside it"]
    walls = [stage.machine(node).wall_ms() for node in (a, b)]
    assert walls[0] - walls[1] > TEN_YEARS_MS, "the clocks were off"
    assert abs(late.time_ms - plain.time_ms) < SECOND, "and no version says so"
    assert beside.ok and stage.get(a, r=3).values == ["beside it", "later, from the past"]

    stage.kill(c)
    stage.put("hinted", a, seen=seen)
    stage.machine(a).wall_jump_ms = -TEN_YEARS_MS
    stage.run(5 * SECOND)
    assert stage.hints() == 1, "no hint has expired"
    stage.restart(c)
    assert stage.until(lambda: stage.hints() == 0)
    assert stage.held(c) == ["beside it", "hinted"]
    stage.settle()


@scenario(24)
def test_a_wall_clock_that_strobes_changes_no_frame_and_no_suspicion() -> None:
    def hours(strobe_ms: int) -> tuple[list[tuple[int, int, int, list[object]]], int]:
        stage = Stage(3, expiry_slot_ms=DAY)  # What has ended goes by the time of day, rightly.
        jumps = 0
        for turn in range(100):
            for node in (1, 2, 3):
                stage.machine(node).wall_jump_ms = strobe_ms if turn % 2 else -strobe_ms
            jumps += bool(strobe_ms)
            stage.run(100)
            assert all(len(stage.up_in_the_eyes_of(node)) == 2 for node in (1, 2, 3))
        said = [
            (
                frame.at_us,
                frame.source,
                frame.to,
                [plain(each) for each in decode_payload(frame.data[4:])],
            )
            for frame in stage.world.carried
        ]
        pings = sum(isinstance(each, Ping) for _, _, _, messages in said for each in messages)
        assert jumps in (0, 100) and pings > 10
        return said, pings

    def plain(message: object) -> object:
        """Without what a node says of its own wall clock, which is all that may differ."""
        return replace(message, time_ms=0) if isinstance(message, Pong) else message

    assert hours(1000) == hours(0)


@scenario(25)
def test_a_node_that_comes_back_after_400_days_is_taken_and_brought_up_to_date() -> None:
    # All is slower than a day: 400 days pass in a moment.
    slow = 5 * DAY
    rounds = ("gossip", "move", "hint_pass", "repair", "collect", "mend", "ping")
    knobs = {f"{name}_every_ms": slow for name in rounds}
    knobs |= {"down_after_ms": 3 * slow, "expiry_slot_ms": slow, "scrub_cycle_ms": 100 * slow}
    stage = Stage(4, **knobs)
    a, b, c, _ = stage.owners()
    stage.kill(c)
    stage.put("while it was away", a, w=3)
    stage.run(400 * DAY)

    stage.machine(c).wall_jump_ms = 400 * DAY
    stage.restart(c)
    assert stage.until(lambda: stage.hints() == 0)

    again = stage.node(a).local.members.get(stage.machine(c).me.node_id).incarnation
    assert again == 2, "an incarnation counts lives, not time"
    assert stage.held(c) == ["while it was away"]
    assert {a, b} <= stage.up_in_the_eyes_of(c)
    stage.run(4 * slow)  # Each of them pings seldom here.
    stage.settle()


@scenario(26)
def test_clocks_that_run_five_percent_apart_suspect_nobody_and_keep_their_deadlines() -> None:
    stage = Stage(3)
    stage.machine(1).clock_ppm = 950_000
    stage.machine(2).clock_ppm = 1_050_000
    before = [stage.machine(node).clock_ms() for node in (1, 2)]
    for _ in range(120):
        stage.run(500)
        assert all(len(stage.up_in_the_eyes_of(node)) == 2 for node in (1, 2, 3))
    slow, fast = (stage.machine(node).clock_ms() - before[node - 1] for node in (1, 2))
    assert fast - slow > 5 * SECOND, "the clocks drifted"

    for node in (1, 2):
        others = {1, 2, 3} - {node}
        for other in others:
            stage.cut(node, other)
        late = stage.get(node, r=2, timeout_ms=1000)
        assert late.failure.code == "quorum_not_met"
        assert 900 < late.took_ms < 1150
        for other in others:
            stage.mend(node, other)
        assert stage.until(lambda: not stage.world.unrest()), stage.world.unrest()
    stage.settle()
