"""starsessions: sessions of two Starlette (or FastAPI) applications, on two nodes."""

from __future__ import annotations

import checks
import redis
import starsessions
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starsessions.stores.redis import RedisStore

HTTPS = "https://testserver"


async def login(request: Request) -> JSONResponse:
    request.session["user"] = request.path_params["name"]
    return JSONResponse({})


async def renew(request: Request) -> JSONResponse:
    starsessions.regenerate_session_id(request)
    request.session["renewed"] = True
    return JSONResponse({})


async def logout(request: Request) -> JSONResponse:
    request.session.clear()
    return JSONResponse({})


async def start(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.session))


ROUTES = [
    Route("/login/{name}", login, methods=["POST"]),
    Route("/renew", renew, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/", start),
]


def on_node(node: int, lifetime: int) -> Starlette:
    store = RedisStore(connection=redis.asyncio.from_url(checks.url(node)))
    session = Middleware(starsessions.SessionMiddleware, store=store, lifetime=lifetime)
    loaded = Middleware(starsessions.SessionAutoloadMiddleware)
    return Starlette(routes=ROUTES, middleware=[session, loaded])


def check_recipe() -> None:
    app = Starlette(
        routes=ROUTES, middleware=checks.recipe("FastAPI and Starlette: sessions")["middleware"]
    )
    with (
        TestClient(app, base_url=HTTPS) as visitor,
        TestClient(on_node(2, 3600), base_url=HTTPS) as elsewhere,
    ):

        def other(cookie: str) -> object:
            elsewhere.cookies.clear()
            elsewhere.cookies.set("session", cookie)
            return elsewhere.get("/").json()

        assert visitor.get("/").json() == {}
        visitor.post("/login/alice")
        first = visitor.cookies["session"]
        assert visitor.get("/").json() == {"user": "alice"}
        checks.seen(lambda: other(first), {"user": "alice"})
        visitor.post("/renew")
        second = visitor.cookies["session"]
        assert second != first
        checks.seen(lambda: other(second), {"user": "alice", "renewed": True})
        visitor.post("/logout")
        checks.seen(lambda: other(second), {})
        with redis.Redis.from_url(checks.url(3)) as r:
            checks.seen(lambda: r.exists("starsessions." + second), 0)


def check_sessions_end() -> None:
    with (
        TestClient(on_node(1, 1), base_url=HTTPS) as visitor,
        redis.Redis.from_url(checks.url(2)) as r,
    ):
        said = visitor.post("/login/bob").headers["set-cookie"]
        cookie = said.partition("session=")[2].partition(";")[0]
        assert len(cookie) == 32
        # Each request that finds a session writes it again, so only Redis is asked meanwhile.
        checks.seen(lambda: r.exists("starsessions." + cookie), 0)
        visitor.cookies.clear()  # the cookie ends as well: we are somebody who kept it
        visitor.cookies.set("session", cookie)
        assert visitor.get("/").json() == {}


checks.run(globals())
