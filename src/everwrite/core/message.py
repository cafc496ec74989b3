"""The base of all messages: messages.py has most of them, and the union of all."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages; every one is acyclic, so the collector need not look at it."""
