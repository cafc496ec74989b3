"""COMMAND: what commands there are, and where their keys stand."""

from __future__ import annotations

from collections.abc import Iterable

from everwrite.server.redis.command import (
    BLIND,
    READ,
    Args,
    Command,
    Sub,
    syntax_error,
    words,
)
from everwrite.server.redis.patterns import glob
from everwrite.server.redis.replies import NO_LIST, Answer, Problem, Simple, Unordered
from everwrite.server.redis.session import Session
from everwrite.server.redis.subcommands import container
from everwrite.server.redis.watching import categories_of, in_category

SINCE = "1.0.0"


def _all(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return [_entry(each) for each in session.front.table.values()]


def count(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return len(session.front.table)


def list_(session: Session, args: Args, keys: list[bytes]) -> Answer:
    table = session.front.table
    match [each.lower() for each in args[2:4]] + args[4:]:
        case []:
            return list(table)
        case [b"filterby", b"module", _]:
            return []
        case [b"filterby", b"aclcat", name]:
            return [each.name for each in in_category(words(name).lower(), table.values())]
        case [b"filterby", b"pattern", pattern]:
            fits = glob(pattern.lower())
            return [name for name in table if fits.fullmatch(name)]
        case _:
            raise syntax_error()


def info(session: Session, args: Args, keys: list[bytes]) -> Answer:
    found = _chosen(session, args[2:])
    return [NO_LIST if each is None else _entry(each) for each in found]


def docs(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return {each.name: _docs(each) for each in _chosen(session, args[2:]) if each is not None}


def _chosen(session: Session, names: Args) -> Iterable[Command | None]:
    table = session.front.table
    return map(table.get, map(bytes.lower, names)) if names else table.values()


def getkeys(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return _keys_of(session, args[2:])[1]


def getkeysandflags(session: Session, args: Args, keys: list[bytes]) -> Answer:
    found, named = _keys_of(session, args[2:])
    return [[key, _key_flags(found)] for key in named]


def _keys_of(session: Session, args: Args) -> tuple[Command, list[bytes]]:
    """Return the command that these words are, and its keys."""
    found = session.front.find(args[0])
    if found is None:
        raise Problem("ERR Invalid command specified")
    if not found.keys[0]:
        raise Problem("ERR The command has no key arguments")
    if not found.fits(args):
        raise Problem("ERR Invalid number of arguments specified for command")
    return found, found.keys_in(args)


# -- one command -----------------------------------------------------------------------------------


def _entry(each: Command) -> Answer:
    """Tell of a command what clients look for: how many words, what it does, where its keys are."""
    first, last, step = (0, 0, 0) if each.counted else each.keys
    categories = Unordered(f"@{name}".encode() for name in categories_of(each))
    return [
        each.name,
        each.arity,
        Unordered(_flags(each)),
        first,
        last,
        step,
        categories,
        [],
        _key_specs(each),
        [_sub_entry(each, word, sub) for word, sub in each.subcommands.items()],
    ]


def _sub_entry(of: Command, word: bytes, sub: Sub) -> Answer:
    first, last, step = of.keys
    name = f"{of.name}|{words(word)}"
    return [name, sub.arity, Unordered(_flags(of)), first, last, step, Unordered(), [], [], []]


def _flags(each: Command) -> list[Simple]:
    flags = []
    if each.keys[0]:
        flags.append("write" if each.writes else "readonly")
    if each.mode == BLIND:
        flags.append("denyoom")
    if each.counted:
        flags.append("movablekeys")
    if each.open:
        flags.append("no_auth")
    if not each.whole and each.keys[1] >= 0:
        flags.append("fast")
    return [Simple(flag) for flag in flags]


def _key_specs(each: Command) -> list[Answer]:
    first, last, step = each.keys
    if not first:
        return []
    at = each.counted or first
    begin = {"type": "index", "spec": {"index": at}}
    if each.counted:
        find: Answer = {"type": "keynum", "spec": {"keynumidx": 0, "firstkey": 1, "keystep": step}}
    else:
        behind = last - first if last > 0 else last
        find = {"type": "range", "spec": {"lastkey": behind, "keystep": step, "limit": 0}}
    return [{"flags": Unordered(_key_flags(each)), "begin_search": begin, "find_keys": find}]


def _key_flags(each: Command) -> list[Simple]:
    named = {READ: "RO access", BLIND: "OW update"}.get(each.mode, "RW access update")
    return [Simple(flag) for flag in named.split()]


def _docs(each: Command) -> Answer:
    found: dict[str, Answer] = {
        "summary": each.summary or f"Refused: {each.refused}.",
        "since": SINCE,
        "group": each.group,
    }
    if each.advisory:
        found["summary"] += " Looks first: two clients may both be the first."
    if each.subcommands:
        found["subcommands"] = {
            f"{each.name}|{words(word)}": {
                "summary": sub.summary,
                "since": SINCE,
                "group": each.group,
            }
            for word, sub in each.subcommands.items()
        }
    return found


_CONTAINED = container(
    "command",
    {
        "count": Sub(count, 2, "How many commands there are."),
        "list": Sub(list_, -2, "Their names."),
        "info": Sub(info, -2, "What clients look for of some, or all."),
        "docs": Sub(docs, -2, "What some, or all, are for."),
        "getkeys": Sub(getkeys, -3, "The keys of a command."),
        "getkeysandflags": Sub(getkeysandflags, -3, "And what becomes of them."),
    },
    group="server",
    summary="What commands there are.",
)


def command(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) == 1:
        return _all(session, args, keys)
    return _CONTAINED.run(session, args, keys)


COMMANDS = (_CONTAINED._replace(run=command, arity=-1),)
