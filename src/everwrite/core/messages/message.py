"""The base of all messages: frozen structs, encoded as tagged MessagePack arrays.

A frame carries a list of messages, all that one side had to say in one tick. ``rid`` pairs an
answer with its question within one connection (client) or one coordinator (node). Deadlines travel
as milliseconds left. New fields go at the end with a default: neighbouring versions ignore them.

    client -> node   Get, Put, Touch, Fetch, List, Ask, Publish, Listen
    node -> client   GetReply, PutReply, FetchReply, Listed, Told, Published, Listening, Failure
    node -> node     Fetch, Store and their answers; all others
"""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages; every one is acyclic, so the collector need not look at it."""
