"""CONVERSATIONS: deletes that may be forgotten, by proof and not by the clock.

Purpose:       Who asks all members whether a tombstone is needed, what they say, and how it goes.
Comes in:      Pages of the list of tombstones; Confirm, Watch, Reap and their answers; wake-ups.
Goes out:      The same messages; removal of what all have confirmed; the floors that outlast it.
May import:    core.data, core.cluster, core.messages, core.local, core.copies, core.hints
Must never:    let a tombstone go because time has passed, or without one member's word.
Start reading: docs/design/tombstones.md, then collect.py and confirm.py.
"""
