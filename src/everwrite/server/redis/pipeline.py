"""The commands of one connection: which go together, and their answers in the order they came.

    add -> waits its turn -> runs (asks the core, is told, asks again) -> is answered
                                                                       -> all before it are: sent

A command that has begun holds its keys. The next one begins unless it wants a key that another
holds, both reads, blind writes or changes excepted (command.py); what has no keys but looks at data
(SCAN, FLUSHDB) runs by itself. So whoever sends ten commands at once sees what he would have seen
one by one, and those that do not concern each other do not wait for each other.

Between MULTI and EXEC commands are looked at and kept; at EXEC they go in as if they came then, and
their answers become one.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from everwrite.core.errors import EverwriteError
from everwrite.core.messages.requests import Put
from everwrite.server.answering import answering
from everwrite.server.redis.command import ALONE, BLIND, PART, Args, Command, wrong_number
from everwrite.server.redis.doubts import problem_of
from everwrite.server.redis.joining import Joining
from everwrite.server.redis.place import TURN_S
from everwrite.server.redis.publishing import WHILE_SUBSCRIBED
from everwrite.server.redis.replies import OK, QUEUED, RESP2, Answer, Problem, encode
from everwrite.server.redis.slots import BATCH_BYTES_MAX, Batch, Slot, bytes_of

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
UNDER_WAY_MAX = 512
"""Messages of one connection that wait for a reply: over this none of its commands begins."""
TURN_STARTS = 256
"""Commands of one connection that begin in one turn of the loop, if more wait."""

_NOT_READ = f"ERR not read: the answers of a batch have at most {BATCH_BYTES_MAX} bytes"

_GeneratorType = type(_ for _ in ())

_LATER, _ASKED = object(), object()
"""What became of a command that has no steps, and no answer yet."""


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
        self.joining = Joining(self)
        """Changes of one key that go together."""
        self._running = 0
        self._whole = False
        """Whether a command runs that wants to be by itself."""
        self._behind = 0
        """How many of those that run may only run with their like."""
        self._starting = False
        self._resting = False
        """Whether others have their turn before more begins."""
        self._due = False
        """Whether the answers that are there are about to be sent."""
        self._silent = 0
        """So many answers more are not sent; negative: none is."""
        self.under_way = 0
        """Messages that wait for a reply."""
        self._queued_bytes = 0
        """What is held for commands without an answer."""
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
        held = self._queued_bytes + self.session.holds
        return len(self._slots) < QUEUED_MAX and held < QUEUED_BYTES_MAX

    @property
    def empty(self) -> bool:
        """Whether all is answered."""
        return not self._slots

    @property
    def kept(self) -> int:
        """How many bytes are held for commands, what they read, and their answers."""
        return self._queued_bytes + self._batch_bytes + self._unsent + self.session.holds

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
        self._queued_bytes += slot.size
        if self._waiting or self._starting or not self._start(slot):
            self._waiting.append(slot)

    def too_long(self, problem: Problem) -> None:
        """Answer a command that was dropped; a batch that wants it is not begun."""
        if self._batch is not None:
            self._batch_wrong = True
        self.say(problem)

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
        self._due = False
        while slots:
            slot = slots[0]
            data = slot.data
            if data is None:
                break
            slots.popleft()
            self._unsent -= len(data)
            if slot.hush is not None and not (slot.hush > 0 > self._silent):
                self._silent = slot.hush
            silent = self._silent
            self._silent -= silent > 0
            if not silent or (slot.command is not None and slot.command.pushes):
                parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- order -------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Begin what may begin, some at a time."""
        if self._starting or self._resting:
            return
        self._starting = True
        waiting, left = self._waiting, TURN_STARTS
        clock = self.front.now
        until = clock() + TURN_S
        try:
            while waiting and left:
                slot = waiting[0]
                if type(slot) is Batch:
                    self._unfold(slot, left)
                    continue
                if not self._start(slot):
                    break
                waiting.popleft()
                left = left - 1 if clock() < until else 0  # some are answered at once, at length
                if self.quits:
                    self._forget_behind(slot)
        finally:
            self._starting = False
        if waiting and not left:
            self._resting = True
            self.front.loop.call_soon(self._rested)

    def _unfold(self, batch: Batch, most: int) -> None:
        """Let the next commands of the batch that is due wait in its place, and it behind them."""
        waiting = self._waiting
        part = batch.next_part(most)
        if not batch.left:
            waiting.popleft()
        waiting.extendleft(reversed(part))

    def _rested(self) -> None:
        self._resting = False
        self.go_on()

    def _forget_behind(self, quits: Slot) -> None:
        """Answer nothing of what came behind QUIT: nothing of it has begun."""
        slots = self._slots
        while slots[-1] is not quits:
            self._unsent -= len(slots.pop().data or b"")
        self._queued_bytes -= sum(slot.size for slot in self._waiting)
        self._waiting.clear()

    def _start(self, slot: Slot) -> bool:
        """Begin a command, or refuse it; False: not yet."""
        if self._running >= RUNNING_MAX or self._whole or self.stopped:
            return False
        if self._unsent > UNSENT_BYTES_MAX and (self._running or self._due):
            return False  # who has nothing under way, nor to send, would wait for nothing
        try:
            with answering(self.front.log, slot.name, Problem):
                found = self._begin(slot)
        except Problem as problem:
            self._answer(slot, problem)
        except EverwriteError as error:
            self._answer(slot, problem_of(error, name=slot.name, looks=slot.looks))
        else:
            if found is _LATER:
                return False
            if type(found) is _GeneratorType:
                slot.go(found)
            elif found is not _ASKED:
                slot.protocol = self.session.protocol  # HELLO speaks as was agreed
                if self.session.hush is not None:
                    self._hush(slot)
                self._answer(slot, found)
        return True

    def _begin(self, slot: Slot) -> Any:
        """Begin a command: return its steps, its answer, _ASKED where the one reply makes that, or
        _LATER; raises what it is refused with.
        """
        session, command, args = self.session, slot.command, slot.args
        if command is None or session.subscribed or not session.known or not command.fits(args):
            self._check(command, args)
        assert command is not None
        keys = slot.keys
        if keys is None:
            if command.keys[1] == 1:
                keys = [session.key(args[1])]
            else:
                keys = [session.key(each) for each in command.keys_in(args)]
            slot.keys = keys
        mode = command.mode
        if (command.plain and len(args) != command.plain) or (
            mode == BLIND and len(keys) > PART  # its later parts are asked later
        ):
            mode = ALONE
        if self._running and not self._fits_beside(command, keys, mode):
            return _LATER
        if slot.batch is not None and slot.batch.full and command.only_reads:
            raise Problem(_NOT_READ)
        slot.protocol = session.protocol
        direct = command.direct
        if direct is not None and mode == command.mode:
            asked = direct.ask(session, args, keys[0])
            if type(asked) is Put:
                self.joining.ask(asked, slot)
            else:
                self.front.place.ask(asked, slot)
            slot.tell = direct.tell
            self.under_way += 1
            self._hold(keys, mode)
            return _ASKED
        found = command.run(session, args, keys)
        if type(found) is _GeneratorType:
            self._whole = command.whole
            self._behind += command.behind
            self._hold(keys, mode)
        return found

    def _hush(self, slot: Slot) -> None:
        """From the answer of this command on so many are not sent, as it said (CLIENT REPLY)."""
        whose = slot if slot.batch is None else slot.batch
        whose.hush, self.session.hush = self.session.hush, None

    def _fits_beside(self, command: Command, keys: list[bytes], mode: int) -> bool:
        """Say whether a command may begin beside what runs."""
        held = self._held
        for key in keys:
            entry = held.get(key)
            if entry is not None and (mode == ALONE or entry[0] != mode):
                return False
        return not (
            command.whole
            or (command.behind and self._running > self._behind)
            or self.under_way + min(len(keys), PART) > UNDER_WAY_MAX
            or self.session.holds > QUEUED_BYTES_MAX
        )

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
        self._behind -= slot.command is not None and slot.command.behind
        self._answer(slot, answer)
        if self.joining.unfinished:
            self.joining.over(slot)
        if self._waiting:
            self.go_on()

    def _answer(self, slot: Slot, answer: Answer) -> None:
        batch, protocol = slot.batch, slot.protocol or self.session.protocol
        try:
            with answering(self.front.log, slot.name):
                data = encode(answer, protocol)
        except EverwriteError as error:
            answer = problem_of(error)
            data = encode(answer, protocol)
        if slot.command is not None:
            took_ns = time.monotonic_ns() - slot.began_ns
            self.front.measures.add(slot.command.name, took_ns, type(answer) is not Problem)
        self._queued_bytes -= slot.size
        if batch is not None:
            if not batch.take(slot.at, data, failed=type(answer) is Problem):
                return
            slot, data = batch, batch.whole()
        slot.data = data
        self._unsent += len(data)
        self._due = True
        self._ready()

    def _check(self, command: Command | None, args: Args) -> None:
        """Raise a Problem for what cannot be begun."""
        if not self.session.known and (command is None or not command.open):
            raise Problem("NOAUTH Authentication required.")
        if command is None:
            raise self.front.unknown(args)
        if not command.fits(args):
            raise wrong_number(command.name)
        if self.session.subscribed and self.session.protocol == RESP2:
            self._check_subscribed(command)

    def _check_subscribed(self, command: Command) -> None:
        if command.name not in WHILE_SUBSCRIBED:
            raise Problem(
                f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                "PING / QUIT / RESET are allowed in this context"
            )

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
        if command.pushes:
            name = command.name.upper()
            raise Problem(f"ERR {name} is not possible between MULTI and EXEC here")
        self._batch_bytes += bytes_of(args)
        if len(self._batch) >= BATCH_MAX or self._batch_bytes > BATCH_BYTES_MAX:
            raise Problem(
                f"ERR a batch has at most {BATCH_MAX} commands of {BATCH_BYTES_MAX} bytes in all"
            )
        self._batch.append((command, args))

    def _execute(self, command: Command) -> None:
        if self._batch is None:
            raise Problem("ERR EXEC without MULTI")
        kept, size, wrong = self._batch, self._batch_bytes, self._batch_wrong
        self.begin_anew()
        if wrong:
            raise Problem("EXECABORT Transaction discarded because of previous errors.")
        self.front.measures.batches += 1
        if not kept:
            self.say([])
            return
        batch = Batch(self, command, kept, size)
        self._slots.append(batch)
        self._queued_bytes += size
        self._waiting.append(batch)
        self.go_on()
