"""TYPED: keys that are counters, sets, maps, registers and flags, what clients do to them, and the
judges of that.

Purpose:       The simulator's workload of data types (docs/design/types.md), on keys of its own.
Comes in:      a world whose options ask for it (``Options.typed_share``)
Goes out:      operations in the history; violations
May import:    everwrite.core, the rooms of sim
Must never:    ask core/types what should come of a change: rules.py says it in its own words
Start reading: truth.py, then rules.py
"""
