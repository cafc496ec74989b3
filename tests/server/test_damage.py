"""What a node says of damage on its disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.nodes import KEY, Nodes

from everwrite.core.records import HINT, OWN
from everwrite.storage.store import Unreadable


@in_loop
async def test_a_damaged_copy_is_logged_when_it_is_found_and_not_each_time_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Nodes(tmp_path) as nodes:
        (one,) = await nodes.grow("n1")
        driver = one.driver
        damaged = Unreadable("the checksum is wrong", corrupt=True)

        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                driver._loaded([OWN + KEY], [damaged])
        assert caplog.text.count("unreadable node=n1 key=") == 1

        with caplog.at_level(logging.ERROR):
            driver._loaded([HINT + KEY], [damaged])
        assert caplog.text.count("unreadable node=n1 key=") == 2
