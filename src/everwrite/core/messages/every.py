"""All messages that one side may send to another: what a frame holds."""

from __future__ import annotations

from everwrite.core.messages.channels import AnyChannel
from everwrite.core.messages.explain import Show, Shown
from everwrite.core.messages.greeting import Hello, Proof, Refused
from everwrite.core.messages.hints import AskRoom, Room
from everwrite.core.messages.listing import List, Listed, Named, Names
from everwrite.core.messages.load import Load
from everwrite.core.messages.members import News, Ping, Pong, Probe, Probed, Rows, Summary
from everwrite.core.messages.moving import GaveUp, GiveUp, Match, Matched, Pull, Slice
from everwrite.core.messages.requests import (
    Ask,
    Failure,
    Fetch,
    FetchReply,
    Get,
    GetReply,
    Put,
    PutReply,
    Store,
    StoreReply,
    Told,
    Touch,
)
from everwrite.core.messages.tombstones import AnyCollecting
from everwrite.core.messages.trees import Differing, Entries, Rooted, Roots, Summed, Sums

AnyMessage = (
    Hello
    | Proof
    | Refused
    | Get
    | Put
    | Touch
    | Ask
    | Fetch
    | Store
    | FetchReply
    | StoreReply
    | GetReply
    | PutReply
    | Failure
    | Told
    | Ping
    | Pong
    | Summary
    | Rows
    | News
    | Pull
    | Slice
    | GiveUp
    | GaveUp
    | Match
    | Matched
    | Load
    | Probe
    | Probed
    | AnyCollecting
    | AnyChannel
    | Roots
    | Rooted
    | Sums
    | Summed
    | Entries
    | Differing
    | AskRoom
    | Room
    | List
    | Listed
    | Names
    | Named
    | Show
    | Shown
)
