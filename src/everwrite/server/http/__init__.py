"""THE HTTP FRONT: requests become messages for the core, replies become answers.

Purpose:       The paths of docs/http.md on every node, in its process and loop.
Comes in:      HTTP/1.1 on the node's third port; replies of the core.
Goes out:      Get, Put, Touch, List and Ask at one place of the driver; HTTP answers.
May import:    core, server.driver, server.settings, starlette, uvicorn, httptools
Must never:    decide what a request means or how many nodes are enough: that is the core's.
Start reading: front.py, then objects.py.
"""
