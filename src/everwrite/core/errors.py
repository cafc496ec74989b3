"""The whole error family, sorted by what the caller can do about it.

Every error carries a stable ``code`` (the same in Python, on the wire, in the command line),
whether a retry can help (``retryable``), what became of the write (``outcome``, promise P3) and a
``hint`` saying what to do. ``str(error)`` is a full sentence for a person.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Outcome = Literal["none", "partial", "unknown"]
"""What became of the write: surely not happened, on fewer than W nodes, or cannot be known."""


class EverwriteError(Exception):
    """Base of everything that Everwrite raises on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        outcome: Outcome = "none",
        acked: int = 0,
        required: int = 0,
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.outcome: Outcome = outcome
        self.acked = acked
        self.required = required
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class RequestError(EverwriteError):
    """The request itself is wrong; nothing was changed and the same request will fail again."""

    code = "bad_request"


class BadContext(RequestError):
    """The context was forged, garbled, or belongs to another key."""

    code = "bad_context"


class Unsupported(RequestError):
    """What was asked for cannot be promised here, by anybody: it is refused by name."""

    code = "unsupported"


class TooLarge(RequestError):
    """A key, value, name, batch or sibling set is over its limit."""

    code = "too_large"


class Conflict(EverwriteError):
    """Several siblings were found where one value was asked for, and no merge function is set."""

    code = "conflict"


class WrongType(EverwriteError):
    """An operation met another data type at its path than the one that it is for."""

    code = "wrong_type"


class NotFound(EverwriteError):
    """No value is there: never written, or deleted."""

    code = "not_found"


class UnavailableError(EverwriteError):
    """Not possible now; trying again may help."""

    code = "unavailable"
    retryable = True


class QuorumNotMet(UnavailableError):
    """Fewer than R or W nodes answered in time."""

    code = "quorum_not_met"


class DeadlineExceeded(UnavailableError):
    """The deadline passed before an answer came."""

    code = "deadline_exceeded"


class Overloaded(UnavailableError):
    """A queue or table is at its cap; the request was refused before any work was done."""

    code = "overloaded"


class HintsFull(Overloaded):
    """A stand-in has no room for hints. The node has no more to do than others: only for this key
    it was the wrong one to ask.
    """

    code = "hints_full"


class StaleSession(UnavailableError):
    """The session token asks for more than the nodes reached can prove now."""

    code = "stale_session"


class Unreachable(UnavailableError):
    """No connection to any node of the cluster."""

    code = "unreachable"


class ClientClosed(EverwriteError):
    """The client was closed, or belongs to the parent process: no retry with it can help, so this
    is no UnavailableError.
    """

    code = "client_closed"


class DeniedError(EverwriteError):
    """The other side is not allowed: wrong secret, wrong cluster, or a verb it may not use."""

    code = "denied"


class OtherCluster(DeniedError):
    """The other side belongs to another cluster."""

    code = "other_cluster"


class Fenced(DeniedError):
    """This node's identity is no longer its own: it was removed, or another process has it. The
    node that hears it stops.
    """

    code = "fenced"


class StillThere(EverwriteError):
    """Another process with this node's identity runs and is heard: it comes first."""

    code = "still_there"


class ProtocolError(EverwriteError):
    """The bytes received are not a message of this protocol; the connection is closed."""

    code = "protocol"


class StorageError(EverwriteError):
    """The local disk or its data directory is the problem."""

    code = "storage"


class DirectoryInUse(StorageError):
    """Another process holds the data directory."""

    code = "directory_in_use"


class WrongFormat(StorageError):
    """The data directory was written by another engine or by a newer version."""

    code = "wrong_format"


class StorageFull(StorageError):
    """The write did not fit on the disk; nothing of it was applied."""

    code = "storage_full"
    retryable = True


class StorageStalled(StorageError):
    """The engine asks for a pause in writes; nothing of this one was applied."""

    code = "storage_stalled"
    retryable = True


class SyncFailed(StorageError):
    """An fsync failed.

    What was written since the last good one may be lost; the engine takes no more writes.
    """

    code = "sync_failed"


class ConfigError(EverwriteError):
    """A setting is missing, unknown or out of range."""

    code = "config"


class InvariantError(EverwriteError):
    """A bug of ours: what must always hold does not. The node stops and keeps the evidence."""

    code = "invariant"


def check(condition: object, sentence: str, **facts: object) -> None:
    """Hold an invariant, in production too (unlike ``assert``), or raise InvariantError."""
    if not condition:
        known = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        raise InvariantError(f"{sentence} [{known}]" if known else sentence)


def _family(base: type[EverwriteError]) -> dict[str, type[EverwriteError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found.update(_family(child))
    return found


def error_from_code(code: str) -> type[EverwriteError]:
    """Return the class with this code; the base class for a code of a newer version."""
    return _BY_CODE.get(code, EverwriteError)


_BY_CODE = _family(EverwriteError)
