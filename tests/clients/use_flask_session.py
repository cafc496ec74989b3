"""Flask-Session: sessions in Redis, and in cachelib's RedisCache; two applications on two nodes."""

from __future__ import annotations

from datetime import timedelta

import checks
import flask
import flask_session
import redis
from cachelib import RedisCache


def with_views(app: flask.Flask) -> flask.Flask:
    app.config["SECRET_KEY"] = "x" * 50

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["user"] = name
        return ""

    @app.post("/buy/<what>")
    def buy(what: str) -> str:
        flask.session["cart"] = [*flask.session.get("cart", []), what]
        return ""

    @app.post("/logout")
    def logout() -> str:
        flask.session.clear()
        return ""

    @app.get("/")
    def start() -> dict[str, object]:
        return dict(flask.session)

    return app


def on_node(node: int, **config: object) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(config)
    if config["SESSION_TYPE"] == "redis":
        app.config["SESSION_REDIS"] = redis.Redis.from_url(checks.url(node))
    else:
        app.config["SESSION_CACHELIB"] = RedisCache(redis.Redis.from_url(checks.url(node)))
    flask_session.Session(app)
    return with_views(app)


def content(app: flask.Flask, cookie: str) -> dict[str, object]:
    """Return what an application finds in the session of this cookie."""
    visitor = app.test_client()
    visitor.set_cookie("session", cookie)
    found = visitor.get("/").json
    found.pop("_permanent", None)
    return found


def visit(app: flask.Flask, other: flask.Flask) -> None:
    visitor = app.test_client()
    visitor.post("/login/alice")
    cookie = visitor.get_cookie("session").value
    checks.seen(lambda: content(other, cookie), {"user": "alice"})
    visitor.post("/buy/tea")
    visitor.post("/buy/jam")
    assert content(app, cookie) == {"user": "alice", "cart": ["tea", "jam"]}
    checks.seen(lambda: content(other, cookie), {"user": "alice", "cart": ["tea", "jam"]})
    visitor.post("/logout")
    checks.seen(lambda: content(other, cookie), {})
    assert content(app, cookie) == {}


def session_ends(app: flask.Flask) -> None:
    visitor = app.test_client()
    visitor.post("/login/bob")
    cookie = visitor.get_cookie("session").value
    store = app.session_interface
    assert store._retrieve_session_data(f"session:{cookie}")["user"] == "bob"
    checks.seen(lambda: store._retrieve_session_data(f"session:{cookie}"), None)


def check_recipe() -> None:
    app = with_views(checks.recipe("Flask: sessions")["app"])
    visit(app, on_node(2, SESSION_TYPE="redis"))


def check_cachelib() -> None:
    visit(on_node(1, SESSION_TYPE="cachelib"), on_node(2, SESSION_TYPE="cachelib"))


def check_sessions_end() -> None:
    short = timedelta(seconds=2)
    session_ends(on_node(1, SESSION_TYPE="redis", PERMANENT_SESSION_LIFETIME=short))
    session_ends(on_node(2, SESSION_TYPE="cachelib", PERMANENT_SESSION_LIFETIME=short))


checks.run(globals())
