"""THE REDIS FRONT: commands become messages for the core, replies become answers.

Purpose:       The commands of docs/redis.md on every node, in its process and loop.
Comes in:      RESP2, RESP3 and inline commands on the node's second port; replies of the core.
Goes out:      Get, Put, Touch and List at one place of the driver; answers in RESP2 or RESP3.
May import:    core, server.driver, server.settings, server.metrics
Must never:    decide how many nodes are enough, or which of two writes stands: that is the core's.
Start reading: connection.py, pipeline.py, then strings.py.
"""
