"""What those ask who watch a server: SLOWLOG, LATENCY, MEMORY, ACL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from everwrite.core.messages.requests import GetReply
from everwrite.server.redis.command import (
    READ,
    Args,
    Command,
    Steps,
    Sub,
    integer_in,
    number,
    syntax_error,
    words,
)
from everwrite.server.redis.measures import SLOW_MAX, SLOW_NS
from everwrite.server.redis.replies import OK, Answer, Problem, Verbatim
from everwrite.server.redis.session import Session
from everwrite.server.redis.subcommands import container, refuses

SLOW_MS = SLOW_NS // 1_000_000
SLOWLOG_COUNT = 10
"""What SLOWLOG GET tells, if it is not told how many."""
_VERSION_BYTES = 64
"""About what a version costs beside its value: its dot, times, request id."""


# -- what was slow ---------------------------------------------------------------------------------


def slowlog_get(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 3:
        raise Problem(
            "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP."
        )
    count = integer_in(args[2]) if len(args) > 2 else SLOWLOG_COUNT
    if count is None or count < -1:
        raise Problem("ERR count should be greater than or equal to -1")
    slow = session.front.measures.slow
    return [
        [each.number, each.time_s, each.took_us, [each.command.upper()], "", ""]
        for each in islice(slow, len(slow) if count == -1 else count)
    ]


def slowlog_len(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return len(session.front.measures.slow)


def slowlog_reset(session: Session, args: Args, keys: list[bytes]) -> Answer:
    session.front.measures.slow.clear()
    return OK


def latency_none(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return []


def latency_reset(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return 0


def latency_graph(session: Session, args: Args, keys: list[bytes]) -> Answer:
    raise Problem(f"ERR No samples available for event '{words(args[2])}'")


def latency_doctor(session: Session, args: Args, keys: list[bytes]) -> Answer:
    slow = len(session.front.measures.slow)
    return Verbatim(
        f"No latency events are kept here. SLOWLOG has {slow} commands that took over {SLOW_MS} "
        f"ms, and keeps the last {SLOW_MAX}. LATENCY HISTOGRAM, and "
        "everwrite_redis_command_duration_seconds in the metrics, tell how long all took.\n"
    )


def latency_histogram(session: Session, args: Args, keys: list[bytes]) -> Answer:
    wanted = {words(each).lower() for each in args[2:]}
    return {
        name: {"calls": calls, "histogram_usec": steps}
        for name, (calls, steps) in session.front.measures.histograms().items()
        if not wanted or name in wanted
    }


# -- memory ----------------------------------------------------------------------------------------


def memory_usage(session: Session, args: Args, keys: list[bytes]) -> Steps:
    """Tell about what the nodes keep of a key: once, whatever the number of its copies."""
    if len(args) not in (3, 5):
        raise syntax_error()
    if len(args) == 5:
        if args[3].lower() != b"samples":
            raise syntax_error()
        if number(args[4]) < 0:
            raise syntax_error()
    reply: GetReply = yield session.read(keys[0])
    if not reply.values:
        return None
    return len(keys[0]) + sum(_VERSION_BYTES + len(value) for _, value in reply.values)


# -- who may do what -------------------------------------------------------------------------------

Rule = Callable[[Command], bool]

CATEGORIES: Mapping[str, Rule] = {
    "keyspace": lambda each: each.group == "generic",
    "read": lambda each: bool(each.keys[0]) and each.mode == READ,
    "write": lambda each: each.writes,
    "set": lambda each: each.group == "set",
    "hash": lambda each: each.group == "hash",
    "string": lambda each: each.group == "string",
    "hyperloglog": lambda each: each.group == "hyperloglog",
    "connection": lambda each: each.group == "connection",
    "transaction": lambda each: each.group == "transactions",
    "scripting": lambda each: each.group == "scripting",
    "dangerous": lambda each: each.name in ("keys", "flushdb", "flushall"),
    "slow": lambda each: each.whole or each.keys[1] < 0,
    "fast": lambda each: not each.whole and each.keys[1] >= 0,
}
"""Those of Redis that say something here."""


def categories_of(command: Command) -> list[str]:
    """Return the categories that a command is in; one that is refused is in none."""
    if command.refused:
        return []
    return [name for name, rule in CATEGORIES.items() if rule(command)]


def in_category(name: str, commands: Iterable[Command]) -> list[Command]:
    """Return those of these commands that are in a category; none if there is no such category."""
    rule = CATEGORIES.get(name)
    return [each for each in commands if rule is not None and not each.refused and rule(each)]


def acl_cat(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 3:
        raise Problem("ERR wrong number of arguments for 'acl|cat' command")
    if len(args) == 2:
        return list(CATEGORIES)
    name = words(args[2]).lower()
    if name not in CATEGORIES:
        raise Problem(f"ERR Unknown category '{words(args[2])}'")
    return [each.name for each in in_category(name, session.front.table.values())]


def acl_list(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return [f"user default on{'' if session.front.secret else ' nopass'} ~* &* +@all"]


def acl_users(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return ["default"]


def acl_whoami(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return "default"


_ONE_USER = "there is one user here, default, with the cluster's secret as its password"

COMMANDS = (
    container(
        "slowlog",
        {
            "get": Sub(slowlog_get, -2, "The commands that took over 10 ms, without their keys."),
            "len": Sub(slowlog_len, 2, "How many these are."),
            "reset": Sub(slowlog_reset, 2, "Forget them."),
        },
        group="server",
        summary="Commands that took long.",
    ),
    container(
        "latency",
        {
            "latest": Sub(latency_none, 2, "Nothing: no events are kept."),
            "history": Sub(latency_none, 3, "Nothing: no events are kept."),
            "reset": Sub(latency_reset, -2, "0: there is nothing to forget."),
            "graph": Sub(latency_graph, 3, "An error: no events are kept."),
            "doctor": Sub(latency_doctor, 2, "Where to look."),
            "histogram": Sub(latency_histogram, -2, "How long commands took."),
        },
        group="server",
        summary="How long commands took.",
    ),
    container(
        "memory",
        {"usage": Sub(memory_usage, -3, "About how many bytes a key and its values have.")},
        keys=(2, 2, 1),
        mode=READ,
        group="server",
        summary="How large a key is.",
    ),
    container(
        "acl",
        {
            "whoami": Sub(acl_whoami, 2, "default."),
            "list": Sub(acl_list, 2, "The one user."),
            "users": Sub(acl_users, 2, "default."),
            "cat": Sub(acl_cat, -2, "Categories of commands, or the commands of one."),
            "setuser": refuses(_ONE_USER),
            "deluser": refuses(_ONE_USER),
        },
        group="server",
        summary="Who may do what.",
    ),
)
