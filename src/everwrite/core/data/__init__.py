"""VALUES: what a value is.

Purpose:       Versions, siblings, clocks, contexts and keys, as plain immutable data. (Dynamo 4.4)
Comes in:      Bytes from clients and disks; records from other nodes.
Goes out:      Canonical bytes, merged records, signed contexts.
May import:    core.errors, msgspec, xxhash, hashlib
Must never:    know messages, nodes, storage, time or randomness.
Start reading: versions.py, then context.py.
"""
