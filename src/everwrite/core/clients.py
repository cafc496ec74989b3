"""What clients ask of a node: whether it takes their requests now, and what is wrong with them.

All that is wrong with a request is found here, once, before anything is done for it. Those that the
shell cannot hand in at once wait at the door (core/pace/door.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from everwrite.core.data.keys import VALUE_BYTES_MAX, checked_value, split_key
from everwrite.core.errors import EverwriteError, UnavailableError
from everwrite.core.failures import failure_of
from everwrite.core.measures import Operation, operation_of
from everwrite.core.messages.listing import List
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Fetch, Get, Put, Touch
from everwrite.core.outbox import Place
from everwrite.core.pace.door import Asked, Door, Verdict
from everwrite.core.request.limits import (
    about_to_stop,
    check_get,
    check_put,
    check_touch,
    gone_for_good,
    too_busy,
    turned_away,
    waited_in_vain,
)
from everwrite.core.types.operations import decode

if TYPE_CHECKING:
    from everwrite.core.node import Node

LATE_MS = 200
"""A request that waited for so long may have been made again at another node meanwhile: a client
does that after a quarter of a second."""

_WRITES = (Put, Touch)


def _said() -> Iterator[tuple[tuple[Verdict, bool], tuple[EverwriteError, Failure]]]:
    """Yield what those are told that were not let in: made once, since an overloaded node says it
    some ten thousand times a second.
    """
    for again in (False, True):
        errors: dict[Verdict, EverwriteError] = {
            "late": waited_in_vain(again=again),
            "overloaded": turned_away(again=again),
        }
        for verdict, error in errors.items():
            yield (verdict, again), (error, failure_of(0, error))


_SAID = dict(_said())


class Clients:
    """The clients' side of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._local = node.local
        config = node.local.config
        self.door = Door(config.waiting_max, config.held_bytes_max)
        """What was asked for and was not begun."""
        self.fronts: set[Place] = set()
        """Clients within this process, which make their puts here: these lay nowhere before, and
        are nobody's second try, but for those that say so.
        """
        self.handlers: dict[type, Callable[[Place, Any], None]] = {
            Fetch: self.fetch,
            Get: self.get,
            Put: self.put,
            Touch: self.put,
            List: self.list,
        }

    def let_in(self, source: Place, message: Asked, waited_ms: int) -> None:
        """Take a request that waited at the door. A put has the less time for it, and may have been
        made again at another node: not one of this process, which knows its own.
        """
        if waited_ms >= LATE_MS and isinstance(message, _WRITES):
            again = message.retry or source not in self.fronts
            # Of what it waited, Node.put takes off what was a pause.
            beyond_ms = max(0, waited_ms - self.unread_ms(source))
            left_ms = self._time_ms(message.timeout_ms) - beyond_ms
            if left_ms <= 0:
                self._local.counters.expired += 1
                self.turn_away(source, (replace(message, retry=again),), "late")
                return
            message = replace(message, timeout_ms=left_ms, retry=again)
        self._node.handlers(source)[type(message)](source, message)

    def unread_ms(self, source: Place) -> int:
        """Return how long a put that comes from there now may have lain unread."""
        return 0 if source in self.fronts else self._node.late_ms

    def line_up(self, source: Place, messages: Sequence[Asked], now_us: int) -> None:
        """Let requests wait at the door, or refuse them at once."""
        refused = self.door.line_up(source, messages, now_us, self._local.time_ms)
        if refused:
            self.turn_away(source, refused, "overloaded")

    def turn_away(self, source: Place, messages: Sequence[Asked], verdict: Verdict) -> None:
        """Answer requests of a client that were not let in."""
        local = self._local
        local.counters.refused += len(messages)
        replies: list[Message] = []
        counts: dict[tuple[Operation, bool], int] = {}
        for message in messages:
            again = isinstance(message, _WRITES) and message.retry
            replies.append(replace(_SAID[verdict, again][1], rid=message.rid))
            which = operation_of(message), again
            counts[which] = counts.get(which, 0) + 1
        for (operation, again), count in counts.items():
            local.measures.turn_away(operation, _SAID[verdict, again][0], count)
        local.out.sends.setdefault(source, []).extend(replies)

    def put(self, source: Place, put: Put | Touch) -> None:
        local = self._local
        if self._full() or not self.open:
            local.fail(source, put, self._not_now())
            return
        try:
            split_key(put.key)
            if isinstance(put, Touch):
                check_touch(put, local.cluster.replicas)
            else:
                check_put(put, local.cluster.replicas)
                value = put.value
                if value is not None and len(value) > VALUE_BYTES_MAX and not put.change:
                    checked_value(value)
        except EverwriteError as error:
            local.fail(source, put, error)
            return
        time_ms = self._time_ms(put.timeout_ms)
        if time_ms != put.timeout_ms:
            put = replace(put, timeout_ms=time_ms)
        if put.forwarded:
            put = replace(put, forwarded=False)
        self._node.put(source, put)

    def handed_on(self, source: Place, put: Put | Touch) -> None:
        """Take a put that a client gave to another node. That one has looked at it; but what cannot
        be carried out, or could not be read again, is not made on anybody's word.
        """
        try:
            split_key(put.key)
            if isinstance(put, Put) and put.change:
                decode(put.value or b"")
        except EverwriteError as error:
            self._local.fail(source, put, error)
            return
        self._node.put(source, put)

    def get(self, source: Place, get: Get) -> None:
        local = self._local
        if self._full() or not self.open:
            local.fail(source, get, self._not_now())
            return
        try:
            split_key(get.key)
            check_get(get, local.cluster.replicas)
        except EverwriteError as error:
            local.fail(source, get, error)
            return
        time_ms = self._time_ms(get.timeout_ms)
        if time_ms != get.timeout_ms:
            get = replace(get, timeout_ms=time_ms)
        if get.forwarded:
            get = replace(get, forwarded=False)
        self._node.reads.get(source, get)

    def fetch(self, source: Place, fetch: Fetch) -> None:
        if not self.open:
            self._local.fail(source, fetch, self._not_now())
            return
        try:
            split_key(fetch.key)
        except EverwriteError as error:
            self._local.fail(source, fetch, error)
            return
        self._node.replica.fetch(source, fetch)

    def list(self, source: Place, message: List) -> None:
        local = self._local
        if self._full() or not self.open:
            local.fail(source, message, self._not_now())
            return
        time_ms = self._time_ms(message.timeout_ms)
        if time_ms != message.timeout_ms:
            message = replace(message, timeout_ms=time_ms)
        self._node.listings.list(source, message)

    @property
    def open(self) -> bool:
        """Say whether this node takes requests: it knows its cluster, is no part of it that is
        about to go, or gone, and does not stop.
        """
        away = self._local.closing or self._node.rounds.out_for_good
        return self._node.ready and not (away or self._node.doubted or self._local.stopping)

    def _full(self) -> bool:
        """Say whether this node has as many requests, or as much in them, as it will take."""
        local = self._local
        config = local.config
        return (
            len(local.requests) - local.background >= config.in_flight_max
            or local.held_bytes >= config.held_bytes_max
        )

    def _time_ms(self, asked_ms: int) -> int:
        """Return how long a request may last that asks for so much; 0 or less: it does not say."""
        config = self._local.config
        if asked_ms <= 0:
            return config.request_timeout_ms
        return min(asked_ms, config.request_timeout_max_ms)

    def _not_now(self) -> EverwriteError:
        if self.open:
            return too_busy(self._local)
        if self._node.doubted:
            return UnavailableError(
                "Another process with this node's identity runs: this one takes no requests.",
                hint="Nothing was done. Ask another node; this one's log says what to do.",
            )
        if self._local.stopping:
            return about_to_stop()
        if self._node.ready:
            return gone_for_good()
        return UnavailableError(
            "This node is starting and does not know its cluster yet.",
            hint="Nothing was done. Try again in a moment, or ask another node.",
        )
