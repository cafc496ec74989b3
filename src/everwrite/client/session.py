"""Sessions: read your writes, and never read less than you have read before.

A session remembers, for each key that it touched, the context of the newest answer. A read with the
session is given only an answer that has seen as much; if no node can prove that now, the read fails
as stale rather than lie.

It remembers the last 10,000 keys; for a key that fell out, its promises no longer hold.

Source: Terry et al. 1994, "Session guarantees"; Dynamo 2.3 leaves read-your-writes to luck and R +
W > N.
"""

from __future__ import annotations

from everwrite.client.limits import SESSION_KEYS_MAX
from everwrite.core.data.context import combine


class Session:
    """What one reader and writer has seen: for ``get``, ``put``, ``delete`` and ``update``."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[bytes, bytes] = {}

    def seen(self, key: bytes) -> bytes:
        """Return the context of what was seen of a data key; empty if nothing was."""
        return self._seen.get(key, b"")

    def note(self, key: bytes, context: bytes) -> None:
        """Remember that this context was seen, too."""
        if not context:
            return
        old = self._seen.pop(key, b"")
        self._seen[key] = combine((old, context)) if old and old != context else context
        if len(self._seen) > SESSION_KEYS_MAX:
            del self._seen[next(iter(self._seen))]

    def replace(self, key: bytes, sent: bytes, context: bytes) -> None:
        """A change that was made with what was ``sent`` has this context: who knows that knows what
        was sent, so it takes its place, or contexts would grow with each change.
        """
        if context and self._seen.get(key, b"") == sent:
            self._seen.pop(key, None)
        self.note(key, context)

    def satisfied(self, key: bytes, context: bytes) -> bool:
        """Say whether an answer with this context has seen all that the session has seen of the
        key.
        """
        old = self._seen.get(key, b"")
        return not old or old == context or combine((context, old)) == combine((context,))
