"""VALUES THAT END: on all owners at one moment, and gone from disks in the background.

Purpose:       The time of day on which a cluster agrees, and the purge of what has ended.
Comes in:      Wall clocks as nodes tell them; pages of the list of ends; wake-ups.
Goes out:      A time with its error, or that it is not known; retired and removed copies.
May import:    core.data, core.messages, core.local, core.copies, core.moving.ranges
Must never:    end anything on one node's clock alone; give a value a longer life by merging.
Start reading: docs/design/expiry.md, then clock.py and expiry.py.
"""
