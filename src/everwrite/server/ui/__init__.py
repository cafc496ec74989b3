"""THE DASHBOARD: what nodes say, as one stream, and the page that draws it.

Purpose:       /ui/, /v1/events and /v1/playground on every node (docs/design/dashboard.md).
Comes in:      Requests of the HTTP front; reports of this node; answers of other nodes.
Goes out:      Static files, server-sent events, questions to other nodes; orders to the manager.
May import:    core, server.admin, server.http, server.runtime, the files in static/
Must never:    count or keep what no report has; start or end a process of its own will.
Start reading: feed.py, then glance.py; in static/: app.js.
"""
