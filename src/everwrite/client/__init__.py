"""The client: one program's door to a cluster, and the node that coordinates its own reads.

Purpose:       Get, put and delete from Python: blocking or async, fast, safe to retry. (Dynamo 6.4)
Comes in:      Calls of the application; answers of nodes over the native protocol.
Goes out:      Found, Stored, Replica or an EverwriteError; Get, Put, Fetch, Ask to nodes.
May import:    core; in embedded.py alone the server, when a database is opened in this process.
Must never:    mint a dot, sign a context, decide who owns what, retry a put under another id.
Start reading: client.py, bucket.py, then cluster.py, read.py and call.py.
"""

from everwrite.client.bucket import AsyncBucket
from everwrite.client.client import AsyncClient, connect
from everwrite.client.results import Found, Replica, Stored
from everwrite.client.session import Session
from everwrite.client.sync import Bucket, Client, connect_sync

__all__ = [
    "AsyncBucket",
    "AsyncClient",
    "Bucket",
    "Client",
    "Found",
    "Replica",
    "Session",
    "Stored",
    "connect",
    "connect_sync",
]
