"""All operations of the HTTP API: the one table from which routes and the OpenAPI document come."""

from __future__ import annotations

from typing import Any

import msgspec

from everwrite.core.types.in_json import TypedValue
from everwrite.server.http.admin import QUESTIONS, Commit, Staged
from everwrite.server.http.batch import Operation as BatchOperation
from everwrite.server.http.batch import Outcome
from everwrite.server.http.crdt import READS as TYPED_READS
from everwrite.server.http.crdt import Change, Changed
from everwrite.server.http.keys import KeyLine
from everwrite.server.http.objects import Written
from everwrite.server.http.options import BATCHES, EXPLAINS, LISTS, NOTHING, PUTS, READS, WRITES
from everwrite.server.http.values import Envelope
from everwrite.server.ui.power import Done, Order, Playground

JSON = "application/json"
LINES = "application/x-ndjson"
ANY = "*/*"


class Answer(msgspec.Struct, frozen=True):
    """One possible answer, other than a problem."""

    status: int
    what: str
    media: str = ""
    schema: Any = None
    """A type; None: anything."""
    headers: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    query: frozenset[str] = NOTHING
    headers: tuple[str, ...] = ()
    body: tuple[tuple[str, Any], ...] = ()
    """(media type, type of what is in it)."""
    body_required: bool = True
    answers: tuple[Answer, ...]
    problems: tuple[int, ...] = ()
    """Statuses of problems beside those that any operation may have."""


TYPED_HEADERS = ("Causal-Context", "ETag", "Replicas", "Expires-At", "Trace")
CHANGE_HEADERS = ("Causal-Context", "Replicas", "Durable", "Expires-At", "Trace")
READ_HEADERS = ("Causal-Context", "ETag", "Siblings", "Replicas", "Expires-At", "Trace")
WRITE_HEADERS = ("Causal-Context", "Siblings", "Replicas", "Durable", "Expires-At", "Trace")
KEY = "/v1/kv/{bucket}/{key}"
BUCKET = "/v1/kv/{bucket}"
TYPED = "/v1/crdt/{bucket}/{key}"
_SEVERAL = "Several siblings, or a context too long for a header: the envelope"
_SEVERAL_HEAD = (
    "Several siblings, or a context too long for a header: without Causal-Context, then GET has it"
)
_WRITTEN = Answer(200, "Done; the context is too long for a header: in the body", JSON, Written)


def _question(name: str, path: str, what: str) -> Operation:
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary=what,
        tag="operators",
        answers=(Answer(200, what, JSON, dict[str, Any]),),
    )


def _reading(method: str, name: str, summary: str, *answers: Answer) -> Operation:
    return Operation(
        method=method,
        path=KEY,
        name=name,
        summary=summary,
        tag="objects",
        query=READS,
        headers=("Causal-Context", "If-None-Match", "Accept"),
        answers=(*answers, Answer(304, "The reader has it", headers=READ_HEADERS)),
        problems=(404, 409, 413),
    )


