"""What a node's Redis front asks of the core: seen where it hands that in, so by whoever asks."""

from __future__ import annotations

from typing import Any

import pytest

from everwrite.server.redis.command import Request
from everwrite.server.redis.place import RedisPlace


def note_asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Return a list to which every message is added from now on."""
    asked: list[Request] = []
    ask = RedisPlace.ask

    def noted(place: RedisPlace, message: Request, *more: Any) -> None:
        asked.append(message)
        ask(place, message, *more)

    monkeypatch.setattr(RedisPlace, "ask", noted)
    return asked
