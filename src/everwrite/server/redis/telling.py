"""What the server says of itself: INFO, CONFIG GET, COMMAND, TIME."""

from __future__ import annotations

from importlib.metadata import version

from everwrite.server.redis.command import (
    BLIND,
    READ,
    Args,
    Command,
    words,
    wrong_number,
)
from everwrite.server.redis.connecting import VERSION
from everwrite.server.redis.keys import glob
from everwrite.server.redis.replies import NO_LIST, Answer, Problem, Simple, Verbatim
from everwrite.server.redis.session import DATABASES, Session
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
            "run_id": local.me.hex() * 2 + local.cluster.cluster_id.hex()[:8],
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


def config(session: Session, args: Args, keys: list[bytes]) -> Answer:
    said = args[1].lower()
    if said == b"resetstat":
        raise Problem("ERR counters are not set back here, they only grow; see docs/metrics.md")
    if said == b"set":
        raise Problem("ERR nothing can be set here; see docs/redis.md")
    if said != b"get":
        raise Problem(f"ERR unknown subcommand '{words(args[1])}'. Try CONFIG HELP.")
    if len(args) < 3:
        raise wrong_number("config|get")
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


def command(session: Session, args: Args, keys: list[bytes]) -> Answer:
    table = session.front.table
    match [each.lower() for each in args[1:2]] + args[2:]:
        case []:
            return [_entry(each) for each in table.values()]
        case [b"count"]:
            return len(table)
        case [b"list"]:
            return list(table)
        case [b"info", *names]:
            chosen = [table.get(name.lower()) for name in names] if names else table.values()
            return [NO_LIST if each is None else _entry(each) for each in chosen]
        case [b"docs", *names]:
            wanted = [name.lower() for name in names] if names else table
            return {name: _docs(table[name]) for name in wanted if name in table}
        case [b"getkeys", name, *rest]:
            found = table.get(name.lower())
            if found is None or not found.fits([name, *rest]):
                raise Problem("ERR Invalid command specified, or wrong number of arguments")
            if not (keys_of := found.keys_in([name, *rest])):
                raise Problem("ERR The command has no key arguments")
            return keys_of
        case _:
            raise Problem(f"ERR unknown subcommand '{words(args[1])}'. Try COMMAND HELP.")


def _entry(each: Command) -> Answer:
    flags = [Simple("readonly" if each.mode == READ else "write" if each.keys[0] else "fast")]
    if each.mode == BLIND:
        flags.append(Simple("denyoom"))
    first, last, step = each.keys
    return [each.name, each.arity, flags, first, last, step, [], [], [], []]


def _docs(each: Command) -> Answer:
    return {
        "summary": each.summary or f"Refused: {each.refused}.",
        "since": "1.0.0",
        "group": each.group,
    }


COMMANDS = (
    Command("info", info, -1, group="server", summary="What this server is."),
    Command("config", config, -2, group="server", summary="CONFIG GET of some settings."),
    Command("time", time, 1, group="server", summary="The time of day, as the cluster has it."),
    Command("command", command, -1, group="server", summary="What commands there are."),
)
