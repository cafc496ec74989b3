"""An error that nobody has thought of ends the question in which it came, and not the node.

If it ended the node, whoever may ask could end all nodes, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.stdlib import BoundLogger

from everwrite.core.errors import EverwriteError


@contextmanager
def answering(log: BoundLogger, asked: str) -> Iterator[None]:
    """Log what nobody has thought of, and make it an error that can be told."""
    try:
        yield
    except EverwriteError:
        raise
    except Exception as error:
        log.exception("question failed", asked=asked, why=repr(error))
        raise EverwriteError(
            f"The node met an error in {asked!r} ({type(error).__name__}).",
            hint="Its log has the traceback. It may have been carried out: look first. "
            "Please report it.",
            outcome="unknown",
        ) from error
