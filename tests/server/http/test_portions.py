"""Where messages end: in a body in chunks its data may look like any end."""

from __future__ import annotations

import httptools
from hypothesis import given
from hypothesis import strategies as st

from everwrite.server.http.framing import CHUNKED, body_length
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


# -- beside the parser -----------------------------------------------------------------------------

HOST = b"host: localhost\r\n"
HEADERS = st.sampled_from([b"", b"a: \r\n", b"a: b\r\nc: \t d\r\n", b"transfer-coding: x\r\n"])
BEFORE = st.sampled_from([b"", b"\r\n", b"\r\n\r\n"])
"""Empty lines before a request are passed over (RFC 9112, 2.2)."""


SEGMENTS = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 60)), min_size=1).map(
    lambda s: s * 20
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, with a body of any framing or none; its data looks like any end."""
    head = draw(BEFORE) + draw(st.sampled_from([b"PUT", b"POST", b"GET"])) + b" / HTTP/1.1\r\n"
    head += HOST + draw(HEADERS)
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "none":
        return head + b"\r\n"
    if framing == "length":
        body = b"".join(draw(st.one_of(st.just([]), DATA)))
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    chunks = draw(st.lists(DATA, max_size=4))
    extension = draw(st.sampled_from([b"", b";a=b", b';a="b;c"']))
    trailers = draw(st.sampled_from([b"", b"a: b\r\n"]))
    return head + b"transfer-encoding: chunked\r\n\r\n" + in_chunks(chunks, extension, trailers)


class Seen:
    """What httptools sees of a stream of requests, and how far it was fed when it saw it."""

    def __init__(self, portions: Portions | None = None) -> None:
        self._portions = portions
        self._headers: list[tuple[bytes, bytes]] = []
        self.fed = 0
        self.heads: list[int] = []
        self.ends: list[int] = []
        self.bodies: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, portion: bytes) -> None:
        self.fed += len(portion)
        self._parser.feed_data(portion)

    def on_message_begin(self) -> None:
        self._headers.clear()
        self.bodies.append(b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads.append(self.fed)
        if self._portions is not None:
            parser = self._parser
            version, method = parser.get_http_version(), parser.get_method()
            self._portions.begin_body(body_length(version, method, self._headers))

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        self.ends.append(self.fed)


@given(st.lists(requests(), min_size=1, max_size=4), SEGMENTS)
def test_heads_and_messages_end_where_the_parser_sees_their_end(
    sent: list[bytes], segments: list[int]
) -> None:
    """However they come: the parser alone, a byte at a time, says where that is."""
    data = b"".join(sent)
    alone = Seen()
    for at in range(len(data)):
        alone.feed(data[at : at + 1])
    assert len(alone.ends) == len(sent)

    portions = Portions()
    fed, at = Seen(portions), 0
    for size in [*segments, len(data)]:
        segment, done = data[at : at + size], 0
        while done < len(segment):
            begun, done = done, portions.next(segment, done)
            assert done > begun
            fed.feed(segment[begun:done])
        at += len(segment)

    assert (fed.heads, fed.ends, fed.bodies) == (alone.heads, alone.ends, alone.bodies)
