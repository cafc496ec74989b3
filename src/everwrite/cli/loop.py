"""Runs a coroutine on uvloop: for commands that send many requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_on_uvloop(main: Coroutine[Any, Any, Result]) -> Result:
    """Return what the coroutine returns; KeyboardInterrupt if it was cancelled by Ctrl-C."""
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
