"""The commands of one connection: which go together, and their answers in the order they came.

    add -> waits its turn -> runs (asks the core, is told, asks again) -> is answered
                                                                       -> all before it are: sent

A command that has begun holds its keys. The next one begins unless it wants a key that another
holds, both reads or both blind writes excepted (command.py); what has no keys but looks at data
(SCAN, FLUSHDB) runs by itself. So whoever sends ten commands at once sees what he would have seen
one by one, and those that do not concern each other do not wait for each other.

Between MULTI and EXEC commands are looked at and kept; at EXEC they go in as if they came then, and
their answers become one.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from everwrite.core.errors import EverwriteError, InvariantError
from everwrite.server.redis.command import ALONE, Args, Command, Steps, wrong_number
from everwrite.server.redis.doubts import problem_of
from everwrite.server.redis.replies import OK, QUEUED, Answer, Problem, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from everwrite.server.redis.front import Front
    from everwrite.server.redis.session import Session

RUNNING_MAX = 128
"""Commands of one connection under way: their answers may be the largest values."""
QUEUED_MAX = 1024
"""Commands of one connection that have no answer yet; no more are read."""
QUEUED_BYTES_MAX = 4 << 20
UNSENT_BYTES_MAX = 1 << 20
"""Answers that wait for one that was asked for before them: over this nothing more begins."""
BATCH_MAX = 100_000
"""Commands between MULTI and EXEC."""
BATCH_BYTES_MAX = 32 << 20
"""Of these commands; and of all their answers."""

_TOO_MUCH = (
    f"ERR it was carried out, but the answers of a batch have at most {BATCH_BYTES_MAX} bytes"
)

_GeneratorType = type(_ for _ in ())


class Slot:
    """One command, from its arrival to its answer."""

    __slots__ = (
        "_left",
        "_line",
        "_replies",
        "_steps",
        "answer",
        "args",
        "at",
        "batch",
        "began_ns",
        "command",
        "data",
        "keys",
        "protocol",
        "silent",
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
        self.silent = False
        self.began_ns = time.monotonic_ns()
        self.size = 0
        self.tell: Callable[[Session, bytes, Any], Answer] | None = None
        """What makes an answer of the one reply, if it is done directly."""
        self._steps: Steps | None = None
        self._replies: list[Any] = []
        self._left = 0

    def go(self, steps: Steps) -> None:
        """Begin."""
        self._steps = steps
        self._go_on(None)

    def heard(self, at: int, reply: Any) -> None:
        """Take the core's reply to one of the messages."""
        if self._steps is None:  # it is over: another of them had failed
            if self.tell is not None:
                self._told(self.tell, reply)
            return
        if at < 0:
            self._go_on(reply)
            return
        self._replies[at] = reply
        self._left -= 1
        if not self._left:
            replies, self._replies = self._replies, []
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
            answer = tell(line.session, keys[0], reply)
        except Problem as problem:
            answer = problem
        except EverwriteError as error:
            answer = problem_of(error)
        line.over(self, answer)

    def _go_on(self, told: Any) -> None:
        line, steps = self._line, self._steps
        try:
            asked = self._next(told)
            if type(asked) is list:
                self._replies = [None] * len(asked)
                self._left = len(asked)
                for at, message in enumerate(asked):
                    line.front.place.ask(message, self, at)
            else:
                line.front.place.ask(asked, self)
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
            line.over(self, problem_of(error))

    def _next(self, told: Any) -> Any:
        """Return what the command asks next."""
        steps = self._steps
        assert steps is not None
        try:
            if isinstance(told, EverwriteError):
                return steps.throw(told)
            return steps.send(told)
        except (StopIteration, Problem, EverwriteError):
            raise
        except Exception as error:
            raise self._line.front.ours(self.args, error) from error


class Batch(Slot):
    """EXEC: its answer is those of its commands."""

    __slots__ = ("answers", "bytes", "due")

    def __init__(self, line: Pipeline, command: Command, count: int) -> None:
        super().__init__(line, command, [b"exec"], None, 0)
        self.answers: list[bytes] = [b""] * count
        """As they are sent."""
        self.bytes = 0
        self.due = count

    def take(self, at: int, answer: Answer, protocol: int) -> bool:
        """Take the answer of one command; say whether that was the last."""
        data = encode(answer, protocol)
        self.bytes += len(data)
        if self.bytes > BATCH_BYTES_MAX:
            data = encode(Problem(_TOO_MUCH), protocol)
        self.answers[at] = data
        self.due -= 1
        return not self.due

    def whole(self) -> bytes:
        """Return the answer to EXEC."""
        return b"*%d\r\n%b" % (len(self.answers), b"".join(self.answers))


