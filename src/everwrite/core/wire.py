"""Bytes to messages and back: length-prefixed frames, sizes checked before anything is kept.

A frame is its length (4 bytes, big endian, not counting itself) and a MessagePack list of messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everwrite.core.config import FRAME_BYTES_MAX
from everwrite.core.errors import ProtocolError
from everwrite.core.messages import AnyMessage, Message

_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(list[AnyMessage]).decode
_HEAD = b"\0\0\0\0"

MESSAGES_PER_FRAME_MAX = 4096


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
    """Return the messages in as few frames as fit, in order."""
    if len(messages) <= MESSAGES_PER_FRAME_MAX:
        buffer = bytearray(_HEAD)
        _encoder.encode_into(messages, buffer, 4)
        size = len(buffer) - 4
        if size <= FRAME_BYTES_MAX:
            buffer[:4] = size.to_bytes(4, "big")
            return bytes(buffer)
        if len(messages) == 1:
            raise ProtocolError(
                f"A message of {size} bytes is over the limit of {FRAME_BYTES_MAX}."
            )
    half = len(messages) // 2
    return encode_frames(messages[:half]) + encode_frames(messages[half:])


class FrameReader:
    """Turns the bytes of one connection into messages, however they were cut.

    ``limit`` bounds the frame that may be announced: raise it once the other side has proved
    itself.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = b""

    def feed(self, data: bytes) -> list[AnyMessage]:
        """Return the messages that are complete now; ProtocolError for what is none of ours."""
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        messages: list[AnyMessage] = []
        while end - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > self.limit:
                raise ProtocolError(
                    f"A frame of {size} bytes was announced; the most here is {self.limit}.",
                    hint="Is this an Everwrite client, and is the port right?",
                )
            if end - at - 4 < size:
                break
            messages += decode_payload(buffer[at + 4 : at + 4 + size])
            at += 4 + size
        self._buffer = buffer[at:] if at else buffer
        return messages


def decode_payload(payload: bytes) -> list[AnyMessage]:
    """Return the messages of one frame's payload; ProtocolError if it is malformed."""
    try:
        messages = _decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise ProtocolError(f"A frame of {len(payload)} bytes is malformed: {error}.") from error
    if len(messages) > MESSAGES_PER_FRAME_MAX:
        raise ProtocolError(
            f"A frame has {len(messages)} messages; the most is {MESSAGES_PER_FRAME_MAX}."
        )
    return messages
