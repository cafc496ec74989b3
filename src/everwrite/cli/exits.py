"""Exit codes: what a script learns from a command without reading its output."""

from __future__ import annotations

import enum

from everwrite.core.errors import (
    ConfigError,
    DeadlineExceeded,
    EverwriteError,
    QuorumNotMet,
    RequestError,
    UnavailableError,
    Unreachable,
)


class Exit(enum.IntEnum):
    """The documented exit codes; ``INTERRUPTED`` is what a shell expects after Ctrl-C."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DEGRADED = 3
    UNREACHABLE = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


def exit_for(error: EverwriteError) -> Exit:
    """Return the exit code of a command that ended with this error."""
    match error:
        case ConfigError() | RequestError():
            return Exit.USAGE
        case QuorumNotMet() | UnavailableError(code=UnavailableError.code):
            return Exit.DEGRADED
        case Unreachable():
            return Exit.UNREACHABLE
        case DeadlineExceeded():
            return Exit.TIMED_OUT
        case _:
            return Exit.ERROR
