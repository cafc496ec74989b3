"""Everwrite: a leaderless, replicated key-value store that always accepts writes.

Purpose:       The public names and the version, nothing else.                 (Dynamo, SOSP 2007)
Comes in:      Nothing.
Goes out:      What applications import from ``everwrite``.
May import:    client
Must never:    run anything on import.
Start reading: core/__init__.py.
"""

__version__ = "0.1.0"
