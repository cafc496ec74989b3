"""What a node's Redis front asks of the core: seen where it hands that in, so by whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everwrite.server.redis.command import Request
from everwrite.server.redis.place import RedisPlace


def note_asked(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Any] = object,
    then: Callable[[RedisPlace], None] = lambda place: None,
) -> list[Any]:
    """Return a list to which every message of a kind is added from now on; ``then`` is told where
    it was handed in.
    """
    asked: list[Any] = []
    ask = RedisPlace.ask

    def noted(place: RedisPlace, message: Request, *more: Any) -> None:
        if isinstance(message, kind):
            asked.append(message)
        ask(place, message, *more)
        then(place)

    monkeypatch.setattr(RedisPlace, "ask", noted)
    return asked
