"""The OpenAPI 3.1 document, made from the table of operations and from the types themselves.

``python -m everwrite.server.http.openapi`` prints it; docs/openapi.json is what it printed last.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from everwrite.core.data.keys import BUCKET_BYTES_MAX, KEY_BYTES_MAX
from everwrite.server.http.batch import Operation as BatchOperation
from everwrite.server.http.options import LEVELS, LIMIT_MAX, RESOLVES
from everwrite.server.http.problems import Problem
from everwrite.server.http.routes import OPERATIONS, Operation

Json = dict[str, Any]

_NUMBER = r"[0-9]{1,9}(\.[0-9]{1,6})?"
_TIME: Json = {
    "type": "string",
    "pattern": rf"^({_NUMBER}|({_NUMBER}(ms|[smhdw])){{1,6}})$",
}
_COPIES: Json = {"type": "integer", "minimum": 1, "maximum": 9}
_FLAG: Json = {"type": "string", "enum": ["true", "false"]}

PARAMETERS: dict[str, tuple[Json, str]] = {
    "n": (_COPIES, "How many copies; at most what the cluster keeps"),
    "r": (_COPIES, "How many nodes must answer a read"),
    "w": (_COPIES, "How many nodes must have a write"),
    "dw": (
        {"type": "integer", "minimum": 0, "maximum": 9},
        "How many of them must have it fsynced",
    ),
    "timeout": (_TIME, "How long it may take: 250ms, 2s; up to a minute; a number is seconds"),
    "strict": (_FLAG, "Whether only owners count, no stand-ins"),
    "consistency": (
        {"type": "string", "enum": list(LEVELS)},
        "A word for r or w; session: no less than the Causal-Context sent has seen",
    ),
    "format": (
        {"type": "string", "enum": ["raw", "envelope"]},
        "The value, or all siblings as JSON",
    ),
    "resolve": ({"type": "string", "enum": list(RESOLVES)}, "One value in the place of several"),
    "dot": ({"type": "string"}, "One of the siblings, by the name that the envelope gives it"),
    "trace": (
        {"type": "string", "enum": ["0", "1"]},
        "Tell what happened, and when: in the Trace header, or in the answering lines",
    ),
    "ttl": (_TIME, "How long the value is to live: 30s, 12h; from a second to ten years"),
    "key_encoding": (
        {"type": "string", "enum": ["percent", "base64url"]},
        "How the key (and prefix, after) is written",
    ),
    "prefix": ({"type": "string"}, "Only keys that begin with this"),
    "after": ({"type": "string"}, "Go on behind this key, the last one told"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}, "At most so many keys"),
}

HEADERS: dict[str, tuple[Json, str]] = {
    "Causal-Context": (
        {"type": "string", "pattern": "^[A-Za-z0-9_-]*=*$"},
        "What a read or write has seen, to be given back as it is",
    ),
    "Idempotency-Key": (
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        "The same in each try of one write: it is carried out once, and another one is refused",
    ),
    "If-None-Match": ({"type": "string", "pattern": "^[ !-~]*$"}, "ETags of what the reader has"),
    "Accept": (
        {"type": "string", "pattern": "^[ !-~]*$"},
        'application/json; profile="siblings" asks for the envelope',
    ),
    "Playground-Token": (
        {"type": "string", "pattern": "^[!-~]*$"},
        "What GET /v1/playground tells",
    ),
    "ETag": ({"type": "string"}, "Of the values, whatever the context"),
    "Siblings": ({"type": "string", "pattern": "^[0-9]+$"}, "How many values there are"),
    "Replicas": (
        {"type": "string"},
        "Owners and stand-ins that answered, and how many were needed",
    ),
    "Durable": ({"type": "string", "pattern": "^[0-9]+$"}, "How many of them have it fsynced"),
    "Expires-At": ({"type": "string", "format": "date-time"}, "When the value ends"),
    "Trace": ({"type": "string"}, "The timeline that trace=1 asks for: a JSON list"),
    "Location": ({"type": "string"}, "Where the value is"),
    "Request-Id": ({"type": "string"}, "Yours, or one that was made"),
    "Retry-After": (
        {"type": "string", "pattern": "^[0-9]+$"},
        "Seconds until it may be tried again",
    ),
}

PATHS: dict[str, Json] = {
    "bucket": {
        "type": "string",
        "minLength": 1,
        "maxLength": BUCKET_BYTES_MAX // 4,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f/]+$",
    },
    "key": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX // 4},
    "plan": {"type": "string", "pattern": "^[0-9a-f]+$"},
}

PROBLEMS: dict[int, str] = {
    400: "The request is wrong; nothing was changed",
    401: "The secret is missing or wrong",
    403: "A page of another origin may not ask; or this may not be asked",
    404: "Nothing is there",
    409: "The siblings have no such resolution, or another data type is there",
    413: "A key, value, name or set of siblings is over its limit",
    415: "The body is of no type that is taken here",
    421: "The node does not answer to this name",
    429: "The node has too much to do; nothing was done",
    500: "A bug of the node's",
    501: "It cannot be promised here, by anybody",
    503: "Not possible now; outcome says whether a write may have happened",
    504: "The time was over; outcome says whether a write may have happened",
    507: "The disk is full",
}
EVERYWHERE = (400, 401, 403, 421, 429, 500, 503, 504)


@cache
def document() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(build())


def build() -> Json:
    """Return the document."""
    types = [Problem, BatchOperation]
    for operation in OPERATIONS:
        types += [kind for _, kind in operation.body if kind is not None]
        types += [answer.schema for answer in operation.answers if answer.schema is not None]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    known = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: Json = {}
    for operation in OPERATIONS:
        place = paths.setdefault(operation.path, {})
        place[operation.method.lower()] = _operation(operation, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Everwrite",
            "version": version("everwrite"),
            "description": "A replicated key-value store without a leader. See docs/http.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"secret": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"secret": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, known: dict[int, Json]) -> Json:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in PATHS.items()
        if f"{{{name}}}" in operation.path
    ]
    for name in sorted(operation.query):
        schema, what = PARAMETERS[name]
        parameters.append({"name": name, "in": "query", "schema": schema, "description": what})
    for name in operation.headers:
        schema, what = HEADERS[name]
        parameters.append({"name": name, "in": "header", "schema": schema, "description": what})
    found: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": _responses(operation, known),
    }
    if operation.body:
        found["requestBody"] = {
            "required": operation.body_required,
            "content": {media: _content(media, kind, known) for media, kind in operation.body},
        }
    return found


def _responses(operation: Operation, known: dict[int, Json]) -> Json:
    found: Json = {}
    for answer in operation.answers:
        response: Json = {
            "description": answer.what,
            "headers": _headers("Request-Id", *answer.headers),
        }
        if answer.media:
            response["content"] = {answer.media: _content(answer.media, answer.schema, known)}
        found[str(answer.status)] = response
    for status in sorted({*EVERYWHERE, *operation.problems}):
        retry = ("Retry-After",) if status in (429, 503) else ()
        found[str(status)] = {
            "description": PROBLEMS[status],
            "headers": _headers("Request-Id", *retry),
            "content": {"application/problem+json": {"schema": known[id(Problem)]}},
        }
    return found


def _headers(*names: str) -> Json:
    return {name: {"schema": HEADERS[name][0], "description": HEADERS[name][1]} for name in names}


def _content(media: str, kind: Any, known: dict[int, Json]) -> Json:
    """Return what a body holds. OpenAPI 3.1 has no word for lines: they are a text, and what each
    of them is stands beside.
    """
    if kind is None:
        return {}
    if media == "application/x-ndjson":
        return {"schema": {"type": "string", "x-each-line": known[id(kind)]}}
    return {"schema": known[id(kind)]}


def main() -> None:
    """Print the document."""
    sys.stdout.write(msgspec.json.format(document(), indent=2).decode() + "\n")


if __name__ == "__main__":
    main()