OPERATIONS: tuple[Operation, ...] = (
    _reading(
        "GET",
        "get_object",
        "Read a key: its value, or the envelope with all siblings",
        Answer(200, "The value, or the envelope if asked for", ANY, None, READ_HEADERS),
        Answer(300, _SEVERAL, JSON, Envelope, READ_HEADERS),
    ),
    _reading(
        "HEAD",
        "head_object",
        "As GET, without the body",
        Answer(200, "There is a value", ANY, None, READ_HEADERS),
        Answer(300, _SEVERAL_HEAD, headers=READ_HEADERS),
    ),
    Operation(
        method="PUT",
        path=KEY,
        name="put_object",
        summary="Write a key: supersedes what the context has seen, and nothing else",
        tag="objects",
        query=PUTS,
        headers=("Causal-Context", "Idempotency-Key"),
        body=((ANY, None),),
        answers=(Answer(204, "Written", headers=WRITE_HEADERS), _WRITTEN),
        problems=(413, 415, 501, 507),
    ),
    Operation(
        method="DELETE",
        path=KEY,
        name="delete_object",
        summary="Delete what the context has seen; without one, what is there",
        tag="objects",
        query=WRITES,
        headers=("Causal-Context", "Idempotency-Key"),
        answers=(Answer(204, "Deleted, or nothing was there", headers=WRITE_HEADERS), _WRITTEN),
        problems=(413, 501, 507),
    ),
    Operation(
        method="PATCH",
        path=KEY,
        name="touch_object",
        summary="Let what is there live for ttl from now on, if that is longer",
        tag="objects",
        query=PUTS,
        headers=("Idempotency-Key",),
        answers=(Answer(204, "It lives on", headers=WRITE_HEADERS),),
        problems=(404, 413, 501, 507),
    ),
    Operation(
        method="GET",
        path=BUCKET,
        name="list_keys",
        summary="The keys of a bucket, a JSON line each, in the order of the ring",
        tag="buckets",
        query=LISTS,
        answers=(Answer(200, "Keys, and a last line that says how it ended", LINES, KeyLine),),
        problems=(413,),
    ),
    Operation(
        method="POST",
        path=BUCKET,
        name="add_object",
        summary="Write a value under a key that is made for it",
        tag="buckets",
        query=PUTS - {"key_encoding"},
        headers=("Idempotency-Key",),
        body=((ANY, None),),
        answers=(Answer(201, "Written", headers=("Location", *WRITE_HEADERS)),),
        problems=(413, 415, 501, 507),
    ),
    Operation(
        method="GET",
        path=TYPED,
        name="get_typed",
        summary="Read a key that is a data type: what its pieces make together",
        tag="types",
        query=TYPED_READS,
        headers=("Causal-Context", "If-None-Match"),
        answers=(
            Answer(200, "The value, with its type", JSON, TypedValue, TYPED_HEADERS),
            Answer(304, "The reader has it", headers=TYPED_HEADERS),
        ),
        problems=(404, 413),
    ),
    Operation(
        method="HEAD",
        path=TYPED,
        name="head_typed",
        summary="As GET, without the body",
        tag="types",
        query=TYPED_READS,
        headers=("Causal-Context", "If-None-Match"),
        answers=(
            Answer(200, "There is a value", JSON, TypedValue, TYPED_HEADERS),
            Answer(304, "The reader has it", headers=TYPED_HEADERS),
        ),
        problems=(404, 413),
    ),
    Operation(
        method="POST",
        path=TYPED,
        name="change_typed",
        summary="Carry out operations on a data type, in one write",
        tag="types",
        query=PUTS,
        headers=("Causal-Context", "Idempotency-Key"),
        body=((JSON, list[Change]),),
        answers=(Answer(200, "What each came to", JSON, Changed, CHANGE_HEADERS),),
        problems=(409, 413, 415, 501, 507),
    ),
    Operation(
        method="DELETE",
        path=TYPED,
        name="delete_typed",
        summary="Delete what the context has seen; without one, what is there: as in /v1/kv/",
        tag="types",
        query=WRITES,
        headers=("Causal-Context", "Idempotency-Key"),
        answers=(Answer(204, "Deleted, or nothing was there", headers=WRITE_HEADERS), _WRITTEN),
        problems=(413, 501, 507),
    ),
    Operation(
        method="POST",
        path="/v1/batch",
        name="batch",
        summary="Many operations, each with its own status: lines in, lines out",
        tag="objects",
        query=BATCHES,
        body=((LINES, BatchOperation), (JSON, list[BatchOperation])),
        answers=(Answer(200, "A line for each operation, as it ends", LINES, Outcome),),
        problems=(413, 415),
    ),
    *(_question(name, each.path, each.what) for name, each in QUESTIONS.items()),
    _question("nodes", "/v1/nodes", "The members, as this node sees them"),
    Operation(
        method="GET",
        path="/v1/explain/{bucket}/{key}",
        name="explain",
        summary="Why a key is as it is: its copies, what a get answers, what will be repaired",
        tag="operators",
        query=EXPLAINS,
        answers=(Answer(200, "The explanation", JSON, dict[str, Any]),),
        problems=(413,),
    ),
    Operation(
        method="POST",
        path="/v1/plans",
        name="stage_plan",
        summary="Stage changes of the cluster: nobody goes by them yet",
        tag="operators",
        body=((JSON, Staged),),
        answers=(Answer(200, "The plan", JSON, dict[str, Any]),),
        problems=(413,),
    ),
    Operation(
        method="POST",
        path="/v1/plans/{plan}/commit",
        name="commit_plan",
        summary="Go by the plan from now on",
        tag="operators",
        body=((JSON, Commit),),
        body_required=False,
        answers=(Answer(200, "It is gone by", JSON, dict[str, Any]),),
        problems=(404, 413),
    ),
    Operation(
        method="DELETE",
        path="/v1/plans/{plan}",
        name="cancel_plan",
        summary="Forget the plan",
        tag="operators",
        answers=(Answer(200, "It is forgotten", JSON, dict[str, Any]),),
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/events",
        name="events",
        summary="What all nodes say, each second, as long as you listen: docs/dashboard.md",
        tag="operators",
        answers=(Answer(200, "Server-sent events: cluster, ring", "text/event-stream", str),),
    ),
    Operation(
        method="GET",
        path="/v1/playground",
        name="show_playground",
        summary="Whether nodes may be killed, paused and cut off from here, and the token for it",
        tag="playground",
        answers=(Answer(200, "Whether, and the token", JSON, Playground),),
    ),
    Operation(
        method="POST",
        path="/v1/playground",
        name="order_playground",
        summary="Kill, pause or bring back a node, cut links, heal: on development clusters only",
        tag="playground",
        headers=("Playground-Token",),
        body=((JSON, Order),),
        answers=(Answer(200, "Done", JSON, Done),),
        problems=(413,),
    ),
    _question("live", "/health/live", "Whether the process runs"),
    _question("ready", "/health/ready", "Whether this node takes requests"),
    _question("openapi", "/openapi.json", "This description"),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="What this node has counted, for Prometheus",
        tag="operators",
        headers=("Accept",),
        answers=(Answer(200, "All families: docs/metrics.md", "text/plain", str),),
    ),
)
