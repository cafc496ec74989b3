"""What the server says of itself: INFO, CONFIG GET, TIME."""

from __future__ import annotations

from importlib.metadata import version

from everwrite.server.redis.command import Args, Command, Sub, words
from everwrite.server.redis.connecting import VERSION
from everwrite.server.redis.patterns import glob
from everwrite.server.redis.replies import Answer, Problem, Verbatim
from everwrite.server.redis.session import DATABASES, Session
from everwrite.server.redis.subcommands import container, refuses
from everwrite.server.redis.subscriptions import CHANNEL, PATTERN

EVERWRITE = version("everwrite")
PATTERNS_MAX = 64
"""Of one CONFIG GET."""


def info(session: Session, args: Args, keys: list[bytes]) -> Answer:
    front = session.front
    local = front.local
    up = int(front.now() - front.began)
    sections: dict[str, dict[str, object]] = {
        "server": {
            "redis_version": VERSION,
            "everwrite_version": EVERWRITE,
            "redis_mode": "standalone",
            "run_id": front.run_id,
            "tcp_port": front.port,
            "uptime_in_seconds": up,
            "uptime_in_days": up // 86_400,
        },
        "clients": {"connected_clients": len(front.connections)},
        "persistence": {"loading": 0, "aof_enabled": int(local.durable)},
        "stats": {
            "total_connections_received": front.connections_made,
            "total_commands_processed": front.measures.commands,
            "pubsub_channels": len(front.hub.subscriptions.names(CHANNEL)),
            "pubsub_patterns": len(front.hub.subscriptions.names(PATTERN)),
        },
        "replication": {"role": "master", "connected_slaves": 0},
        "cluster": {"cluster_enabled": 0},
        "everwrite": {
            "node_name": local.members.me.name,
            "cluster_name": local.cluster.name,
            "replicas": local.cluster.replicas,
            "nodes_known": len(local.members),
        },
    }
    asked = {words(each).lower() for each in args[1:]} - {"default", "all", "everything"}
    parts = []
    for name, facts in sections.items():
        if not asked or name in asked:
            lines = "".join(f"{fact}:{value}\r\n" for fact, value in facts.items())
            parts.append(f"# {name.capitalize()}\r\n{lines}")
    return Verbatim("\r\n".join(parts))


_CONFIG = {
    "save": "",
    "databases": str(DATABASES),
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "timeout": "0",
    "proto-max-bulk-len": str(1 << 20),
}


def config_get(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 2 + PATTERNS_MAX:
        raise Problem(f"ERR CONFIG GET takes at most {PATTERNS_MAX} patterns here")
    local = session.front.local
    there = {**_CONFIG, "appendonly": "yes" if local.durable else "no"}
    patterns = [glob(each.lower()) for each in args[2:]]
    return {
        name: value
        for name, value in there.items()
        if any(pattern.fullmatch(name.encode()) for pattern in patterns)
    }


def time(session: Session, args: Args, keys: list[bytes]) -> Answer:
    now_ms = session.front.time_ms()
    return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]


COMMANDS = (
    Command("info", info, -1, group="server", summary="What this server is."),
    container(
        "config",
        {
            "get": Sub(config_get, -3, "Some settings, by patterns."),
            "set": refuses("nothing can be set here; see docs/redis.md"),
            "resetstat": refuses(
                "counters are not set back here, they only grow; see docs/metrics.md"
            ),
            "rewrite": refuses("nothing can be set here; see docs/redis.md"),
        },
        group="server",
        summary="CONFIG GET of some settings.",
    ),
    Command("time", time, 1, group="server", summary="The time of day, as the cluster has it."),
)
