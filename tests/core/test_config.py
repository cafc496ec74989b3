"""Settings: what cannot be is refused by name, with what can."""

from __future__ import annotations

import pytest

from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.errors import ConfigError

CLUSTER = b"c" * 16


@pytest.mark.parametrize("partitions", [0, -4, 3, 100, 1 << 17])
def test_partitions_are_a_power_of_two(partitions: int) -> None:
    with pytest.raises(ConfigError, match=f"partitions = {partitions}") as caught:
        ClusterConfig(cluster_id=CLUSTER, partitions=partitions)
    assert "power of two" in caught.value.hint


@pytest.mark.parametrize("replicas", [0, 10])
def test_replicas_are_one_to_nine(replicas: int) -> None:
    with pytest.raises(ConfigError, match=f"replicas = {replicas}"):
        ClusterConfig(cluster_id=CLUSTER, replicas=replicas)


def test_the_defaults_are_possible() -> None:
    assert ClusterConfig(cluster_id=CLUSTER).partitions == 256
    assert NodeConfig().down_after_ms >= 3 * NodeConfig().ping_every_ms


@pytest.mark.parametrize("name", ["request_timeout_ms", "hints_max", "siblings_max"])
def test_a_limit_of_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = 0"):
        NodeConfig(**{name: 0})
