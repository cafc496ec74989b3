"""What open.txt lets through; .ci/seeds reads it too, with the standard library alone."""

from __future__ import annotations

from pathlib import Path

OPEN = Path(__file__).with_name("open.txt")


def listed_as_open(path: Path = OPEN) -> tuple[set[tuple[int, str]], set[str]]:
    """Return what a list lets through: seeds with their rules, and what never happens.

    It has a seed and a rule a line, then why it is there, or "never" and what never happens; "#"
    begins a remark.
    """
    known, never = set[tuple[int, str]](), set[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["never"]:
            never.add(" ".join(words[1:]))
        elif words:
            known.add((int(words[0]), words[1]))
    return known, never


def unlisted(invalid: list[str], never: set[str]) -> list[str]:
    """Return which of a campaign's complaints that something never happened are not listed."""
    return [line for line in invalid if line.rpartition("never: ")[2] not in never]
