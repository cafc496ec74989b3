"""CONVERSATIONS: how owners find where they differ, and become equal again.   (Dynamo 4.7)

Purpose:       Exchanges between two owners of a partition: who with whom, when, and what travels.
Comes in:      Roots, sums and entries of peers; ranges of the disk; acks; orders of a person.
Goes out:      Questions and answers of exchanges, Store to owners and to itself, scans.
May import:    core.data, core.messages, core.local, core.records, core.trees, core.moving.ranges
Must never:    remove a copy for what a tree says; touch storage or clocks.
Start reading: repairs.py, then exchange.py and answer.py.
"""
