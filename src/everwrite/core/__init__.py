"""THE PURE ROOM: what every node, client and simulation computes alike.

Purpose:       Versions, placement, quorums, hints: all decisions, none of the doing.  (Dynamo 4)
Comes in:      Messages and the time, as arguments; results of storage.
Goes out:      Messages and storage writes, left for the caller; errors with a hint.
May import:    msgspec, xxhash and the pure standard library.
Must never:    import asyncio, threading, socket, ssl, os, io, time, random, secrets, logging, uuid.
Start reading: data/versions.py, then cluster/placement.py, then messages/requests.py.
"""
