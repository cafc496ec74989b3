"""Where messages end: in a body in chunks its data may look like any end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everwrite.server.http.framing import CHUNKED
from everwrite.server.http.portions import Portions

DATA = st.lists(
    st.sampled_from([b"\r\n\r\n", b"\r\n", b"\n", b"0\r\n\r\n", b"x", b"5;"]), min_size=1
)
NEXT = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


def in_chunks(chunks: list[list[bytes]], extension: bytes, trailers: bytes) -> bytes:
    body = b""
    for chunk in chunks:
        data = b"".join(chunk)
        body += b"%x%s\r\n%s\r\n" % (len(data), extension, data)
    return body + b"000%s\r\n" % extension + trailers + b"\r\n"


def cuts(portions: Portions, data: bytes, segments: list[int]) -> list[int]:
    """Return the ends of all portions of data that comes in segments of these sizes."""
    ends, at = [], 0
    for size in [*segments, len(data)]:
        segment, done = data[at : at + size], 0
        while done < len(segment):
            done = portions.next(segment, done)
            ends.append(at + done)
        at += len(segment)
    return ends


@given(
    st.lists(DATA, max_size=5),
    st.sampled_from([b"", b";a=b", b" "]),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]),
    st.lists(st.integers(1, 7), max_size=40),
)
def test_a_body_in_chunks_ends_where_its_chunks_say(
    chunks: list[list[bytes]], extension: bytes, trailers: bytes, segments: list[int]
) -> None:
    body = in_chunks(chunks, extension, trailers)
    portions = Portions()
    portions.begin_body(CHUNKED)

    ends = cuts(portions, body + NEXT, segments)

    assert len(body) in ends and len(body + NEXT) in ends
    seams = {sum(segments[: at + 1]) for at in range(len(segments))}
    assert set(ends) - seams <= {len(body), len(body + NEXT)}, "nothing in the chunks is an end"


def test_a_body_of_empty_lines_is_fed_as_what_it_is() -> None:
    """Else the parser would be called for each of them, and the node would stand still."""
    body = in_chunks([[b"\r\n\r\n"] * 65536], b"", b"")
    portions = Portions()
    portions.begin_body(CHUNKED)

    assert len(cuts(portions, body, [])) == 1
    assert portions.chunks == 2
