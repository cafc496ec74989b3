"""Every deliberate bug is caught: by some judge, within so many seeds.

``WITHIN`` says for each bug how many seeds it took, with room for options that draw otherwise. The
run itself prints the exact number.
"""

from __future__ import annotations

import pytest

from everwrite.core.data import versions
from everwrite.core.errors import ConfigError
from everwrite.sim.bugs import BUGS, planted
from everwrite.sim.campaign import Campaign, run_seeds

WITHIN = {
    "ack-before-w": 5,
    "strict-counts-fallbacks": 10,
    "skip-sync": 5,
    "ack-twice": 60,
    "ack-failed-write": 30,
    "cache-failed-write": 30,
    "reuse-counters": 20,
    "epochs-start-over": 20,
    "epoch-outlives-failed-write": 60,
    "requests-start-over": 80,
    "merge-drops-sibling": 5,
    "merge-by-wall-clock": 5,
    "store-overwrites": 5,
    "put-drops-unseen": 5,
    "put-ignores-context": 5,
    "context-covers-unseen": 5,
    "accept-foreign-context": 20,
    "session-ignored": 20,
    "retry-does-not-look": 30,
    "retry-not-recognised": 20,
    "retry-surely-failed": 50,
    "repair-drops-sibling": 10,
    "no-read-repair": 10,
    "hint-not-written": 10,
    "hint-overwrites": 20,
    "hint-deleted-early": 10,
    "hints-stay": 10,
    "unreadable-is-absent": 40,
    "repair-over-unreadable": 50,
    "requests-leak": 30,
}


def caught(campaign: Campaign) -> bool:
    return bool(campaign.findings)


def test_there_is_a_number_of_seeds_for_every_bug() -> None:
    assert list(WITHIN) == list(BUGS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_deliberate_bug_is_caught(name: str) -> None:
    campaign = run_seeds(range(WITHIN[name]), bug=name, enough=caught)

    assert campaign.findings, f"not caught by {campaign.seeds} seeds"
    print(f"{name}: caught after {campaign.seeds} seeds by the rule {campaign.findings[0].rule}")


def test_a_bug_is_gone_after_its_run() -> None:
    right = versions.merge

    with planted("merge-drops-sibling"):
        assert versions.merge is not right

    assert versions.merge is right


def test_a_bug_that_does_not_exist_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match="no deliberate bug 'typo'") as refused:
        planted("typo")

    assert "skip-sync" in refused.value.hint
