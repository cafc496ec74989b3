"""A node's answer that it failed, and the error that it reports."""

from __future__ import annotations

from typing import cast, get_args

from everwrite.core.errors import EverwriteError, Outcome, error_from_code
from everwrite.core.messages.requests import Failure

_OUTCOMES = get_args(Outcome)


def error_of(failure: Failure) -> EverwriteError:
    """Return the error that a node reports."""
    known = failure.outcome in _OUTCOMES
    return error_from_code(failure.code)(
        failure.message,
        hint=failure.hint,
        outcome=cast("Outcome", failure.outcome) if known else "unknown",
        acked=failure.acked,
        required=failure.required,
        retry_after_ms=failure.retry_after_ms,
    )


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
