"""Content types and metadata: kept with each version, and free where there are none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.data.histories import actor, records
from tests.core.data.laws import merge_is_a_join
from tests.core.world import World

from everwrite.client.results import decode_value
from everwrite.core.data import versions
from everwrite.core.data.labels import (
    KIND_BYTES,
    KIND_JSON,
    KIND_TEXT,
    LABEL_BYTES_MAX,
    TYPES,
    Kind,
    Label,
    base_of,
    check_kind,
    kind_of,
    label_of,
)
from everwrite.core.data.versions import Record, Version
from everwrite.core.errors import RequestError, TooLarge
from everwrite.core.messages.requests import Failure

NAMES = st.text("abc-", min_size=1, max_size=5)
LABELS = st.builds(
    Label,
    st.sampled_from([KIND_BYTES, KIND_TEXT, KIND_JSON]),
    st.sampled_from([*TYPES, "image/png", "text/csv; charset=utf-8"]),
    st.dictionaries(NAMES, st.text(max_size=20), max_size=4),
)
SX = actor(1)


class OldVersion(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A version as it was on disks before there were labels."""

    actor: bytes
    counter: int
    value: bytes | None
    time_ms: int
    op: bytes
    kind: int = 0
    expires: int = 0
    pure: bool = False


def made(label: Label) -> Kind:
    return kind_of(label.kind, label.content_type, label.meta)


@given(LABELS)
def test_what_is_said_of_a_value_comes_back(label: Label) -> None:
    kind = made(label)

    check_kind(kind)
    found = label_of(kind)
    assert (found.kind, found.content_type, found.meta) == (
        label.kind,
        label.content_type,
        label.meta,
    )
    assert base_of(kind) == label.kind


@given(LABELS)
def test_a_label_has_one_form_whatever_the_order_of_its_names(label: Label) -> None:
    turned = dict(reversed(list(label.meta.items())))

    assert made(label) == made(replace(label, meta=turned))


@pytest.mark.parametrize("kind", [KIND_BYTES, KIND_TEXT, KIND_JSON])
def test_a_value_without_metadata_is_on_disk_as_it_was_before_there_were_labels(kind: int) -> None:
    fields = (SX, 1, b"v", 1_700_000_000_000, b"op")
    before = msgspec.msgpack.encode([{SX: 1}, [OldVersion(*fields, kind)]])

    assert kind_of(kind, TYPES[kind], {}) == kind
    assert versions.encode(Record({SX: 1}, [Version(*fields, kind)])) == before
    assert versions.decode(before).siblings == [Version(*fields, kind)]


@given(records(), records(), records(), LABELS)
def test_merge_keeps_its_laws_with_labels(a: Record, b: Record, c: Record, label: Label) -> None:
    def labelled(record: Record) -> Record:
        siblings = [
            replace(each, kind=made(label)) if each.counter % 2 else each
            for each in record.siblings
        ]
        return Record(record.clock, siblings)

    merge_is_a_join(versions.merge, labelled(a), labelled(b), labelled(c))


@given(LABELS)
def test_what_has_ended_keeps_no_label(label: Label) -> None:
    ended = Version(SX, 1, b"v", 0, b"op", made(label), expires=5)
    record = Record({SX: 1}, [ended])

    retired = versions.retire(record, 6)

    assert retired is not None
    assert retired.siblings[0].kind == label.kind
    assert versions.merge(record, retired) == versions.merge(retired, record) == retired


@pytest.mark.parametrize(
    "kind",
    [
        3,
        -1,
        b"",
        b"\xc1",
        msgspec.msgpack.encode([7, "a/b", {}]),
        msgspec.msgpack.encode([0, "a/b", {"b": "", "a": ""}]),
        msgspec.msgpack.encode([0, "a/b", {}, 1]),
    ],
)
def test_a_client_may_store_no_other_label(kind: Kind) -> None:
    with pytest.raises(RequestError):
        check_kind(kind)


def test_a_label_over_its_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        kind_of(KIND_BYTES, "", {"a": "x" * LABEL_BYTES_MAX})
    with pytest.raises(TooLarge):
        check_kind(msgspec.msgpack.encode([0, "a/b", {"a": "x" * LABEL_BYTES_MAX}]))


@given(st.binary(max_size=40))
def test_a_garbled_label_is_a_value_of_plain_bytes(kind: bytes) -> None:
    assert base_of(kind) in (KIND_BYTES, KIND_TEXT, KIND_JSON)
    decode_value(kind, b"v")


def test_siblings_keep_each_their_own_label_on_every_node() -> None:
    world = World(3)
    csv, png = kind_of(KIND_TEXT, "text/csv", {"by": "ann"}), kind_of(KIND_BYTES, "image/png")

    world.put(world.ids[0], b"a,b", kind=csv)
    world.put(world.ids[1], b"\x89PNG", kind=png)

    for node in world.ids:
        assert sorted(world.get(node).values, key=str) == sorted(
            [(csv, b"a,b"), (png, b"\x89PNG")], key=str
        )


def test_a_read_tells_which_write_each_value_was_if_asked() -> None:
    world = World(3)
    world.put(world.ids[0], b"one")
    world.put(world.ids[1], b"two")

    plain, marked = world.get(world.ids[2]), world.get(world.ids[2], marks=True)

    assert plain.marks == []
    assert plain.values == marked.values
    assert len(marked.marks) == 2
    assert all(len(actor) == versions.ACTOR_BYTES for actor, _, _ in marked.marks)


def test_a_put_with_a_label_that_cannot_be_changes_nothing() -> None:
    world = World(3)

    client = world.send_put(world.ids[0], b"v", kind=b"garbled")
    world.run()

    refused = world.reply(client, Failure)
    assert (refused.code, refused.outcome) == ("bad_request", "none")
    assert world.get(world.ids[0]).values == []