class Pipeline:
    """See the module; ``ready`` is called when there is something to send."""

    def __init__(self, front: Front, session: Session, ready: Callable[[], None]) -> None:
        self.front = front
        self.session = session
        self._ready = ready
        self._slots: deque[Slot] = deque()
        """All that have no answer sent yet."""
        self._waiting: deque[Slot] = deque()
        """Those that have not begun."""
        self._held: dict[bytes, list[int]] = {}
        """Keys: the mode in which they are held, and by how many."""
        self._running = 0
        self._whole = False
        """Whether a command runs that wants to be by itself."""
        self._starting = False
        self._queued_bytes = 0
        self._unsent = 0
        """What the answers have that are not sent yet."""
        self._batch: list[tuple[Command, Args]] | None = None
        """What came since MULTI,"""
        self._batch_bytes = 0
        self._batch_wrong = False
        """and whether something was wrong with it."""
        self.ends = False
        """Whether the connection is to end when all is answered."""
        self.quits = False
        """Whether what has not begun is not to be answered: the client said that it goes."""
        self.stopped = False
        """Whether nothing more begins: the other end does not read."""

    @property
    def room(self) -> bool:
        """Whether one more command may come."""
        return len(self._slots) < QUEUED_MAX and self._queued_bytes < QUEUED_BYTES_MAX

    @property
    def empty(self) -> bool:
        """Whether all is answered."""
        return not self._slots

    @property
    def kept(self) -> int:
        """How many bytes of commands wait here."""
        return self._queued_bytes + self._batch_bytes + self._unsent

    @property
    def in_batch(self) -> int:
        """How many commands came since MULTI; -1: there was none."""
        return -1 if self._batch is None else len(self._batch)

    def add(self, args: Args) -> None:
        """Take one command."""
        command = self.front.find(args[0])
        if self._batch is not None or (command is not None and command.group == "transactions"):
            self._collect(command, args)
            return
        slot = Slot(self, command, args, None, 0)
        self._slots.append(slot)
        self._line_up(slot)

    def say(self, answer: Answer) -> None:
        """Answer what was no command, after all that came before."""
        slot = Slot(self, None, [], None, 0)
        self._slots.append(slot)
        self._answer(slot, answer)

    def begin_anew(self) -> None:
        """Forget what came since MULTI."""
        self._batch, self._batch_bytes, self._batch_wrong = None, 0, False

    def answers(self) -> bytes:
        """Return all that can be sent now."""
        slots = self._slots
        parts: list[bytes] = []
        while slots:
            data = slots[0].data
            if data is None:
                break
            slots.popleft()
            if data:
                parts.append(data)
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        self._unsent -= len(found)
        return found

    # -- order -------------------------------------------------------------------------------------

    def _line_up(self, slot: Slot) -> None:
        if self._waiting or self._starting or not self._start(slot):
            slot.size = sum(map(len, slot.args))
            self._queued_bytes += slot.size
            self._waiting.append(slot)

    def go_on(self) -> None:
        """Begin what may begin."""
        if self._starting:
            return
        self._starting = True
        waiting = self._waiting
        while waiting and self._start(waiting[0]):
            self._queued_bytes -= waiting.popleft().size
            if self.quits:
                for slot in waiting:
                    slot.data = b""
                waiting.clear()
        self._starting = False

    def _start(self, slot: Slot) -> bool:
        """Begin a command; False: not yet."""
        if self._running >= RUNNING_MAX or self._whole or self.stopped:
            return False
        if self._unsent > UNSENT_BYTES_MAX:
            return False
        session, command, args = self.session, slot.command, slot.args
        try:
            if command is None or not session.known or not command.fits(args):
                self._check(command, args)
            assert command is not None
            keys = slot.keys
            if keys is None:
                if command.keys[1] == 1:
                    keys = [session.key(args[1])]
                else:
                    keys = [session.key(each) for each in command.keys_in(args)]
                slot.keys = keys
            held, mode = self._held, command.mode
            if command.plain and len(args) != command.plain:
                mode = ALONE
            for key in keys:
                entry = held.get(key)
                if entry is not None and (mode == ALONE or entry[0] != mode):
                    return False
            if command.whole and self._running:
                return False
            slot.protocol = session.protocol
            direct = command.direct
            if direct is not None and mode == command.mode:
                self.front.place.ask(direct.ask(session, args, keys[0]), slot)
                slot.tell = direct.tell
                if session.silent:
                    slot.silent = session.hush()
                self._hold(keys, mode)
                return True
            found = command.run(session, args, keys)
        except Problem as problem:
            self._answer(slot, problem)
            return True
        except EverwriteError as error:
            self._answer(slot, problem_of(error))
            return True
        except Exception as error:
            self._answer(slot, problem_of(self.front.ours(args, error)))
            raise
        if session.silent:
            slot.silent = session.hush()
        if type(found) is not _GeneratorType:
            slot.protocol = session.protocol  # HELLO speaks as was agreed
            self._answer(slot, found)
            return True
        self._whole = command.whole
        self._hold(keys, mode)
        slot.go(found)
        return True

    def _hold(self, keys: list[bytes], mode: int) -> None:
        """A command has begun."""
        self._running += 1
        held = self._held
        for key in keys:
            entry = held.get(key)
            if entry is None:
                held[key] = [mode, 1]
            else:
                entry[1] += 1

    def over(self, slot: Slot, answer: Answer) -> None:
        """A command that had begun has its answer."""
        held = self._held
        for key in slot.keys or ():
            entry = held[key]
            if entry[1] == 1:
                del held[key]
            else:
                entry[1] -= 1
        self._running -= 1
        self._whole = False
        self._answer(slot, answer)
        if self._waiting:
            self.go_on()

    def _answer(self, slot: Slot, answer: Answer) -> None:
        if slot.command is not None:
            took_ns = time.monotonic_ns() - slot.began_ns
            self.front.measures.add(slot.command.name, took_ns, type(answer) is not Problem)
        batch, protocol = slot.batch, slot.protocol or self.session.protocol
        if batch is not None:
            if not batch.take(slot.at, answer, protocol):
                return
            slot = batch
            slot.data = data = batch.whole()
        else:
            slot.data = data = b"" if slot.silent else encode(answer, protocol)
        self._unsent += len(data)
        self._ready()

    def _check(self, command: Command | None, args: Args) -> None:
        """Raise a Problem for what cannot be begun."""
        if not self.session.known and (command is None or not command.open):
            raise Problem("NOAUTH Authentication required.")
        if command is None:
            raise self.front.unknown(args)
        if not command.fits(args):
            raise wrong_number(command.name)

    # -- MULTI -------------------------------------------------------------------------------------

    def _collect(self, command: Command | None, args: Args) -> None:
        """Take a command between MULTI and EXEC, or one of these."""
        name = command.name if command is not None else ""
        try:
            self._check(command, args)
            assert command is not None
            if name == "exec":
                self._execute(command)
            elif self._batch is None:
                if name == "discard":
                    raise Problem("ERR DISCARD without MULTI")
                self._batch = []
                self.say(OK)
            elif name == "multi":
                raise Problem("ERR MULTI calls can not be nested")
            elif name == "discard":
                self.begin_anew()
                self.say(OK)
            elif name in ("quit", "reset"):
                self.begin_anew()
                self.add(args)
            else:
                self._keep(command, args)
                self.say(QUEUED)
        except Problem as problem:
            if self._batch is not None and name != "multi":
                self._batch_wrong = True
            self.say(problem)

    def _keep(self, command: Command, args: Args) -> None:
        assert self._batch is not None
        if command.refused:
            raise self.front.refuse(command)
        self._batch_bytes += sum(map(len, args))
        if len(self._batch) >= BATCH_MAX or self._batch_bytes > BATCH_BYTES_MAX:
            raise Problem(
                f"ERR a batch has at most {BATCH_MAX} commands of {BATCH_BYTES_MAX} bytes in all"
            )
        self._batch.append((command, args))

    def _execute(self, command: Command) -> None:
        if self._batch is None:
            raise Problem("ERR EXEC without MULTI")
        kept, wrong = self._batch, self._batch_wrong
        self.begin_anew()
        if wrong:
            raise Problem("EXECABORT Transaction discarded because of previous errors.")
        self.front.measures.batches += 1
        if not kept:
            self.say([])
            return
        batch = Batch(self, command, len(kept))
        self._slots.append(batch)
        for at, (each, args) in enumerate(kept):
            self._line_up(Slot(self, each, args, batch, at))


def _gravest(errors: list[EverwriteError]) -> EverwriteError:
    """Return the error to tell of several: one after which something may have been written."""
    for error in errors:
        if error.outcome != "none":
            return error
    return errors[0]
