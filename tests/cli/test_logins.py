"""What a load of logins may find, and what it must (cli/logins.py, cli/load.py)."""

from __future__ import annotations

import pytest
from tests.client.fake_node import FakeCluster, in_loop, until

import everwrite
from everwrite.cli.load import Load, LoadOptions
from everwrite.cli.logins import SLACK_S, Login, Logins

TTL_S = 10.0


def put(began: float, now: float) -> Login:
    login = Login("k")
    login.sent(began, TTL_S, 5.0)
    login.answered(began, now, TTL_S)
    return login


def test_what_is_acknowledged_must_be_found_until_its_end() -> None:
    login = put(100.0, 100.5)

    assert login.judge(found=False, began=108.0, now=108.9) == "absent"
    assert login.judge(found=True, began=108.0, now=108.9) == ""
    assert login.judge(found=False, began=110.0, now=110.1) == ""


def test_what_has_ended_must_not_be_shown() -> None:
    login = put(100.0, 100.5)

    assert login.judge(found=True, began=110.5 + SLACK_S + 0.1, now=120.0) == "shown_after_its_end"
    assert login.judge(found=True, began=110.5 + SLACK_S - 0.1, now=120.0) == ""


def test_a_touch_under_way_may_or_may_not_count() -> None:
    login = put(100.0, 100.5)

    login.sent(105.0, TTL_S, 5.0)

    assert login.judge(found=False, began=112.0, now=112.1) == ""
    assert login.judge(found=True, began=119.0, now=119.1) == ""
    assert login.judge(found=True, began=122.0, now=122.1) == "shown_after_its_end"


def test_an_acknowledged_touch_counts() -> None:
    login = put(100.0, 100.5)

    login.sent(105.0, TTL_S, 5.0)
    login.answered(105.0, 105.5, TTL_S)

    assert login.judge(found=False, began=113.0, now=113.1) == "absent"
    assert login.judge(found=True, began=118.0, now=118.1) == "shown_after_its_end"


def test_nothing_is_said_of_a_put_that_was_not_answered() -> None:
    login = Login("k")

    login.sent(100.0, TTL_S, 5.0)

    assert login.over(100.0)
    assert login.judge(found=False, began=101.0, now=101.1) == ""
    assert login.judge(found=True, began=101.0, now=101.1) == ""


def test_who_comes_back_gets_a_new_key() -> None:
    logins = Logins("run", range(3))
    names = {logins.of(number).name for number in range(3)}

    again = logins.renew(1)

    assert logins.of(1) is again
    assert len({*names, again.name}) == 4


@pytest.mark.parametrize(
    ("spoilt", "codes"), [(None, set()), ("lost", {"absent"}), ("kept", {"shown_after_its_end"})]
)
@in_loop
async def test_a_load_of_logins_finds_a_cluster_that_errs(
    spoilt: str | None, codes: set[str]
) -> None:
    """Their clock stands still: nothing ends by itself, and what is "kept" is found too long."""
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        options = LoadOptions([], "read", 4, 10, 20, ttl_s=2.0 if spoilt == "kept" else 60.0)
        load = Load(options, db)
        await load.load()
        if spoilt == "lost":
            cluster.time_ms += 61_000
        load.begin()
        load.measure()
        await until(lambda: load.counted().errors if codes else load.counted().reads > 200)
        counted = await load.stop()

        assert set(counted.errors) == codes
