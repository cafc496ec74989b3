"""What is put aside stays in the directory: all of it, and as it was."""

from __future__ import annotations

import logging

import pytest

from everwrite.core.copies import ENDS, TOMBSTONES
from everwrite.core.records import HINT, OWN
from everwrite.server import rejoin
from everwrite.server.rejoin import ASIDE, put_aside
from everwrite.storage.store import Store, Unreadable, open_store


def spoil(store: Store, key: bytes) -> bytes:
    """Change a byte of a value on the disk; return the bytes that are there now."""
    sealed = store.engine.get(key)
    assert sealed is not None
    wrong = sealed[:-1] + bytes([sealed[-1] ^ 1])
    store.engine.write([(key, wrong)])
    return wrong


def test_what_is_damaged_is_put_aside_byte_for_byte_and_counted_apart(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejoin, "_PAGE", 2)
    keys = [prefix + b"%d" % number for prefix in (OWN, HINT) for number in range(5)]
    with open_store(None, "memory") as store, caplog.at_level(logging.WARNING):
        store.write([(key, b"value of " + key) for key in [*keys, TOMBSTONES + b"t", ENDS + b"e"]])
        wrong = spoil(store, keys[1])

        put_aside(store)

        left = store.scan(b"", b"\xff", 100)
        assert [key for key, _ in left] == sorted(ASIDE + key for key in keys)
        assert store.engine.get(ASIDE + keys[1]) == wrong
        assert isinstance(store.get(ASIDE + keys[1]), Unreadable)
        assert store.get(ASIDE + keys[0]) == b"value of " + keys[0]
    assert "9 copies (and 1 damaged ones)" in caplog.text
