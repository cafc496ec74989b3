"""Runs command lines in this process: arguments and input in, texts and exit code out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any, NamedTuple

from everwrite.cli.main import run


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def everwrite(*arguments: str, stdin: bytes = b"") -> Ended:
    """Run `everwrite` with these arguments; its standard input is a pipe that holds ``stdin``."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
    finally:
        sys.stdin = before
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Ended(code, *texts)
