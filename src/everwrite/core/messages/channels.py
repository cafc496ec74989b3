"""Publish and subscribe: what is published, and who has subscribers (core/channels.py)."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class Publish(Message, tag=80, frozen=True):
    """A client's word to all who have subscribed to a channel now."""

    rid: int
    channel: bytes
    payload: bytes
    sharded: bool = False
    """Whether it is for those who took the channel for a sharded one (SSUBSCRIBE): both kinds go
    the same way, and neither hears the other."""


class Published(Message, tag=81, frozen=True):
    """The answer to Publish: so many subscribers are known to be reached."""

    rid: int
    count: int


class Listen(Message, tag=82, frozen=True):
    """Somebody is about to subscribe at the node that is asked."""

    rid: int


class Listening(Message, tag=83, frozen=True):
    """The answer to Listen: all nodes that are up send publications there from now on."""

    rid: int


class Wanted(Message, tag=84, frozen=True):
    """To all other nodes: whether the sender has subscribers."""

    generation: int
    """Grows with each change, over restarts too."""
    wanted: bool


class Noted(Message, tag=85, frozen=True):
    """The answer to Wanted."""

    generation: int


class Spread(Message, tag=86, frozen=True):
    """A publication, for the subscribers of the receiver."""

    number: int
    """Of the publications that go from the sender to this receiver: each has a higher one."""
    channel: bytes
    payload: bytes
    sharded: bool = False


class Reached(Message, tag=87, frozen=True):
    """The answer to Spread, and to all that came before it."""

    number: int
    count: int
    """How many subscribers it was handed to."""


AnyChannel = Publish | Published | Listen | Listening | Wanted | Noted | Spread | Reached
