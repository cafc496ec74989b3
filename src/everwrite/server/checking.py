"""What a node says of its own disk: its tree, the scrub, and the copies that it found damaged."""

from __future__ import annotations

import base64
from typing import Any

from everwrite.core.data.keys import split_key
from everwrite.core.errors import EverwriteError
from everwrite.core.node import Node

SHOWN_MAX = 100
"""Damaged copies that are told one by one."""


def disk_report(node: Node) -> dict[str, Any]:
    """Return how far the tree and the scrub are, and what is damaged, the oldest damage first."""
    local, walk, quarantine = node.local, node.walk, node.quarantine
    trees = local.trees
    oldest = sorted(quarantine.since.items(), key=lambda found: found[1])
    return {
        "leaves": trees.size,
        "leaves_wrong": trees.wrong,
        "leaves_unreadable": walk.unreadable,
        "leaves_made": walk.leaves_made,
        "leaves_lost": trees.mismatches,
        "keys_read": walk.keys,
        "bytes_read": walk.bytes,
        "scrub_done": round(walk.scrub_leaf / trees.size, 4),
        "scrub_cycle_ms": local.config.scrub_cycle_ms,
        "scrub_ended_ms": local.time_ms - walk.cycle_ended_ms if walk.cycle_ended_ms else None,
        "damaged": len(quarantine.since),
        "damaged_found": quarantine.found_ever,
        "damaged_mended": quarantine.mended + local.records.rewritten,
        "damaged_beyond": quarantine.beyond,
        "damaged_keys": [
            {**_named(key), "since_ms": max(0, local.time_ms - since)}
            for key, since in oldest[:SHOWN_MAX]
        ],
    }


def _named(data_key: bytes) -> dict[str, Any]:
    """Return a key as people know it; as text, or as {"base64": text} if it is none."""
    try:
        bucket, key = split_key(data_key)
    except EverwriteError:  # the disk damaged the key too
        return {"bucket": None, "key": {"base64": base64.b64encode(data_key).decode()}}
    try:
        return {"bucket": bucket.decode(), "key": key.decode()}
    except UnicodeDecodeError:
        return {"bucket": bucket.decode(), "key": {"base64": base64.b64encode(key).decode()}}
