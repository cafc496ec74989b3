"""What a keeper of hints and their owner say before they are brought: docs/design/hints.md."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class AskRoom(Message, tag=70, frozen=True):
    """A node that keeps hints asks their owner how many copies it will take now."""

    rid: int
    notes: int
    """How many wait for it,"""
    bytes: int
    """and how much that is."""


class Room(Message, tag=71, frozen=True):
    """The answer to AskRoom."""

    rid: int
    notes: int
    """It takes so many copies more from the asker; 0: none now."""
    wait_ms: int = 0
    """When to ask again, where it takes none."""
