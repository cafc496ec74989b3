"""Data types as Python has them: on a node in this process, blocking, and on three nodes, async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.client.fake_node import STOIC, FakeCluster, Mood, in_loop
from tests.server.nodes import Nodes

import everwrite
from everwrite.core.data.keys import VALUE_BYTES_MAX
from everwrite.core.errors import WrongType
from everwrite.core.failures import failure_of
from everwrite.core.messages.every import AnyMessage
from everwrite.core.messages.requests import Put, PutReply
from everwrite.core.types.operations import DEPTH_MAX, Add, decode


@pytest.fixture(scope="module")
def bucket() -> Iterator[everwrite.Bucket]:
    """A bucket of a database in memory; each test uses keys of its own."""
    with everwrite.open(None, engine="memory", fsync=False) as db:
        yield db.bucket("typed")


def test_a_counter_says_what_it_came_to(bucket: everwrite.Bucket) -> None:
    counter = bucket.counter("visits")

    assert counter.value() == 0
    assert counter.add() == 1
    assert counter.add(4) == 5
    assert counter.add(-7) == -2
    assert bucket.counter("visits").value() == -2


def test_a_set_keeps_each_element_once_as_text_or_bytes(bucket: everwrite.Bucket) -> None:
    tags = bucket.set("tags")

    assert tags.members() == set()
    assert tags.add("red", b"blue", b"\xff") == 3
    assert tags.add("red", "green") == 1
    assert tags.remove("red", "white") == 1
    assert tags.members() == {"blue", b"\xff", "green"}
    assert tags.contains(b"green") and tags.contains(b"\xff") and not tags.contains("red")
    assert "green" in tags and "red" not in tags
    assert tags.value() == tags.members()


@pytest.mark.parametrize("value", ["text", b"\x00\xff", ["a", {"b": 1}], 7, True])
def test_a_register_gives_back_what_it_was_given(bucket: everwrite.Bucket, value: Any) -> None:
    register = bucket.register(f"register {value!r}")

    assert register.value() is None
    assert register.assign("first")
    assert not register.assign(value)
    assert register.value() == value


def test_a_flag_says_whether_it_was_changed(bucket: everwrite.Bucket) -> None:
    flag = bucket.flag("flag")

    assert not flag.value()
    assert not flag.disable()
    assert flag.enable() and not flag.enable()
    assert flag.value()
    assert flag.disable()
    assert not flag.value()


@pytest.mark.parametrize("typed", ["set", "register", "counter"])
def test_no_plain_put_is_passed_over_beside_a_data_type(
    bucket: everwrite.Bucket, typed: str
) -> None:
    key = f"beside {typed}"
    if typed == "set":
        bucket.set(key).add("x")
    elif typed == "register":
        bucket.register(key).assign("x")
    else:
        bucket.counter(key).add(4)
    bucket.put(key, ["A"])
    bucket.put(key, ["B"])

    found = bucket.get(key)

    assert ["A"] in found.values and ["B"] in found.values
    bucket.put(key, ["A", "B"], context=found.context)
    assert bucket.get(key).values == [["A", "B"]]


def test_a_number_beside_a_counter_is_heard_and_no_other_is_lost(bucket: everwrite.Bucket) -> None:
    bucket.counter("a number").add(4)
    bucket.put("a number", 5)
    assert bucket.get("a number").values == [9]

    bucket.put("a number", 7)

    assert sorted(bucket.get("a number").values) == [5, 11]


def test_changes_are_carried_out_in_their_order(bucket: everwrite.Bucket) -> None:
    cart = bucket.map("changed").map("lines")
    cart.flag("express").enable()
    changes = everwrite.Changes()
    changes.counter("tea").add(3)
    changes.counter("tea").add(-1)
    changes.set("coupons").add("spring", "new")
    changes.set("coupons").remove("new", "old")
    changes.register("note").assign({"gift": True})
    changes.map("to").register("town").assign("Aarau")
    changes.flag("express").disable()
    changes.flag("heavy").enable()
    changes.remove("note", "nothing")

    assert cart.change(changes) == [3, 2, 2, 1, 1, 1, 1, 1, 1, 0]

    assert len(changes) == 10
    assert bucket.map("changed").value() == {
        "lines": {"tea": 2, "coupons": {"spring"}, "to": {"town": "Aarau"}, "heavy": True}
    }


def test_of_changes_with_a_wrong_one_none_is_carried_out(bucket: everwrite.Bucket) -> None:
    cart = bucket.map("unchanged")
    cart.register("note").assign("a text")
    changes = everwrite.Changes()
    changes.counter("tea").add(3)
    changes.counter("note").add(1)

    with pytest.raises(everwrite.WrongType):
        cart.change(changes)

    assert cart.value() == {"note": "a text"}


def test_changes_that_cannot_be_are_refused_before_anything_is_sent(
    bucket: everwrite.Bucket,
) -> None:
    cart, deep = bucket.map("refused"), bucket.map("refused")
    for _ in range(DEPTH_MAX - 1):
        deep = deep.map("below")
    changes = everwrite.Changes()
    with pytest.raises(everwrite.RequestError, match="nothing to change"):
        cart.change(changes)
    with pytest.raises(everwrite.RequestError, match="cannot be added"):
        changes.counter("tea").add(1.5)  # type: ignore[arg-type]
    with pytest.raises(everwrite.RequestError, match="no elements"):
        changes.set("tags").add()
    with pytest.raises(everwrite.RequestError, match="nothing to remove"):
        changes.remove()
    with pytest.raises(everwrite.RequestError, match="not what a map"):
        cart.change([("add", 1)])  # type: ignore[arg-type]
    changes.map("one").counter("more").add(1)
    with pytest.raises(everwrite.RequestError, match="maps below its key"):
        deep.change(changes)

    assert cart.value() == {}


def test_a_map_holds_all_of_them_and_maps_too(bucket: everwrite.Bucket) -> None:
    cart = bucket.map("cart")
    assert cart.value() == {}

    cart.counter("tea").add(2)
    cart.set("coupons").add("spring")
    cart.register("note").assign({"gift": True})
    cart.flag("express").enable()
    cart.map("to").map("town").register(b"\xfe").assign("Aarau")

    assert cart.value() == {
        "tea": 2,
        "coupons": {"spring"},
        "note": {"gift": True},
        "express": True,
        "to": {"town": {b"\xfe": "Aarau"}},
    }
    assert cart.map("to").map(b"town").register(b"\xfe").value() == "Aarau"
    assert cart.counter("none").value() == 0 and cart.map("none").map("within").value() == {}
    assert cart.remove("to", "express", "none") == 2
    assert cart.value().keys() == {"tea", "coupons", "note"}


def test_get_shows_a_data_type_and_delete_takes_it(bucket: everwrite.Bucket) -> None:
    cart = bucket.map("shown")
    cart.counter("tea").add(2)
    cart.set("tags").add("red")

    found = bucket.get("shown")
    assert (found.type, found.values) == ("map", [{"tea": 2, "tags": {"red"}}])
    strict = bucket.get("shown", strict=True, r=1)
    assert (strict.type, strict.values, strict.context) == ("map", found.values, found.context)
    assert bucket.get("nothing").type == ""

    bucket.delete("shown")
    assert bucket.get("shown").quality.absent == "deleted"
    assert cart.value() == {}


def test_a_plain_value_is_a_register_and_a_number_can_be_added_to(
    bucket: everwrite.Bucket,
) -> None:
    bucket.put("plain", "tea")
    bucket.put("number", "41")

    assert bucket.get("plain").type == ""
    assert bucket.register("plain").value() == "tea"
    assert bucket.counter("number").value() == 41
    assert bucket.counter("number").add() == 42
    assert bucket.counter("number").value() == 42


@pytest.mark.parametrize(
    "read",
    [
        lambda bucket: bucket.counter("set").value(),
        lambda bucket: bucket.flag("set").value(),
        lambda bucket: bucket.map("set").value(),
        lambda bucket: bucket.map("set").counter("field").value(),
        lambda bucket: bucket.counter("set").add(1),
        lambda bucket: bucket.map("set").counter("field").add(1),
        lambda bucket: bucket.counter("text").add(1),
        lambda bucket: bucket.update("set", lambda _: "plain"),
    ],
)
def test_one_type_is_not_taken_for_another(
    bucket: everwrite.Bucket, read: Callable[[everwrite.Bucket], object]
) -> None:
    bucket.set("set").add("red")
    if not bucket.get("text"):
        bucket.put("text", "tea")

    with pytest.raises(everwrite.WrongType) as caught:
        read(bucket)

    assert caught.value.outcome == "none"
    assert caught.value.hint
    assert bucket.set("set").members() == {"red"}
    assert bucket.get("text").value == "tea"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda bucket: bucket.counter("k").add(1.5), "1.5 cannot be added"),
        (lambda bucket: bucket.counter("k").add(True), "True cannot be added"),
        (lambda bucket: bucket.counter("k").add(1 << 63), "cannot be added"),
        (lambda bucket: bucket.set("k").add(), "no elements"),
        (lambda bucket: bucket.set("k").add(["a"]), "Write a star before it"),
        (lambda bucket: bucket.set("k").add(7), "An int is no element"),
        (lambda bucket: bucket.set("k").contains("\ud800"), "not Unicode"),
        (lambda bucket: bucket.map("k").counter(None), "A NoneType is no field"),
        (lambda bucket: bucket.map("k").remove(), "nothing to remove"),
        (lambda bucket: bucket.register("k").assign(None), "None is no value"),
        (lambda bucket: bucket.counter(7), "An int is no key"),
        (lambda bucket: bucket.counter("k").add(w=300), "w=300 is not possible"),
        (lambda bucket: bucket.counter("k").value(timeout=0), "timeout=0 is not possible"),
    ],
)
def test_what_cannot_be_is_said_in_words_and_nothing_is_done(
    bucket: everwrite.Bucket, call: Callable[[everwrite.Bucket], object], says: str
) -> None:
    with pytest.raises(everwrite.RequestError) as caught:
        call(bucket)

    assert says in str(caught.value)
    assert not bucket.get("k")


def test_fields_are_no_deeper_than_can_be(bucket: everwrite.Bucket) -> None:
    place = bucket.map("deep")
    for level in range(DEPTH_MAX - 1):
        place = place.map(str(level))
    assert place.counter("last").add() == 1
    with pytest.raises(everwrite.RequestError, match="9 maps below"):
        place.map("last").counter("one more")


def test_an_option_that_does_not_exist_is_refused(bucket: everwrite.Bucket) -> None:
    with pytest.raises(TypeError, match="ww"):
        bucket.counter("k").add(1, ww=2)  # type: ignore[call-arg]


@pytest.mark.slow
@in_loop
async def test_on_three_nodes_nothing_that_many_do_at_a_time_is_lost() -> None:
    async with Nodes() as nodes:
        await nodes.grow("n1", "n2", "n3")
        async with await everwrite.connect(nodes.url()) as db:
            cart, session = db.bucket("typed").map("cart"), db.session()
            counter, tags = cart.counter("tea"), cart.set("tags")

            values = await asyncio.gather(*(counter.add(2, timeout=10) for _ in range(30)))
            await asyncio.gather(*(tags.add(str(number)) for number in range(10)))

            assert max(values) == 60
            assert await counter.value(r=3, session=session) == 60
            assert await tags.members(r=3) == set(map(str, range(10)))
            assert await cart.remove("tea", session=session) == 1
            assert await cart.value(session=session) == {"tags": set(map(str, range(10)))}
            assert repr(cart.counter("x")) == "<everwrite.AsyncCounter 'typed/cart' 'x'>"


def test_a_place_says_where_it_is(bucket: everwrite.Bucket) -> None:
    assert repr(bucket.set("tags")) == "<everwrite.Set 'typed/tags'>"
    assert repr(bucket.map("a").flag(b"\xff")) == "<everwrite.Flag 'typed/a' b'\\xff'>"


def told(asked: Any, results: list[int]) -> list[AnyMessage] | None:
    """Return the answer to a change; None leaves any other request to the node."""
    if not isinstance(asked, Put):
        return None
    return [PutReply(asked.rid, b"seen", 1, 0, 0, 1, 1, results=results)]


def changes(cluster: FakeCluster) -> list[Put]:
    return [ask for node in cluster.nodes for ask in node.requests(Put)]


@in_loop
async def test_a_change_carries_its_options_and_what_its_session_has_seen() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].reply = lambda asked: told(asked, [7])
        counter = db.bucket("things", n=3, w=1, dw=1, strict=True, ttl=60).map("k").counter("f")
        session = db.session()

        assert await counter.add(2, session=session) == 7
        await counter.add(3, session=session, n=2, w=2, dw=0, strict=False, ttl=90)

        first, second = changes(cluster)
        assert first.change and not first.over
        assert decode(first.value or b"") == [Add(["f"], 2)]
        assert (first.n, first.w, first.dw, first.strict, first.ttl_ms) == (3, 1, 1, True, 60_000)
        assert (second.n, second.w, second.dw, second.strict) == (2, 2, 0, False)
        assert second.ttl_ms == 90_000
        assert (first.context, second.context) == (b"", b"seen")
        assert first.op != second.op


@in_loop
async def test_a_change_is_the_same_in_each_try() -> None:
    async with (
        FakeCluster() as cluster,
        await everwrite.connect(cluster.url, timing=STOIC) as db,
    ):
        first, *others = cluster.owners_of("k")
        first.mood = Mood.DROPS
        for node in others:
            node.reply = lambda asked: told(asked, [1])

        assert await db.bucket("things").counter("k").add() == 1

        lost, again = sorted(changes(cluster), key=lambda each: each.retry)
        assert (lost.op, lost.value, lost.change) == (again.op, again.value, again.change)
        assert (lost.retry, again.retry) == (False, True)


@in_loop
async def test_a_node_that_knows_no_types_is_found_out() -> None:
    async with FakeCluster(1) as cluster, await everwrite.connect(cluster.url) as db:
        cluster.nodes[0].reply = lambda asked: told(asked, [])

        with pytest.raises(everwrite.ProtocolError, match="does not know data types") as caught:
            await db.bucket("things").flag("k").enable()

        assert caught.value.outcome == "unknown"


@in_loop
async def test_the_wrong_type_is_not_tried_elsewhere() -> None:
    async with FakeCluster() as cluster, await everwrite.connect(cluster.url) as db:
        refused = WrongType("The key is a set, and the operation is for a counter.")
        for node in cluster.nodes:
            node.reply = lambda asked: (
                [failure_of(asked.rid, refused)] if isinstance(asked, Put) else None
            )

        with pytest.raises(WrongType):
            await db.bucket("things").counter("k").add()

        assert len(changes(cluster)) == 1


def test_what_is_too_large_says_of_which_key() -> None:
    large = b"v" * (VALUE_BYTES_MAX + 1)
    with everwrite.open(None, engine="memory", fsync=False) as db:
        bucket = db.bucket("carts")

        for write in (bucket.put, lambda key, value: bucket.register(key).assign(value)):
            with pytest.raises(everwrite.TooLarge, match=r"^At carts/a\\nb, the value has 1048577"):
                write("a\nb", large)
        names = bucket.set("names")
        names.add(*map(str, range(16_384)))
        with pytest.raises(everwrite.TooLarge, match=r"^At carts/names, the key would have 16385"):
            names.add("one more")


def test_a_read_of_what_a_plain_value_hides_says_so(bucket: everwrite.Bucket) -> None:
    cart = bucket.map("hidden")
    cart.counter("tea").add(2)
    stored = bucket.put("hidden", "plain")

    for read in (cart.value, cart.counter("tea").value):
        with pytest.raises(
            WrongType, match="At typed/hidden, a plain value was put beside the map"
        ):
            read()
    assert bucket.register("hidden").value() == "plain"
    with pytest.raises(WrongType, match="A register is there, and no set"):
        bucket.set("hidden").value()

    bucket.delete("hidden", context=stored.context)

    assert cart.value() == {"tea": 2}
