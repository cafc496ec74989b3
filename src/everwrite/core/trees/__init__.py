"""VALUES: what all copies on a disk come to, and how damage to them is found.   (Dynamo 4.7)

Purpose:       Sums that two nodes can compare, the walk that makes them anew and looks through the
               disk, and damaged copies with their way back to health.
Comes in:      Every write of an own copy, before and after; ranges of the disk; reads that failed.
Goes out:      Leaves and roots; scans; copies written anew, by a read of all other owners.
May import:    core.messages, core.local, core.records, core.cluster.holdings, core.moving.ranges
Must never:    compare what is not known to be right; take damaged for absent.
Start reading: trees.py, then walk.py and quarantine.py.
"""
