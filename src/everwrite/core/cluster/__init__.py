"""VALUES: where a key lives and who is there.

Purpose:       Which nodes own a partition, who stands in, who seems up.  (Dynamo 4.2, 4.3, 4.8)
Comes in:      Member entries; what was heard from whom and when; the replication settings.
Goes out:      Preference lists, routes, and a digest by which two views are compared.
May import:    core.messages (Member), core.config, core.errors, msgspec, xxhash, math
Must never:    touch storage, sockets or clocks; move ownership because somebody is slow.
Start reading: placement.py.
"""
