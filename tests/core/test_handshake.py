"""The handshake: two sides that fit get through, and each misfit is refused in plain words."""

from __future__ import annotations

import msgspec
import pytest

from everwrite.core.config import HANDSHAKE_BYTES_MAX, STARTS_MAX
from everwrite.core.errors import DeniedError, EverwriteError, Overloaded, ProtocolError
from everwrite.core.handshake import (
    NONCE_BYTES,
    Identity,
    admit,
    answer,
    confirm,
    hello,
    mac,
    refusal,
)
from everwrite.core.messages.greeting import PROTOCOL_MAX, Hello, Proof, Refused
from everwrite.core.messages.members import Ping
from everwrite.core.wire import encode_frame

CLUSTER, OTHER = b"c" * 16, b"o" * 16
NODE = Identity(
    name="node-1",
    cluster_id=CLUSTER,
    node_id=b"n" * 8,
    cluster_name="shop",
    partitions=256,
    replicas=3,
)
RUNNING = msgspec.structs.replace(NODE, incarnation=3, life=b"L" * 8)
CLIENT = Identity(name="client")
NONCE_C, NONCE_N = b"1" * NONCE_BYTES, b"2" * NONCE_BYTES


def shake(
    connector: Identity = CLIENT,
    acceptor: Identity = NODE,
    secret_c: bytes = b"",
    secret_n: bytes = b"",
) -> tuple[Hello, Hello, Proof]:
    """Carry out a handshake; return what was sent."""
    first = hello(connector, NONCE_C)
    reply = answer(acceptor, secret_n, NONCE_N, first)
    last = confirm(secret_c, first, reply)
    admit(secret_n, first, reply, last)
    return first, reply, last


# -- who gets in -----------------------------------------------------------------------------------


def test_a_client_learns_which_cluster_it_reached() -> None:
    _, reply, _ = shake()

    assert (reply.cluster_id, reply.cluster_name) == (CLUSTER, "shop")
    assert (reply.node_id, reply.name, reply.partitions, reply.replicas) == (
        b"n" * 8,
        "node-1",
        256,
        3,
    )


def test_the_salt_of_contexts_goes_to_nodes_and_not_to_clients() -> None:
    salted = msgspec.structs.replace(NODE, salt=b"salt")

    to_client = shake(CLIENT, salted)[1]
    to_node = shake(Identity(name="node-2", node_id=b"m" * 8), salted)[1]

    assert (to_client.salt, to_node.salt) == (b"", b"salt")


def test_each_side_hears_which_start_of_its_node_the_other_is() -> None:
    connector = Identity(name="node-2", node_id=b"m" * 8, incarnation=7, life=b"l" * 8)

    first, reply, _ = shake(connector, RUNNING)

    assert (first.incarnation, first.life) == (7, b"l" * 8)
    assert (reply.incarnation, reply.life) == (3, b"L" * 8)


def test_two_sides_with_one_secret_get_through() -> None:
    shake(secret_c=b"open sesame", secret_n=b"open sesame")
    shake(secret_c=b"long" * 100, secret_n=b"long" * 100)


@pytest.mark.parametrize(
    "connector",
    [
        msgspec.structs.replace(CLIENT, cluster_id=CLUSTER),
        Identity(name="node-2", node_id=b"m" * 8, cluster_id=CLUSTER),
        Identity(name="new node", node_id=b"m" * 8),
    ],
    ids=["client that knows the cluster", "node of the cluster", "node without a cluster"],
)
def test_who_belongs_here_gets_through(connector: Identity) -> None:
    shake(connector)


def test_a_neighbouring_version_gets_through_while_the_ranges_meet() -> None:
    first = msgspec.structs.replace(hello(CLIENT, NONCE_C), protocol_max=PROTOCOL_MAX + 5)

    answer(NODE, b"", NONCE_N, first)


# -- who is refused --------------------------------------------------------------------------------


def test_a_node_whose_proof_was_for_less_hears_of_the_version_and_not_of_the_secret() -> None:
    older = Identity(name="node-2", node_id=b"m" * 8, incarnation=3, life=b"l" * 8)
    said = msgspec.structs.replace(hello(older, NONCE_C), protocol_min=1, protocol_max=1)

    with pytest.raises(ProtocolError, match="speaks protocol 1 to 1") as caught:
        answer(NODE, b"", NONCE_N, said)
    assert caught.value.hint == "Upgrade the older of the two."


