"""One command of a connection, from its arrival to its answer; and EXEC, which has several."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.core.messages.channels import Listen, Publish
from everwrite.core.messages.requests import Put, PutReply
from everwrite.server.answering import answering
from everwrite.server.redis.command import BLIND, CHANGE, REST, Args, Command, Request, Steps
from everwrite.server.redis.doubts import problem_of
from everwrite.server.redis.replies import Answer, Problem, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from everwrite.server.redis.pipeline import Pipeline
    from everwrite.server.redis.session import Session

WORD_BYTES = 64
"""What a word costs beside its bytes."""
BATCH_BYTES_MAX = 32 << 20
"""Of the commands between MULTI and EXEC, each word WORD_BYTES more; and of all their answers."""

_TOO_MUCH = (
    f"ERR it was carried out, but the answers of a batch have at most {BATCH_BYTES_MAX} bytes"
)
_TOO_MUCH_DATA = encode(Problem(_TOO_MUCH), 2)


def bytes_of(args: Args) -> int:
    """Return what a command makes this process hold."""
    return sum(map(len, args)) + WORD_BYTES * len(args)


class Slot:
    """One command, from its arrival to its answer."""

    __slots__ = (
        "_left",
        "_line",
        "_messages",
        "_replies",
        "_steps",
        "_wrote",
        "answer",
        "args",
        "at",
        "batch",
        "began_ns",
        "command",
        "data",
        "hush",
        "keys",
        "protocol",
        "size",
        "tell",
    )

    def __init__(
        self, line: Pipeline, command: Command | None, args: Args, batch: Batch | None, at: int
    ) -> None:
        self._line = line
        self.command = command
        self.args = args
        self.batch = batch
        """Whose answer is a part of that of EXEC;"""
        self.at = at
        """which part."""
        self.keys: list[bytes] | None = None
        """The data keys; None: not looked at yet."""
        self.data: bytes | None = None
        """The answer as it is sent; None: there is none yet."""
        self.protocol = 0
        self.hush: int | None = None
        """From this answer on so many are not sent; negative: none is (CLIENT REPLY)."""
        self.began_ns = time.monotonic_ns()
        self.size = bytes_of(args)
        """What is held for it until it is answered."""
        self.tell: Callable[[Session, bytes, Any], Answer] | None = None
        """What makes an answer of the one reply, if it is done directly."""
        self._steps: Steps | None = None
        self._messages: list[Request] = []
        """Those that were asked at once,"""
        self._replies: list[Any] = []
        self._left = 0
        self._wrote = False
        """Whether a part of it was written, or may be."""

    @property
    def name(self) -> str:
        """The command's name."""
        return self.command.name if self.command is not None else ""

    @property
    def looks(self) -> bool:
        """Whether what it does and answers goes by what it finds."""
        command = self.command
        if command is None or command.advisory:
            return command is not None
        words = self.args[3:] if command.name == "set" else ()
        return any(each.lower() in (b"nx", b"xx", b"get") for each in words)

    @property
    def done(self) -> bool:
        """Whether it has no steps more."""
        return self._steps is None

    @property
    def owner(self) -> object:
        """Whose it is: each connection has its turn."""
        return self._line

    def go(self, steps: Steps) -> None:
        """Begin."""
        self._steps = steps
        self._go_on(None)

    def heard(self, at: int, reply: Any) -> None:
        """Take the core's reply to one of the messages."""
        line = self._line
        line.under_way -= 1
        if self._steps is None:  # it is over: another of them had failed
            if self.tell is not None:
                self._told(self.tell, reply)
            return
        if at < 0:
            if type(reply) is PutReply:
                self._wrote = True
            self._go_on(reply)
            return
        if type(reply) is PutReply:  # remembered here, for the others may fail
            self._wrote = True
            line.session.wrote(self._messages[at].key, reply)  # type: ignore[union-attr]
        self._replies[at] = reply
        self._left -= 1
        if not self._left:
            replies, self._replies, self._messages = self._replies, [], []
            errors = [each for each in replies if isinstance(each, EverwriteError)]
            self._go_on(_gravest(errors) if errors else replies)

    def _told(self, tell: Callable[[Session, bytes, Any], Answer], reply: Any) -> None:
        """Answer by the one reply of a command that is done directly."""
        line, keys = self._line, self.keys
        self.tell = None
        assert keys is not None
        answer: Answer
        try:
            if isinstance(reply, EverwriteError):
                raise reply
            with answering(line.front.log, self.name, Problem):
                answer = tell(line.session, keys[0], reply)
        except Problem as problem:
            answer = problem
        except EverwriteError as error:
            answer = problem_of(error, name=self.name, looks=self.looks)
        line.over(self, answer)

    def _go_on(self, told: Any) -> None:
        line, steps = self._line, self._steps
        try:
            asked = self._next(told)
            if type(asked) is list:
                self._ask_all(asked)
            elif asked is REST:
                line.front.place.rest(self)
                line.under_way += 1
            else:
                self._ask(asked)
                line.under_way += 1
        except StopIteration as end:
            self._steps = None
            line.over(self, end.value)
        except Problem as problem:
            self._steps = None
            line.over(self, problem)
        except EverwriteError as error:
            self._steps = None
            if steps is not None:
                steps.close()
            if isinstance(error, InvariantError):  # a bug of ours, whatever was asked
                line.front.broken(error)
            partly, looks = self._wrote, self.looks
            line.over(self, problem_of(error, name=self.name, partly=partly, looks=looks))

    def _ask(self, asked: Request) -> None:
        """Ask one message."""
        line = self._line
        if isinstance(asked, Publish | Listen):
            line.front.hub.ask(asked, self)
        elif type(asked) is Put and self._joins:
            line.joining.ask(asked, self)
        else:
            line.front.place.ask(asked, self)

    def _ask_all(self, asked: list[Request]) -> None:
        """Ask several messages at once: all of them, or none."""
        line = self._line
        place = line.front.place
        place.check_room(len(asked))
        self._messages = asked
        self._replies = [None] * len(asked)
        self._left = len(asked)
        for at, message in enumerate(asked):
            if type(message) is Put and self._joins:
                line.joining.ask(message, self, at)
            else:
                place.ask(message, self, at)
            line.under_way += 1

    @property
    def _joins(self) -> bool:
        """Whether a write of it may wait for others of the same key, and go with them."""
        command = self.command
        return command is not None and command.mode in (BLIND, CHANGE)

    def _next(self, told: Any) -> Any:
        """Return what the command asks next."""
        steps = self._steps
        assert steps is not None
        with answering(self._line.front.log, self.name, StopIteration, Problem):
            if isinstance(told, EverwriteError):
                return steps.throw(told)
            return steps.send(told)


