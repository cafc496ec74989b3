"""WORDS: what nodes and clients say to each other.

Purpose:       One struct for each thing that can be said, by conversation; ``every`` has them all.
Comes in:      Nothing: these are types.
Goes out:      Types with their tags on the wire, and the protocol's version.
May import:    msgspec
Must never:    decide anything; reuse a tag; change the order of fields.
Start reading: message.py, then requests.py.
"""
