"""LIMITS: how much of a node its background work may have, and what is refused early.  (Dynamo 6.5)

Purpose:       Slices for hints, moves, trees, scrub and purge, as requests can bear it; one queue
               of what clients ask, which refuses by age.
Comes in:      How long requests took; who wants to work; what neighbours on the machine say.
Goes out:      How long each kind of work has to wait; what to begin, and whom to refuse.
May import:    core.local, core.messages, core.outbox
Must never:    starve one kind of work for good; hold more than it may; touch clocks.
Start reading: pace.py, then control.py and door.py.
"""