def test_an_acceptor_without_the_secret_is_not_trusted_with_a_request() -> None:
    with pytest.raises(DeniedError, match="'node-1' has another secret") as caught:
        shake(secret_c=b"right", secret_n=b"wrong")
    assert "EVERWRITE_SECRET" in caught.value.hint


def test_a_side_without_any_secret_is_told_that() -> None:
    with pytest.raises(DeniedError, match="'node-1' has a secret, and you gave none"):
        shake(secret_c=b"", secret_n=b"secret")
    with pytest.raises(DeniedError, match="'node-1' has no secret, and you gave one"):
        shake(secret_c=b"secret", secret_n=b"")


@pytest.mark.parametrize("forged", [b"", b"p" * 32, b"\xff" * 31])
def test_a_connector_without_the_secret_is_refused(forged: bytes) -> None:
    first = hello(CLIENT, NONCE_C)
    reply = answer(NODE, b"secret", NONCE_N, first)

    with pytest.raises(DeniedError, match="another secret"):
        admit(b"secret", first, reply, Proof(forged))


def test_an_acceptors_proof_sent_back_proves_nothing() -> None:
    first = hello(CLIENT, NONCE_C)
    reply = answer(NODE, b"secret", NONCE_N, first)

    with pytest.raises(DeniedError):
        admit(b"secret", first, reply, Proof(reply.proof))


def test_a_proof_of_another_connection_proves_nothing() -> None:
    _, _, overheard = shake(secret_c=b"secret", secret_n=b"secret")
    first = hello(CLIENT, NONCE_C)
    reply = answer(NODE, b"secret", b"3" * NONCE_BYTES, first)

    with pytest.raises(DeniedError):
        admit(b"secret", first, reply, overheard)


def test_a_node_of_another_cluster_is_refused_by_either_side() -> None:
    stranger = Identity(name="node-9", node_id=b"m" * 8, cluster_id=OTHER)

    with pytest.raises(DeniedError, match=f"'node-9' belongs to cluster {OTHER.hex()}") as caught:
        shake(stranger)
    assert "never merged" in caught.value.hint
    reply = answer(NODE, b"", NONCE_N, hello(CLIENT, NONCE_C))
    with pytest.raises(DeniedError, match="'node-1' belongs to cluster"):
        confirm(b"", hello(stranger, NONCE_C), reply)


def test_another_protocol_is_refused_by_either_side_with_both_ranges() -> None:
    newer = msgspec.structs.replace(hello(CLIENT, NONCE_C), protocol_min=7, protocol_max=9)

    with pytest.raises(ProtocolError, match="speaks protocol 7 to 9, this side 2 to 2"):
        answer(NODE, b"", NONCE_N, newer)
    reply = answer(NODE, b"", NONCE_N, hello(CLIENT, NONCE_C))
    older = msgspec.structs.replace(reply, protocol_min=0, protocol_max=0)
    with pytest.raises(ProtocolError, match="speaks protocol 0 to 0"):
        confirm(b"", hello(CLIENT, NONCE_C), older)


def test_a_client_that_reached_another_client_says_so() -> None:
    reply = answer(Identity(name="impostor"), b"", NONCE_N, hello(CLIENT, NONCE_C))

    with pytest.raises(ProtocolError, match="no node"):
        confirm(b"", hello(CLIENT, NONCE_C), reply)


@pytest.mark.parametrize(("nonce", "node_id"), [(b"", b""), (b"short", b""), (NONCE_C, b"123")])
def test_a_hello_with_impossible_lengths_is_refused(nonce: bytes, node_id: bytes) -> None:
    first = hello(Identity(name="x", node_id=node_id), nonce)

    with pytest.raises(ProtocolError, match="length"):
        answer(NODE, b"", NONCE_N, first)


def test_any_other_message_in_its_place_is_refused() -> None:
    first = hello(CLIENT, NONCE_C)
    reply = answer(NODE, b"", NONCE_N, first)

    with pytest.raises(ProtocolError, match="A Hello was due; a Ping came"):
        answer(NODE, b"", NONCE_N, Ping(1))
    with pytest.raises(ProtocolError, match="A Hello was due; a Proof came"):
        confirm(b"", first, Proof(b""))
    with pytest.raises(ProtocolError, match="A proof of the secret was due; a Hello came"):
        admit(b"", first, reply, first)


