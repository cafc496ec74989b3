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
    "partial": " The write is on fewer nodes than were asked for.",
    "unknown": " The write may have happened.",
}


def problem_of(error: EverwriteError, *, partly: bool = False) -> Problem:
    """Return the answer for an error; ``partly``: the command had done something before.

    >>> str(problem_of(EverwriteError("No.", hint="Wait.", outcome="unknown")))
    'ERR No. Wait. The write may have happened.'
    """
    if error.code == "wrong_type":  # word by word: clients look for it
        return Problem("WRONGTYPE Operation against a key holding the wrong kind of value")
    word = _WORDS.get(error.code) or error.code.upper()
    if partly and error.outcome == "none":  # a hint may say that nothing was done
        return Problem(f"{word} {error.message} A part of the command was done.")
    return Problem(f"{word} {error}{_OUTCOMES.get(error.outcome, '')}")
