"""The client's limits and times, each with its reason."""

from __future__ import annotations

import msgspec

from everwrite.core.errors import ConfigError

IN_FLIGHT_MAX = 10_000
"""Requests in flight at once, as for a node: past it the application outruns the cluster."""

LATE_MAX = 20_000
"""Requests that are over whose answers may still come: twice what can be in flight."""

WRITE_BUFFER_MAX = 4 << 20
"""Bytes that may wait for one node to read them: some loop turns at full speed."""

RETRIES_MAX = 10
"""More tries than a preference list has owners help nobody."""

TIMEOUT_MAX_S = 60.0
"""What a node allows (``NodeConfig.request_timeout_max_ms``)."""

TTL_MIN_S = 1.0
"""Less says nothing among nodes whose clocks may differ by as much, and on the way to them."""

TTL_MAX_S = 10 * 365 * 86_400.0
"""Ten years; what is to live longer is to be kept."""

ASK_BYTES_MAX = 1 << 20
"""Arguments of an administrative question: far under a frame."""

SESSION_KEYS_MAX = 10_000
"""Bounds a session's memory to a few megabytes; a user's session touches some dozens of keys."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a client is, in seconds. The defaults are for nodes in one building."""

    tick_s: float = 0.025
    """How exact all others are: a tenth of the shortest of them."""
    hedge_s: float = 0.25
    """A node silent for this long gets company: far over a healthy p99.9, short for a person."""
    slow_hedge_s: float = 1.0
    """The same for a node that answers others meanwhile: it may wait for a slow quorum."""
    park_s: float = 0.05
    """How often a request that nobody can take looks for a connection; least wait before a try at a
    node that had one.
    """
    suspect_s: float = 0.25
    """Silence, though asked, after which new requests pass a node over: who was hedged once is not
    waited for again.
    """
    abandon_s: float = 3.0
    """Silence, though asked, after which its connection is given up and opened anew."""
    dial_s: float = 1.0
    """Connect and handshake: three round trips, and a lost packet."""
    back_off_s: float = 0.05
    back_off_max_s: float = 1.0
    """Between attempts to connect: doubles from the first to the second."""
    settle_s: float = 0.25
    """How long connect() waits for the other nodes' connections once it has the first."""
    close_s: float = 1.0
    """How long close() waits for a node to take what was sent."""
    view_s: float = 2.0
    """How long the question for the members may take."""
    refresh_s: float = 0.25
    """Least time between two such questions: while news spreads, nodes differ for a second or so.
    """
    moved_s: float = 1.0
    """The same while only who serves what has changed: moving goes on for long, and a request that
    comes to a node which does not serve its key any more costs a hop, no more.
    """
    linger_s: float = 1.0
    """How long the connection to a node that is no member any more stays open, for the answers that
    are under way: a slow quorum.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not seconds > 0:
                raise ConfigError(f"{name} = {seconds!r} is not possible.", hint="Use seconds.")
