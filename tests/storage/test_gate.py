"""The gate: whoever shuts it, or wants to be alone, finds nobody inside."""

from __future__ import annotations

import threading

import pytest

from everwrite.core.errors import StorageError
from everwrite.storage.gate import Gate

CLOSED = StorageError("closed")


def test_a_shut_gate_refuses_and_is_shut_once() -> None:
    gate = Gate(CLOSED)

    assert gate.shut() is True
    assert gate.shut() is False
    with pytest.raises(StorageError, match="closed"), gate:
        pass


def test_shutting_waits_for_those_inside() -> None:
    gate = Gate(CLOSED)
    order: list[str] = []

    def shut() -> None:
        gate.shut()
        order.append("shut")

    with gate:
        shutter = threading.Thread(target=shut)
        shutter.start()
        order.append("inside")
    shutter.join()

    assert order == ["inside", "shut"]


def test_who_is_alone_is_met_by_nobody() -> None:
    gate = Gate(CLOSED)
    inside = 0
    met: list[int] = []

    def pass_through() -> None:
        nonlocal inside
        for _ in range(500):
            with gate:
                inside += 1
                inside -= 1

    def be_alone() -> None:
        for _ in range(100):
            with gate.alone():
                met.append(inside)

    threads = [threading.Thread(target=act) for act in (pass_through, be_alone, be_alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert met == [0] * 200


def test_who_leaves_with_an_error_has_left() -> None:
    gate = Gate(CLOSED)

    with pytest.raises(ValueError, match="inside"), gate:
        raise ValueError("inside")

    assert gate.shut() is True
