"""The dashboard of one node: its paths, and what stands behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from everwrite.server.http.asked import Asked
from everwrite.server.http.place import HttpPlace
from everwrite.server.ui.feed import Feed
from everwrite.server.ui.power import Power

if TYPE_CHECKING:
    from everwrite.server.runtime import Runtime

Handler = Callable[[Asked], Awaitable[None]]


class Dashboard:
    """What the HTTP front serves for people, beside the pages themselves (pages.py)."""

    def __init__(self, runtime: Runtime, place: HttpPlace) -> None:
        self.feed = Feed(runtime, place)
        power = Power(runtime.options.playground)
        self.handlers: dict[str, Handler] = {
            "events": self.feed.serve,
            "show_playground": power.show,
            "order_playground": power.order,
        }

    async def close(self) -> None:
        """End the streams."""
        await self.feed.close()
