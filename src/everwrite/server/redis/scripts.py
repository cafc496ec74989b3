"""EVAL, EVALSHA and SCRIPT: for the scripts of known.py, and for no others."""

from __future__ import annotations

from hashlib import sha1

from everwrite.server.redis.command import Args, Command, Steps, Sub
from everwrite.server.redis.known import BY_SHA1, IN_TEXT, Known, known_by_text
from everwrite.server.redis.replies import OK, Answer, Problem
from everwrite.server.redis.session import Session
from everwrite.server.redis.subcommands import container

PAGE = "docs/redis.md"

COUNTED = 2
"""The word that says how many keys there are."""


def eval_(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _run(session, _known(args[1]), args, keys)


def evalsha(session: Session, args: Args, keys: list[bytes]) -> Steps:
    found = BY_SHA1.get(args[1].lower())
    if found is None:
        raise Problem("NOSCRIPT No matching script. Please use EVAL.")
    return _run(session, found, args, keys)


def _run(session: Session, known: Known, args: Args, keys: list[bytes]) -> Steps:
    _check(session, known)
    words = args[COUNTED + 1 + len(keys) :]
    if len(keys) != known.keys or len(words) < known.args:
        raise Problem(
            f"ERR the script '{known.name}' takes {known.keys} keys and {known.args} words or more"
        )
    if known.advisory:
        session.front.measures.advise(f"script {known.name}")
    assert known.run is not None
    return known.run(session, keys, words)


def _known(text: bytes) -> Known:
    found = known_by_text(text)
    if found is None:
        digest = sha1(text, usedforsecurity=False).hexdigest()
        raise Problem(
            f"ERR only known scripts run here, and none of them is {digest} (the SHA-1 of its "
            f"text); see {PAGE}"
        )
    return found


def _check(session: Session, known: Known) -> None:
    if known.run is None:
        session.front.measures.refused += 1
        raise Problem(
            f"ERR the script '{known.name}' of {known.whose.split()[0]} is not supported: "
            f"{known.what.removeprefix('Refused: ').rstrip('.')}; see {PAGE}"
        )


def load(session: Session, args: Args, keys: list[bytes]) -> Answer:
    found = _known(args[2])
    if found.sha1 == IN_TEXT.sha1:
        raise Problem(f"ERR the script '{found.name}' runs by EVAL alone; see {PAGE}")
    _check(session, found)
    return found.sha1


def exists(session: Session, args: Args, keys: list[bytes]) -> Answer:
    found = [BY_SHA1.get(each.lower()) for each in args[2:]]
    return [int(each is not None and each.run is not None) for each in found]


def flush(session: Session, args: Args, keys: list[bytes]) -> Answer:
    if len(args) > 3 or (len(args) == 3 and args[2].lower() not in (b"sync", b"async")):
        raise Problem("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    return OK


def kill(session: Session, args: Args, keys: list[bytes]) -> Answer:
    raise Problem("NOTBUSY No scripts in execution right now.")


COMMANDS = (
    Command(
        "eval",
        eval_,
        -3,
        (COUNTED + 1, -1, 1),
        group="scripting",
        summary="Run a known script.",
        whole=True,
        counted=COUNTED,
    ),
    Command(
        "evalsha",
        evalsha,
        -3,
        (COUNTED + 1, -1, 1),
        group="scripting",
        summary="Run a known script, by its SHA-1.",
        whole=True,
        counted=COUNTED,
    ),
    container(
        "script",
        {
            "load": Sub(load, 3, "Tell the SHA-1 of a known script."),
            "exists": Sub(exists, -3, "Which of these are known."),
            "flush": Sub(flush, -2, "OK; nothing is forgotten."),
            "kill": Sub(kill, 2, "An error: none runs for long."),
        },
        group="scripting",
        summary="What is known of scripts.",
    ),
)
