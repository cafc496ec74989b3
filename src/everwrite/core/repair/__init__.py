"""CONVERSATIONS: how replicas become equal again.   (Dynamo 4.6, 4.7)

Purpose:       Copies kept for owners that were away; trees, and exchanges between owners; the disk
               that is looked through; versions that end; tombstones that may go.
Comes in:      Store with ``hint_for``; owners that come back; roots, sums and entries of peers;
               ranges of the disk; acks; wake-ups.
Goes out:      Store to owners and to itself, questions and answers of exchanges, scans, writes of
               hints, removal of what all have confirmed.
May import:    core.data, core.messages, core.local, core.records, core.moving.ranges, core.errors
Must never:    drop a hint silently; remove a copy for what a tree says; touch storage or clocks.
Start reading: hints.py, then trees.py and exchange.py.
"""
