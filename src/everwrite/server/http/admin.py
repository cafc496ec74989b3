"""Questions and orders of operators over HTTP: the verbs of server/admin.py under paths."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from everwrite.core.data.base64url import decode64
from everwrite.core.data.keys import checked_bucket
from everwrite.core.errors import NotFound, RequestError, UnavailableError
from everwrite.core.messages.requests import Ask, Told
from everwrite.server.http.asked import Asked
from everwrite.server.http.objects import key_in
from everwrite.server.http.options import EXPLAINS, NOTHING, parse
from everwrite.server.http.place import HttpPlace
from everwrite.server.http.values import key_in_json

ORDER_BYTES_MAX = 1 << 20
EXPLAIN = b"/v1/explain/"

T = TypeVar("T")
Handler = Callable[[Asked], Awaitable[None]]


class Question(NamedTuple):
    """A verb of server/admin.py that is asked as it is."""

    path: str
    verb: str
    what: str


QUESTIONS = {
    "status": Question("/v1/status", "status", "How this node is, and how it sees the others"),
    "ring": Question("/v1/ring", "ring", "Which node owns which partitions"),
    "hints": Question("/v1/hints", "hints", "What this node keeps for others"),
    "transfers": Question("/v1/transfers", "transfers", "What moves, and how far it is"),
    "repairs": Question(
        "/v1/repairs", "repairs", "When copies were compared last, and what was mended"
    ),
    "show_plan": Question("/v1/plans", "plan_show", "The plan that is staged, if there is one"),
}


class Staged(msgspec.Struct, forbid_unknown_fields=True):
    """The body that stages a plan."""

    changes: list[dict[str, Any]]
    """Each with "verb" (join, leave, remove, replace, weight, zone), "node" and what it needs."""
    force: bool = False


class Commit(msgspec.Struct, forbid_unknown_fields=True):
    """The body that commits a plan; may be left out."""

    force: bool = False


class HttpAdmin:
    """The paths of operators."""

    def __init__(
        self,
        place: HttpPlace,
        ready: Callable[[], bool],
        openapi: Callable[[], bytes],
        render: Callable[[str], Awaitable[tuple[bytes, str]]],
    ) -> None:
        self._place = place
        self._ready = ready
        self._openapi = openapi
        self._render = render
        self.handlers: dict[str, Handler] = {
            **{name: partial(self._pass_on, each.verb) for name, each in QUESTIONS.items()},
            "nodes": self.nodes,
            "live": self.live,
            "ready": self.ready,
            "openapi": self.openapi,
            "metrics": self.metrics,
            "explain": self.explain,
            "stage_plan": self.stage,
            "commit_plan": self.commit,
            "cancel_plan": self.cancel,
        }
        """By the names of operations."""

    # -- health ------------------------------------------------------------------------------------

    async def live(self, asked: Asked) -> None:
        """Say that the process runs and its loop turns."""
        parse(asked.query, NOTHING)
        await asked.reply_json(200, {"live": True})

    async def ready(self, asked: Asked) -> None:
        """Say whether this node takes requests."""
        parse(asked.query, NOTHING)
        if not self._ready():
            raise UnavailableError(
                "This node takes no requests: it is starting, or about to go.",
                hint="Ask another node, or try again in a moment.",
                retry_after_ms=1000,
            )
        await asked.reply_json(200, {"ready": True})

    async def openapi(self, asked: Asked) -> None:
        """Give the description of this API."""
        parse(asked.query, NOTHING)
        await asked.reply_json(200, self._openapi())

    # -- questions ---------------------------------------------------------------------------------

    async def metrics(self, asked: Asked) -> None:
        """Give what was counted, as Prometheus reads it."""
        parse(asked.query, NOTHING)
        body, said = await self._render(asked.headers.get(b"accept", b"").decode("latin-1"))
        headers = [(b"content-type", said.encode("latin-1")), (b"cache-control", b"no-store")]
        await asked.reply(200, headers, body)

    async def explain(self, asked: Asked) -> None:
        """Tell why a key is as it is."""
        options = parse(asked.query, EXPLAINS)
        bucket, _, raw = asked.path[len(EXPLAIN) :].partition(b"/")
        name = checked_bucket(unquote_to_bytes(bucket)).decode()
        key, in_base64 = key_in_json(key_in(raw, options))
        arguments: dict[str, Any] = {"bucket": name, "key": key, "n": options.n, "r": options.r}
        if in_base64:
            arguments["key"] = {"base64": b64encode(decode64(in_base64.encode())).decode()}
        await asked.reply_json(200, await self._ask("explain", arguments))

    async def nodes(self, asked: Asked) -> None:
        """Tell the members as this node sees them."""
        parse(asked.query, NOTHING)
        status = msgspec.json.decode(await self._ask("status", {}))
        await asked.reply_json(200, {"nodes": status["nodes"]})

    # -- orders ------------------------------------------------------------------------------------

    async def stage(self, asked: Asked) -> None:
        """Lay changes over the plan that is there."""
        parse(asked.query, NOTHING)
        order = _body(await asked.body(ORDER_BYTES_MAX), Staged)
        answer = await self._ask("plan_stage", msgspec.to_builtins(order))
        await asked.reply_json(200, answer)

    async def commit(self, asked: Asked) -> None:
        """Go by the plan from now on."""
        parse(asked.query, NOTHING)
        body = await asked.body(ORDER_BYTES_MAX)
        order = _body(body, Commit) if body else Commit()
        plan = await self._named(asked.path.split(b"/")[3])
        answer = await self._ask("plan_commit", {"plan": plan, "force": order.force})
        await asked.reply_json(200, answer)

    async def cancel(self, asked: Asked) -> None:
        """Forget the plan."""
        parse(asked.query, NOTHING)
        await self._named(asked.path.split(b"/")[3])
        await asked.reply_json(200, await self._ask("plan_cancel", {}))

    # -- parts -------------------------------------------------------------------------------------

    async def _pass_on(self, verb: str, asked: Asked) -> None:
        parse(asked.query, NOTHING)
        await asked.reply_json(200, await self._ask(verb, {}))

    async def _ask(self, verb: str, arguments: dict[str, Any]) -> bytes:
        place = self._place
        told: Told = await place.ask(
            Ask(place.next_rid(), verb, msgspec.json.encode(arguments) if arguments else b"")
        )
        return told.answer

    async def _named(self, name: bytes) -> str:
        """Return the plan that a path names; NotFound if the one that is there is another."""
        plan: str = msgspec.json.decode(await self._ask("plan_show", {}))["plan"]
        if not plan or name.decode("latin-1").lower() != plan:
            raise NotFound(
                f"The plan is {plan or 'none'} now.",
                hint="Nothing was changed. Look at it: GET /v1/plans.",
            )
        return plan


def _body(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"The body is not what is needed: {error}.", hint="The forms are in /openapi.json."
        ) from error
