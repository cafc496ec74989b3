"""Logins: values that live for a while, are touched while somebody is there, and end.

Each worker's login has a key of its own, drawn anew for each login, as a web site draws a session's
id: nobody writes to one that has ended. What is known of its end is an interval, since a write may
be minted at any time between its request and its answer:

    until ``surely``     it must be found (its last acknowledged write, plus the ttl)
    after ``at_most``    nobody may be shown it
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

SLACK_S = 1.0
"""How far the cluster's clock may move against ours within one life: it follows its members'."""


class Login(msgspec.Struct, eq=False):
    """One login; all times are those of one monotonic clock, in seconds."""

    name: str
    """Its key."""
    surely: float = 0.0
    at_most: float = 0.0

    def over(self, now: float) -> bool:
        """Say whether a user who comes now has to log in again."""
        return now > self.surely - SLACK_S

    def sent(self, now: float, ttl_s: float, patience_s: float) -> None:
        """A put or touch is about to be sent, and may be carried out for so long."""
        self.at_most = max(self.at_most, now + patience_s + ttl_s)

    def answered(self, began: float, now: float, ttl_s: float) -> None:
        """It was acknowledged: it was carried out between these moments."""
        self.surely = max(self.surely, began + ttl_s)
        self.at_most = max(self.surely, now + ttl_s)

    def judge(self, found: bool, began: float, now: float) -> str:
        """Return what is wrong with an answer to a read between these moments: an error's code, or
        empty.
        """
        if found:
            return "shown_after_its_end" if began > self.at_most + SLACK_S else ""
        return "absent" if now < self.surely - SLACK_S else ""


class Logins:
    """The logins of one load generator, by number."""

    def __init__(self, run: str, numbers: Iterable[int]) -> None:
        self._run = run
        self._made = 0
        self._logins = {number: self._fresh() for number in numbers}

    def of(self, number: int) -> Login:
        """Return the last login of this number."""
        return self._logins[number]

    def renew(self, number: int) -> Login:
        """Return a new one in its place."""
        self._logins[number] = login = self._fresh()
        return login

    def _fresh(self) -> Login:
        self._made += 1
        return Login(f"{self._run}-{self._made:08d}")
