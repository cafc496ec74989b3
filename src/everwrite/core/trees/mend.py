"""A damaged copy of an owner is replaced by the join of what all others have, and by nothing less:
what it holds beyond that may have been acknowledged there.

So it is mended by a read (request/read.py): where every other owner has answered, it stores their
join here with ``repair`` set. Who comes upon a damaged copy, of its own or of an owner that could
not take a record, asks for that here; the read is done once for a key at a time.
"""

from __future__ import annotations

from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Get


class Mend(Message, frozen=True, tag=107):
    """To oneself: read this key, knowing this record, and give all owners what they lack."""

    get: Get
    record: bytes
    read_ms: int


def mend(local: Local, data_key: bytes, record: bytes = b"", read_ms: int = 0) -> None:
    """Have the owners' copies of a key mended; ``record`` is one that this node has beside, and was
    read from a disk then at the earliest, by its own count (``Local.stamp``): what is made of it is
    no younger.
    """
    get = Get(0, data_key, local.config.request_timeout_ms, forwarded=True)
    local.out.send(local.me, Mend(get, record, read_ms))
