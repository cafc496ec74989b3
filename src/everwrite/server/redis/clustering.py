"""CLUSTER, as a hint: any node takes any key and nobody is told MOVED, so slots only steer clients.

A node does not know whether others have a Redis front, nor where. So it tells of itself alone, and
says that all slots are its own: a client that goes by slots is served by the node that it asked.
"""

from __future__ import annotations

from binascii import crc_hqx

from everwrite.server.redis.command import Args, Command, Steps, Sub, count_in, number
from everwrite.server.redis.keys import KEYS_MAX, all_keys
from everwrite.server.redis.replies import OK, Answer, Problem, Verbatim
from everwrite.server.redis.session import Session
from everwrite.server.redis.subcommands import container, refuses

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """Return a key's slot: of what stands in its first braces, if something does.

    >>> slot_of(b"foo"), slot_of(b"{foo}.bar"), slot_of(b"{}foo") == slot_of(b"foo")
    (12182, 12182, False)
    """
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def _slot(word: bytes) -> int:
    found = number(word)
    if not 0 <= found < SLOTS:
        raise Problem("ERR Invalid slot")
    return found


def _me(session: Session) -> tuple[str, str, int]:
    """Return this node's id, as long as Redis' are, its host and the front's port."""
    front = session.front
    return front.run_id, front.local.members.me.host, front.port


def info(session: Session, args: Args, keys: list[bytes]) -> Answer:
    facts = {
        "cluster_state": "ok",
        "cluster_slots_assigned": SLOTS,
        "cluster_slots_ok": SLOTS,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": 0,
        "cluster_known_nodes": 1,
        "cluster_size": 1,
        "cluster_current_epoch": 1,
        "cluster_my_epoch": 1,
        "everwrite_nodes_known": len(session.front.local.members),
    }
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in facts.items()))


def myid(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return _me(session)[0]


def nodes(session: Session, args: Args, keys: list[bytes]) -> Answer:
    me, host, port = _me(session)
    return Verbatim(f"{me} {host}:{port}@{port} myself,master - 0 0 1 connected 0-{SLOTS - 1}\n")


def slots(session: Session, args: Args, keys: list[bytes]) -> Answer:
    me, host, port = _me(session)
    return [[0, SLOTS - 1, [host, port, me, []]]]


def shards(session: Session, args: Args, keys: list[bytes]) -> Answer:
    me, host, port = _me(session)
    node = {
        "id": me,
        "port": port,
        "ip": host,
        "endpoint": host,
        "role": "master",
        "replication-offset": 0,
        "health": "online",
    }
    return [{"slots": [0, SLOTS - 1], "nodes": [node]}]


def keyslot(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return slot_of(args[2])


def countkeysinslot(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _in_slot(session, _slot(args[2]), None)


def getkeysinslot(session: Session, args: Args, keys: list[bytes]) -> Steps:
    return _in_slot(session, _slot(args[2]), count_in(args[3]))


def _in_slot(session: Session, slot: int, count: int | None) -> Steps:
    """Look through this database; return how many of its keys are in a slot, or so many of them."""
    there = yield from all_keys(session, b"*", KEYS_MAX)
    found = [key for key in there if slot_of(key) == slot]
    return len(found) if count is None else found[:count]


def _ok(session: Session, args: Args, keys: list[bytes]) -> Answer:
    return OK


_PLANS = "nodes come and go by plans here: see `everwrite plan --help`"

COMMANDS = (
    container(
        "cluster",
        {
            "info": Sub(info, 2, "Whether the cluster is well, as far as slots go."),
            "myid": Sub(myid, 2, "This node's id."),
            "nodes": Sub(nodes, 2, "This node, which has all slots."),
            "slots": Sub(slots, 2, "As NODES, for clients."),
            "shards": Sub(shards, 2, "As NODES, for newer clients."),
            "keyslot": Sub(keyslot, 3, "The slot of a key."),
            "countkeysinslot": Sub(countkeysinslot, 3, "How many keys a slot has; reads all keys."),
            "getkeysinslot": Sub(getkeysinslot, 4, "Some keys of a slot; reads all keys."),
            **{
                name: refuses(_PLANS)
                for name in (
                    "meet",
                    "forget",
                    "addslots",
                    "delslots",
                    "setslot",
                    "failover",
                    "reset",
                )
            },
        },
        group="cluster",
        summary="Slots, which only steer clients.",
        whole=True,
    ),
    Command("readonly", _ok, 1, group="cluster", summary="OK: each node is read from anyway."),
    Command("readwrite", _ok, 1, group="cluster", summary="OK."),
)