def test_a_refusal_raises_at_the_other_side_what_it_was_made_from() -> None:
    error = Overloaded("Too many connections.", hint="Try again.")

    with pytest.raises(Overloaded) as caught:
        confirm(b"", hello(CLIENT, NONCE_C), refusal(error))
    assert str(caught.value) == str(error)
    with pytest.raises(EverwriteError, match="from the future"):
        confirm(b"", hello(CLIENT, NONCE_C), Refused("unheard_of", "An error from the future."))


def test_a_strangers_name_cannot_break_a_log_line() -> None:
    first = hello(Identity(name="evil\nnode\x1b[2J" + "x" * 500, cluster_id=OTHER), NONCE_C)

    with pytest.raises(DeniedError) as caught:
        answer(NODE, b"", NONCE_N, first)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


# -- the proof itself ------------------------------------------------------------------------------


def test_a_proof_depends_on_each_of_its_parts_and_on_where_they_end() -> None:
    macs = [
        mac(b"s", b"accept", b"c", b"n", b"m"),
        mac(b"t", b"accept", b"c", b"n", b"m"),
        mac(b"", b"accept", b"c", b"n", b"m"),
        mac(b"s", b"connect", b"c", b"n", b"m"),
        mac(b"s", b"accept", b"d", b"n", b"m"),
        mac(b"s", b"accept", b"c", b"m", b"n"),
        mac(b"s", b"accept", b"cn", b"", b"m"),
        mac(b"s", b"acceptc", b"", b"n", b"m"),
        mac(b"s" * 65, b"accept", b"c", b"n", b"m"),
    ]

    assert len(set(macs)) == len(macs)
    assert {len(proof) for proof in macs} == {32}


def test_both_hellos_fit_into_the_frame_of_a_stranger() -> None:
    longest = msgspec.structs.replace(
        NODE, name="n" * 200, cluster_name="c" * 200, incarnation=STARTS_MAX, life=b"l" * 8
    )
    first, reply, last = shake(longest, longest)

    for message in (first, reply, last):
        assert len(encode_frame([message])) <= HANDSHAKE_BYTES_MAX


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"life": b"short"}, "life has an impossible length"),
        ({"life": b"l" * 8, "node_id": b""}, "is no node's"),
        ({"incarnation": -1}, "incarnation -1 is not possible"),
        ({"incarnation": 1 << 24}, "16777216 is not possible: it counts the starts of a node"),
        ({"incarnation": 1 << 64}, "is not possible"),
    ],
)
def test_a_start_that_cannot_be_is_refused(fields: dict[str, object], says: str) -> None:
    first = msgspec.structs.replace(hello(RUNNING, NONCE_C), **fields)

    with pytest.raises(ProtocolError, match=says):
        answer(NODE, b"", NONCE_N, first)


@pytest.mark.parametrize(
    "changed", [{"incarnation": 4}, {"life": b"M" * 8}, {"life": b"", "incarnation": 0}]
)
def test_nobody_in_between_can_change_which_start_of_a_node_speaks(
    changed: dict[str, object],
) -> None:
    """A node stops when it meets a later start of itself."""
    asked = hello(RUNNING, NONCE_C)
    reply = answer(RUNNING, b"secret", NONCE_N, asked)
    last = confirm(b"secret", asked, reply)

    with pytest.raises(DeniedError):
        confirm(b"secret", asked, msgspec.structs.replace(reply, **changed))
    with pytest.raises(DeniedError):
        admit(b"secret", msgspec.structs.replace(asked, **changed), reply, last)


@pytest.mark.parametrize("field", ["node_id", "nonce"])
def test_nobody_in_between_can_change_who_the_acceptor_says_it_is(field: str) -> None:
    asked = hello(CLIENT, bytes(NONCE_BYTES))
    reply = answer(NODE, b"secret", bytes(NONCE_BYTES), asked)
    changed = bytes([getattr(reply, field)[0] ^ 1]) + getattr(reply, field)[1:]

    with pytest.raises(DeniedError):
        confirm(b"secret", asked, msgspec.structs.replace(reply, **{field: changed}))
