"""Values, keys and parameters as HTTP has them: what goes in comes out, and nothing else."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwrite.core.data.base64url import decode64, encode64
from everwrite.core.data.keys import KEY_BYTES_MAX
from everwrite.core.data.labels import KIND_BYTES, KIND_JSON, KIND_TEXT, Kind, check_kind
from everwrite.core.errors import BadContext, EverwriteError, RequestError
from everwrite.core.messages.requests import GetReply, Quality
from everwrite.server.http.objects import key_in, new_key
from everwrite.server.http.options import (
    PUTS,
    READS,
    Options,
    context_in,
    options_of,
    parse,
)
from everwrite.server.http.problems import STATUSES, problem_of, status_of
from everwrite.server.http.values import (
    envelope_of,
    headers_of,
    kind_in,
    moment,
    resolve,
    sibling_of,
)

TYPES = st.sampled_from(
    [b"image/png", b"text/csv", b"text/html; charset=utf-8", b"application/json", b'a/b; c="d"']
)
META = st.dictionaries(
    st.from_regex(rb"meta-[a-z0-9-]{1,20}", fullmatch=True),
    st.binary(max_size=30).filter(lambda text: not set(text) & {*range(32), 127}),
    max_size=3,
)
QUALITY = Quality(2, 0, 2)


@given(TYPES, META)
def test_what_a_request_says_of_its_body_comes_back(
    content_type: bytes, meta: dict[bytes, bytes]
) -> None:
    said = {b"content-type": content_type, **meta}
    kind = kind_in({**said, b"host": b"h"}, b"1")

    check_kind(kind)
    assert dict(headers_of(kind)) == said


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({}, KIND_BYTES),
        ({b"content-type": b"application/octet-stream"}, KIND_BYTES),
        ({b"content-type": b"application/json"}, KIND_JSON),
        ({b"content-type": b"text/plain; charset=utf-8"}, KIND_TEXT),
    ],
)
def test_what_a_kind_says_needs_no_label(headers: dict[bytes, bytes], kind: int) -> None:
    assert kind_in(headers, b"1") == kind


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_label_that_no_header_can_hold_spoils_no_answer(kind: bytes, value: bytes) -> None:
    for name, text in headers_of(kind):
        assert name.isascii()
        assert not set(text) & {*range(9), *range(10, 32), 127}
    msgspec.json.encode(sibling_of(kind, value, 0, (b"", 0, 0)))


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_a_key_in_a_path(key: bytes) -> None:
    assert key_in(quote_from_bytes(key, safe="").encode(), Options()) == key
    assert key_in(encode64(key), Options(base64=True)) == key


def test_a_path_that_is_far_too_long_is_refused_as_what_it_is() -> None:
    with pytest.raises(EverwriteError):
        key_in(b"%41" * (KEY_BYTES_MAX + 1), Options())
    assert key_in(b"%41" * KEY_BYTES_MAX, Options()) == b"A" * KEY_BYTES_MAX


@given(st.text(max_size=40))
def test_a_query_is_understood_or_refused(query: str) -> None:
    for allowed in (READS, PUTS):
        try:
            found = parse(query.encode(errors="replace"), allowed)
        except RequestError:
            continue
        assert isinstance(found, Options)


@pytest.mark.parametrize(
    ("text", "ms"), [("250ms", 250), ("2s", 2000), ("1.5", 1500), ("1m", 60_000), ("0.5s", 500)]
)
def test_times_have_units(text: str, ms: int) -> None:
    assert options_of({"timeout": text}).timeout_ms == ms


@given(st.binary(max_size=40))
def test_base64_without_padding_goes_both_ways(data: bytes) -> None:
    assert decode64(encode64(data)) == data
    assert context_in(encode64(data)) == data


@given(st.binary(max_size=40))
def test_a_context_is_understood_or_refused(text: bytes) -> None:
    try:
        found = context_in(text)
    except BadContext:
        return
    assert len(found) == len(text.rstrip(b"=")) * 3 // 4


def test_the_latest_of_several_is_the_same_whatever_their_order() -> None:
    marks = [(b"a", 1, 5), (b"b", 1, 7), (b"c", 1, 7)]
    values: list[tuple[Kind, bytes]] = [(0, b"a"), (0, b"b"), (0, b"c")]

    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        turned = [values[at] for at in order]
        reply = GetReply(1, turned, b"", QUALITY, marks=[marks[at] for at in order])
        assert resolve("lww", reply) == (0, b"c")


def test_the_union_has_each_item_once_in_one_order() -> None:
    lists = [b'[1, {"b": 1, "a": 2}]', b'[{"a": 2, "b": 1}, "x"]']
    for order in (lists, lists[::-1]):
        reply = GetReply(1, [(KIND_JSON, each) for each in order], b"", QUALITY)
        assert msgspec.json.decode(resolve("union", reply)[1]) == ["x", 1, {"a": 2, "b": 1}]


def test_an_envelope_tells_a_value_that_is_not_what_it_says_as_bytes() -> None:
    reply = GetReply(1, [(KIND_JSON, b"{"), (KIND_TEXT, b"\xff"), (9, b"v")], b"c", QUALITY)

    told = msgspec.json.decode(msgspec.json.encode(envelope_of(b"b", b"\xff", reply)))

    assert [each["value_b64"] for each in told["siblings"]] == ["ew==", "/w==", "dg=="]
    assert told["key_b64"] == "_w"


def test_made_keys_are_uuids_of_version_7() -> None:
    made = {new_key() for _ in range(100)}

    assert len(made) == 100
    for key in made:
        assert [len(part) for part in key.split("-")] == [8, 4, 4, 4, 12]
        assert key[14] == "7"
        assert key[19] in "89ab"


def test_moments_are_as_rfc_3339_has_them() -> None:
    assert moment(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert moment(0) == ""


def family(base: type[EverwriteError]) -> list[type[EverwriteError]]:
    return [base, *(each for child in base.__subclasses__() for each in family(child))]


def test_every_error_is_a_problem_with_a_status() -> None:
    for kind in family(EverwriteError):
        error = kind("What happened.", hint="What to do.", outcome="partial", acked=1, required=2)
        document, headers = problem_of(error, "/v1/kv/b/k", "id")

        assert document.status == status_of(error)
        assert 400 <= document.status < 600
        assert document.type == f"urn:everwrite:problem:{kind.code}"
        assert (document.outcome, document.acked, document.required) == ("partial", 1, 2)
        if document.status in (429, 503):
            assert dict(headers)[b"retry-after"] == b"1"


def test_statuses_are_of_errors_that_there_are() -> None:
    assert set(STATUSES) <= {kind.code for kind in family(EverwriteError)}
