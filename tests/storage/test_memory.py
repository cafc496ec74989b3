"""The memory engine's own shortcuts: its answers are those of a dict that is sorted each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from everwrite.storage.memory import FEW, MemoryEngine

KEYS = st.integers(0, 3 * FEW).map(lambda number: number.to_bytes(2, "big"))
SPANS = st.tuples(st.integers(0, 3 * FEW), st.sampled_from([1, 5, FEW + 10]))
STEPS = st.one_of(
    st.tuples(st.just("put"), SPANS),
    st.tuples(st.just("delete"), SPANS),
    st.tuples(st.just("scan"), st.tuples(KEYS, KEYS, st.sampled_from([0, 1, 7, 10_000]))),
    st.tuples(st.just("delete_range"), st.tuples(KEYS, KEYS)),
)


def keys_in(span: tuple[int, int]) -> list[bytes]:
    start, count = span
    return [number.to_bytes(2, "big") for number in range(start, start + count)]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_scan_finds_what_a_sorted_dict_would(steps: list[tuple[str, tuple[int, ...]]]) -> None:
    engine, model = MemoryEngine(), dict[bytes, bytes]()
    everything = (b"", b"\xff\xff", 10_000)

    for number, (what, given_) in enumerate([*steps, ("scan", everything)]):
        value = number.to_bytes(2, "big")
        match what:
            case "put":
                engine.write([(key, value) for key in keys_in(given_)])  # type: ignore[arg-type]
                model |= dict.fromkeys(keys_in(given_), value)  # type: ignore[arg-type]
            case "delete":
                engine.write([(key, None) for key in keys_in(given_)])  # type: ignore[arg-type]
                for key in keys_in(given_):  # type: ignore[arg-type]
                    model.pop(key, None)
            case "delete_range":
                start, end = given_
                engine.delete_range(start, end)  # type: ignore[arg-type]
                model = {k: v for k, v in model.items() if not start <= k < end}  # type: ignore[operator]
            case _:
                start, end, limit = given_
                found = [pair for pair in sorted(model.items()) if start <= pair[0] < end]  # type: ignore[operator]
                assert engine.scan(start, end, limit) == found[:limit]  # type: ignore[arg-type]


def test_who_deletes_what_it_scans_does_not_pay_for_the_rest() -> None:
    """The work of a walk, in entries looked at: the list is not made anew for each page."""
    engine = MemoryEngine()
    engine.write([(number.to_bytes(3, "big"), b"") for number in range(20_000)])
    engine.scan(b"", b"\xff", 1)
    first = engine._sorted

    start = b""
    for _ in range(100):
        page = engine.scan(start, b"\xff", 64)
        engine.write([(key, None) for key, _ in page])
        start = page[-1][0]

    assert engine._sorted is first


def test_keys_that_were_deleted_and_written_anew_stand_once() -> None:
    engine = MemoryEngine()
    keys = [number.to_bytes(3, "big") for number in range(8 * FEW)]
    engine.write([(key, b"old") for key in keys])
    engine.scan(b"", b"\xff", 1)
    engine.write([(key, None) for key in keys[: FEW + 1]])

    engine.write([(key, b"new") for key in keys[: FEW + 1]])

    found = engine.scan(b"", b"\xff", len(keys) + 1)
    assert [key for key, _ in found] == keys
    assert {value for _, value in found[: FEW + 1]} == {b"new"}
