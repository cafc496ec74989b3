"""CONVERSATIONS: how one get or put is served by N replicas.   (Dynamo 4.5, 4.6)

Purpose:       Coordinators of puts, gets and listings, and what a replica does for them.
Comes in:      Put, Get, List, Fetch, Store and their answers; lost peers; wake-ups.
Goes out:      Fetch, Store, answers to clients, writes of records: all through the outbox.
May import:    core.data, core.cluster, core.messages, core.local, core.records, core.errors
Must never:    touch storage, clocks, sockets; move ownership; raise for a failing peer.
Start reading: replica.py, then write.py from the top.
"""
