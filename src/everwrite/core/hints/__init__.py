"""CONVERSATIONS: copies kept for owners that were away, until they have them.   (Dynamo 4.6)

Purpose:       What a stand-in keeps and for whom, how that gets home, and how it is found again.
Comes in:      Store with ``hint_for``; owners that come back, and their room; acks.
Goes out:      AskRoom and Store to owners, writes and removals of hints.
May import:    core.data, core.messages, core.local, core.records, core.trees, core.moving.ranges
Must never:    drop a hint silently; strike one out before its owner has it for good.
Start reading: hints.py, then delivery.py.
"""
