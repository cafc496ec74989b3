"""An error that nobody has thought of ends the question in which it came, and not the node.

If it ended the node, whoever may ask could end all nodes, one after the other.
"""

from __future__ import annotations

from types import TracebackType

from structlog.stdlib import BoundLogger

from everwrite.core.errors import EverwriteError


class answering:  # noqa: N801 (reads as a statement; a generator would cost each message more)
    """Log what nobody has thought of, and make it an error that can be told; ``expected`` is what
    whoever asks takes himself.
    """

    __slots__ = ("_asked", "_expected", "_log")

    def __init__(self, log: BoundLogger, asked: str, *expected: type[Exception]) -> None:
        self._log = log
        self._asked = asked
        self._expected = expected

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, (EverwriteError, *self._expected)):
            return
        if not isinstance(error, Exception):
            return
        self._log.exception("question failed", asked=self._asked, why=repr(error))
        raise EverwriteError(
            f"The node met an error in {self._asked!r} ({type(error).__name__}).",
            hint="Its log has the traceback. It may have been carried out: look first. "
            "Please report it.",
            outcome="unknown",
        ) from error
