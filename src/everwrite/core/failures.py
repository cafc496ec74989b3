"""An error as the answer that says it."""

from __future__ import annotations

from everwrite.core.errors import EverwriteError
from everwrite.core.messages.requests import Failure


def failure_of(rid: int, error: EverwriteError) -> Failure:
    """Return the answer that reports an error to a client."""
    return Failure(
        rid,
        error.code,
        error.message,
        error.hint,
        error.outcome,
        error.acked,
        error.required,
        error.retry_after_ms,
    )
