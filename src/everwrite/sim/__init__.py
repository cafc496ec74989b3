"""A whole cluster in one thread, from one seed: the other performer of a core's effects.

Purpose:       Run real cores under virtual time and every fault we claim to survive; judge them.
Comes in:      A seed, and what to run with it: options, faults, a deliberate bug.
Goes out:      A verdict: events, faults and operations counted, violations in words.
May import:    core, storage.memory, storage.store
Must never:    read a clock or a global random generator; be known to the core.
Start reading: world.py, then machine.py, ledger.py and checkers.py from the top.
"""
