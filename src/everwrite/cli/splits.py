"""Network partitions as people write them: 'A,B|C,D,E' cuts two groups from each other, both ways.

    A,B|C,D,E    no frame passes between the two groups
    A|B|C        three groups, each alone
    A,B>C        frames from A and B do not reach C; what C sends arrives
    A|B;C>D      several cuts at once

A node is its number (1), its name (n1) or its letter (A). Nodes that are not named keep all links.
A cut is held on both ends: the sender does not send and the receiver does not listen, so that it
also holds for a node that restarts and has forgotten it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everwrite.core.errors import ConfigError

_HINT = "Write 'A,B|C,D,E' to cut both ways, 'A,B>C' so that A and B can't reach C."


class Split(msgspec.Struct, frozen=True):
    """Links that are cut, each as (sender, receiver), by number of node; sorted, none twice."""

    cut: tuple[tuple[int, int], ...]

    def blocked(self, node: int) -> dict[str, list[int]]:
        """Return whom this node must block, by direction: both, in (from them), out (to them)."""
        heard = {sender for sender, receiver in self.cut if receiver == node}
        reached = {receiver for sender, receiver in self.cut if sender == node}
        found = {"both": heard & reached, "in": heard - reached, "out": reached - heard}
        return {direction: sorted(peers) for direction, peers in found.items() if peers}

    def nodes(self) -> set[int]:
        """Return the nodes that have a cut link."""
        return {node for link in self.cut for node in link}


def parse_split(text: str, nodes: int) -> Split:
    """Return the links that ``text`` cuts among nodes 1..``nodes``; ConfigError if it is unclear.

    >>> parse_split("A|B,C", 3).cut
    ((1, 2), (1, 3), (2, 1), (3, 1))
    >>> parse_split("1,2>n3", 3).cut
    ((1, 3), (2, 3))
    """
    cut: set[tuple[int, int]] = set()
    for part in text.split(";"):
        one_way = ">" in part
        if one_way and ("|" in part or part.count(">") > 1):
            raise ConfigError(f"The partition {part!r} has more than one arrow.", hint=_HINT)
        groups = [_group(names, nodes) for names in part.split(">" if one_way else "|")]
        if len(groups) < 2:
            raise ConfigError(f"The partition {part!r} has only one side.", hint=_HINT)
        _check_apart(groups, part)
        for at, senders in enumerate(groups):
            receivers = [node for group in groups[at + 1 :] for node in group]
            cut.update((a, b) for a in senders for b in receivers)
            if not one_way:
                cut.update((b, a) for a in senders for b in receivers)
    return Split(tuple(sorted(cut)))


def node_number(text: str, nodes: int) -> int:
    """Return the number of the node that is written as number, name or letter.

    >>> [node_number(text, 5) for text in ("2", "n2", "B", "b")]
    [2, 2, 2, 2]
    """
    name = text.strip().lower()
    if len(name) == 1 and "a" <= name <= "z":
        number = ord(name) - ord("a") + 1
    else:
        digits = name.removeprefix("n")
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
    if not 1 <= number <= nodes:
        raise ConfigError(
            f"There is no node {text.strip()!r}.", hint=f"The nodes are 1 to {nodes}."
        )
    return number


def _group(names: str, nodes: int) -> list[int]:
    if not names.strip():
        raise ConfigError("One side of the partition names no node.", hint=_HINT)
    return [node_number(name, nodes) for name in names.split(",")]


def _check_apart(groups: Sequence[Sequence[int]], part: str) -> None:
    named = [node for group in groups for node in group]
    for node in named:
        if named.count(node) > 1:
            raise ConfigError(f"The partition {part!r} names node {node} twice.", hint=_HINT)
