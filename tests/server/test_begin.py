"""What a node belongs to and holds when it begins: founder, joiner, and what its disk says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import Nodes, Raw, a_put, eventually, rule
from tests.server.test_joining import seed_that_says_hello_only

from everwrite.core.cluster.holdings import decode_held
from everwrite.core.cluster.members import decode_known
from everwrite.core.errors import ConfigError
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import IN, Ruling
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import HELD, OWN
from everwrite.server.holdings import kept
from everwrite.server.runtime import Runtime
from everwrite.server.settings import ServeOptions
from everwrite.server.state import read_state
from everwrite.storage.store import Store, open_store

ALL = (1 << 16) - 1
"""Every partition of a cluster of these tests."""


def on_disk(store: Store, key: bytes) -> bytes:
    data = store.get(key)
    assert isinstance(data, bytes)
    return data


def held(node: Runtime) -> tuple[int, int]:
    """Return what a running node's disk says that it serves and keeps."""
    return decode_held(on_disk(node.driver.disk.store, HELD))


def rulings(node: Runtime) -> dict[bytes, Ruling]:
    return node.node.local.members.rulings


# -- first starts ----------------------------------------------------------------------------------


@in_loop
async def test_a_founder_is_in_and_serves_everything_from_the_first_moment_on(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        node = await nodes.start("n1", zone="rack 1", weight=2.0)

        me = node.node.local.me
        (ruling,) = rulings(node).values()
        assert (ruling.node_id, ruling.standing, ruling.zone, ruling.weight) == (
            me,
            IN,
            "rack 1",
            2.0,
        )
        assert held(node) == (ALL, ALL), "and that is on the disk"
        kept_rulings = decode_known(on_disk(node.driver.disk.store, MEMBERS)).rulings
        assert kept_rulings == [ruling]
        assert node.node.ready


@in_loop
async def test_a_joiner_begins_with_nothing_and_rules_itself_in_once_it_knows_the_cluster(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes, seed_that_says_hello_only() as seed:
        alone = await nodes.start("n1", join=(seed,))
        assert (rulings(alone), held(alone), alone.node.ready) == ({}, (0, 0), False)
        assert alone.node.rounds.wants_in

        founder = await nodes.start("n2")
        joiner = await nodes.start("n3", join=(founder.address,))

        async def is_in() -> bool:
            ruling = rulings(founder).get(joiner.node.local.me)
            return ruling is not None and ruling.standing == IN

        await eventually(is_in, "the founder knows that the joiner is in")


@in_loop
async def test_a_staged_joiner_waits_for_the_operator_and_serves_clients_meanwhile(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        founder = await nodes.start("n1")
        staged = await nodes.start("n2", join=(founder.address,), stage=True)
        await nodes.met()

        async with await Raw.enter(staged) as raw:
            assert isinstance(await raw.call(a_put(w=1)), PutReply)
        assert staged.node.local.me not in rulings(staged)
        assert founder.node.local.routes.owned == ALL
        assert staged.node.local.routes.owned == 0
        assert held(staged) == (0, 0)

        rule(founder, staged.node.local.members.me, IN)
        await nodes.settled()
        assert held(staged) == (ALL, ALL)


@in_loop
async def test_a_staged_joiner_that_starts_again_without_stage_still_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="everwrite")
    async with Nodes(tmp_path) as nodes:
        founder = await nodes.start("n1")
        await nodes.start("n2", join=(founder.address,), stage=True)
        await nodes.met()
        await nodes.stop("n2")

        for join in ((founder.address,), ()):
            again = await nodes.start("n2", join=join)
            await nodes.met()
            assert not again.node.rounds.wants_in
            assert again.node.local.me not in rulings(founder)
            assert "everwrite plan join n2" in caplog.text
            await nodes.stop("n2")

        again = await nodes.start("n2")
        await nodes.met()
        rule(founder, again.node.local.members.me, IN)
        await nodes.settled()
        assert held(again) == (ALL, ALL)
        await nodes.stop("n2")
        again = await nodes.start("n2")
        store = again.driver.disk.store
        state = read_state(store)
        assert state is not None and not state.staged, "the operator's word has come"


@in_loop
async def test_a_joiner_that_met_nobody_founds_nothing_when_it_starts_without_join(
    tmp_path: Path,
) -> None:
    async with Nodes(tmp_path) as nodes:
        async with seed_that_says_hello_only() as seed:
            await nodes.start("n1", join=(seed,))
            await nodes.stop("n1")

        again = await nodes.start("n1")

        assert not again.node.ready
        assert (rulings(again), held(again)) == ({}, (0, 0))


@pytest.mark.parametrize("options", [{"stage": True}, {"rejoin_as_new": True}])
def test_who_waits_or_rejoins_must_say_where(options: dict[str, bool]) -> None:
    with pytest.raises(ConfigError) as caught:
        ServeOptions(**options)  # type: ignore[arg-type]

    assert "--join HOST:PORT" in caught.value.hint
    assert ServeOptions(join=("127.0.0.1:7401",), **options)  # type: ignore[arg-type]


# -- what the disk says ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["gone", "rotten", "nonsense"])
@in_loop
async def test_a_node_whose_disk_does_not_say_what_it_serves_must_prove_itself_anew(
    loss: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        _, other = await nodes.grow("n1", "n2")
        async with await Raw.enter(other) as raw:
            assert isinstance(await raw.call(a_put(w=2)), PutReply)
        await nodes.stop("n1")
        with open_store(tmp_path / "n1", "sqlite") as store:
            if loss == "rotten":
                store.engine.write([(HELD, b"rotten bytes")])
            else:
                store.write([(HELD, None if loss == "gone" else b"\xc0")])
            store.sync()
            copies = kept(store, 16)

        again = await nodes.start("n1", join=(other.address,))

        assert copies.bit_count() == 1
        serves, keeps = held(again)
        assert (serves, keeps & copies) == (0, copies)
        assert "What this node serves cannot be read" in caplog.text
        await nodes.met()
        await nodes.settled()
        assert held(again) == (ALL, ALL)


@pytest.mark.parametrize("partitions", [1, 16, 256, 65536])
def test_the_partitions_with_copies_are_found(partitions: int) -> None:
    hashes = [0, 1, 0x1234, 0x1235, 0x8000, 0xFFFF]
    with open_store(None, "memory") as store:
        assert kept(store, partitions) == 0
        keys = [OWN + number.to_bytes(2, "big") + b"123456/key" for number in hashes]
        store.write([(key, b"copy") for key in keys])
        store.write([(b"h" + b"\x77" * 8, b"a hint"), (b"m", b"state")])

        found = kept(store, partitions)

    wanted = {number * partitions >> 16 for number in hashes}
    assert found == sum(1 << partition for partition in wanted)
