"""Where every HTTP request comes in: who may ask, whose it is, and what becomes of an error.

Requests for keys are nearly all there is, so they go to objects.py and crdt.py by a look at their
path; all others go through Starlette's router. An operation gets an ``Asked``, and answers it once,
or raises an EverwriteError or a Refusal: these become problem documents here and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.routing import Route, Router
from structlog.stdlib import BoundLogger

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.server.http.admin import Handler, HttpAdmin
from everwrite.server.http.asked import Asked, Budget, Receive, Scope, Send
from everwrite.server.http.batch import Batches
from everwrite.server.http.crdt import PREFIX as CRDT
from everwrite.server.http.crdt import Typed
from everwrite.server.http.guard import Guard
from everwrite.server.http.keys import Buckets
from everwrite.server.http.measures import HttpMeasures
from everwrite.server.http.objects import PREFIX, Objects
from everwrite.server.http.openapi import document
from everwrite.server.http.operations import Operations, unsure
from everwrite.server.http.place import HttpPlace
from everwrite.server.http.problems import Gone, Refusal, no_such_path, not_allowed
from everwrite.server.http.routes import BUCKET, KEY, OPERATIONS, TYPED
from everwrite.server.http.tags import Tags
from everwrite.server.logs import serve_request
from everwrite.server.spans import Spans
from everwrite.server.ui.pages import lead_there, serve_page

ASKED = "everwrite.asked"

_READS = ("GET", "HEAD")
_OF_OBJECTS = {each.method: each.name for each in OPERATIONS if each.path == KEY}
_OF_TYPED = {each.method: each.name for each in OPERATIONS if each.path == TYPED}
_OF_BUCKETS = {each.method: each.name for each in OPERATIONS if each.path == BUCKET}


class Front:
    """The ASGI application of one node."""

    def __init__(
        self,
        place: HttpPlace,
        guard: Guard,
        budget: Budget,
        *,
        replicas: Callable[[], int],
        timeout_ms: int,
        ready: Callable[[], bool],
        render: Callable[[str], Awaitable[tuple[bytes, str]]],
        more: Mapping[str, Handler],
        broken: Callable[[BaseException], None],
        log: BoundLogger,
        spans: Spans | None = None,
    ) -> None:
        self._log = log
        self._broken = broken
        self.spans = spans
        self.measures = HttpMeasures()
        self._guard = guard
        self._budget = budget
        operations = Operations(place, replicas, timeout_ms)
        tags = Tags(place.local.context_key, place.local.fingerprint)
        self._objects = Objects(operations, tags)
        self._typed = Typed(operations, self._objects, tags)
        self._buckets = Buckets(place, self._objects)
        admin = HttpAdmin(place, ready, document, render)
        handlers: dict[str, Handler] = {
            **admin.handlers,
            "batch": Batches(operations, budget).serve,
            **more,
        }
        self._rest = Router(_routes(handlers), redirect_slashes=False, default=_nowhere)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began_ns, span = time.monotonic_ns(), None
        try:
            asked = Asked(scope, receive, send, self._budget)
        except Exception as error:
            self._log.exception("request failed", operation="other", why=repr(error))
            raise
        serve_request(asked.id.decode())
        try:
            if self.spans is not None:
                span = self.spans.begin(asked)
            asked.check_head()
            self._guard.check(asked.path, asked.headers)
            if asked.path.startswith(PREFIX):
                if b"/" in asked.path[len(PREFIX) :].rstrip(b"/"):
                    asked.operation = _OF_OBJECTS.get(asked.method, "other")
                    await self._objects.serve(asked)
                else:
                    asked.operation = _OF_BUCKETS.get(asked.method, "other")
                    await self._buckets.serve(asked)
            elif asked.path.startswith(CRDT) and b"/" in asked.path[len(CRDT) :].rstrip(b"/"):
                asked.operation = _OF_TYPED.get(asked.method, "other")
                await self._typed.serve(asked)
            else:
                scope[ASKED] = asked
                # Routes are found by the path that handlers take apart: in it %2F is no slash.
                scope["path"] = asked.path.decode("latin-1")
                await self._rest(scope, receive, send)
        except Gone:
            return
        except InvariantError as error:  # a bug of ours, whatever was asked
            self._broken(error)
            raise
        except (EverwriteError, Refusal) as error:
            if asked.begun:
                raise
            if asked.method not in _READS and b"idempotency-key" in asked.headers:
                unsure(error)
            await asked.reply_problem(error)
        except Exception as error:
            self._log.exception("request failed", operation=asked.operation, why=repr(error))
            if isinstance(error, ExceptionGroup) and (met := error.subgroup(InvariantError)):
                self._broken(met)  # a line of a batch
            if not asked.begun:
                await asked.reply_problem(_ours(error))
            raise
        finally:
            asked.let_go()
            self.measures.add(asked, time.monotonic_ns() - began_ns)
            if self.spans is not None and span is not None:
                self.spans.end(span, asked)


class Paths:
    """One path: which of its operations a request means."""

    def __init__(self, methods: Mapping[str, tuple[str, Handler]]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked: Asked = scope[ASKED]
        method = "GET" if asked.method == "HEAD" else asked.method
        found = self._methods.get(method)
        if found is None:
            raise not_allowed(asked.method, [*self._methods])
        asked.operation, handler = found
        await handler(asked)


def _routes(handlers: Mapping[str, Handler]) -> list[Route]:
    """Return Starlette's routes for the pages, and all operations but those on keys."""
    paths: dict[str, dict[str, tuple[str, Handler]]] = {}
    for operation in OPERATIONS:
        if not operation.path.encode().startswith((PREFIX, CRDT)):
            named = operation.name, handlers[operation.name]
            paths.setdefault(operation.path, {})[operation.method] = named
    paths["/ui"] = {"GET": ("page", lead_there)}
    paths["/ui/{key}"] = {"GET": ("page", serve_page)}
    return [
        Route(path.replace("{key}", "{key:path}"), Paths(methods))
        for path, methods in paths.items()
    ]


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise no_such_path(str(scope.get("path", "")))


def _ours(error: Exception) -> EverwriteError:
    return EverwriteError(
        f"The node met an error that it has no answer to ({type(error).__name__}).",
        hint="Its log has more, under the request id. A write may have happened. Please report it.",
        outcome="unknown",
    )
