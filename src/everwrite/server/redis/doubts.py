"""Errors of the core, as answers: a word to tell them by, a sentence, what became of a write."""

from __future__ import annotations

from everwrite.core.errors import EverwriteError
from everwrite.server.redis.replies import Problem

_WORDS = {
    "bad_request": "ERR",
    "bad_context": "ERR",
    "unsupported": "ERR",
    "too_large": "ERR",
    "internal": "ERR",
    "denied": "NOPERM",
    "wrong_type": "WRONGTYPE",
}
"""What clients know from Redis; all else is told by its own code."""

_OUTCOMES = {
    "partial": "The write is on fewer nodes than were asked for.",
    "unknown": "The write may have happened.",
}

_ADDS = (
    *("append", "incr", "incrby", "incrbyfloat", "decr", "decrby"),
    *("hincrby", "hincrbyfloat", "eval", "evalsha"),
)
"""Commands that add to what is there: what is done twice counts twice."""

_NOTHING = {
    "overloaded": "Nothing was done. Wait a moment, and ask for less at a time.",
    "hints_full": "Nothing was done. Ask another node.",
    "stale_session": "Nothing was done. Ask again in a moment: this connection wrote what the "
    "nodes that answered do not have yet.",
}
"""What to do after these if nothing was done;"""
_AGAIN: dict[str, str] = {
    "none": "Nothing was done. Ask again in a moment, or another node.",
    "partial": "Others may read it already. Send it again, and it is done all the same.",
    "unknown": "Send it again, and it is done all the same; or look first.",
}
"""and after all others, by the outcome."""
_TWICE = "A repeat may count twice: look at the key first."
_FINDS = (
    "A repeat may find what this one did, and be answered by that: look at the key first, if you "
    "need the answer."
)
"""After a command that looks before it writes."""
_OWN = {  # what else a repeat does
    "publish": "A repeat may be heard twice.",
    "spublish": "A repeat may be heard twice.",
    "dyn.put": "A repeat may be one sibling more: read the key first.",
}


def problem_of(
    error: EverwriteError, *, name: str = "", partly: bool = False, looks: bool = False
) -> Problem:
    """Return the answer for an error of a command; ``partly``: it had done something before;
    ``looks``: what it does and answers goes by what it finds.

    Where another try may help the hint is this front's own: what other clients are told is of
    contexts and of numbers that no Redis client can give.

    >>> str(problem_of(EverwriteError("No.", hint="Wait.", outcome="unknown")))
    'ERR No. Wait. The write may have happened.'
    """
    if error.code == "wrong_type":  # word by word: clients look for it
        return Problem("WRONGTYPE Operation against a key holding the wrong kind of value")
    word = _WORDS.get(error.code) or error.code.upper()
    outcome = error.outcome
    what = _OUTCOMES.get(outcome, "")
    hint = error.hint
    unlike = _TWICE if name in _ADDS else _OWN.get(name, _FINDS if looks else "")
    if partly and outcome == "none":  # a hint may say that nothing was done
        hint, what = "", "A part of the command was done."
        if error.retryable:
            what += " " + (unlike or "Send it again, and the rest is done.")
    elif error.retryable:
        again = unlike or _AGAIN[outcome]
        if outcome == "none":
            again = _NOTHING.get(error.code) or _AGAIN[outcome]
        hint, what = what, again
    return Problem(" ".join(part for part in (word, error.message, hint, what) if part))
