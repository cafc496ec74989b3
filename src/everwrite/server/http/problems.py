"""Errors as problem documents (RFC 9457): the same code, outcome and hint as everywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everwrite.core.errors import (
    DeniedError,
    EverwriteError,
    NotFound,
    RequestError,
    TooLarge,
    UnavailableError,
)

Header = tuple[bytes, bytes]

MEDIA_TYPE = b"application/problem+json"

STATUSES = {
    "bad_request": 400,
    "bad_context": 400,
    "protocol": 400,
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "wrong_type": 409,
    "too_large": 413,
    "overloaded": 429,
    "internal": 500,
    "invariant": 500,
    "unsupported": 501,
    "hints_full": 503,
    "storage": 503,
    "deadline_exceeded": 504,
    "storage_full": 507,
}
"""By code; what is only not possible now is 503, and all else is ours: 500."""


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a problem document says."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    code: str
    retryable: bool
    outcome: str
    """What became of the write: "none", "partial" (on fewer than W nodes) or "unknown"."""
    acked: int
    required: int
    hint: str
    retry_after_ms: int = 0
    request_id: str = ""
    absent: str = ""
    """Where nothing was found, why: "never", "deleted", "expired", "unknown"."""
    context: str = ""
    """That of a read which found nothing, where it is too long for a header."""

    def __post_init__(self) -> None:
        self.type = self.type or f"urn:everwrite:problem:{self.code}"


class Refusal(Exception):
    """An error for which HTTP has a status or headers of its own."""

    def __init__(
        self,
        status: int,
        error: EverwriteError,
        headers: Sequence[Header] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = headers
        self.extra = extra or {}


class Gone(Exception):
    """Whoever asked has hung up: there is nobody to answer."""


def status_of(error: EverwriteError) -> int:
    """Return the status for an error."""
    known = STATUSES.get(error.code)
    if known is not None:
        return known
    return 503 if isinstance(error, UnavailableError) or error.code.startswith("storage") else 500


def problem_of(
    error: EverwriteError | Refusal, instance: str = "", request_id: str = ""
) -> tuple[Problem, list[Header]]:
    """Return the document for an error, and the headers that go with it."""
    headers: list[Header] = []
    extra: Mapping[str, Any] = {}
    if isinstance(error, Refusal):
        status, headers, extra, error = error.status, [*error.headers], error.extra, error.error
    else:
        status = status_of(error)
    if error.retry_after_ms or status in (429, 503):
        seconds = max(1, math.ceil(error.retry_after_ms / 1000))
        headers.append((b"retry-after", b"%d" % seconds))
    document = Problem(
        type="",
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=error.message,
        instance=instance,
        code=error.code,
        retryable=error.retryable,
        outcome=error.outcome,
        acked=error.acked,
        required=error.required,
        hint=error.hint,
        retry_after_ms=error.retry_after_ms,
        request_id=request_id,
        **extra,
    )
    return document, headers


def no_such_path(path: str) -> Refusal:
    """Return the refusal for a path that leads nowhere."""
    return Refusal(
        404,
        NotFound(
            f"There is nothing at {path[:200]!r}.",
            hint="The paths are in /openapi.json, the dashboard is at /ui/.",
        ),
    )


def not_allowed(method: str, methods: Sequence[str]) -> Refusal:
    """Return the refusal for a method that a path does not have."""
    allow = ", ".join(sorted(methods))
    error = RequestError(f"{method[:32]} is not possible here.", hint=f"Possible: {allow}.")
    return Refusal(405, error, [(b"allow", allow.encode())])


def without_secret(said: bool) -> Refusal:
    """Return the refusal for a request that does not know the secret."""
    what = "The secret is wrong." if said else "This node asks for the cluster's secret."
    error = DeniedError(what, hint="Send it as: Authorization: Bearer <secret>.")
    return Refusal(401, error, [(b"www-authenticate", b'Bearer realm="everwrite"')])


def body_too_large(most: int) -> Refusal:
    """Return the refusal for a body over its limit. The rest of it is not read."""
    error = TooLarge(
        f"The body has more than {most} bytes, the most that is taken here.",
        hint="Nothing was done. Split it, or send it as several.",
    )
    return Refusal(413, error, [(b"connection", b"close")])
