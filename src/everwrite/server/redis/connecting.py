"""What a client says of itself, and how it wants to be spoken to."""

from __future__ import annotations

from hmac import compare_digest

from everwrite.server.redis.command import (
    Args,
    Command,
    Sub,
    integer_in,
    number,
    syntax_error,
    words,
    wrong_number,
)
from everwrite.server.redis.replies import OK, RESP2, RESP3, Answer, Problem, Simple, Verbatim
from everwrite.server.redis.session import DATABASES, Session
from everwrite.server.redis.subcommands import container

VERSION = "7.2.4"
"""The Redis whose commands these are, for clients that look at it."""

NAME_BYTES_MAX = 256


def ping(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 2:
        raise wrong_number("ping")
    if session.subscribed and session.protocol == RESP2:
        return [b"pong", args[1] if len(args) == 2 else b""]
    return args[1] if len(args) == 2 else Simple("PONG")


def echo(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return args[1]


def quit_(session: Session, args: Args, keys: list[bytes]) -> Answer:
    connection = session.front.connections.get(session.number)
    if connection is not None:
        connection.quit()
    return OK


def reset(session: Session, args: Args, keys: list[bytes]) -> Answer:
    session.begin_anew()
    connection = session.front.connections.get(session.number)
    if connection is not None:
        session.front.hub.drop(connection)
        connection.look_who()
    return Simple("RESET")


def select(session: Session, args: Args, keys: list[bytes]) -> Answer:
    database = number(args[1])
    if not 0 <= database < DATABASES:
        raise Problem("ERR DB index is out of range")
    session.select(database)
    return OK


def auth(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 3:
        raise syntax_error()
    _let_in(session, args[-1])
    return OK


def _let_in(session: Session, given: bytes) -> None:
    secret = session.front.secret
    if not secret:
        raise Problem(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    if not compare_digest(given, secret):
        raise Problem("WRONGPASS invalid username-password pair or user is disabled.")
    session.known = True
    connection = session.front.connections.get(session.number)
    if connection is not None:
        connection.look_who()


def hello(session: Session, args: Args, keys: list[bytes]) -> Answer:
    protocol, at = session.protocol, 1
    if len(args) > 1:
        if args[1] not in (b"2", b"3"):
            raise Problem("NOPROTO unsupported protocol version")
        protocol, at = int(args[1]), 2
    name: bytes | None = None
    while at < len(args):
        word, left = args[at].lower(), len(args) - at
        if word == b"auth" and left >= 3:
            _let_in(session, args[at + 2])
            at += 3
        elif word == b"setname" and left >= 2:
            name = _name(args[at + 1])
            at += 2
        else:
            raise Problem(f"ERR Syntax error in HELLO option '{words(args[at])}'")
    if not session.known:
        raise Problem(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            "select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    session.protocol = RESP3 if protocol == RESP3 else RESP2
    return {
        "server": "redis",
        "version": VERSION,
        "proto": session.protocol,
        "id": session.number,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


def _name(given: bytes) -> bytes:
    if any(not 33 <= char <= 126 for char in given) or len(given) > NAME_BYTES_MAX:
        raise Problem("ERR Client names cannot contain spaces, newlines or special characters.")
    return given


def client_id(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return session.number


def client_getname(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return session.name or None


def client_setname(session: Session, args: Args, keys: list[bytes]) -> Answer:
    session.name = _name(args[2])
    return OK


def client_setinfo(session: Session, args: Args, keys: list[bytes]) -> Answer:
    what = args[2].lower()
    if what not in (b"lib-name", b"lib-ver"):
        raise Problem(f"ERR Unrecognized option '{words(args[2])}'")
    session.agent[what] = _name(args[3])
    return OK


def client_info(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return Verbatim(f"{_line(session)}\n")


def client_list(session: Session, args: Args, keys: list[bytes]) -> Answer:
    found = [each.session for each in session.front.connections.values()]
    match [each.lower() for each in args[2:3]] + args[3:]:
        case []:
            pass
        case [b"type", kind]:
            found = found if _client_type(kind) == b"normal" else []
        case [b"id", first, *more]:
            numbers = [integer_in(each) or 0 for each in [first, *more]]
            if min(numbers) <= 0:
                raise Problem("ERR Invalid client ID")
            there = {each.number: each for each in found}
            found = [there[each] for each in numbers if each in there]
        case _:
            raise syntax_error()
    return Verbatim("".join(f"{_line(each)}\n" for each in found))


def _client_type(word: bytes) -> bytes:
    """Return a type of clients; all that there are here are normal ones."""
    kind = word.lower()
    if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise Problem(f"ERR Unknown client type '{words(word)}'")
    return kind


def client_no(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if args[2].lower() not in (b"on", b"off"):
        raise syntax_error()
    return OK


def client_reply(session: Session, args: Args, keys: list[bytes]) -> Answer:
    hush = {b"on": 0, b"off": -1, b"skip": 2}.get(args[2].lower())
    if hush is None:
        raise syntax_error()
    session.hush = hush
    return OK


def client_tracking(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if args[2].lower() != b"off" or len(args) > 3:
        raise Problem("ERR nobody is told here what others write: there is no tracking")
    return OK


def client_kill(session: Session, args: Args, keys: list[bytes]) -> Answer:
    """End connections, by their address, or by what options say of them."""
    rest = args[2:]
    if len(rest) == 1:
        wanted = {b"addr": rest[0]}
    elif len(rest) % 2 == 0:
        wanted = dict(zip((each.lower() for each in rest[::2]), rest[1::2], strict=True))
    else:
        raise syntax_error()
    skipme = wanted.pop(b"skipme", b"yes").lower()
    if wanted.keys() - {b"id", b"addr", b"laddr", b"type", b"user"} or skipme not in _YES:
        raise syntax_error()
    _check_wanted(wanted)
    killed = 0
    for connection in list(session.front.connections.values()):
        of = connection.session
        mine = {
            b"id": b"%d" % of.number,
            b"addr": of.where.encode(),
            b"laddr": of.here.encode(),
            b"type": b"normal",
            b"user": b"default",
        }
        if any(mine[name] != value for name, value in wanted.items()):
            continue
        if of is session and len(rest) > 1 and skipme == b"yes":
            continue
        killed += 1
        if of is session:
            connection.end()
        else:
            connection.cut_off()
    if len(rest) > 1:
        return killed
    if not killed:
        raise Problem("ERR No such client")
    return OK


_YES = (b"yes", b"no")


def _check_wanted(wanted: dict[bytes, bytes]) -> None:
    """Raise a Problem for what no client can be; write what is said in the same form always."""
    if b"id" in wanted and (integer_in(wanted[b"id"]) or 0) <= 0:
        raise Problem("ERR client-id should be greater than 0")
    if b"type" in wanted:
        wanted[b"type"] = _client_type(wanted[b"type"])
    if wanted.get(b"user", b"default") != b"default":
        raise Problem(f"ERR No such user '{words(wanted[b'user'])}'")


def _line(session: Session) -> str:
    """Return what CLIENT LIST says of a client."""
    age = int(session.front.now() - session.born)
    agent = session.agent
    return (
        f"id={session.number} addr={session.where} laddr={session.here} "
        f"name={session.name.decode('latin-1')} age={age} "
        f"flags=N db={session.database} user=default resp={session.protocol} "
        f"lib-name={agent.get(b'lib-name', b'').decode('latin-1')} "
        f"lib-ver={agent.get(b'lib-ver', b'').decode('latin-1')}"
    )


COMMANDS = (
    Command("ping", ping, -1, group="connection", summary="PONG, or the same word."),
    Command("echo", echo, 2, group="connection", summary="The same word."),
    Command("quit", quit_, -1, group="connection", summary="End the connection.", open=True),
    Command("reset", reset, 1, group="connection", summary="Begin anew.", open=True),
    Command("select", select, 2, group="connection", summary="Change to a database, 0 to 15."),
    Command("auth", auth, -2, group="connection", summary="Say the secret.", open=True),
    Command("hello", hello, -1, group="connection", summary="Choose RESP2 or RESP3.", open=True),
    container(
        "client",
        {
            "id": Sub(client_id, 2, "This connection's number."),
            "getname": Sub(client_getname, 2, "Its name."),
            "setname": Sub(client_setname, 3, "Give it a name."),
            "setinfo": Sub(client_setinfo, 4, "Say what library speaks."),
            "info": Sub(client_info, 2, "What is known of this client."),
            "list": Sub(client_list, -2, "Of all of this node, by TYPE or ID."),
            "kill": Sub(client_kill, -3, "End connections: by ADDR, LADDR, ID, TYPE or USER."),
            "no-evict": Sub(client_no, 3, "OK: nobody is evicted."),
            "no-touch": Sub(client_no, 3, "OK: nobody counts reads."),
            "reply": Sub(client_reply, 3, "Whether answers are sent: ON, OFF or SKIP."),
            "getredir": Sub(lambda session, args, keys: -1, 2, "-1: there is no tracking."),
            "tracking": Sub(client_tracking, -3, "OFF."),
            "unblock": Sub(lambda session, args, keys: 0, -3, "0: nobody is blocked."),
            "unpause": Sub(lambda session, args, keys: OK, 2, "OK: nobody is paused."),
        },
        group="connection",
        summary="What is known of clients.",
    ),
)
