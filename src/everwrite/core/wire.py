"""Bytes to messages and back: length-prefixed frames, sizes checked before anything is kept.

A frame is its length (4 bytes, big endian, not counting itself) and a MessagePack list of messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.errors import ProtocolError
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.message import Message

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(list[AnyMessage]).decode
_HEAD = b"\0\0\0\0"

_ARRAY_16, _ARRAY_32 = b"\xdc", b"\xdd"

MESSAGES_PER_FRAME_MAX = 4096
LIST_HEAD_BYTES = 3
SPLIT_BYTES = 4 << 20
"""Where a tick says more than a frame may hold, it is cut into frames of about this size."""


def encode_frame(messages: Sequence[Message]) -> bytes:
    """Return one frame with these messages; ProtocolError if it would be over the limit."""
    buffer = bytearray(_HEAD)
    _encoder.encode_into(messages, buffer, 4)
    size = len(buffer) - 4
    if size > FRAME_BYTES_MAX:
        raise ProtocolError(f"A frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}.")
    buffer[:4] = size.to_bytes(4, "big")
    return bytes(buffer)


def encode_frames(messages: list[AnyMessage]) -> bytes:
    """Return the messages in as few frames as fit, in order; ProtocolError if one alone is over
    the limit. What fits into one frame is encoded once, what does not twice.
    """
    if len(messages) <= MESSAGES_PER_FRAME_MAX:
        buffer = bytearray(_HEAD)
        _encoder.encode_into(messages, buffer, 4)
        size = len(buffer) - 4
        if size <= FRAME_BYTES_MAX:
            buffer[:4] = size.to_bytes(4, "big")
            return bytes(buffer)
    frames: list[bytes] = []
    body: list[bytes] = []
    size = 0
    for message in messages:
        part = _encoder.encode(message)
        if len(part) + LIST_HEAD_BYTES > FRAME_BYTES_MAX:
            raise ProtocolError(
                f"A message of {len(part)} bytes is over the limit of {FRAME_BYTES_MAX}."
            )
        if body and (size + len(part) > SPLIT_BYTES or len(body) == MESSAGES_PER_FRAME_MAX):
            frames.append(_frame(body, size))
            body, size = [], 0
        body.append(part)
        size += len(part)
    return b"".join([*frames, _frame(body, size)])


def _frame(parts: list[bytes], size: int) -> bytes:
    """Return one frame with these encoded messages: a MessagePack list of 16-bit length."""
    head = (size + LIST_HEAD_BYTES).to_bytes(4, "big") + b"\xdc" + len(parts).to_bytes(2, "big")
    return head + b"".join(parts)


class FrameReader:
    """Turns the bytes of one connection into messages, however they were cut.

    ``limit`` bounds the frame that may be announced: raise it once the other side has proved
    itself. What that side sent right behind its proof may have come with it: so a frame that is
    over the limit, behind others that are not, is kept for the next call, and ``feed(b"")`` after
    the limit was raised gives its messages.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        """The head of a frame that is not complete. It grows in place, so a large frame that comes
        in many pieces is not copied for each of them.
        """
        self._due = 0
        """Nothing can be done before the buffer has this many bytes."""

    @property
    def unfinished(self) -> int:
        """How many bytes are kept until their frame is complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[AnyMessage]:
        """Return the messages that are complete now; ProtocolError for what is none of ours."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._due:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        at, end = 0, len(data)
        self._due = 4
        messages: list[AnyMessage] = []
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > self.limit:
                if at:
                    self._due = 0
                    break
                raise ProtocolError(
                    f"A frame of {size} bytes was announced; the most here is {self.limit}.",
                    hint="Is this an Everwrite client, and is the port right?",
                )
            if end - at - 4 < size:
                self._due = size + 4
                break
            messages += decode_payload(data[at + 4 : at + 4 + size])
            at += 4 + size
        if at < end:
            self._buffer += data[at:]
        return messages


def decode_payload(payload: bytes) -> list[AnyMessage]:
    """Return the messages of one frame's payload; ProtocolError if it is malformed."""
    count = _announced(payload)
    if count > MESSAGES_PER_FRAME_MAX:
        raise ProtocolError(f"A frame has {count} messages; the most is {MESSAGES_PER_FRAME_MAX}.")
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise ProtocolError(f"A frame of {len(payload)} bytes is malformed: {error}.") from error


def _announced(payload: bytes) -> int:
    """Return how many messages a payload says it has, if it says so in more than its first byte.

    Three bytes of a frame can make a message of a hundred in memory: so they are counted first.
    """
    if payload[:1] == _ARRAY_16:
        return int.from_bytes(payload[1:3], "big")
    if payload[:1] == _ARRAY_32:
        return int.from_bytes(payload[1:5], "big")
    return 0
