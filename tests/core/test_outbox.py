"""Where messages come from and go to."""

from __future__ import annotations

import pytest

from everwrite.core.errors import InvariantError
from everwrite.core.outbox import node_at


def test_what_only_nodes_send_is_not_taken_from_a_client() -> None:
    assert node_at(b"n" * 8) == b"n" * 8

    with pytest.raises(InvariantError, match="place=5"):
        node_at(5)
