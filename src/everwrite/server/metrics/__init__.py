"""METRICS: what a node has counted, in the form that Prometheus reads.

Purpose:       /metrics: the counters of the core and of the shell, copied when somebody asks.
Comes in:      Nothing by itself; a scrape, some times a minute.
Goes out:      Families with names and labels that are fixed: docs/metrics.md lists them all.
May import:    core, server.driver, server.peers, prometheus_client
Must never:    cost a request anything; have a key, a bucket or a value as a label.
Start reading: exposition.py, then requests.py.
"""
