"""What a bucket says of each of its requests, and holds where a call says nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import msgspec

from everwrite.client.arguments import checked_strict, checked_timeout, checked_ttl


class Numbers(NamedTuple):
    """How many nodes a write is for, as its message has it."""

    n: int
    w: int
    dw: int
    strict: bool


class Defaults(msgspec.Struct, frozen=True):
    """See the module. 0 (and -1 for dw) is the cluster's default."""

    n: int
    r: int
    w: int
    dw: int
    timeout_s: float
    strict: bool
    ttl_ms: int

    def of_write(self, n: int, w: int, dw: int, strict: bool | None) -> Numbers:
        """Return the numbers of a write, from what its call says."""
        return Numbers(
            n or self.n,
            w or self.w,
            self.dw if dw == -1 else dw,
            self.strict if strict is None else checked_strict(strict),
        )

    def patience(self, timeout: float | None) -> float:
        """Return how long a request may last; RequestError for what is no time."""
        return self.timeout_s if timeout is None else checked_timeout(timeout)

    def lifetime(self, ttl: float | timedelta | None) -> int:
        """Return how long what is written lives, in milliseconds; 0: for ever."""
        return self.ttl_ms if ttl is None else checked_ttl(ttl)