class Batch(Slot):
    """EXEC: its answer is those of its commands, which come to be a part at a time."""

    __slots__ = ("_kept", "answers", "bytes", "due")

    def __init__(
        self, line: Pipeline, command: Command, kept: list[tuple[Command, Args]], size: int
    ) -> None:
        super().__init__(line, command, [b"exec"], None, 0)
        self.answers: list[bytes] = [b""] * len(kept)
        """As they are sent."""
        self.bytes = 0
        self.due = len(kept)
        self._kept = kept
        kept.reverse()
        self.size = size
        """What is held for those that are not slots yet."""

    @property
    def left(self) -> int:
        """How many of its commands are not slots yet."""
        return len(self._kept)

    def next_part(self, most: int) -> list[Slot]:
        """Return the next of its commands, so many at most."""
        kept, part = self._kept, []
        at = len(self.answers) - len(kept)
        for _ in range(min(most, len(kept))):
            command, args = kept.pop()
            slot = Slot(self._line, command, args, self, at)
            slot.began_ns = self.began_ns
            self.size -= slot.size
            part.append(slot)
            at += 1
        return part

    def take(self, at: int, data: bytes, *, failed: bool) -> bool:
        """Take the answer of one command; say whether that was the last."""
        self.bytes += len(data)
        if self.full and not failed:
            data = _TOO_MUCH_DATA
        self.answers[at] = data
        self.due -= 1
        return not self.due

    @property
    def full(self) -> bool:
        """Whether nobody is told any more of what its commands find."""
        return self.bytes > BATCH_BYTES_MAX

    def whole(self) -> bytes:
        """Return the answer to EXEC."""
        return b"*%d\r\n%b" % (len(self.answers), b"".join(self.answers))


def _gravest(errors: list[EverwriteError]) -> EverwriteError:
    """Return the error to tell of several: one after which something may have been written."""
    for error in errors:
        if error.outcome != "none":
            return error
    return errors[0]
