"""What a client says of itself, and how it wants to be spoken to."""

from __future__ import annotations

from hmac import compare_digest

from everwrite.server.redis.command import Args, Command, number, syntax_error, words, wrong_number
from everwrite.server.redis.replies import OK, RESP2, RESP3, Answer, Problem, Simple
from everwrite.server.redis.session import DATABASES, Session

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


def client(session: Session, args: Args, keys: list[bytes]) -> Answer:
    front, said = session.front, args[1].lower()
    match [said, *args[2:]]:
        case [b"id"]:
            return session.number
        case [b"getname"]:
            return session.name or None
        case [b"setname", name]:
            session.name = _name(name)
        case [b"setinfo", (b"lib-name" | b"LIB-NAME" | b"lib-ver" | b"LIB-VER") as what, text]:
            session.agent[what.lower()] = _name(text)
        case [b"setinfo", what, _]:
            raise Problem(f"ERR Unrecognized option '{words(what)}'")
        case [b"info"]:
            return _line(session)
        case [b"list", *_]:
            lines = [_line(each.session) for each in front.connections.values()]
            return "".join(f"{line}\n" for line in lines)
        case [b"no-evict" | b"no-touch", word] if word.lower() in (b"on", b"off"):
            pass
        case [b"reply", word] if word.lower() in (b"on", b"off", b"skip"):
            session.hush = {b"on": 0, b"off": -1, b"skip": 2}[word.lower()]
        case [b"kill", *rest]:
            return _kill(session, rest)
        case [b"unpause"] | [b"tracking", b"off" | b"OFF"]:
            pass
        case _:
            raise Problem(
                f"ERR unknown subcommand or wrong number of arguments for '{words(args[1])}'. "
                "Try CLIENT HELP."
            )
    return OK


def _kill(session: Session, rest: Args) -> Answer:
    """End connections, by their address or by ID and ADDR."""
    if len(rest) == 1:
        wanted = {b"addr": rest[0]}
    elif rest and len(rest) % 2 == 0:
        wanted = dict(zip((each.lower() for each in rest[::2]), rest[1::2], strict=True))
    else:
        raise syntax_error()
    skipme = wanted.pop(b"skipme", b"yes").lower() == b"yes" and len(rest) > 1
    if not wanted or wanted.keys() - {b"id", b"addr"}:
        raise syntax_error()
    killed = 0
    for connection in list(session.front.connections.values()):
        of = connection.session
        mine = {b"id": b"%d" % of.number, b"addr": of.where.encode()}
        if any(mine[name] != value for name, value in wanted.items()) or (of is session and skipme):
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


def _line(session: Session) -> str:
    """Return what CLIENT LIST says of a client."""
    age = int(session.front.now() - session.born)
    agent = session.agent
    return (
        f"id={session.number} addr={session.where} name={session.name.decode('latin-1')} age={age} "
        f"db={session.database} resp={session.protocol} "
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
    Command("client", client, -2, group="connection", summary="What is known of clients."),
)
