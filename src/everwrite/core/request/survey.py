"""What all nodes have of one key, asked of each, and changed by nobody.

    begin -> Show to every member that is up -> each Shown, or silence until the deadline -> done

It is for people (``everwrite explain``). So it goes to all who may have a copy: owners, whoever
stands in, whoever holds what it owns no more. A node reads what its caches do not have from its
disk, as for any read; a copy that turns out to be damaged is quarantined, as for any read.

Costs: one message to each member, and the whole record back. A node sees through SURVEYS_MAX of
them at a time, and asks SHOWN_MAX members at most.
"""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.errors import Overloaded
from everwrite.core.hints.hints import Hints
from everwrite.core.hints.kept import split_hint
from everwrite.core.local import Local, Request
from everwrite.core.messages.explain import Copy, Show, Shown
from everwrite.core.messages.requests import ABSENT, BUSY, FOUND, UNREADABLE
from everwrite.core.outbox import Place
from everwrite.core.records import HINT, MISSING, OWN, Damaged, Missing
from everwrite.core.tombstones.confirm import everyone

SURVEYS_MAX = 4
"""They are asked for by hand, and each may bring as much as all copies of a key hold."""
SHOWN_MAX = 64
"""In a larger cluster those last in the order of preference are not asked."""

NOTHING = Copy(ABSENT)

Found = dict[bytes, Shown | None]
"""What each member has said; None: nothing."""


class Surveys:
    """Both sides of the question, at one node."""

    def __init__(self, local: Local, hints: Hints) -> None:
        self._local = local
        self._hints = hints
        self.running = 0

    def ask(self, key: bytes, done: Callable[[Found], None]) -> None:
        """Ask all members; ``done`` hears what was found once, within a request's usual time."""
        if self.running >= SURVEYS_MAX:
            raise Overloaded(
                f"This node explains {SURVEYS_MAX} keys already, and no more at a time.",
                hint="Nothing was done. Try again in a moment.",
            )
        Survey(self._local, self, key, done).begin()

    def show(self, source: Place, message: Show) -> None:
        """Answer with all that this node has of a key."""
        local, key = self._local, message.key
        own = local.records.look(OWN + key)
        kept: bytes | Missing | Damaged | None = None
        if self._hints.may_be_kept(key):
            kept = local.records.look(HINT + key)
        for disk_key, payload in ((OWN + key, own), (HINT + key, kept)):
            if payload is MISSING:  # it comes again once that is read
                if not local.records.park(disk_key, source, message, local.now):
                    local.out.send(source, self._busy(message))
                return
        owners: dict[bytes, int] = {}
        if isinstance(kept, bytes):
            _, owners, kept = split_hint(kept)
        own = own[8:] if isinstance(own, bytes) else own
        mine, theirs = _copy(own), _copy(kept)
        local.out.answer_bytes += len(mine.record) + len(theirs.record)
        if local.out.answer_bytes > local.config.answer_bytes_max:
            local.out.send(source, self._busy(message))
            return
        role, time_ms = local.routes.role(key), local.time_ms
        local.out.send(source, Shown(message.rid, FOUND, mine, theirs, role, time_ms, owners))

    def _busy(self, message: Show) -> Shown:
        return Shown(message.rid, BUSY, NOTHING, NOTHING, 0, 0)


class Survey(Request):
    """One question to all."""

    __slots__ = ("_done", "_found", "_key", "_local", "_pending", "_rid", "_surveys")

    def __init__(
        self, local: Local, surveys: Surveys, key: bytes, done: Callable[[Found], None]
    ) -> None:
        self._local = local
        self._surveys = surveys
        self._key = key
        self._done = done
        self._found: Found = {}
        self._pending: set[bytes] = set()
        self._rid = 0

    def begin(self) -> None:
        """Ask everybody who is up, the preferred first."""
        local = self._local
        partition = local.routes.partition_of(self._key)
        preference = local.routes.placement.preference[partition]
        others = [node for node in everyone(local) if node not in preference]
        nodes = [*preference, *others]
        self._found = dict.fromkeys(nodes)
        asked = [n for n in nodes if n == local.me or n in local.liveness.up][:SHOWN_MAX]
        self._pending = set(asked)
        self._surveys.running += 1
        self._rid = local.open_request(self, local.now + local.config.request_timeout_ms)
        for node in asked:
            local.out.send(node, Show(self._rid, self._key))

    def about(self) -> bytes:
        return self._key

    def shown(self, source: Place, reply: Shown) -> None:
        if source not in self._pending:
            return
        assert isinstance(source, bytes)
        self._pending.discard(source)
        if reply.status == FOUND:
            self._found[source] = reply
        self._look()

    def lost(self, peer: bytes) -> None:
        if peer in self._pending:
            self._pending.discard(peer)
            self._look()

    def wake(self) -> None:
        self._pending.clear()
        self._look()

    def _look(self) -> None:
        if not self._pending and self._local.requests.pop(self._rid, None) is not None:
            self._surveys.running -= 1
            self._done(self._found)


def _copy(payload: bytes | Missing | Damaged | None) -> Copy:
    if isinstance(payload, Damaged):
        return Copy(UNREADABLE, b"", payload.reason, payload.corrupt)
    return Copy(FOUND, payload) if isinstance(payload, bytes) else NOTHING
