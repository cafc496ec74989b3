"""Commands whose second word says what they do: CLIENT, SCRIPT, CLUSTER and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everwrite.server.redis.command import Args, Command, Steps, Sub, fits, words, wrong_number
from everwrite.server.redis.replies import Answer, Problem, Simple
from everwrite.server.redis.session import Session


def container(name: str, subcommands: Mapping[str, Sub], **options: Any) -> Command:
    """Return the command of these; HELP is one of them."""
    table = {word.encode(): each for word, each in subcommands.items()}

    def run(session: Session, args: Args, keys: list[bytes]) -> Steps | Answer:
        said = args[1].lower()
        found = table.get(said)
        if found is None:
            raise Problem(f"ERR unknown subcommand '{words(args[1])}'. Try {name.upper()} HELP.")
        if not fits(args, found.arity):
            raise wrong_number(f"{name}|{words(said)}")
        return found.run(session, args, keys)

    def tell(session: Session, args: Args, keys: list[bytes]) -> Answer:
        lines = [f"{name.upper()} <subcommand> [<arg> ...]. Subcommands are:"]
        for word, each in table.items():
            lines += [words(word).upper(), f"    {each.summary}"]
        return [Simple(line) for line in lines]

    table[b"help"] = Sub(tell, 2, "Tell this.")
    return Command(name, run, -2, subcommands=table, **options)


def refuses(why: str) -> Sub:
    """Return a subcommand that is not done here, and why."""

    def run(session: Session, args: Args, keys: list[bytes]) -> Answer:
        raise Problem(f"ERR {why}")

    return Sub(run, -2, f"Refused: {why}.")
