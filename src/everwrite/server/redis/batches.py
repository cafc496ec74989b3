"""MULTI, EXEC and DISCARD: the table's rows. What they do is done by pipeline.py, which has the
commands in their order.
"""

from __future__ import annotations

from everwrite.core.errors import check
from everwrite.server.redis.command import Args, Command
from everwrite.server.redis.replies import Answer
from everwrite.server.redis.session import Session


def _never(session: Session, args: Args, keys: list[bytes]) -> Answer:
    check(False, "a command of the pipeline's own is not run", name=args[0])


COMMANDS = (
    Command("multi", _never, 1, group="transactions", summary="Keep what comes, until EXEC."),
    Command("exec", _never, 1, group="transactions", summary="Run what came since MULTI."),
    Command("discard", _never, 1, group="transactions", summary="Forget what came since MULTI."),
)
