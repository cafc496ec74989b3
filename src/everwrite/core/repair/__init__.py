"""CONVERSATIONS: how replicas become equal again.   (Dynamo 4.6)

Purpose:       Copies kept for owners that are down, and their hand-back.
Comes in:      Store with ``hint_for``; owners that come back; acks of delivered copies; wake-ups.
Goes out:      Writes of hints, Store to the owner, deletes of what was delivered.
May import:    core.data, core.messages, core.local, core.records, core.errors
Must never:    drop a hint silently; touch storage, clocks, sockets.
Start reading: hints.py.
"""
