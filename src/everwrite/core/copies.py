"""The one place where an owner's copy changes: the record, and what the disk lists it under.

    b"d" + data key                  own epoch (8 bytes), record
    b"x" + slot (6) + data key       when the record is next to be brought to the horizon; and the
                                     end (6) at which nothing is left of it, empty if it leaves any
    b"g" + data key                  time of day (8): since when it is nothing but a tombstone

All of a change is one batch. Nothing is written that has ended before the horizon: it is brought to
it first, and of what is gone nothing is left (expiry/expiry.py, docs/design/expiry.md).

A slot is written as the time of day at which it begins, so entries keep their meaning where another
length of slots is chosen. An entry may be stale, for instance where the copy before could not be
read; who reads one looks at the record. Only of a copy that is damaged an entry is all that is
known: if all of it has ended, it goes like one that is whole.

Costs: for a record with one live version without an end, and none before it, two comparisons.
"""

from __future__ import annotations

from collections.abc import Callable

from everwrite.core.data import versions
from everwrite.core.data.versions import Record
from everwrite.core.records import MISSING, OWN, Missing, Payload, Records

ENDS = b"x"
TOMBSTONES = b"g"

SLOT_BYTES = 6
"""Milliseconds until the year 10889."""

EPOCH_BYTES = 8


class Copies:
    """The own copies of one node."""

    __slots__ = ("_records", "_time_ms", "horizon", "slot_ms")

    def __init__(self, records: Records, slot_ms: int, time_ms: Callable[[], int]) -> None:
        self._records = records
        self.slot_ms = slot_ms
        self._time_ms = time_ms
        self.horizon = 0
        """What is written has no value that ended before this time of day."""

    def write(
        self,
        data_key: bytes,
        epoch: bytes,
        data: bytes | None,
        before: Payload,
        *,
        record: Record | None = None,
        was: Record | None = None,
    ) -> Record | None:
        """Replace an own copy, and return what stands there now; ``before`` is the payload that it
        replaces (None: none, or one that cannot be read). Whoever has them decoded gives
        ``record``, and ``was`` of the one before.
        """
        # Of one that cannot be read nobody knows what it had added to the tree.
        counted: Payload | Missing = before if before is not None else MISSING
        if data is None:
            record = None
        else:
            if record is None:
                record = versions.decode(data)
            if 0 < versions.next_end(record) < self.horizon:
                record = versions.retire(record, self.horizon)
                data = versions.encode(record) if record is not None else None
        if data is None and self._records.look(OWN + data_key) is None:
            return None  # it was gone before it came
        payload = epoch + data if data is not None else None
        self._records.write(OWN + data_key, payload, counted)
        if was is None and before is not None:
            was = versions.decode(before[EPOCH_BYTES:])
        if not (is_plain(record) and is_plain(was)):
            self._list(data_key, record, was)
        return record

    def drop(self, data_key: bytes, data: bytes) -> None:
        """Remove an own copy that was read some time ago. Nothing was written to it since, but what
        has ended may have been purged: then nobody knows which form stands there, and what the tree
        has of it.
        """
        read = versions.decode(data)
        purged = versions.retire(read, self.horizon)
        before = bytes(EPOCH_BYTES) + data if purged is read else None
        self.write(data_key, b"", None, before, was=read)
        if purged is not read:
            self._list(data_key, None, purged)

    def write_plain(self, data_key: bytes, payload: bytes) -> None:
        """Replace an own copy where neither it nor the one before is listed anywhere."""
        self._records.write(OWN + data_key, payload)

    def _list(self, data_key: bytes, record: Record | None, was: Record | None) -> None:
        """Bring the entries from what the record was to what it is."""
        records = self._records
        ended = self.entry(data_key, was)
        ends = self.entry(data_key, record)
        lasts = _lasts(record)
        if ended != ends or lasts != _lasts(was):
            if ended and ended != ends:
                records.enter(ended, None)
            if ends:
                records.enter(ends, lasts)
        stood = was is not None and versions.is_tombstone(was)
        stands = record is not None and versions.is_tombstone(record)
        if stands and not stood:
            records.enter(TOMBSTONES + data_key, self._time_ms().to_bytes(8, "big"))
        elif stood and not stands:
            records.enter(TOMBSTONES + data_key, None)

    def entry(self, data_key: bytes, record: Record | None) -> bytes:
        """Return the disk key of a record's entry among the ends; empty if it has none."""
        end = versions.next_end(record) if record is not None else 0
        return slot_key(end - end % self.slot_ms) + data_key if end else b""

    def relist(self, data_key: bytes, record: Record | None, entry: bytes) -> None:
        """An entry was found: remove it if it says nothing true of its record, which is to be
        listed under the slot where it belongs.
        """
        belongs = self.entry(data_key, record)
        if belongs != entry:
            self._records.enter(entry, None)
            if belongs:
                self._records.enter(belongs, _lasts(record))

    def remove_damaged(self, data_key: bytes, entry: bytes, lasts: bytes) -> bool:
        """Remove a copy that is damaged for good if its entry says that nothing is left of it at
        the horizon; say whether that is so.
        """
        if not lasts or int.from_bytes(lasts, "big") >= self.horizon:
            return False
        self._records.write(OWN + data_key, None)
        self.unlist(entry)
        return True

    def unlist(self, entry: bytes) -> None:
        """Remove the entry of a copy that is damaged for good."""
        self._records.enter(entry, None)


def slot_key(time_ms: int) -> bytes:
    """Return what the disk keys of all entries begin with whose slot begins at this time."""
    return ENDS + time_ms.to_bytes(SLOT_BYTES, "big")


def _lasts(record: Record | None) -> bytes:
    """Return the end at which nothing is left of a record, as its entry has it."""
    siblings = record.siblings if record is not None else ()
    if not siblings or not all(version.pure for version in siblings):
        return b""
    return max(version.expires for version in siblings).to_bytes(SLOT_BYTES, "big")


def is_plain(record: Record | None) -> bool:
    """Say whether a record is listed nowhere: nearly every one is."""
    if record is None:
        return True
    siblings = record.siblings
    if not siblings:
        return True
    if len(siblings) > 1:
        return not versions.next_end(record) and not versions.is_tombstone(record)
    version = siblings[0]
    return version.value is not None and not version.expires
