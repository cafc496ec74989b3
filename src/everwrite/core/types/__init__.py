"""TYPES: counters, sets, maps, registers and flags that merge themselves.   (differs from Dynamo)

Purpose:       What the siblings of such a key say, each a piece of it, and how it is changed.
Comes in:      operations (operations.py) of a put with ``change``; the siblings of a record
Goes out:      pieces to store as siblings (changing.py); a value to show (composing.py)
May import:    core/data, core/errors
Must never:    merge: records of data types are merged as any others are (core/data/versions.py)
Start reading: docs/design/types.md, then changing.py, and ``compose`` in composing.py
"""
