"""An error in a verb that nobody has thought of ends the question, and not the node.

A verb is for one client, and only reads what the core has or gives it an order. If such an error
ended the node, whoever may ask could end all nodes, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.stdlib import BoundLogger

from everwrite.core.errors import EverwriteError


@contextmanager
def answering(log: BoundLogger, verb: str) -> Iterator[None]:
    """Log what nobody has thought of, and make it an error that can be told."""
    try:
        yield
    except EverwriteError:
        raise
    except Exception as error:
        log.exception("verb failed", verb=verb, why=repr(error))
        raise EverwriteError(
            f"The node met an error in {verb!r} that it has no answer to ({type(error).__name__}).",
            hint="Its log has the traceback. An order may have been carried out: look first. "
            "Please report it.",
            outcome="unknown",
        ) from error
