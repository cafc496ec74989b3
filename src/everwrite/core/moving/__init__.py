"""MOVING: how data follows its owners.

Purpose:       A new owner copies a partition, takes it over, and proves that it has all; who owns
               it no more sees that the owners have all, and lets go (docs/design/moving.md).
Comes in:      Pull, Match, GiveUp and their answers; what was scanned; the time.
Goes out:      The same messages; scans; writes of copies, and of what this node serves and keeps.
May import:    core.cluster, core.gossip, core.repair, local, messages, records.
Must never:    let a partition be served before it is proved; remove what an owner lacks.
Start reading: moves.py, then gain.py and shed.py.
"""
