"""Where a key sorts: the one byte string by which a key is known on disk and between nodes.

A data key is hash (8 bytes, big endian), bucket length (1 byte), bucket, key: so a partition, a
tree leaf and a scan slice are each one contiguous range, for every number of partitions.
"""

from __future__ import annotations

import re

import xxhash

from everwrite.core.errors import ProtocolError, RequestError, TooLarge

KEY_BYTES_MAX = 1024
BUCKET_BYTES_MAX = 128
VALUE_BYTES_MAX = 1 << 20
_HEAD_BYTES = 9

SPOKEN_MAX = 200
"""Characters of a name in an error, which is a line for people."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_digest = xxhash.xxh3_64_digest


def data_key(bucket: bytes, key: bytes) -> bytes:
    """Return the data key of a bucket and key that were checked."""
    tail = bytes((len(bucket),)) + bucket + key
    return _digest(tail) + tail


def split_key(data: bytes) -> tuple[bytes, bytes]:
    """Return (bucket, key) of a data key; ProtocolError if it is not one, or over the limits;
    RequestError for a bucket's name that no client would have let through.
    """
    if len(data) < _HEAD_BYTES or _digest(data[8:]) != data[:8]:
        raise ProtocolError("These bytes are not a data key: the hash does not match.")
    end = _HEAD_BYTES + data[8]
    if not (0 < data[8] <= BUCKET_BYTES_MAX and 0 < len(data) - end <= KEY_BYTES_MAX):
        raise ProtocolError("These bytes are not a data key: its bucket or key cannot be.")
    bucket = data[_HEAD_BYTES:end]
    if not _plainly_printable(bucket):
        checked_bucket(bucket)
    return bucket, data[end:]


def _plainly_printable(name: bytes) -> bool:
    """Say whether a name surely has no control characters, in a quarter of the time of a search."""
    return name.isascii() and name.decode().isprintable()


def spoken(data: bytes) -> str:
    """Return how an error names a data key: bucket/key in one line, of a long one the beginning.

    >>> spoken(data_key(b"carts", b"alice")), spoken(data_key(b"carts", b"a\\nb\\xff"))
    ('carts/alice', 'carts/a\\\\nb\\\\xff')
    """
    bucket, key = split_key(data)
    name = f"{bucket.decode()}/{key.decode(errors='backslashreplace')}"
    if not name.isprintable():
        name = "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)
    return name if len(name) <= SPOKEN_MAX else f"{name[:SPOKEN_MAX]}..."


def of_key(error: TooLarge, data: bytes) -> TooLarge:
    """Return an error that says of which key it is: whoever wrote many at once looks for it."""
    what = error.message
    error.message = f"At {spoken(data)}, {what[:1].lower()}{what[1:]}"
    return error


def hash_of(data: bytes) -> int:
    """Return the place on the 64-bit ring of a data key."""
    return int.from_bytes(data[:8], "big")


def checked_bucket(bucket: str | bytes) -> bytes:
    """Return the bucket's bytes; RequestError for a name that cannot be one."""
    try:
        text = bucket.decode() if isinstance(bucket, bytes) else bucket
        raw = text.encode()
    except UnicodeError as error:
        raise RequestError("The bucket's name is not valid UTF-8.", hint="Use text.") from error
    if not raw:
        raise RequestError("The bucket's name is empty.", hint="Give a name such as 'carts'.")
    if _CONTROL.search(text):
        raise RequestError(
            f"The bucket's name {text!r} has control characters.", hint="Use printable characters."
        )
    if len(raw) > BUCKET_BYTES_MAX:
        raise TooLarge(
            f"The bucket's name has {len(raw)} bytes; the most is {BUCKET_BYTES_MAX}.",
            hint="Use a short name for many keys, and put what tells them apart into the key.",
        )
    return raw


def checked_key(key: str | bytes) -> bytes:
    """Return the key's bytes (any bytes will do); RequestError if there are none or too many."""
    try:
        raw = key.encode() if isinstance(key, str) else key
    except UnicodeError as error:
        raise RequestError(
            "The key cannot be encoded as UTF-8.", hint="Pass bytes instead."
        ) from error
    if not raw:
        raise RequestError("The key is empty.", hint="Give a key of 1 to 1024 bytes.")
    if len(raw) > KEY_BYTES_MAX:
        raise TooLarge(
            f"The key {ascii(raw[:40])[1:]}... has {len(raw)} bytes; the most is {KEY_BYTES_MAX}.",
            hint="Keep long names in the value and use their hash as the key.",
        )
    return raw


def checked_value(value: bytes) -> bytes:
    """Return the value if it is within the limit, else raise TooLarge."""
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(
            f"The value has {len(value)} bytes; the most is {VALUE_BYTES_MAX}.",
            hint="Split it, or keep it in a blob store and put its address here.",
        )
    return value
