"""What the tree, the scrub and the quarantine take from one run of a node to the next.

    trees          all leaves, written by a clean stop behind everything else, and removed by the
                   start that takes it, before its first message: so where there is one it is right
    scrub          how far the scrub is
    spoilt + key   since when this key's own copy is damaged

After an unclean stop there is no tree, and the node makes it anew while it serves. So it does where
the tree is damaged, or was made for other keys of the cluster, or by another version.
"""

from __future__ import annotations

from everwrite.core.node import Node
from everwrite.core.records import OWN, STATE
from everwrite.core.trees.quarantine import LISTED_MAX, SPOILT
from everwrite.core.trees.walk import SCRUB
from everwrite.server.logs import log_of
from everwrite.server.state import after
from everwrite.storage.store import Store, Unreadable

log = log_of()

TREES = STATE + b"trees"


def saved_trees(store: Store) -> bytes:
    """Return what the last run has left of its tree; empty: nothing that could be used."""
    saved = store.get(TREES)
    if isinstance(saved, Unreadable):
        log.warning("tree unreadable", why=f"It is made anew: {saved.reason}")
        return b""
    return saved or b""


def restore_trees(store: Store, node: Node, saved: bytes) -> None:
    """Give a node what the last run has left; ``saved`` is off the disk by now."""
    trees = node.local.trees
    if not store.scan(OWN, after(OWN), 1):
        trees.empty()
    elif saved and not trees.load(saved):
        log.warning("tree does not fit", why="That of the last run; it is made anew.")
    elif not saved:
        log.info("no tree", why="The last run left none: it is made anew while this node serves.")
    scrub = store.get(SCRUB)
    if isinstance(scrub, bytes):
        node.walk.restore(scrub)
    end = SPOILT[:-1] + bytes((SPOILT[-1] + 1,))
    node.quarantine.restore(
        (key[len(SPOILT) :], since)
        for key, since in store.scan(SPOILT, end, LISTED_MAX)
        if isinstance(since, bytes)
    )


def last_words(node: Node) -> bytes:
    """Return the tree as it is on the disk, for what stands behind everything else there. Nothing
    of the node's outbox will be written any more.
    """
    out = node.out
    writes, out.writes = out.writes, {}
    node.local.records.take_back(writes)
    return node.local.trees.save()
