"""Bytes in, bytes out, on one machine; synchronous; knows nothing of replicas.

Purpose:       Keep keys and values through crashes; never pass off damage as absence. (Dynamo 4.1)
Comes in:      Batches of keys and values, keys to read, ranges to scan, "make it durable".
Goes out:      Values, sorted slices, Unreadable for what is damaged, errors that say what to do.
May import:    core.errors, core.config, msgspec, xxhash; each native engine in its own file only
Must never:    know records or nodes; retry a failed fsync; answer None for a failed read.
Start reading: engine.py (the contract), then store.py; memory.py is the model of the other engines.
"""
