"""Data types that merge themselves: what the siblings of such a key say, and how it is changed.

Comes in:      operations (operations.py) of a put with ``change``; the siblings of a record
Goes out:      pieces to store as siblings (changing.py); a value to show (composing.py)
Imports:       core/data, core/errors
"""
